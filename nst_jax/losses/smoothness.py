"""Smoothness of the pixels themselves. The table `SMOOTHNESS` holds every total variation."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses.context import magnitude

Image = Float[Array, "h w c"]


def _differences(image: Image) -> tuple[Array, Array]:
    """x[i+1, j] - x[i, j] and x[i, j+1] - x[i, j]."""
    return image[1:] - image[:-1], image[:, 1:] - image[:, :-1]


def squared(image: Image) -> Float[Array, ""]:
    """TV = mean (x[i+1, j] - x[i, j])^2 + mean (x[i, j+1] - x[i, j])^2, in squared pixel units.

    A black and white checkerboard has 2, a constant picture 0; both sides need 2 pixels or more.
    Mahendran & Vedaldi 2015 (https://arxiv.org/abs/1412.0035), equation 5 with exponent 2, sum the
    same squares; their mean keeps one weight good for every picture size.
    """
    down, right = _differences(image)
    return jnp.mean(jnp.square(down)) + jnp.mean(jnp.square(right))


def absolute(image: Image) -> Float[Array, ""]:
    """TV = sum |x[i+1, j] - x[i, j]| + sum |x[i, j+1] - x[i, j]|, in pixel units.

    As in neural-style-pt (there in units of 1/255) and tf.image.total_variation.
    """
    down, right = _differences(image)
    return jnp.sum(magnitude(down)) + jnp.sum(magnitude(right))


def nine_point(image: Image) -> Float[Array, ""]:
    """2 (mean dx^2 / 3 + mean dy^2 / 3 + mean d1^2 / 12 + mean d2^2 / 12), edges repeated.

    dx, dy are the differences of neighbours, d1, d2 those along the two diagonals: a stencil of
    nine points that weighs all directions more alike. As in crowsonkb/style-transfer-pytorch.
    """
    x = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), "edge")
    right, down = x[1:-1, 2:] - x[1:-1, 1:-1], x[2:, 1:-1] - x[1:-1, 1:-1]
    falling, rising = x[1:, 1:] - x[:-1, :-1], x[1:, :-1] - x[:-1, 1:]
    straight = jnp.mean(jnp.square(right)) + jnp.mean(jnp.square(down))
    diagonal = jnp.mean(jnp.square(falling)) + jnp.mean(jnp.square(rising))
    return 2 * (straight / 3 + diagonal / 12)


def power(image: Image) -> Float[Array, ""]:
    """sum (dx^2 + dy^2)^1.25 over pixels that have both neighbours, in pixel units to the 2.5th.

    The Keras example's (there in units of 1/255); Mahendran & Vedaldi's with exponent 2.5.
    """
    down, right = _differences(image)
    return jnp.sum((jnp.square(down[:, :-1]) + jnp.square(right[:-1])) ** 1.25)


SMOOTHNESS: dict[str, Callable[[Image], Float[Array, ""]]] = {
    "squared": squared,
    "absolute": absolute,
    "nine_point": nine_point,
    "power": power,
}
