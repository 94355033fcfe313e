"""Smoothness of the pixels themselves."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def total_variation(image: Float[Array, "h w c"]) -> Float[Array, ""]:
    """TV = mean (x[i+1, j] - x[i, j])^2 + mean (x[i, j+1] - x[i, j])^2, in squared pixel units.

    A black and white checkerboard has 2, a constant picture 0; both sides need 2 pixels or more.
    Mahendran & Vedaldi 2015 (https://arxiv.org/abs/1412.0035), equation 5 with exponent 2, sum the
    same squares; their mean keeps one weight good for every picture size.
    """
    down = jnp.mean(jnp.square(image[1:] - image[:-1]))
    right = jnp.mean(jnp.square(image[:, 1:] - image[:, :-1]))
    return down + right
