"""Content: what is where. The table `CONTENT` holds every content loss.

A content loss compares the painting's activations a_G with the photograph's, a_C, at the same
n_H x n_W positions of n_C channels. A content-weight map m_i multiplies each position's part.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses import samples
from nst_jax.losses.context import Context, Features, magnitude, rows, unit


def _squared(factor: Callable[[int], float]) -> Callable[..., Float[Array, ""]]:
    """J_content = f * sum m_i (a_C - a_G)^2, in squared units of the activations."""

    def distance(features: Features, target: Features, context: Context) -> Float[Array, ""]:
        squares = jnp.square(features - target)
        if context.weights is not None:
            squares = context.weights[..., None] * squares
        return factor(features.size) * jnp.sum(squares)

    return distance


def self_similarity_distance(
    features: Features, target: Features, context: Context
) -> Float[Array, ""]:
    """Mean over pairs of positions |D_G / sum D_G - D_C / sum D_C| * n, dimensionless.

    D_ij = 1 - cos(a_i, a_j), and sums run over i; n = 1024 drawn positions at most, the same in
    both pictures. What is like what stays, though everything may look different. Kolkin et al. 2019
    (https://arxiv.org/abs/1904.12785), equation 8; the factor n makes it independent of n.
    """
    n = rows(features).shape[0]
    weights = None if context.weights is None else context.weights.reshape(-1)
    drawn = samples.positions(min(samples.PAIRED, n), weights, n, context.key)

    def similarity(picture: Features) -> Array:
        vectors = unit(rows(picture)[drawn])
        distances = jnp.maximum(1 - vectors @ vectors.T, 0)
        return distances / (jnp.mean(distances, 0) + 1e-6)

    return jnp.mean(magnitude(similarity(features) - similarity(target)))


def amplify(features: Features, target: Array, context: Context) -> Float[Array, ""]:
    """-sum a_G . t / (n_H n_W |t|): no distance, but a direction: the more of t, the lower.

    With the photograph's activations as t it grows what the network sees in it (Mordvintsev et al.
    2015, "Inceptionism"); with a channel's unit vector it shows what that channel looks for.

    Args:
      features: [h, w, c].
      target: the same shape, or [c].
      context: its weights multiply positions.
    """
    along = features * target
    if context.weights is not None:
        along = context.weights[..., None] * along
    positions = features.shape[0] * features.shape[1]
    return -jnp.sum(along) / (positions * jnp.linalg.norm(target.reshape(-1)) + 1e-12)


# Name -> distance(features, target, context). The target is the photograph's activations.
CONTENT: dict[str, Callable[..., Float[Array, ""]]] = {
    # 1 / (4 n_H n_W n_C). Gatys, Ecker & Bethge 2015 (https://arxiv.org/abs/1508.06576), equation
    # 1, has 1/2 and does not divide by the size; divided, one alpha serves every layer and size.
    "squared": _squared(lambda size: 1 / (4 * size)),
    "mse": _squared(lambda size: 1 / size),  # most programs
    "half_sum": _squared(lambda size: 1 / 2),  # the paper's equation itself
    "sum": _squared(lambda size: 1),  # the Keras example
    "self_similarity": self_similarity_distance,
    "amplify": amplify,
}
