"""The objective J = alpha J_content + beta J_style + sum_k w_k TV_k, and its single terms.

J_content is a sum over content losses and layers, each with its lambda; J_style a sum over style
losses, layers and regions. Gatys et al. 2015 (https://arxiv.org/abs/1508.06576), equations 5 and 7.

Whatever the objective needs reaches it through its arguments. The weights of the network are
arguments of the compiled program, never constants in it, and changing a knob does not recompile.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses.content import CONTENT, ContentLoss
from nst_jax.losses.context import Context
from nst_jax.losses.smoothness import SMOOTHNESS
from nst_jax.losses.style import STYLE, StyleLoss
from nst_jax.network import architecture, windows
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
      tile: the longest side of the tiles in which the objective is computed, in pixels, a multiple
        of 16; 0 for whole pictures. The value is the same, the memory that of one tile.
    """

    normalize_gradients: bool = False
    tile: int = 0


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


def _features(network: NetworkState, image: Image, tile: int, wanted: Iterable[str]) -> ByTap:
    """Taps of a picture, computed whole or in tiles."""
    tiles = windows.tiling(network, image, tile)
    if tiles is None:
        return features(network, image)
    return windows.features_in_tiles(tiles, network, image, wanted)


class Description(NamedTuple):
    """What names a target of a style picture; `group` are the taps that the loss sees."""

    loss: str
    tap: str
    region: str
    group: tuple[str, ...]


def _described(
    network: NetworkState,
    image: Image,
    knobs: Knobs,
    regions: dict[str, ByTap],
    key: Array,
    tile: int,
) -> dict[Description, Any]:
    """What every loss keeps of a style picture."""
    pixels = image.shape[0] * image.shape[1]
    wanted = _descriptions(knobs, regions)

    def describe(one: Description, taps: ByTap, **place: Any) -> Any:
        context = Context(regions[one.region].get(one.tap), key, pixels, **place)
        return STYLE[one.loss].describe(_activations(taps, one.group), context)

    tiles = windows.tiling(network, image, tile)
    if tiles is None:
        taps = features(network, image)
        return {one: describe(one, taps) for one in wanted}
    shapes = windows.tap_shapes(tiles, network)
    summed = [one for one in wanted if STYLE[one.loss].adds]
    others = [one for one in wanted if not STYLE[one.loss].adds]

    def summarize(taps: ByTap, origin: windows.Origin) -> list[Any]:
        return [
            describe(one, taps, shape=shapes[one.tap], origin=_place(one.tap, origin))
            for one in summed
        ]

    found = {}
    if summed:
        sums = windows.sum_over_tiles(tiles, network, image, summarize)
        found = dict(zip(summed, sums, strict=True))
    if others:
        seen = {tap for one in others for tap in one.group}
        taps = windows.features_in_tiles(tiles, network, image, seen)
        found |= {one: describe(one, taps) for one in others}
    return found


def _descriptions(knobs: Knobs, regions: Iterable[str]) -> list[Description]:
    return [
        Description(name, tap, region, group)
        for name, lambdas in knobs.style.items()
        for tap, group in _groups(name, lambdas).items()
        for region in regions
    ]


def _place(tap: str, origin: windows.Origin) -> windows.Origin:
    """Where a tile that begins at a pixel begins at a tap."""
    stride = 2 ** (architecture.block(tap) - 1)
    return origin[0] // stride, origin[1] // stride


@functools.partial(jax.jit, static_argnames=("blend", "tile"))
def compute_targets(
    network: NetworkState,
    content_image: Image | None,
    style_images: tuple[Array, ...],
    knobs: Knobs,
    shares: Float[Array, " styles"],
    regions: tuple[dict[str, ByTap], ...],
    key: Array,
    blend: str = "targets",
    tile: int = 0,
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
      tile: see `ObjectiveStatic`.
    """
    content_taps = {}
    if content_image is not None:
        wanted = {tap for taps in knobs.content.values() for tap in taps}
        content_taps = _features(network, content_image, tile, wanted)
    described = [
        _described(network, image, knobs, own, key, tile)
        for image, own in zip(style_images, regions, strict=True)
    ]

    def describe(name: str, tap: str, region: str) -> tuple[tuple[Array, Any], ...]:
        """Pairs (share, target) of the style pictures that have the region."""
        loss, given, descriptions = STYLE[name], [], []
        asked = Description(name, tap, region, _groups(name, knobs.style[name])[tap])
        for own, share in zip(described, shares, strict=True):
            if asked in own:
                descriptions.append(own[asked])
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


class Term(NamedTuple):
    """One term on activations.

    Attributes:
      name: such as "style/gram/relu1_1".
      weight: its lambda, with the weight of its region.
      group: the taps that it sees.
      loss: from `CONTENT` or `STYLE`.
      pairs: (share, target); several only where the losses of style pictures are blended.
      context: of the whole layer.
    """

    name: str
    weight: Any
    group: tuple[str, ...]
    loss: ContentLoss | StyleLoss
    pairs: tuple[tuple[Any, Any], ...]
    context: Context

    def summarize(self, taps: ByTap, origin: windows.Origin | None = None) -> tuple[Any, ...]:
        """What the loss keeps of the taps, for every target.

        Args:
          taps: of the picture, or of a tile.
          origin: (row, column) of the layer at which the tile begins; None for the picture.
        """
        seen, context = _activations(taps, self.group), self.context._replace(origin=origin)
        return tuple(self.loss.summarize(seen, target, context) for _, target in self.pairs)

    def compare(self, summaries: tuple[Any, ...]) -> Scalar:
        """The distance from one target, or the share-weighted distances from several."""
        distances = [
            self.loss.compare(summary, target, self.context)
            for summary, (_, target) in zip(summaries, self.pairs, strict=True)
        ]
        if len(distances) == 1:
            return distances[0]
        shares = [share for share, _ in self.pairs]
        return jnp.sum(jnp.stack([s * d for s, d in zip(shares, distances, strict=True)]))


def _terms(problem: Problem, pixels: int, shapes: dict[str, tuple[int, int]]) -> list[Term]:
    """All terms on activations, content first.

    Args:
      problem: names them.
      pixels: of the picture.
      shapes: tap -> (height, width) of the whole layer.
    """
    knobs, guides, terms = problem.knobs, problem.guides, []
    for name, by_tap in problem.targets.content.items():
        for tap, target in by_tap.items():
            context = Context(guides.content.get(tap), problem.key, pixels, shapes[tap])
            pairs, weight = ((1.0, target),), knobs.content[name][tap]
            terms.append(
                Term(f"content/{name}/{tap}", weight, (tap,), CONTENT[name], pairs, context)
            )
    for name, by_tap in problem.targets.style.items():
        for tap, group in _groups(name, knobs.style[name]).items():
            for region, pairs in by_tap[tap].items():
                own = guides.regions[region].get(tap)
                context = Context(own, problem.key, pixels, shapes[tap])
                weight = knobs.regions[region] * knobs.style[name][tap]
                suffix = f"/{region}" if region else ""
                terms.append(
                    Term(f"style/{name}/{tap}{suffix}", weight, group, STYLE[name], pairs, context)
                )
    return terms


def _distances(image: Image, network: NetworkState, problem: Problem) -> list[tuple[Term, Scalar]]:
    """Every term on activations with its distance, before its lambda."""
    pixels = image.shape[0] * image.shape[1]
    tiles = windows.tiling(network, image, problem.static.tile)
    if tiles is not None:
        terms = _terms(problem, pixels, windows.tap_shapes(tiles, network))

        def summarize(taps: ByTap, origin: windows.Origin) -> list[Any]:
            return [term.summarize(taps, _place(term.group[0], origin)) for term in terms]

        summaries = windows.sum_over_tiles(tiles, network, image, summarize)
        return [(term, term.compare(own)) for term, own in zip(terms, summaries, strict=True)]
    taps = features(network, image)
    shapes = {tap: activations.shape[:2] for tap, activations in taps.items()}
    found = []
    for term in _terms(problem, pixels, shapes):

        def distance(activations: Any, term: Term = term) -> Scalar:
            group = [activations] if len(term.group) == 1 else activations
            return term.compare(term.summarize(dict(zip(term.group, group, strict=True))))

        activations = _activations(taps, term.group)
        if problem.static.normalize_gradients:
            found.append((term, normalized_gradient(distance, activations)))
        else:
            found.append((term, distance(activations)))
    return found


def breakdown(image: Image, network: NetworkState, problem: Problem) -> dict[str, Scalar]:
    """Every term by name, with J as "total".

    "content", "style" and "tv" are J_content, J_style and TV, before alpha, beta and tv_weight.
    "style/gram/relu1_1" and the like are single layers before their lambda, with the name of the
    region at the end where there are guides. So terms of runs with other weights can be compared.
    """
    knobs = problem.knobs
    terms = {"content": jnp.float32(0), "style": jnp.float32(0), "tv": jnp.float32(0)}
    layers = {}
    for term, distance in _distances(image, network, problem):
        part = term.name.partition("/")[0]
        terms[part] = terms[part] + term.weight * distance
        layers[term.name] = distance
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
