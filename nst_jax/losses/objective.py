"""What is minimised: J(image) = alpha J_content + beta J_style + tv_weight TV.

J_content is a sum over content losses and layers, each with its lambda, J_style over style losses,
layers and regions (Gatys et al. 2015, https://arxiv.org/abs/1508.06576, equations 5 and 7).

Everything the objective needs comes through `Args`: the network's weights are arguments of the
compiled program, never constants in it, and changing a knob compiles nothing.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from nst_jax.losses.content import CONTENT
from nst_jax.losses.context import Context
from nst_jax.losses.smoothness import SMOOTHNESS
from nst_jax.losses.style import STYLE

Image = Float[Array, "h w 3"]
ByTap = dict[str, Any]  # arrays, by the tap they belong to


class Network(NamedTuple):
    """A `VGG` as `nnx.split` leaves it: its structure, and its arrays."""

    graphdef: nnx.GraphDef
    params: nnx.State


class Targets(NamedTuple):
    """What the pictures ask for; computed once for a run, or for a scale of it.

    Attributes:
      content: loss -> tap -> target.
      style: loss -> tap -> region -> pairs (share, target). The region is "" without guides; there
        are several pairs only where the losses of several style pictures are mixed.
    """

    content: dict[str, dict[str, Any]]
    style: dict[str, dict[str, dict[str, tuple[tuple[Array, Any], ...]]]]


class Knobs(NamedTuple):
    """Scalars that weigh the terms; traced, so that a change compiles nothing.

    Attributes:
      alpha, beta: weights of content and style, >= 0.
      content, style: loss -> tap -> lambda, >= 0; 0 switches a layer off.
      smoothness: total variation -> weight, >= 0.
      regions: weight of each region of the guides, >= 0.
    """

    alpha: float
    beta: float
    content: dict[str, dict[str, float]]
    style: dict[str, dict[str, float]]
    smoothness: dict[str, float]
    regions: dict[str, float]


class Guides(NamedTuple):
    """Where in the painting each loss looks.

    Attributes:
      content: tap -> how much each position's content counts; empty: all alike.
      regions: region -> tap -> weights that sum to 1; {"": {}} without guides.
    """

    content: ByTap
    regions: dict[str, ByTap]


NO_GUIDES = Guides({}, {"": {}})


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Kinds:
    """What of the objective is part of the compiled program besides the losses' names.

    Attributes:
      normalize_gradients: every layer's gradient with respect to its activations gets L1 norm 1,
        before its lambda (neural-style's -normalize_gradients).
    """

    normalize_gradients: bool = False


class Args(NamedTuple):
    """All that the objective depends on besides the image."""

    network: Network
    targets: Targets
    knobs: Knobs
    guides: Guides
    key: Array
    kinds: Kinds


def features(network: Network, image: Image) -> ByTap:
    """The network's taps for an image. Differentiable in the image only: the network is frozen."""
    params = jax.lax.stop_gradient(network.params)
    return nnx.merge(network.graphdef, params)(image)


def _groups(loss: str, lambdas: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The taps that a style loss sees at once, by the first of them: one, or it and the next."""
    names = sorted(lambdas, key=lambda tap: tap[4:])  # from shallow to deep
    shifted = (names[k:] for k in range(STYLE[loss].neighbours))
    return {group[0]: group for group in zip(*shifted, strict=False)}


def _look(taps: ByTap, group: tuple[str, ...]) -> Any:
    """The activations of a group: an array, or a tuple of several."""
    first, *rest = (taps[tap] for tap in group)
    return (first, *rest) if rest else first


@functools.partial(jax.jit, static_argnames="blend")
def targets_from(
    network: Network,
    content_image: Image | None,
    style_images: tuple[Array, ...],
    knobs: Knobs,
    shares: Float[Array, " styles"],
    regions: tuple[dict[str, ByTap], ...],
    key: Array,
    blend: str = "targets",
) -> Targets:
    """The targets of a content picture and of style pictures, at the layers that `knobs` names.

    Args:
      network: must have all those layers among its taps.
      content_image: [h, w, 3] sRGB in [0, 1]; None where no layer needs it.
      style_images: likewise, of any sizes.
      knobs: for its losses and layers.
      shares: how much each style picture counts; within a region they are scaled to sum to 1.
      regions: of each style picture, as `Guides.regions`.
      key: for losses that keep a random draw.
      blend: "targets" mixes the style pictures' statistics, "losses" the distances from each.
    """
    content_taps = {} if content_image is None else features(network, content_image)
    style_taps = [features(network, image) for image in style_images]

    def described(name: str, tap: str, region: str) -> tuple[tuple[Array, Any], ...]:
        """Pairs (share, target) of the style pictures that have the region."""
        pairs = []
        for image, taps, share, own in zip(style_images, style_taps, shares, regions, strict=True):
            if region in own:
                context = Context(own[region].get(tap), key, image.shape[0] * image.shape[1])
                look = _look(taps, _groups(name, knobs.style[name])[tap])
                pairs.append((share, STYLE[name].describe(look, context)))
        loss, total = STYLE[name], sum(share for share, _ in pairs)
        # Where all that have the region count nothing, they count alike.
        scaled = [jnp.where(total > 0, share / total, 1 / len(pairs)) for share, _ in pairs]
        descriptions = [description for _, description in pairs]
        if len(pairs) == 1:
            return ((jnp.float32(1), loss.finish(descriptions[0])),)
        if blend == "targets":
            return ((jnp.float32(1), loss.finish(loss.mix(descriptions, scaled))),)
        return tuple(zip(scaled, map(loss.finish, descriptions), strict=True))

    names = dict.fromkeys(region for own in regions for region in own)
    return Targets(
        {loss: {tap: content_taps[tap] for tap in taps} for loss, taps in knobs.content.items()},
        {
            loss: {
                tap: {region: described(loss, tap, region) for region in names}
                for tap in _groups(loss, lambdas)
            }
            for loss, lambdas in knobs.style.items()
        },
    )


def normalized_gradient(distance: Callable[[Any], Array], look: Any) -> Array:
    """distance(look), with the gradient g / (|g|_1 + 1e-8) in place of g.

    neural-style's -normalize_gradients, as its Lua original has it: at the layer, before the
    weight, so that weights still count. Its value is no longer the integral of its gradient, by
    which L-BFGS would choose its steps.
    """
    here = jax.lax.stop_gradient(look)
    value, gradient = jax.value_and_grad(distance)(here)
    norm = sum(jnp.sum(jnp.abs(part)) for part in jax.tree.leaves(gradient)) + 1e-8
    slopes = jax.tree.map(lambda g, x, x0: jnp.sum(g / norm * (x - x0)), gradient, look, here)
    return value + sum(jax.tree.leaves(slopes))


def _layers(image: Image, args: Args) -> Iterator[tuple[str, Any, Array]]:
    """(name, lambda, distance) of every single term on activations."""
    taps = features(args.network, image)
    pixels = image.shape[0] * image.shape[1]

    def apply(distance: Callable[[Any], Array], look: Any) -> Array:
        if args.kinds.normalize_gradients:
            return normalized_gradient(distance, look)
        return distance(look)

    for name, by_tap in args.targets.content.items():
        for tap, target in by_tap.items():
            context = Context(args.guides.content.get(tap), args.key, pixels)
            distance = functools.partial(CONTENT[name], target=target, context=context)
            yield f"content/{name}/{tap}", args.knobs.content[name][tap], apply(distance, taps[tap])

    for name, by_tap in args.targets.style.items():
        loss, lambdas = STYLE[name], args.knobs.style[name]
        for tap, group in _groups(name, lambdas).items():
            look = _look(taps, group)
            for region, pairs in by_tap[tap].items():
                context = Context(args.guides.regions[region].get(tap), args.key, pixels)

                def mixed(look, loss=loss, pairs=pairs, context=context) -> Array:
                    if len(pairs) == 1:
                        return loss.distance(look, pairs[0][1], context)
                    return jnp.sum(
                        jnp.stack([s * loss.distance(look, target, context) for s, target in pairs])
                    )

                weight = args.knobs.regions[region] * lambdas[tap]
                suffix = f"/{region}" if region else ""
                yield f"style/{name}/{tap}{suffix}", weight, apply(mixed, look)


def breakdown(image: Image, args: Args) -> dict[str, Float[Array, ""]]:
    """Every term by name, and J as "total".

    "content", "style" and "tv" are J_content, J_style and TV, before alpha, beta and tv_weight;
    "style/gram/relu1_1" and the like are single layers before their lambda, with a region's name
    at the end where there are guides. So terms can be compared between runs with other weights.
    """
    knobs = args.knobs
    terms = {"content": jnp.float32(0), "style": jnp.float32(0), "tv": jnp.float32(0)}
    layers = {}
    for name, weight, distance in _layers(image, args):
        part = name.partition("/")[0]
        terms[part] = terms[part] + weight * distance
        layers[name] = distance
    total = knobs.alpha * terms["content"] + knobs.beta * terms["style"]
    for name, weight in knobs.smoothness.items():
        terms["tv"] = terms["tv"] + (variation := SMOOTHNESS[name](image))
        total = total + weight * variation
    return {"total": total} | terms | layers


def in_order(terms: dict[str, Any]) -> dict[str, Any]:
    """Terms as people read them: the total, its three parts, the layers. Compilation sorts them."""
    first = ("total", "content", "style", "tv")
    return {name: terms[name] for name in (*first, *sorted(terms.keys() - {*first}))}


def objective(image: Image, args: Args) -> Float[Array, ""]:
    """J(image): the scalar that the optimiser steps down."""
    return breakdown(image, args)["total"]
