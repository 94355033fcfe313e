"""Total variation: the smoothness of the pixels. The table `SMOOTHNESS` holds every variant.

Each maps the differences of a picture [h, w, c] in pixel units (0 is black, 1 is white) to a scalar
>= 0, which is 0 for a constant picture. All are sums over positions, so that those of a picture's
tiles add up.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from nst_jax.losses.context import magnitude


class Differences(NamedTuple):
    """Differences of neighbouring pixels of a picture or a tile; edges are replicated.

    Attributes:
      down, right: [h, w, c], x[i+1, j] - x[i, j] and x[i, j+1] - x[i, j].
      falling, rising: [h + 1, w + 1, c], along the diagonals of the 2x2 pixels around each corner:
        x[i, j] - x[i-1, j-1] and x[i, j-1] - x[i-1, j].
      has_both: [h, w, 1], whether the pixel has a lower and a right neighbour.
      shape: (height, width, channels) of the whole picture.
    """

    down: Float[Array, "h w c"]
    right: Float[Array, "h w c"]
    falling: Float[Array, "_ _ c"]
    rising: Float[Array, "_ _ c"]
    has_both: Bool[Array, "h w 1"]
    shape: tuple[int, int, int]


def differences(image: Float[Array, "h w c"]) -> Differences:
    """The differences of a picture."""
    height, width, _ = image.shape
    around = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), "edge")
    return tile_differences(around, (0, 0), (height, width))


def tile_differences(
    around: Float[Array, "_ _ c"],
    origin: tuple[Array | int, Array | int],
    shape: tuple[int, int],
) -> Differences:
    """The differences that are a tile's own: 0 beyond the picture, and each once in all tiles.

    Args:
      around: the tile with a pixel around it, edges of the picture replicated.
      origin: (row, column) of the picture at which the tile begins; traced.
      shape: (height, width) of the picture.
    """
    height, width, channels = (side - 2 * (k < 2) for k, side in enumerate(around.shape))
    inside, has_next, has_corner = [], [], []
    for start, count, side in zip(origin, (height, width), shape, strict=True):
        at = start + jnp.arange(count + 1)
        inside.append(at[:-1] < side)
        has_next.append(at[:-1] < side - 1)
        # A tile has the corners before its pixels; the last one also those at the picture's end.
        has_corner.append((at < side) & (jnp.arange(count + 1) < count) | (at == side))

    def of(rows_and_columns: list[Array], values: Array) -> Array:
        rows, columns = rows_and_columns
        return jnp.where((rows[:, None] & columns)[..., None], values, 0)

    x = around
    return Differences(
        of(inside, x[2:, 1:-1] - x[1:-1, 1:-1]),
        of(inside, x[1:-1, 2:] - x[1:-1, 1:-1]),
        of(has_corner, x[1:, 1:] - x[:-1, :-1]),
        of(has_corner, x[1:, :-1] - x[:-1, 1:]),
        (has_next[0][:, None] & has_next[1])[..., None],
        (*shape, channels),
    )


def squared(own: Differences) -> Float[Array, ""]:
    """Squared total variation: mean (x[i+1, j] - x[i, j])^2 + mean (x[i, j+1] - x[i, j])^2.

    In squared pixel units; a black and white checkerboard has 2. The picture has 2 rows and columns
    or more.

    References:
      Mahendran & Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them"
      (https://arxiv.org/abs/1412.0035), equation 5 with exponent 2.

    Departs from the paper: it takes means where they sum, so that one weight suits every picture
    size.
    """
    height, width, channels = own.shape
    down = jnp.sum(jnp.square(own.down)) / ((height - 1) * width * channels)
    return down + jnp.sum(jnp.square(own.right)) / (height * (width - 1) * channels)


def absolute(own: Differences) -> Float[Array, ""]:
    """Anisotropic total variation: sum |x[i+1, j] - x[i, j]| + sum |x[i, j+1] - x[i, j]|.

    In pixel units. As in neural-style-pt (where pixels are in units of 1/255) and
    tf.image.total_variation.
    """
    return jnp.sum(magnitude(own.down)) + jnp.sum(magnitude(own.right))


def nine_point(own: Differences) -> Float[Array, ""]:
    """Nine-point total variation: 2 ((mean dx^2 + mean dy^2) / 3 + (mean d1^2 + mean d2^2) / 12).

    dx and dy are the differences of horizontal and vertical neighbours, d1 and d2 those along the
    two diagonals; edges are replicated. The nine-point stencil is closer to isotropic than dx and
    dy alone. In squared pixel units, as in crowsonkb/style-transfer-pytorch.
    """
    height, width, channels = own.shape
    straight = jnp.sum(jnp.square(own.right)) + jnp.sum(jnp.square(own.down))
    diagonal = jnp.sum(jnp.square(own.falling)) + jnp.sum(jnp.square(own.rising))
    corners = (height + 1) * (width + 1) * channels
    return 2 * (straight / (3 * height * width * channels) + diagonal / (12 * corners))


def power(own: Differences) -> Float[Array, ""]:
    """Total variation with exponent 2.5: sum (dx^2 + dy^2)^1.25, in pixel units to the power 2.5.

    The sum runs over the pixels that have both a right and a lower neighbour. As in the Keras
    example (where pixels are in units of 1/255).

    References:
      Mahendran & Vedaldi 2015 (https://arxiv.org/abs/1412.0035), equation 5 with exponent 2.5.
    """
    squares = jnp.square(own.down) + jnp.square(own.right)
    return jnp.sum(jnp.where(own.has_both, squares, 0) ** 1.25)


# Name -> total variation of the differences of a picture.
SMOOTHNESS: dict[str, Callable[[Differences], Float[Array, ""]]] = {
    "squared": squared,
    "absolute": absolute,
    "nine_point": nine_point,
    "power": power,
}
