"""Content losses: what is where in the picture. The table `CONTENT` holds them all.

A content loss compares the painting's activations a_G with the photograph's a_C, position by
position, on n_H x n_W positions of n_C channels. A content-weight map m_i scales each position's
contribution. `features` and `target` are a_G and a_C, both [h, w, c]; `features` may be a tile of
the layer, and `target` is whole.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses import samples
from nst_jax.losses.context import (
    Context,
    Features,
    itself,
    layer_shape,
    magnitude,
    masked,
    own_part,
    unit,
)

Whole = Float[Array, "height width c"]  # of the layer that `features` are a tile of


class ContentLoss(NamedTuple):
    """A content loss, in two steps.

    Attributes:
      summarize: (features, target, context) -> pytree. Those of a picture's tiles add up to that of
        the picture.
      compare: (summary, target, context) -> scalar.
      is_local: whether a tile sees nothing of the target but its own part, and `compare` nothing at
        all. Such targets can be recomputed, see `ObjectiveStatic.recomputes`.
    """

    summarize: Callable[..., Any]
    compare: Callable[..., Float[Array, ""]]
    is_local: bool = False

    def distance(self, features: Features, target: Array, context: Context) -> Float[Array, ""]:
        """The loss of whole activations."""
        return self.compare(self.summarize(features, target, context), target, context)


def _squared(factor: Callable[[int], float]) -> ContentLoss:
    """J_content = f sum_i m_i (a_C - a_G)^2, in squared activation units; f = factor(size)."""

    def summarize(features: Features, target: Whole, context: Context) -> Float[Array, ""]:
        own = own_part(target, features, context, context.first)
        squares = jnp.square(masked(features - own, context))
        if context.weights is not None:
            squares = own_part(context.weights, features, context)[..., None] * squares
        height, width = layer_shape(features, context)
        return factor(height * width * features.shape[2]) * jnp.sum(squares)

    return ContentLoss(summarize, itself, is_local=True)


def self_similarity_distance(
    drawn: Float[Array, "n c"], target: Features, context: Context
) -> Float[Array, ""]:
    """Self-similarity distance: n mean_ij |D^G_ij / sum_i D^G_ij - D^C_ij / sum_i D^C_ij|.

    D_ij = 1 - cos(a_i, a_j). Only relations between positions count: regions that were alike stay
    alike, while every activation may change.

    Args:
      drawn: [n, c], the painting's activations at the positions that a step draws.
      target: [h, w, c], the photograph's activations.
      context: weights, if any, are the probabilities with which positions are drawn.

    Returns:
      A dimensionless scalar >= 0.

    References:
      Kolkin, Salavon & Shakhnarovich 2019, "Style Transfer by Relaxed Optimal Transport and
      Self-Similarity" (https://arxiv.org/abs/1904.12785), equation 8.

    Departs from the paper: each step draws n = 1024 positions at most, the same in both pictures,
    and the factor n makes the value independent of n.
    """

    def similarity(vectors: Float[Array, "n c"]) -> Array:
        vectors = unit(vectors)
        distances = jnp.maximum(1 - vectors @ vectors.T, 0)
        return distances / (jnp.mean(distances, 0) + 1e-6)

    others = target[samples.places(target, context, samples.MAX_PAIRED_POINTS)]
    return jnp.mean(magnitude(similarity(drawn) - similarity(others)))


def projection(features: Features, target: Array, context: Context) -> tuple[Array, Array]:
    """Of `amplify`: sum a_G . t / (n_H n_W), and sum t^2."""
    own = target
    if target.ndim == 3:
        own = masked(own_part(target, features, context, context.first), context)
    along = masked(features * own, context)
    if context.weights is not None:
        along = own_part(context.weights, features, context)[..., None] * along
    height, width = layer_shape(features, context)
    return jnp.sum(along) / (height * width), jnp.sum(jnp.square(own))


def amplify(projected: tuple[Array, Array], target: Array, context: Context) -> Float[Array, ""]:
    """Negative projection on a target: -sum a_G . t / (n_H n_W |t|), in activation units.

    This is a direction, not a distance: it falls without bound as the painting shows more of t.
    With the photograph's activations as t, it amplifies what the network sees in the photograph.
    With a channel's unit vector as t, it shows what that channel responds to.

    Args:
      projected: of the painting's activations, by `projection`; weights scale each position.
      target: t, [h, w, c] or [c].
      context: unused.

    Returns:
      A scalar of either sign.

    References:
      Mordvintsev, Olah & Tyka 2015, "Inceptionism: Going Deeper into Neural Networks".
    """
    del context
    along, squares = projected
    norm = jnp.linalg.norm(target) if target.ndim == 1 else jnp.sqrt(squares)
    return -along / (norm + 1e-12)


# Name -> content loss; the target is the photograph's activations.
CONTENT: dict[str, ContentLoss] = {
    # 1 / (4 n_H n_W n_C). Gatys, Ecker & Bethge 2015 (https://arxiv.org/abs/1508.06576), equation
    # 1, has the factor 1/2 and does not divide by the size. Dividing makes one alpha suit every
    # layer and picture size.
    "squared": _squared(lambda size: 1 / (4 * size)),
    "mse": _squared(lambda size: 1 / size),  # most programs
    "half_sum": _squared(lambda size: 1 / 2),  # equation 1 of the paper, unchanged
    "sum": _squared(lambda size: 1),  # the Keras example
    "self_similarity": ContentLoss(
        samples.sample(samples.MAX_PAIRED_POINTS), self_similarity_distance
    ),
    "amplify": ContentLoss(projection, amplify),
}
