"""The objective J = alpha J_content + beta J_style + sum_k w_k TV_k, and its single terms.

`OF_PIXELS` adds weighted terms of the pixels themselves, such as a frame's difference from those of
the film before it.

J_content is a sum over content losses and layers, each with its lambda; J_style a sum over style
losses, layers and regions. Gatys et al. 2015 (https://arxiv.org/abs/1508.06576), equations 5 and 7.

Whatever the objective needs reaches it through its arguments. The weights of the network are
arguments of the compiled program, never constants in it, and changing a knob does not recompile.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec as P
from jaxtyping import Float

from nst_jax.losses.arguments import (
    Image,
    Problem,
    Temporal,
    activations_of,
    groups,
    margin,
    place,
    spread,
)
from nst_jax.losses.content import CONTENT, ContentLoss
from nst_jax.losses.context import Context
from nst_jax.losses.matting import matting_distance
from nst_jax.losses.smoothness import SMOOTHNESS, Pixels
from nst_jax.losses.spectrum import spectrum_distance
from nst_jax.losses.style import STYLE, StyleLoss
from nst_jax.network import tiles, tiling
from nst_jax.network.state import NetworkState
from nst_jax.network.tiles import Tile

Scalar = Float[Array, ""]


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

    @property
    def is_recomputed(self) -> bool:
        """Whether every tile has the target."""
        return self.pairs[0][1] is None

    def _summary(self, seen: Any, tile: Tile) -> tuple[Any, ...]:
        """What the loss keeps of activations, for every target."""
        context = self.context
        if tile.origin is not None:
            first, _ = place(self.group[0], (tile.first, 0))
            context = context._replace(origin=place(self.group[0], tile.origin), first=first)
        if self.is_recomputed:
            own = tile.content[self.group[0]]
            return (self.loss.summarize(seen, own, context._replace(first=None)),)
        return tuple(self.loss.summarize(seen, target, context) for _, target in self.pairs)

    def summarize(self, tile: Tile) -> tuple[Any, ...]:
        """What the loss keeps of a tile, for every target."""
        return self._summary(activations_of(tile, self.group), tile)

    def gradient_norm(self, slopes: tuple[Any, ...], tile: Tile) -> Scalar:
        """The L1 norm of the distance's gradient with respect to the activations of a tile.

        Args:
          slopes: the distance's gradient with respect to the picture's summary.
          tile: which.
        """
        seen = jax.lax.stop_gradient(activations_of(tile, self.group))
        _, pull = jax.vjp(lambda seen: self._summary(seen, tile), seen)
        return sum(
            (jnp.sum(jnp.abs(part)) for part in jax.tree.leaves(pull(slopes))), jnp.float32(0)
        )

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
        for tap, group in groups(name, knobs.style[name]).items():
            for region, pairs in by_tap[tap].items():
                own = guides.regions[region].get(tap)
                following = shapes[group[1]] if len(group) > 1 else None
                context = Context(own, problem.key, pixels, shapes[tap], following=following)
                weight = knobs.regions[region] * knobs.style[name][tap]
                suffix = f"/{region}" if region else ""
                terms.append(
                    Term(f"style/{name}/{tap}{suffix}", weight, group, STYLE[name], pairs, context)
                )
    return terms


class Distances(NamedTuple):
    """The terms with their values, before their weights.

    Attributes:
      terms: those on activations, with their distances.
      variations: total variation -> value.
    """

    terms: list[tuple[Term, Scalar]]
    variations: dict[str, Scalar]


def _distances(image: Image, network: NetworkState, problem: Problem) -> Distances:
    """Every term of the objective."""
    static, shape = problem.static, problem.static.shape(image)
    terms_of = functools.partial(
        _terms, pixels=math.prod(shape), shapes=tiling.tap_shapes(shape, network)
    )
    cut = static.tiling(network, image, margin(problem.knobs))
    if cut is None:
        total = functools.partial(_of_the_whole, tiles.whole(network, image))
    else:
        total = functools.partial(
            tiles.sum_over_tiles, cut, network, image, content=problem.targets.inputs
        )

    def summarize(problem: Problem, tile: Tile) -> dict[str, Any]:
        found: dict[str, Any] = {
            term.name: term.summarize(tile)
            for term in terms_of(problem)
            if term.group[0] in tile.taps
        }
        if tile.pixels is not None:
            own = Pixels(tile.pixels, shape, tile.origin)
            found |= {name: SMOOTHNESS[name](own) for name in problem.knobs.smoothness}
        return found

    def gradient_norms(arguments: tuple[Problem, dict[str, Any]], tile: Tile) -> dict[str, Scalar]:
        problem, slopes = arguments
        return {
            term.name: term.gradient_norm(slopes[term.name], tile)
            for term in terms_of(problem)
            if term.group[0] in tile.taps
        }

    terms, spread_out = terms_of(problem), spread(problem)
    sums = total(summarize, problem, spread_out)
    distances = {term.name: term.compare(sums[term.name]) for term in terms}
    if static.normalize_gradients:
        here = jax.lax.stop_gradient(sums)
        slopes = {term.name: jax.grad(term.compare)(here[term.name]) for term in terms}
        everywhere = jax.tree.map(lambda leaf: P(), slopes)
        norms = total(gradient_norms, (problem, slopes), (spread_out, everywhere))
        distances = {
            name: normalized(distance, norms[name]) for name, distance in distances.items()
        }
    return Distances(
        [(term, distances[term.name]) for term in terms],
        {name: sums[name] for name in problem.knobs.smoothness},
    )


def _of_the_whole(
    picture: Tile, function: Callable[[Any, Tile], Any], arguments: Any, spread: Any
) -> Any:
    """As `sum_over_tiles`, of a picture that is its only tile."""
    del spread
    return function(arguments, picture)


def normalized(distance: Scalar, norm: Scalar) -> Scalar:
    """A distance, with the gradient g / (|g|_1 + 1e-8) in place of g.

    neural-style's -normalize_gradients, as in its Lua original: at the layer, before the lambda, so
    that lambdas still count. The value is no longer the integral of the gradient, from which
    L-BFGS would choose its steps.

    Args:
      distance: a term.
      norm: |g|_1, of its gradient with respect to the layer's activations.
    """
    value = jax.lax.stop_gradient(distance)
    return value + (distance - value) / (jax.lax.stop_gradient(norm) + 1e-8)


def temporal_distance(image: Image, target: Temporal) -> Scalar:
    """Temporal loss: sum_i w_i |x_i - p_i|^2 / (3 h w), in squared pixel units.

    Args:
      image: x, [h, w, 3], a frame's painting.
      target: p and w, the warped paintings before it and how far they can be trusted.

    References:
      Ruder, Dosovitskiy & Brox 2016, "Artistic Style Transfer for Videos"
      (https://arxiv.org/abs/1604.08610), equation 7.
    """
    return jnp.mean(target.weights[..., None] * jnp.square(image - target.picture))


# Name in `Targets` and `Knobs` -> (picture, target) -> loss of the whole picture's pixels.
OF_PIXELS: dict[str, Callable[[Image, Any], Scalar]] = {
    "temporal": temporal_distance,
    "matting": matting_distance,
    "spectrum": spectrum_distance,
}


def breakdown(image: Image, network: NetworkState, problem: Problem) -> dict[str, Scalar]:
    """Every term by name, with J as "total".

    "content", "style" and "tv" are J_content, J_style and TV, before alpha, beta and tv_weight.
    Those of `OF_PIXELS` are there where they have a target, before their weights.
    "style/gram/relu1_1" and the like are single layers before their lambda, with the name of the
    region at the end where there are guides. So terms of runs with other weights can be compared.
    """
    knobs = problem.knobs
    terms = {"content": jnp.float32(0), "style": jnp.float32(0), "tv": jnp.float32(0)}
    layers = {}
    distances = _distances(image, network, problem)
    for term, distance in distances.terms:
        part = term.name.partition("/")[0]
        terms[part] = terms[part] + term.weight * distance
        layers[term.name] = distance
    total = knobs.alpha * terms["content"] + knobs.beta * terms["style"]
    for name, weight in knobs.smoothness.items():
        variation = distances.variations[name]
        terms["tv"] = terms["tv"] + variation
        total = total + weight * variation
    for name, distance in OF_PIXELS.items():
        target = getattr(problem.targets, name)
        if target is not None:
            terms[name] = distance(image, target)
            total = total + getattr(knobs, name) * terms[name]
    return {"total": total} | terms | layers


def in_order(terms: dict[str, Any]) -> dict[str, Any]:
    """Terms in reading order, which jit does not keep: the total, its three parts, the layers."""
    first = ("total", "content", "style", "tv")
    return {name: terms[name] for name in (*first, *sorted(terms.keys() - {*first}))}


def objective(image: Image, network: NetworkState, problem: Problem) -> Scalar:
    """J(image), the scalar that is minimised."""
    return breakdown(image, network, problem)["total"]
