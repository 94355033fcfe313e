"""Means and powers of channels, and their distances. See `nst_jax.losses.style`."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses.context import Context, Features, mean, rows, weighed
from nst_jax.losses.grams import gram

CMD_ORDER = 5
# This network takes pixels from 0 to 255, PyTorch's takes them scaled to a deviation of 1. Its
# activations are larger by about this factor: 255 times the deviation of ImageNet's colours.
CMD_UNIT = 57.6


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


def powers(features: Features, context: Context) -> Float[Array, "5 c"]:
    """Raw moments sum_i w_i (s(a_i) - 1/2)^k of orders k = 1 to 5; s(a) = 1 / (1 + exp(-a / 57.6)).

    Unlike central moments, those of several pictures mix linearly.
    """
    squashed = jax.nn.sigmoid(rows(features) / CMD_UNIT) - 0.5
    weights = weighed(features, context)
    return jnp.stack([mean(squashed**order, weights) for order in range(1, CMD_ORDER + 1)])


def _central(raw: Float[Array, "k c"]) -> Float[Array, "k c"]:
    """The mean and the central moments of orders 2 to k."""
    centre = raw[0]
    moments = [centre]
    for order in range(2, len(raw) + 1):
        total = (-centre) ** order
        for k in range(1, order + 1):
            total = total + math.comb(order, k) * raw[k - 1] * (-centre) ** (order - k)
        moments.append(total)
    return jnp.stack(moments)


def central_moment_discrepancy(
    own: Float[Array, "k c"], target: Float[Array, "k c"], context: Context
) -> Float[Array, ""]:
    """Central moment discrepancy: |mu_S - mu_G| + sum_(k=2)^5 |c^k_S - c^k_G|, dimensionless.

    mu and c^k are the means and the central moments of order k of every channel, of squashed
    activations (see `powers`). Gram matrices do not see the third to fifth, such as skewness.

    References:
      Kalischek, Wegner & Schindler 2021, "In the Light of Feature Distributions: Moment Matching
      for Neural Style Transfer" (https://arxiv.org/abs/2103.07208).

    Departs from the paper: it takes rectified activations, and divides them by 57.6, so that those
    of this network are squashed as those of PyTorch's.
    """
    del context
    squares = jnp.sum(jnp.square(_central(own) - _central(target)), -1)
    # Finite slopes at the target, and still 0 there.
    return jnp.sum(jnp.sqrt(squares + 1e-10) - 1e-5)
