"""Total variation: the smoothness of the pixels. The table `SMOOTHNESS` holds every variant.

Each maps a picture [h, w, c] in pixel units (0 is black, 1 is white) to a scalar >= 0, which is 0
for a constant picture.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses.context import magnitude

Image = Float[Array, "h w c"]


def _differences(image: Image) -> tuple[Array, Array]:
    """Vertical and horizontal differences: x[i+1, j] - x[i, j] and x[i, j+1] - x[i, j]."""
    return image[1:] - image[:-1], image[:, 1:] - image[:, :-1]


def squared(image: Image) -> Float[Array, ""]:
    """Squared total variation: mean (x[i+1, j] - x[i, j])^2 + mean (x[i, j+1] - x[i, j])^2.

    In squared pixel units; a black and white checkerboard has 2.

    Args:
      image: [h, w, c], both sides 2 pixels or more.

    References:
      Mahendran & Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them"
      (https://arxiv.org/abs/1412.0035), equation 5 with exponent 2.

    Departs from the paper: it takes means where they sum, so that one weight suits every picture
    size.
    """
    down, right = _differences(image)
    return jnp.mean(jnp.square(down)) + jnp.mean(jnp.square(right))


def absolute(image: Image) -> Float[Array, ""]:
    """Anisotropic total variation: sum |x[i+1, j] - x[i, j]| + sum |x[i, j+1] - x[i, j]|.

    In pixel units. As in neural-style-pt (where pixels are in units of 1/255) and
    tf.image.total_variation.
    """
    down, right = _differences(image)
    return jnp.sum(magnitude(down)) + jnp.sum(magnitude(right))


def nine_point(image: Image) -> Float[Array, ""]:
    """Nine-point total variation: 2 ((mean dx^2 + mean dy^2) / 3 + (mean d1^2 + mean d2^2) / 12).

    dx and dy are the differences of horizontal and vertical neighbours, d1 and d2 those along the
    two diagonals; edges are replicated. The nine-point stencil is closer to isotropic than dx and
    dy alone. In squared pixel units, as in crowsonkb/style-transfer-pytorch.
    """
    x = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), "edge")
    right, down = x[1:-1, 2:] - x[1:-1, 1:-1], x[2:, 1:-1] - x[1:-1, 1:-1]
    falling, rising = x[1:, 1:] - x[:-1, :-1], x[1:, :-1] - x[:-1, 1:]
    straight = jnp.mean(jnp.square(right)) + jnp.mean(jnp.square(down))
    diagonal = jnp.mean(jnp.square(falling)) + jnp.mean(jnp.square(rising))
    return 2 * (straight / 3 + diagonal / 12)


def power(image: Image) -> Float[Array, ""]:
    """Total variation with exponent 2.5: sum (dx^2 + dy^2)^1.25, in pixel units to the power 2.5.

    The sum runs over the pixels that have both a right and a lower neighbour. As in the Keras
    example (where pixels are in units of 1/255).

    References:
      Mahendran & Vedaldi 2015 (https://arxiv.org/abs/1412.0035), equation 5 with exponent 2.5.
    """
    down, right = _differences(image)
    return jnp.sum((jnp.square(down[:, :-1]) + jnp.square(right[:-1])) ** 1.25)


# Name -> total variation of a picture.
SMOOTHNESS: dict[str, Callable[[Image], Float[Array, ""]]] = {
    "squared": squared,
    "absolute": absolute,
    "nine_point": nine_point,
    "power": power,
}
