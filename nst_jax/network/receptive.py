"""What a position of a layer sees of the picture, and what a mask is at a layer."""

import functools
from collections.abc import Callable

import numpy as np
import scipy
from jaxtyping import Float32

from nst_jax.network import architecture

Mask = Float32[np.ndarray, "_ _"]


def receptive_field(tap: str, arch: str) -> tuple[int, int, int]:
    """The receptive field of a tap.

    Row i of the tap sees the rows i * stride + first to i * stride + last of the picture, both
    included, and so with columns. They may lie outside the picture. A 3x3 convolution adds one row
    on each side; the 2x2 pooling before every block but the first doubles the stride.

    Returns:
      (stride, first, last), in pixels.
    """
    stride, first, last = 1, 0, 0
    for layer in architecture.conv_shapes(arch):
        if layer.endswith("_1") and architecture.block(layer) > 1:
            stride, last = 2 * stride, last + stride
        first, last = first - stride, last + stride
        if layer == architecture.conv(tap):
            return stride, first, last
    raise KeyError(tap)


def _average(mask: Mask, stride: int, _size: int) -> Mask:
    """The mean of the stride x stride pixels that pooling turns into one position."""
    height, width = (side // stride for side in mask.shape)
    blocks = mask[: height * stride, : width * stride].reshape(height, stride, width, stride)
    return blocks.mean((1, 3), dtype=np.float64).astype(np.float32)  # never below the minimum


def _extreme(name: str, mask: Mask, stride: int, size: int) -> Mask:
    """A running minimum or maximum, read off where it is centred on a receptive field."""
    height, width = (side // stride for side in mask.shape)
    running = getattr(scipy.ndimage, name)  # imported when used: it takes 0.1 s
    seen = running(mask, size, mode="nearest")  # at an edge the field is cut off
    return seen[stride // 2 :: stride, stride // 2 :: stride][:height, :width]


# Name -> mask, stride and size of the receptive field in pixels -> mask at the layer.
PROPAGATIONS: dict[str, Callable[[Mask, int, int], Mask]] = {
    "simple": _average,
    "inside": functools.partial(_extreme, "minimum_filter"),
    "all": functools.partial(_extreme, "maximum_filter"),
}


def propagate(mask: Mask, tap: str, arch: str, how: str, *, rounds_up: bool = False) -> Mask:
    """Carries a mask from the picture to the positions of a tap.

    "simple" averages the pixels under a position. "inside" takes the minimum over the receptive
    field: positions that see nothing but the region. "all" takes the maximum: positions that see
    any of it. A region narrower than the receptive field is empty with "inside".

    The three ways are those of the published code of Gatys et al. 2017. There masks become black
    and white for the latter two; here soft edges stay.

    Args:
      mask: [h, w] in [0, 1].
      tap: of the network.
      arch: the network.
      how: a key of `PROPAGATIONS`.
      rounds_up: whether the network's pooling halves sides rounding up.

    Returns:
      [h / 2^(b-1), w / 2^(b-1)] in [0, 1], rounded as pooling does; b is the block of the tap.
    """
    stride, first, last = receptive_field(tap, arch)
    if rounds_up:
        mask = np.pad(mask, [(0, -side % stride) for side in mask.shape], "edge")
    return PROPAGATIONS[how](mask, stride, last - first + 1)
