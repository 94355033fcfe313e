"""Style losses: which features occur together, wherever in the picture they occur.

The table `STYLE` holds every style loss. `nst_jax.losses.grams`, `moments` and `wasserstein`
compare statistics of the activations; `nst_jax.losses.samples` compares the activations themselves,
and `nst_jax.losses.hypercolumns` those of all layers together.

Notation: n_C channels and n_H x n_W positions; a_i [n_C] are the activations at position i and w_i
is its weight, 1 / (n_H n_W) or the guide's. The suffixes S and G mean style and painting. Unless
said otherwise, a loss's `features` are the activations [h, w, c] of one tap, whole or of a tile,
its `own` is the statistic of the painting, its `target` is what `describe` made of the style, and
it returns a scalar >= 0.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array
from jaxtyping import Float

from nst_jax.losses import grams, hypercolumns, moments, samples, wasserstein
from nst_jax.losses.context import Context, average, itself


class StyleLoss(NamedTuple):
    """A style loss: how to reduce a style picture to a target and compare a painting with it.

    Attributes:
      describe: (features, context) -> target.
      summarize: (features, target, context) -> pytree. Those of a painting's tiles add up to that
        of the painting.
      compare: (summary, target, context) -> scalar >= 0.
      mix: (targets, shares) -> one target for several style pictures; the shares sum to 1.
      finish: target -> target, applied once after mixing.
      neighbours: 1, or 2 if `features` is the pair of a layer's activations and the next layer's,
        or 0 if it holds those of all layers.
      match: (target, features, context) -> target, of the content picture's activations; None where
        the target does not depend on them.
      adds: whether what `describe` makes of the tiles of a picture adds up, too.
      keeps: numbers that a target has for each activation of the style picture; 0 for statistics.
    """

    describe: Callable[..., Any]
    summarize: Callable[..., Any]
    compare: Callable[..., Float[Array, ""]]
    mix: Callable[[list[Any], list[Array]], Any]
    finish: Callable[[Any], Any] = lambda target: target
    neighbours: int = 1
    match: Callable[..., Any] | None = None
    adds: bool = False
    keeps: int = 0

    def distance(self, features: Any, target: Any, context: Context) -> Float[Array, ""]:
        """The loss of whole activations."""
        first = features if self.neighbours == 1 else features[0]
        context = context._replace(shape=first.shape[:2])
        return self.compare(self.summarize(features, target, context), target, context)


def _statistic(describe: Callable[[Any, Context], Any]) -> Callable[..., Any]:
    """A `summarize` that is the statistic which `describe` keeps of a style."""
    return lambda features, target, context: describe(features, context)


def _of_statistics(
    describe: Callable[[Any, Context], Any], compare: Callable[..., Float[Array, ""]]
) -> StyleLoss:
    """A loss that compares the same statistic of the painting and of the style."""
    return StyleLoss(describe, _statistic(describe), compare, average, adds=True)


PAIRED, SORTED = (
    samples.sample(samples.MAX_PAIRED_POINTS),
    samples.sample(samples.MAX_SORTED_POINTS),
)


def _wasserstein(steps: int) -> StyleLoss:
    """`wasserstein.wasserstein_distance`, with roots of so many steps."""
    return StyleLoss(
        wasserstein.spread,
        wasserstein.parts,
        functools.partial(wasserstein.wasserstein_distance, steps=steps),
        wasserstein.mixture,
        functools.partial(wasserstein.gaussian, steps=steps),
    )


def _of_points(
    compare: Callable[..., Float[Array, ""]], summarize: Callable[..., Any] = PAIRED
) -> StyleLoss:
    """A loss that compares activations drawn from the painting with the style's."""
    return StyleLoss(samples.points, summarize, compare, samples.pool, keeps=1)


# Name -> style loss.
STYLE: dict[str, StyleLoss] = {
    **{
        name: _of_statistics(grams.gram, grams.gram_distance(factor))
        for name, factor in grams.GRAM_FACTORS.items()
    },
    "gram_normalized": _of_statistics(grams.gram, grams.normalized_gram_distance),
    "shifted_gram": _of_statistics(grams.shifted_grams, grams.shifted_gram_distance)._replace(
        adds=False
    ),
    "cross_gram": _of_statistics(grams.cross_gram, grams.cross_gram_distance)._replace(
        neighbours=2
    ),
    "cross_covariance": _of_statistics(
        grams.cross_moments, grams.cross_covariance_distance
    )._replace(neighbours=2),
    "mean_variance": _of_statistics(moments.channel_moments, moments.mean_variance_distance),
    "cmd": _of_statistics(moments.powers, moments.central_moment_discrepancy),
    "mmd_linear": _of_statistics(moments.channel_moments, moments.linear_mmd_distance),
    "mmd_polynomial": _of_statistics(moments.moments, moments.polynomial_mmd_distance),
    "mmd_gaussian": _of_points(samples.gaussian_mmd_distance),
    "w2": _wasserstein(16),
    "w2_crowsonkb": _wasserstein(12),
    "sliced": _of_points(samples.sliced_distance, SORTED),
    "histogram": StyleLoss(
        samples.histogram,
        samples.sample(samples.NUM_QUANTILES),
        samples.histogram_distance,
        average,
    ),
    "remd": _of_points(samples.remd_distance),
    "nnst": _of_points(samples.nearest_neighbour_distance),
    "hypercolumns": StyleLoss(
        hypercolumns.points,
        hypercolumns.matched_distance,
        itself,
        samples.pool,
        neighbours=0,
        match=hypercolumns.match,
    ),
    "mrf": StyleLoss(
        samples.patches, samples.drawn_patches, samples.mrf_distance, samples.pool, keeps=9
    ),
}
