"""Content: the photograph's activations themselves."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def describe(features: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    """The target is the activations, position by position."""
    return features


def distance(features: Float[Array, "h w c"], target: Float[Array, "h w c"]) -> Float[Array, ""]:
    """J_content = 1 / (4 n_H n_W n_C) * sum (a_C - a_G)^2, in squared units of the activations.

    Gatys, Ecker & Bethge, "A Neural Algorithm of Artistic Style", 2015
    (https://arxiv.org/abs/1508.06576), equation 1, which has 1/2 in front and does not divide by
    the layer's size. Divided, one alpha serves every layer and every picture size.
    """
    return jnp.sum(jnp.square(features - target)) / (4 * features.size)
