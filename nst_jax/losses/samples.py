"""Style losses that compare activations themselves, as two sets of vectors.

Their cost is quadratic in the positions, or they sort them; so each step draws positions anew, of
the painting and of the style alike. Where every position fits, all are taken and nothing is random.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses.context import Context, Features, rows, unit

PAIRED = 1024  # positions drawn by losses that compare each with each
SORTED = 4096  # positions drawn by losses that sort
LEVELS = 1024  # quantiles kept of each channel
DIRECTIONS = 64  # lines a step that sliced Wasserstein projects on


class Points(NamedTuple):
    """All positions of a style picture: their vectors, and how much each counts."""

    vectors: Float[Array, "n c"]
    weights: Float[Array, " n"] | None


def points(features: Features, context: Context) -> Points:
    """All positions, as they are."""
    weights = None if context.weights is None else context.weights.reshape(-1)
    return Points(rows(features), weights)


def pool(several: list[Points], shares: list[Array]) -> Points:
    """One set of several: the mixture of their distributions, in parts that sum to 1."""
    weights = [
        share * (jnp.full(len(h.vectors), 1 / len(h.vectors)) if h.weights is None else h.weights)
        for h, share in zip(several, shares, strict=True)
    ]
    return Points(jnp.concatenate([h.vectors for h in several]), jnp.concatenate(weights))


def positions(count: int, weights: Float[Array, " n"] | None, n: int, key: Array) -> Array:
    """`count` of n positions, drawn in proportion to their weights.

    Systematic sampling: i_k is where the running sum of the weights passes (k + u) / count, with
    one u in [0, 1) for all k. With equal weights and count = n that is every position once.
    """
    levels = (jnp.arange(count) + jax.random.uniform(key)) / count
    if weights is None:
        return jnp.minimum((levels * n).astype(jnp.int32), n - 1)
    running = jnp.cumsum(weights)
    last = n - 1 - jnp.argmax(weights[::-1] > 0)  # rounding may lead beyond it
    return jnp.minimum(jnp.searchsorted(running / running[-1], levels, side="right"), last)


def draw(h: Points, most: int, key: Array) -> Float[Array, "k c"]:
    """Up to `most` vectors of a set of points."""
    n = len(h.vectors)
    return h.vectors[positions(min(most, n), h.weights, n, key)]


def _both(features: Features, target: Points, context: Context, most: int) -> tuple[Array, Array]:
    """Vectors drawn of the painting and of the style, by the same random number."""
    return draw(points(features, context), most, context.key), draw(target, most, context.key)


def _quantiles(values: Float[Array, "n c"], levels: int) -> Float[Array, "levels c"]:
    """Each column sorted, and read off at the levels (i + 1/2) / levels, linearly between them."""
    ordered = jnp.sort(values, 0)
    n = len(values)
    if n == levels:
        return ordered
    at = jnp.clip((jnp.arange(levels) + 0.5) * n / levels - 0.5, 0, n - 1)
    below = jnp.floor(at).astype(jnp.int32)
    share = (at - below)[:, None]
    return (1 - share) * ordered[below] + share * ordered[jnp.minimum(below + 1, n - 1)]


def sliced_distance(features: Features, target: Points, context: Context) -> Float[Array, ""]:
    """Sliced Wasserstein-2 distance, squared: mean over lines d of W_2^2(a . d, s . d).

    On a line, W_2^2 is the mean squared difference of the sorted values. Heitz et al. 2021, "A
    Sliced Wasserstein Loss for Neural Texture Synthesis" (https://arxiv.org/abs/2006.07229),
    equations 4 to 6; they draw n_C new directions a step, we 64.
    """
    painting, style = _both(features, target, context, SORTED)
    key = jax.random.fold_in(context.key, 1)
    lines = jax.random.normal(key, (DIRECTIONS, features.shape[-1])).T
    lines = lines / jnp.linalg.norm(lines, axis=0)
    levels = max(len(painting), len(style))
    a, s = (_quantiles(vectors @ lines, levels) for vectors in (painting, style))
    return jnp.mean(jnp.square(a - s))


def histogram(features: Features, context: Context) -> Float[Array, "levels c"]:
    """The histogram of every channel, as 1024 quantiles; drawn where there are more positions."""
    return _quantiles(draw(points(features, context), LEVELS, context.key), LEVELS)


def histogram_distance(
    features: Features, target: Float[Array, "levels c"], context: Context
) -> Float[Array, ""]:
    """Mean of (a - R(a))^2, with R the map that gives each channel the style's histogram.

    R(a) is the style's quantile at the rank of a among the painting's positions. Risser, Wilmot &
    Barnes 2017, "Stable and Controllable Neural Texture Synthesis and Style Transfer Using
    Histogram Losses" (https://arxiv.org/abs/1701.08893), equation 6; they sum, we take the mean,
    and rank exactly instead of in 256 bins.
    """
    return jnp.mean(jnp.square(histogram(features, context) - target))


def _squared_distances(a: Array, b: Array) -> Array:
    """|a_i - b_j|^2 for all pairs, never below 0."""
    squares = jnp.sum(a * a, -1)[:, None] + jnp.sum(b * b, -1)
    return jnp.maximum(squares - 2 * a @ b.T, 0)


def gaussian_mmd_distance(features: Features, target: Points, context: Context) -> Float[Array, ""]:
    """MMD^2 = mean k(a, a') + mean k(s, s') - 2 mean k(a, s), with a Gaussian kernel.

    k(x, y) = exp(-|x - y|^2 / (2 sigma^2)); dimensionless, 0 to 2. Li et al. 2017,
    "Demystifying Neural Style Transfer" (https://arxiv.org/abs/1701.01036), equation 8 and section
    4.1; sigma^2 is the mean of |s - s'|^2, as there, but where the style is nearly flat. They
    estimate it in linear time, which can be negative; this is the full sum over 1024 drawn
    positions, which cannot.
    """
    a, s = _both(features, target, context, PAIRED)
    centre = s.mean(0)  # which no distance depends on, but their rounding does
    a, s = a - centre, s - centre
    between = _squared_distances(s, s)
    least = 0.01 * jnp.sum(jnp.square(centre))
    width = jnp.maximum(2 * jnp.mean(between), least) + 1e-12

    def kernel(distances: Array) -> Array:
        return jnp.mean(jnp.exp(-distances / width))

    return kernel(_squared_distances(a, a)) + kernel(between) - 2 * kernel(_squared_distances(a, s))


def remd_distance(features: Features, target: Points, context: Context) -> Float[Array, ""]:
    """Relaxed earth mover's distance: max(mean_i min_j C_ij, mean_j min_i C_ij), 0 to 2.

    C_ij = 1 - cos(a_i, s_j). Kolkin, Salavon & Shakhnarovich 2019, "Style Transfer by Relaxed
    Optimal Transport and Self-Similarity" (https://arxiv.org/abs/1904.12785), equations 3 to 5.
    They compare all layers' activations at once, we each layer's.
    """
    a, s = _both(features, target, context, PAIRED)
    cost = 1 - unit(a) @ unit(s).T
    return jnp.maximum(cost.min(1).mean(), cost.min(0).mean())


def patches(features: Features, context: Context) -> Points:
    """All 3x3 patches, one around each position, as vectors of 9 n_C; edges are repeated."""
    height, width, _ = features.shape
    padded = jnp.pad(features, ((1, 1), (1, 1), (0, 0)), "edge")
    views = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return points(jnp.concatenate(views, -1), context)


def mrf_distance(features: Features, target: Points, context: Context) -> Float[Array, ""]:
    """Mean squared difference of each 3x3 patch from the style patch that is nearest by cosine.

    Li & Wand 2016, "Combining Markov Random Fields and Convolutional Neural Networks for Image
    Synthesis" (https://arxiv.org/abs/1601.04589), equations 2 and 3; they sum over all patches, we
    take the mean over 1024 drawn ones, matched among 1024 of the style.
    """
    a = draw(patches(features, context), PAIRED, context.key)
    s = draw(target, PAIRED, context.key)
    nearest = jnp.argmax(jax.lax.stop_gradient(unit(a) @ unit(s).T), 1)
    return jnp.mean(jnp.square(a - s[nearest]))
