"""Total variation: the smoothness of the pixels. The table `SMOOTHNESS` holds every variant.

Each maps the pixels of a picture [h, w, c] in pixel units (0 is black, 1 is white) to a scalar
>= 0, which is 0 for a constant picture. All are sums over positions, so that those of a picture's
tiles add up.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses.context import magnitude


class Pixels(NamedTuple):
    """The pixels of a picture, or of a tile of it, and their differences.

    In a tile, a difference is 0 where it is not the tile's own, so that each is once in all tiles.

    Attributes:
      values: [h, w, c] the picture; or [h + 2, w + 2, c] a tile with a pixel around it, the edges
        of the picture replicated.
      shape: (height, width) of the picture.
      origin: (row, column) of the picture at which the tile begins, traced; None for a picture.
    """

    values: Float[Array, "_ _ c"]
    shape: tuple[int, int]
    origin: tuple[Array | int, Array | int] | None = None

    def down(self) -> Float[Array, "h w c"]:
        """x[i+1, j] - x[i, j], and 0 in the last row."""
        x = self.values
        if self.origin is None:
            return jnp.pad(x[1:] - x[:-1], ((0, 1), (0, 0), (0, 0)))
        return self._where(x[2:, 1:-1] - x[1:-1, 1:-1], lambda at, own, side: at < side)

    def right(self) -> Float[Array, "h w c"]:
        """x[i, j+1] - x[i, j], and 0 in the last column."""
        x = self.values
        if self.origin is None:
            return jnp.pad(x[:, 1:] - x[:, :-1], ((0, 0), (0, 1), (0, 0)))
        return self._where(x[1:-1, 2:] - x[1:-1, 1:-1], lambda at, own, side: at < side)

    def with_both(self, values: Float[Array, "h w c"]) -> Array:
        """Of values at the pixels, those where there is a lower and a right neighbour."""
        if self.origin is None:
            return values[:-1, :-1]
        return self._where(values, lambda at, own, side: at < side - 1)

    def diagonals(self) -> tuple[Float[Array, "_ _ c"], Float[Array, "_ _ c"]]:
        """x[i, j] - x[i-1, j-1] and x[i, j-1] - x[i-1, j], edges replicated: [h + 1, w + 1, c]."""
        x = self.values
        if self.origin is None:
            x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), "edge")
        both = x[1:, 1:] - x[:-1, :-1], x[1:, :-1] - x[:-1, 1:]
        if self.origin is None:
            return both

        def is_own(at: Array, own: Array, side: int) -> Array:
            # A tile has the corners before its pixels; the last one those at the end as well.
            return (at < side) & own | (at == side)

        return self._where(both[0], is_own), self._where(both[1], is_own)

    def _where(self, values: Array, is_own: Callable[[Array, Array, int], Array]) -> Array:
        """Values of a tile where its rows and columns are its own, 0 elsewhere."""
        assert self.origin is not None
        height, width, _ = self.values.shape
        lengths = height - 2, width - 2  # of the tile
        rows, columns = (
            is_own(start + jnp.arange(count), jnp.arange(count) < length, side)
            for start, count, length, side in zip(
                self.origin, values.shape[:2], lengths, self.shape, strict=True
            )
        )
        return jnp.where((rows[:, None] & columns)[..., None], values, 0)


def whole(image: Float[Array, "h w c"]) -> Pixels:
    """A whole picture's pixels."""
    return Pixels(image, (image.shape[0], image.shape[1]))


def _count(height: int, width: int, channels: int) -> float:
    """The number of values in a picture, as a float: JAX converts an int to int32, which overflows.

    A picture of 32768x32768 pixels has 3 * 2^30 of them.
    """
    return float(height * width * channels)


def squared(own: Pixels) -> Float[Array, ""]:
    """Squared total variation: mean (x[i+1, j] - x[i, j])^2 + mean (x[i, j+1] - x[i, j])^2.

    In squared pixel units; a black and white checkerboard has 2. The picture has 2 rows and columns
    or more.

    References:
      Mahendran & Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them"
      (https://arxiv.org/abs/1412.0035), equation 5 with exponent 2.

    Departs from the paper: it takes means where they sum, so that one weight suits every picture
    size.
    """
    (height, width), channels = own.shape, own.values.shape[2]
    down = jnp.sum(jnp.square(own.down())) / _count(height - 1, width, channels)
    return down + jnp.sum(jnp.square(own.right())) / _count(height, width - 1, channels)


def absolute(own: Pixels) -> Float[Array, ""]:
    """Anisotropic total variation: sum |x[i+1, j] - x[i, j]| + sum |x[i, j+1] - x[i, j]|.

    In pixel units. As in neural-style-pt (where pixels are in units of 1/255) and
    tf.image.total_variation.
    """
    return jnp.sum(magnitude(own.down())) + jnp.sum(magnitude(own.right()))


def nine_point(own: Pixels) -> Float[Array, ""]:
    """Nine-point total variation: 2 ((mean dx^2 + mean dy^2) / 3 + (mean d1^2 + mean d2^2) / 12).

    dx and dy are the differences of horizontal and vertical neighbours, d1 and d2 those along the
    two diagonals; edges are replicated. The nine-point stencil is closer to isotropic than dx and
    dy alone. In squared pixel units, as in crowsonkb/style-transfer-pytorch.
    """
    (height, width), channels = own.shape, own.values.shape[2]
    straight = jnp.sum(jnp.square(own.right())) + jnp.sum(jnp.square(own.down()))
    falling, rising = own.diagonals()
    diagonal = jnp.sum(jnp.square(falling)) + jnp.sum(jnp.square(rising))
    corners = _count(height + 1, width + 1, channels)
    return 2 * (straight / (3 * _count(height, width, channels)) + diagonal / (12 * corners))


def power(own: Pixels) -> Float[Array, ""]:
    """Total variation with exponent 2.5: sum (dx^2 + dy^2)^1.25, in pixel units to the power 2.5.

    The sum runs over the pixels that have both a right and a lower neighbour. As in the Keras
    example (where pixels are in units of 1/255).

    References:
      Mahendran & Vedaldi 2015 (https://arxiv.org/abs/1412.0035), equation 5 with exponent 2.5.
    """
    squares = jnp.square(own.down()) + jnp.square(own.right())
    return jnp.sum(own.with_both(squares) ** 1.25)


# Name -> total variation of a picture, or what a tile adds to it.
SMOOTHNESS: dict[str, Callable[[Pixels], Float[Array, ""]]] = {
    "squared": squared,
    "absolute": absolute,
    "nine_point": nine_point,
    "power": power,
}
