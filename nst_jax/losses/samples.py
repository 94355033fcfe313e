"""Style losses that compare the activations themselves, as two sets of points.

These losses sort the positions or compare all pairs of them, so each step draws a fresh sample of
positions of the painting and of the style. A picture with no more positions than the sample size
keeps all of them, and then nothing is random.

In the formulas a are the painting's vectors and s the style's. Unless said otherwise, a loss's
`sample` has the painting's drawn activations [k, c] at one tap, its `target` is the style's points,
its `context` has the PRNG key of the draw, and it returns a scalar >= 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses.context import Context, Features, gather, layer_shape, rows, unit

MAX_PAIRED_POINTS = 1024  # per picture, for losses that compare all pairs
MAX_SORTED_POINTS = 4096  # per picture, for losses that sort
NUM_QUANTILES = 1024  # per channel, of a histogram
NUM_DIRECTIONS = 64  # per step, that sliced Wasserstein projects on


class Points(NamedTuple):
    """A weighted set of vectors, such as the activations at all positions of a style picture.

    Attributes:
      vectors: [n, c].
      weights: [n], in proportion to which the vectors are drawn; None: all alike.
    """

    vectors: Float[Array, "n c"]
    weights: Float[Array, " n"] | None


def points(features: Features, context: Context) -> Points:
    """The activations at all positions, one vector each, with the guide's weights."""
    weights = None if context.weights is None else context.weights.reshape(-1)
    return Points(rows(features), weights)


def pool(several: list[Points], shares: list[Array]) -> Points:
    """Mixture of several distributions, as one set of points.

    Args:
      several: one set for each style picture, with weights that sum to 1 or none.
      shares: one for each set; they sum to 1.
    """
    weights = []
    for one, share in zip(several, shares, strict=True):
        n = len(one.vectors)
        own = jnp.full(n, 1 / n) if one.weights is None else one.weights
        weights.append(share * own)
    return Points(jnp.concatenate([one.vectors for one in several]), jnp.concatenate(weights))


def positions(count: int, weights: Float[Array, " n"] | None, n: int, key: Array) -> Array:
    """Indices of `count` out of n positions, drawn in proportion to their weights.

    Stratified sampling: index k is the position where the cumulative weight passes
    (k + u_k) / count, u_k uniform in [0, 1). Where there are enough draws for all positions that
    have weight, u is the same for every k, so that equal weights and count = n give every position
    once. With fewer draws, the same u would give a regular lattice, at many sizes a single column.

    Args:
      count: number of draws, 1 or more.
      weights: [n], >= 0 and not all zero; None: all alike.
      n: number of positions.
      key: PRNG key.

    Returns:
      [count] indices in ascending order.
    """
    u = jax.random.uniform(key, (count,))
    u = jnp.where(count < (n if weights is None else jnp.sum(weights > 0)), u, u[0])
    levels = (jnp.arange(count) + u) / count
    if weights is None:
        return jnp.minimum((levels * n).astype(jnp.int32), n - 1)
    cumulative = jnp.cumsum(weights)
    # Rounding may carry a level past the last position that has any weight.
    last = n - 1 - jnp.argmax(weights[::-1] > 0)
    return jnp.minimum(jnp.searchsorted(cumulative / cumulative[-1], levels, side="right"), last)


def draw(h: Points, most: int, key: Array) -> Float[Array, "k c"]:
    """A sample of k = min(most, n) vectors from the set `h` of n, drawn by `positions`."""
    n = len(h.vectors)
    return h.vectors[positions(min(most, n), h.weights, n, key)]


def sample(most: int) -> Callable[..., Float[Array, "k c"]]:
    """A function of (features, target, context): the painting's vectors at the drawn positions.

    They are drawn with the same random number as the style's. Those that lie outside a tile are 0.
    """

    def summarize(features: Features, target: Any, context: Context) -> Float[Array, "k c"]:
        del target
        return gather(features, *places(features, context, most), context)

    return summarize


def places(features: Features, context: Context, most: int) -> tuple[Array, Array]:
    """Rows and columns of min(most, h w) positions of the whole layer."""
    height, width = layer_shape(features, context)
    weights = None if context.weights is None else context.weights.reshape(-1)
    n = height * width
    drawn = positions(min(most, n), weights, n, context.key)
    return drawn // width, drawn % width


def _quantiles(values: Float[Array, "n c"], levels: int) -> Float[Array, "levels c"]:
    """Quantiles (i + 1/2) / levels of each column, interpolated linearly."""
    ordered = jnp.sort(values, 0)
    n = len(values)
    if n == levels:
        return ordered
    at = jnp.clip((jnp.arange(levels) + 0.5) * n / levels - 0.5, 0, n - 1)
    below = jnp.floor(at).astype(jnp.int32)
    share = (at - below)[:, None]
    return (1 - share) * ordered[below] + share * ordered[jnp.minimum(below + 1, n - 1)]


def sliced_distance(
    sample: Float[Array, "k c"], target: Points, context: Context
) -> Float[Array, ""]:
    """Sliced Wasserstein-2 distance, squared: mean over directions d of W_2^2(a . d, s . d).

    On a line, W_2^2 is the mean squared difference of the sorted values. In squared activation
    units.

    References:
      Heitz et al. 2021, "A Sliced Wasserstein Loss for Neural Texture Synthesis"
      (https://arxiv.org/abs/2006.07229), equations 4 to 6.

    Departs from the paper: each step draws 64 directions, where they draw n_C, and 4096 positions
    of each picture at most.
    """
    style = draw(target, MAX_SORTED_POINTS, context.key)
    key = jax.random.fold_in(context.key, 1)
    directions = jax.random.normal(key, (NUM_DIRECTIONS, sample.shape[-1])).T
    directions = directions / jnp.linalg.norm(directions, axis=0)
    levels = max(len(sample), len(style))
    a, s = (_quantiles(vectors @ directions, levels) for vectors in (sample, style))
    return jnp.mean(jnp.square(a - s))


def histogram(features: Features, context: Context) -> Float[Array, "levels c"]:
    """Histogram of each channel, as 1024 quantiles of all positions or of 1024 drawn ones."""
    return _quantiles(draw(points(features, context), NUM_QUANTILES, context.key), NUM_QUANTILES)


def histogram_distance(
    sample: Float[Array, "k c"], target: Float[Array, "levels c"], context: Context
) -> Float[Array, ""]:
    """Histogram loss: mean (a - R(a))^2, where R maps each channel to the style's histogram.

    R(a) is the style's quantile at the rank of a among the painting's positions. In squared
    activation units.

    References:
      Risser, Wilmot & Barnes 2017, "Stable and Controllable Neural Texture Synthesis and Style
      Transfer Using Histogram Losses" (https://arxiv.org/abs/1701.08893), equation 6.

    Departs from the paper: it takes the mean where they sum, and ranks exactly where they use 256
    bins.
    """
    del context
    return jnp.mean(jnp.square(_quantiles(sample, NUM_QUANTILES) - target))


def _squared_distances(a: Array, b: Array) -> Array:
    """|a_i - b_j|^2 for all pairs, clamped at 0 against rounding."""
    squares = jnp.sum(a * a, -1)[:, None] + jnp.sum(b * b, -1)
    return jnp.maximum(squares - 2 * a @ b.T, 0)


def gaussian_mmd_distance(
    sample: Float[Array, "k c"], target: Points, context: Context
) -> Float[Array, ""]:
    """Gaussian MMD: MMD^2 = mean k(a, a') + mean k(s, s') - 2 mean k(a, s), dimensionless, 0 to 2.

    k(x, y) = exp(-|x - y|^2 / (2 sigma^2)).

    References:
      Li et al. 2017, "Demystifying Neural Style Transfer" (https://arxiv.org/abs/1701.01036),
      equation 8 and section 4.1.

    Departs from the paper: they estimate MMD^2 in linear time, which can come out negative; this is
    the full sum over 1024 drawn positions at most, which cannot. As in the paper, sigma^2 is the
    mean of |s - s'|^2, but it has a floor for styles that are nearly flat.
    """
    a, s = sample, draw(target, MAX_PAIRED_POINTS, context.key)
    centre = s.mean(0)  # centring leaves the distances as they are and reduces their rounding error
    a, s = a - centre, s - centre
    between = _squared_distances(s, s)
    floor = 0.01 * jnp.sum(jnp.square(centre))
    width = jnp.maximum(2 * jnp.mean(between), floor) + 1e-12

    def kernel(distances: Array) -> Array:
        return jnp.mean(jnp.exp(-distances / width))

    return kernel(_squared_distances(a, a)) + kernel(between) - 2 * kernel(_squared_distances(a, s))


def remd_distance(
    sample: Float[Array, "k c"], target: Points, context: Context
) -> Float[Array, ""]:
    """Relaxed earth mover's distance: max(mean_i min_j C_ij, mean_j min_i C_ij).

    C_ij = 1 - cos(a_i, s_j); dimensionless, 0 to 2.

    References:
      Kolkin, Salavon & Shakhnarovich 2019, "Style Transfer by Relaxed Optimal Transport and
      Self-Similarity" (https://arxiv.org/abs/1904.12785), equations 3 to 5.

    Departs from the paper: it compares each layer's activations separately, where they compare all
    layers' activations at once, and draws 1024 positions of each picture at most.
    """
    s = draw(target, MAX_PAIRED_POINTS, context.key)
    cost = 1 - unit(sample) @ unit(s).T
    return jnp.maximum(cost.min(1).mean(), cost.min(0).mean())


def nearest_neighbour_distance(
    sample: Float[Array, "k c"], target: Points, context: Context
) -> Float[Array, ""]:
    """Distance from the nearest style vectors: mean_i min_j C_ij, dimensionless, 0 to 2.

    C_ij = 1 - cos(a_i - mean a, s_j - mean s).

    References:
      Kolkin et al. 2022, "Neural Neighbor Style Transfer" (https://arxiv.org/abs/2203.13215): the
      last phase, "feature splitting".

    Departs from the paper: it draws 1024 positions of each picture at most, where they take a grid
    of 64 by 64, and does not add rotated copies of the style picture.
    """
    s = draw(target, MAX_PAIRED_POINTS, context.key)
    cosines = unit(sample - sample.mean(0)) @ unit(s - s.mean(0)).T
    return jnp.mean(1 - cosines.max(1))


def patches(features: Features, context: Context) -> Points:
    """All 3x3 patches, one around each position, as vectors of 9 n_C; edges are replicated."""
    height, width, _ = features.shape
    padded = jnp.pad(features, ((1, 1), (1, 1), (0, 0)), "edge")
    views = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return points(jnp.concatenate(views, -1), context)


def drawn_patches(features: Features, target: Any, context: Context) -> Float[Array, "k p"]:
    """The painting's 3x3 patches around the drawn positions, as `patches` would have them."""
    del target
    height, width = layer_shape(features, context)
    ys, xs = places(features, context, MAX_PAIRED_POINTS)
    views = [
        gather(
            features,
            jnp.clip(ys + down, 0, height - 1),
            jnp.clip(xs + right, 0, width - 1),
            context,
        )
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    return jnp.concatenate(views, -1)


def mrf_distance(sample: Float[Array, "k p"], target: Points, context: Context) -> Float[Array, ""]:
    """Markov random field loss: mean squared difference of each 3x3 patch from its match.

    The match is the style patch with the largest cosine similarity. In squared activation units.

    Args:
      sample: `drawn_patches` of the painting.
      target: `patches` of the style.
      context: its key draws the style's patches.

    References:
      Li & Wand 2016, "Combining Markov Random Fields and Convolutional Neural Networks for Image
      Synthesis" (https://arxiv.org/abs/1601.04589), equations 2 and 3.

    Departs from the paper: they sum over all patches; this is the mean over 1024 drawn patches at
    most, matched against 1024 drawn patches of the style.
    """
    s = draw(target, MAX_PAIRED_POINTS, context.key)
    nearest = jnp.argmax(jax.lax.stop_gradient(unit(sample) @ unit(s).T), 1)
    return jnp.mean(jnp.square(sample - s[nearest]))
