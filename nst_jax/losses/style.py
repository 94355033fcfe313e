"""Style: what occurs together, wherever in the painting it does.

The table `STYLE` holds every style loss; this module has those that compare statistics of the
activations, `nst_jax.losses.samples` those that compare the activations themselves. n_C channels,
n_H x n_W positions; a_i [n_C] are the activations at position i and w_i its weight: 1 / (n_H n_W),
or what a guide says.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses import samples
from nst_jax.losses.context import Context, Features, correlation, mean, rows, second_moment


class StyleLoss(NamedTuple):
    """A style loss: what to keep of a style picture, and how far a painting is from it.

    Attributes:
      describe: (features, context) -> target.
      distance: (features, target, context) -> scalar >= 0.
      mix: (targets, shares) -> target of several style pictures in parts that sum to 1.
      finish: target -> target, once, after mixing.
      neighbours: 2 where features are a pair, those of a layer and of the next one.
    """

    describe: Callable[..., Any]
    distance: Callable[..., Float[Array, ""]]
    mix: Callable[[list[Any], list[Array]], Any]
    finish: Callable[[Any], Any] = lambda target: target
    neighbours: int = 1


def average(targets: list[Any], shares: list[Array]) -> Any:
    """sum_s share_s target_s, number by number."""

    def weighted(*values: Array) -> Array:
        return sum(
            (s * v for s, v in zip(shares[1:], values[1:], strict=True)), shares[0] * values[0]
        )

    return jax.tree.map(weighted, *targets)


def gram(features: Features, context: Context) -> Float[Array, "c c"]:
    """Gram matrix G = sum_i w_i a_i a_i^T.

    Gatys et al. 2015 (https://arxiv.org/abs/1508.06576), equation 3, sums over positions; here it
    is their mean, so that a style picture may have another size than the output. With a guide it is
    the guided Gram matrix of Gatys et al. 2017 (https://arxiv.org/abs/1611.07865), equation 4.
    """
    return cast(Array, second_moment(rows(features), context.weights))


# Name -> factor f(n_C, n_H n_W, pixels of the picture) in front of sum (G_S - G_G)^2.
GRAM_FACTORS: dict[str, Callable[[int, int, int], float]] = {
    # Gatys et al. 2015, equation 4: 1 / (4 n_C^2 (n_H n_W)^2) of Gram matrices as sums.
    "gram": lambda channels, positions, pixels: 1 / (4 * channels**2),
    # Mean squared difference: Gatys' notebook of 2016, TensorFlow's tutorial, pastiche.
    "gram_mse": lambda channels, positions, pixels: 1 / channels**2,
    # The same of G / n_C: neural-style, neural-style-pt, PyTorch's tutorial.
    "gram_johnson": lambda channels, positions, pixels: 1 / channels**4,
    # 1 / (4 * 3^2 * pixels^2) of Gram matrices as sums, at every layer: the Keras example.
    "gram_keras": lambda channels, positions, pixels: (positions / pixels) ** 2 / 36,
}


def _gram_distance(factor: Callable[[int, int, int], float]) -> Callable[..., Float[Array, ""]]:
    """J_style = f * sum (G_S - G_G)^2, in fourth-power units of the activations."""

    def distance(
        features: Features, target: Float[Array, "c c"], context: Context
    ) -> Float[Array, ""]:
        height, width, channels = features.shape
        scale = factor(channels, height * width, context.pixels)
        return scale * jnp.sum(jnp.square(gram(features, context) - target))

    return distance


Pair = tuple[Float[Array, "h w c"], Float[Array, "h2 w2 d"]]


def cross_gram(features: Pair, context: Context) -> Float[Array, "c d"]:
    """G = sum_i w_i a_i b_i^T, with b the next layer, enlarged bilinearly to this one's positions.

    Novak & Nikulin 2016, "Improving the Neural Algorithm of Artistic Style"
    (https://arxiv.org/abs/1605.04603), section 3.5.
    """
    fine, coarse = features
    enlarged = jax.image.resize(coarse, (*fine.shape[:2], coarse.shape[2]), "linear")
    return correlation(rows(fine), rows(enlarged), context.weights)


def cross_gram_distance(
    features: Pair, target: Float[Array, "c d"], context: Context
) -> Float[Array, ""]:
    """1 / (4 n_C n_D) * sum (G_S - G_G)^2 of two layers with n_C and n_D channels."""
    return jnp.sum(jnp.square(cross_gram(features, context) - target)) / (4 * target.size)


class Moments(NamedTuple):
    """Mean and second raw moment of the activations: unlike (co)variances, these may be mixed."""

    mean: Float[Array, " c"]
    second: Float[Array, "*c"]


def channel_moments(features: Features, context: Context) -> Moments:
    """sum_i w_i a_i and sum_i w_i a_i^2 of each channel."""
    a = rows(features)
    return Moments(mean(a, context.weights), mean(jnp.square(a), context.weights))


def _deviation(moments: Moments) -> Array:
    """Standard deviation; the 1e-5 keeps its gradient finite where a channel is constant."""
    return jnp.sqrt(jnp.maximum(moments.second - jnp.square(moments.mean), 0) + 1e-5)


def mean_variance_distance(
    features: Features, target: Moments, context: Context
) -> Float[Array, ""]:
    """1 / n_C * sum (mu_S - mu_G)^2 + (sigma_S - sigma_G)^2: means and deviations of channels.

    Li et al. 2017, "Demystifying Neural Style Transfer" (https://arxiv.org/abs/1701.01036),
    equation 13: the statistics that batch normalisation keeps.
    """
    moments = channel_moments(features, context)
    differences = moments.mean - target.mean, _deviation(moments) - _deviation(target)
    return jnp.mean(jnp.square(differences[0]) + jnp.square(differences[1]))


def linear_mmd_distance(features: Features, target: Moments, context: Context) -> Float[Array, ""]:
    """MMD^2 with the kernel k(x, y) = x . y, over n_C: mean of (mu_S - mu_G)^2.

    Li et al. 2017, section 4.1. With guides these are the guided sums of Gatys et al. 2017.
    """
    return jnp.mean(jnp.square(mean(rows(features), context.weights) - target.mean))


def moments(features: Features, context: Context) -> Moments:
    """sum_i w_i a_i and sum_i w_i a_i a_i^T."""
    return Moments(mean(rows(features), context.weights), gram(features, context))


def polynomial_mmd_distance(
    features: Features, target: Moments, context: Context
) -> Float[Array, ""]:
    """MMD^2 with the kernel k(x, y) = (x . y + c)^2, over 4 n_C^2.

    The kernel's features are products and means, so it takes no pairs of positions:
    (sum (G_S - G_G)^2 + 2 c sum (mu_S - mu_G)^2) / (4 n_C^2). Li et al. 2017, section 4.1, with
    c = 0, which is the Gram loss; here c is the style's mean squared activation.
    """
    own = moments(features, context)
    c = jnp.trace(target.second) / len(target.mean)
    products = jnp.sum(jnp.square(own.second - target.second))
    means = jnp.sum(jnp.square(own.mean - target.mean))
    return (products + 2 * c * means) / (4 * target.second.size)


class Spread(NamedTuple):
    """Mean and covariance of the activations."""

    mean: Float[Array, " c"]
    covariance: Float[Array, "c c"]


class Gaussian(NamedTuple):
    """Mean, covariance, and its symmetric square root."""

    mean: Float[Array, " c"]
    covariance: Float[Array, "c c"]
    root: Float[Array, "c c"]


def spread(features: Features, context: Context) -> Spread:
    """mu = sum_i w_i a_i and sum_i w_i (a_i - mu)(a_i - mu)^T: no rounding makes it negative."""
    a = rows(features)
    centre = mean(a, context.weights)
    return Spread(centre, correlation(a - centre, a - centre, context.weights))


def mixture(targets: list[Spread], shares: list[Array]) -> Spread:
    """Mean and covariance of a mixture of distributions."""
    centre = average([target.mean for target in targets], shares)
    apart = [jnp.outer(target.mean - centre, target.mean - centre) for target in targets]
    inside = [target.covariance for target in targets]
    return Spread(centre, average(inside, shares) + average(apart, shares))


def _padded(covariance: Array) -> Array:
    """A covariance with 1e-4 more on the diagonal, as in crowsonkb's program."""
    return covariance + 1e-4 * jnp.eye(len(covariance))


def _roots(matrix: Float[Array, "c c"], steps: int) -> tuple[Array, Array]:
    """Square root of a positive matrix and its inverse, by Newton-Schulz iteration.

    Y, Z <- Y T, T Z with T = (3 I - Z Y) / 2, from Y = A / |A| and Z = I: only products, so it runs
    on every device. Eigenvalues below 1.5^(-2 steps) of the largest are still on their way when it
    ends, which keeps the inverse finite. Higham, "Functions of Matrices", 2008, equation 6.35.
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
    """Trace of the square root of a positive matrix. Its gradient is half the inverse root."""
    return jnp.trace(_roots(matrix, steps)[0])


def _root_trace_forward(matrix: Array, steps: int):
    root, inverse = _roots(matrix, steps)
    return jnp.trace(root), inverse


def _root_trace_backward(steps: int, inverse: Array, cotangent: Array):
    del steps
    return (cotangent / 2 * inverse,)


root_trace.defvjp(_root_trace_forward, _root_trace_backward)


def _wasserstein(steps: int) -> StyleLoss:
    """Squared Wasserstein-2 (Bures) distance of two normal distributions, over n_C.

    (|mu_S - mu_G|^2 + tr(C_S + C_G - 2 (C_S^(1/2) C_G C_S^(1/2))^(1/2))) / n_C, in squared units of
    the activations. As in crowsonkb/style-transfer-pytorch, whose roots take 12 steps: at its own
    target it stays at 5 to 10 % of what it is elsewhere, with 16 steps at 2 % or less. In float32
    it does not converge further: from 20 steps on rounding can make it diverge.
    """

    def gaussian(target: Spread) -> Gaussian:
        covariance = _padded(target.covariance)
        return Gaussian(target.mean, covariance, _roots(covariance, steps)[0])

    def distance(features: Features, target: Gaussian, context: Context) -> Float[Array, ""]:
        own = spread(features, context)
        covariance = _padded(own.covariance)
        with jax.default_matmul_precision("highest"):
            cross = root_trace(target.root @ covariance @ target.root, steps)
        traces = jnp.trace(target.covariance) + jnp.trace(covariance)
        apart = traces - 2 * cast(Array, cross)
        return jnp.mean(jnp.square(own.mean - target.mean)) + apart / len(own.mean)

    return StyleLoss(spread, distance, mixture, gaussian)


STYLE: dict[str, StyleLoss] = {
    **{name: StyleLoss(gram, _gram_distance(f), average) for name, f in GRAM_FACTORS.items()},
    "cross_gram": StyleLoss(cross_gram, cross_gram_distance, average, neighbours=2),
    "mean_variance": StyleLoss(channel_moments, mean_variance_distance, average),
    "mmd_linear": StyleLoss(channel_moments, linear_mmd_distance, average),
    "mmd_polynomial": StyleLoss(moments, polynomial_mmd_distance, average),
    "mmd_gaussian": StyleLoss(samples.points, samples.gaussian_mmd_distance, samples.pool),
    "w2": _wasserstein(16),
    "w2_crowsonkb": _wasserstein(12),
    "sliced": StyleLoss(samples.points, samples.sliced_distance, samples.pool),
    "histogram": StyleLoss(samples.histogram, samples.histogram_distance, average),
    "remd": StyleLoss(samples.points, samples.remd_distance, samples.pool),
    "mrf": StyleLoss(samples.patches, samples.mrf_distance, samples.pool),
}
