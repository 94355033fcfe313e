"""The objective J = alpha J_content + beta J_style + sum_k w_k TV_k, and its single terms.

J_content is a sum over content losses and layers, each with its lambda; J_style a sum over style
losses, layers and regions. Gatys et al. 2015 (https://arxiv.org/abs/1508.06576), equations 5 and 7.

Whatever the objective needs reaches it through its arguments. The weights of the network are
arguments of the compiled program, never constants in it, and changing a knob does not recompile.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses.content import CONTENT
from nst_jax.losses.context import Context
from nst_jax.losses.smoothness import SMOOTHNESS
from nst_jax.losses.style import STYLE
from nst_jax.network import architecture
from nst_jax.network.state import NetworkState, features

Image = Float[Array, "h w 3"]
ByTap = dict[str, Any]  # arrays, by the tap they belong to
Scalar = Float[Array, ""]


class Targets(NamedTuple):
    """What the content and style pictures ask for; computed once for every scale of a run.

    Attributes:
      content: loss -> tap -> target.
      style: loss -> tap -> region -> pairs (share, target). The region is "" without guides. There
        are several pairs only where the losses of several style pictures are blended.
    """

    content: dict[str, dict[str, Any]]
    style: dict[str, dict[str, dict[str, tuple[tuple[Array, Any], ...]]]]


class Knobs(NamedTuple):
    """Scalars that weigh the terms. They are traced: changing one does not recompile.

    Attributes:
      alpha, beta: weights of content and style, >= 0.
      content, style: loss -> tap -> lambda, >= 0; 0 switches a layer off.
      smoothness: total variation -> weight, >= 0.
      regions: region -> weight, >= 0.
    """

    alpha: float
    beta: float
    content: dict[str, dict[str, float]]
    style: dict[str, dict[str, float]]
    smoothness: dict[str, float]
    regions: dict[str, float]


class GuideWeights(NamedTuple):
    """Where in the painting each loss looks.

    Attributes:
      content: tap -> [h, w], how much the content counts at each position; {} for the same
        everywhere.
      regions: region -> tap -> [h, w] weights that sum to 1; {"": {}} without guides.
    """

    content: ByTap
    regions: dict[str, ByTap]


NO_GUIDES = GuideWeights({}, {"": {}})


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ObjectiveStatic:
    """Static options of the objective, besides the names of its losses.

    Attributes:
      normalize_gradients: scale the gradient with respect to every layer's activations to L1 norm
        1, before its lambda (neural-style's -normalize_gradients).
    """

    normalize_gradients: bool = False


class Problem(NamedTuple):
    """What the objective depends on besides the image and the network.

    Attributes:
      targets: what the pictures ask for.
      knobs: weights of the terms.
      guides: where each loss looks.
      key: random key of losses that draw.
      static: static options.
    """

    targets: Targets
    knobs: Knobs
    guides: GuideWeights
    key: Array
    static: ObjectiveStatic = ObjectiveStatic()


def _groups(loss: str, lambdas: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The taps that a style loss sees together, by the first of them: one, or it and the next."""
    taps = sorted(lambdas, key=architecture.depth)
    if STYLE[loss].neighbours == 1:
        return {tap: (tap,) for tap in taps}
    return {tap: (tap, following) for tap, following in itertools.pairwise(taps)}


def _activations(taps: ByTap, group: tuple[str, ...]) -> Any:
    """The activations of a group: an array, or a tuple of several."""
    return taps[group[0]] if len(group) == 1 else tuple(taps[tap] for tap in group)


@functools.partial(jax.jit, static_argnames="blend")
def compute_targets(
    network: NetworkState,
    content_image: Image | None,
    style_images: tuple[Array, ...],
    knobs: Knobs,
    shares: Float[Array, " styles"],
    regions: tuple[dict[str, ByTap], ...],
    key: Array,
    blend: str = "targets",
) -> Targets:
    """Computes the targets of a content picture and of style pictures.

    Args:
      network: with every layer of `knobs` among its taps.
      content_image: [h, w, 3] sRGB in [0, 1]; None where no layer needs it.
      style_images: the same, of any sizes.
      knobs: names the losses and layers.
      shares: how much each style picture counts; within a region they are scaled to sum to 1.
      regions: of each style picture, as `GuideWeights.regions`.
      key: for losses that keep a random draw.
      blend: "targets" mixes the statistics of the style pictures, "losses" the distances from each.
    """
    content_taps = {} if content_image is None else features(network, content_image)
    style_taps = [features(network, image) for image in style_images]

    def describe(name: str, tap: str, region: str) -> tuple[tuple[Array, Any], ...]:
        """Pairs (share, target) of the style pictures that have the region."""
        loss, given, descriptions = STYLE[name], [], []
        for image, taps, share, own in zip(style_images, style_taps, shares, regions, strict=True):
            if region in own:
                context = Context(own[region].get(tap), key, image.shape[0] * image.shape[1])
                seen = _activations(taps, _groups(name, knobs.style[name])[tap])
                descriptions.append(loss.describe(seen, context))
                given.append(share)
        if len(given) == 1:
            return ((jnp.float32(1), loss.finish(descriptions[0])),)
        total = sum(given)
        # Where every picture that has the region has the share 0, they count the same.
        scaled = [jnp.where(total > 0, share / total, 1 / len(given)) for share in given]
        if blend == "targets":
            return ((jnp.float32(1), loss.finish(loss.mix(descriptions, scaled))),)
        return tuple(zip(scaled, map(loss.finish, descriptions), strict=True))

    names = dict.fromkeys(region for own in regions for region in own)
    return Targets(
        {loss: {tap: content_taps[tap] for tap in taps} for loss, taps in knobs.content.items()},
        {
            loss: {
                tap: {region: describe(loss, tap, region) for region in names}
                for tap in _groups(loss, lambdas)
            }
            for loss, lambdas in knobs.style.items()
        },
    )


def normalized_gradient(distance: Callable[[Any], Array], activations: Any) -> Array:
    """distance(activations), with the gradient g / (|g|_1 + 1e-8) in place of g.

    neural-style's -normalize_gradients, as in its Lua original: at the layer, before the lambda, so
    that lambdas still count. The value is no longer the integral of the gradient, from which
    L-BFGS would choose its steps.

    Args:
      distance: activations -> scalar.
      activations: an array, or a tuple of arrays.
    """
    here = jax.lax.stop_gradient(activations)
    value, gradient = jax.value_and_grad(distance)(here)
    norm = sum(jnp.sum(jnp.abs(part)) for part in jax.tree.leaves(gradient)) + 1e-8
    slopes = jax.tree.map(
        lambda g, x, x0: jnp.sum(g / norm * (x - x0)), gradient, activations, here
    )
    return value + sum(jax.tree.leaves(slopes))


def _layers(
    image: Image, network: NetworkState, problem: Problem
) -> Iterator[tuple[str, Any, Array]]:
    """(name, lambda, distance) of every term on activations."""
    taps = features(network, image)
    pixels = image.shape[0] * image.shape[1]
    knobs, guides = problem.knobs, problem.guides

    def apply(distance: Callable[[Any], Array], activations: Any) -> Array:
        if problem.static.normalize_gradients:
            return normalized_gradient(distance, activations)
        return distance(activations)

    for name, by_tap in problem.targets.content.items():
        for tap, target in by_tap.items():
            context = Context(guides.content.get(tap), problem.key, pixels)
            distance = functools.partial(CONTENT[name], target=target, context=context)
            yield f"content/{name}/{tap}", knobs.content[name][tap], apply(distance, taps[tap])

    for name, by_tap in problem.targets.style.items():
        lambdas = knobs.style[name]
        for tap, group in _groups(name, lambdas).items():
            activations = _activations(taps, group)
            for region, pairs in by_tap[tap].items():
                context = Context(guides.regions[region].get(tap), problem.key, pixels)
                distance = functools.partial(_blended, name, pairs, context)
                suffix = f"/{region}" if region else ""
                weight = knobs.regions[region] * lambdas[tap]
                yield f"style/{name}/{tap}{suffix}", weight, apply(distance, activations)


def _blended(
    name: str, pairs: tuple[tuple[Array, Any], ...], context: Context, activations: Any
) -> Array:
    """The distance from one target, or the share-weighted distances from several."""
    distance = STYLE[name].distance
    if len(pairs) == 1:
        return distance(activations, pairs[0][1], context)
    return jnp.sum(jnp.stack([s * distance(activations, target, context) for s, target in pairs]))


def breakdown(image: Image, network: NetworkState, problem: Problem) -> dict[str, Scalar]:
    """Every term by name, with J as "total".

    "content", "style" and "tv" are J_content, J_style and TV, before alpha, beta and tv_weight.
    "style/gram/relu1_1" and the like are single layers before their lambda, with the name of the
    region at the end where there are guides. So terms of runs with other weights can be compared.
    """
    knobs = problem.knobs
    terms = {"content": jnp.float32(0), "style": jnp.float32(0), "tv": jnp.float32(0)}
    layers = {}
    for name, weight, distance in _layers(image, network, problem):
        part = name.partition("/")[0]
        terms[part] = terms[part] + weight * distance
        layers[name] = distance
    total = knobs.alpha * terms["content"] + knobs.beta * terms["style"]
    for name, weight in knobs.smoothness.items():
        variation = SMOOTHNESS[name](image)
        terms["tv"] = terms["tv"] + variation
        total = total + weight * variation
    return {"total": total} | terms | layers


def in_order(terms: dict[str, Any]) -> dict[str, Any]:
    """Terms in reading order, which jit does not keep: the total, its three parts, the layers."""
    first = ("total", "content", "style", "tv")
    return {name: terms[name] for name in (*first, *sorted(terms.keys() - {*first}))}


def objective(image: Image, network: NetworkState, problem: Problem) -> Scalar:
    """J(image), the scalar that is minimised."""
    return breakdown(image, network, problem)["total"]
