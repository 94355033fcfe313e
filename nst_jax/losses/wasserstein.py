"""Wasserstein-2 distance of normal distributions. See `nst_jax.losses.style`."""

import functools
import math
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses.context import (
    Context,
    Features,
    average,
    correlation,
    layer_shape,
    mean,
    rows,
    weighed,
)


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


class Parts(NamedTuple):
    """Means and covariances of the t tiles of a layer; those of single tiles add up.

    Attributes:
      weights: [t], the weight of each tile; they sum to 1.
      means: [t, c], of each tile; zeros where a tile has no weight.
      within: [c, c], sum_t of the weight times the covariance within the tile.
    """

    weights: Float[Array, " t"]
    means: Float[Array, "t c"]
    within: Float[Array, "c c"]


def parts(features: Features, target: Gaussian, context: Context) -> Parts:
    """The painting's `Parts`, of a tile with zeros for the others.

    Every tile is centred at its own mean. Raw moments would add up as well, but their difference
    loses digits: in a tile of relu1_1, the gradient was off by 6e-5.
    """
    del target
    if context.origin is None:
        centre, covariance = spread(features, context)
        return Parts(jnp.ones(1), centre[None], covariance)
    weights = weighed(features, context)
    assert weights is not None, "a tile always has them"
    share = jnp.sum(weights)
    own = spread(features, Context(weights / jnp.where(share > 0, share, 1)))
    (height, width), (top, left) = layer_shape(features, context), context.origin
    down, across = math.ceil(height / features.shape[0]), math.ceil(width / features.shape[1])
    number = top // features.shape[0] * across + left // features.shape[1]
    slot = jax.nn.one_hot(number, down * across)
    return Parts(share * slot, slot[:, None] * own.mean, share * own.covariance)


def together(own: Parts) -> Spread:
    """The mean and covariance of all tiles: what is within them, and between their means."""
    with jax.default_matmul_precision("highest"):
        centre = own.weights @ own.means
        apart = own.means - centre
        between = jnp.einsum("t,ta,tb->ab", own.weights, apart, apart)
    return Spread(centre, own.within + between)


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


def gaussian(target: Spread, steps: int) -> Gaussian:
    """The normal distribution of a mean and covariance; `steps` as in `root_trace`."""
    covariance = _padded(target.covariance)
    return Gaussian(target.mean, covariance, _roots(covariance, steps)[0])


def wasserstein_distance(
    own: Parts, target: Gaussian, context: Context, steps: int
) -> Float[Array, ""]:
    """Squared Wasserstein-2 (Bures) distance of two normal distributions, divided by n_C.

    (|mu_S - mu_G|^2 + tr(C_S + C_G - 2 (C_S^(1/2) C_G C_S^(1/2))^(1/2))) / n_C, in squared
    activation units, as in crowsonkb/style-transfer-pytorch, whose roots take 12 steps.

    At the target itself the distance should be 0. After 12 steps it is still 5 to 10 % of its value
    elsewhere, after 16 steps 2 % or less. In float32 more steps do not help: from 20 on, rounding
    can make the iteration diverge.
    """
    del context
    centre, covariance = together(own)
    covariance = _padded(covariance)
    with jax.default_matmul_precision("highest"):
        cross = root_trace(target.root @ covariance @ target.root, steps)
    traces = jnp.trace(target.covariance) + jnp.trace(covariance)
    bures = traces - 2 * cast(Array, cross)
    return jnp.mean(jnp.square(centre - target.mean)) + bures / len(centre)
