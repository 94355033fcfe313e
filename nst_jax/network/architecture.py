"""Architecture of VGG-16 and VGG-19: the names and shapes of layers and taps, as plain data.

References:
  Simonyan & Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
  (https://arxiv.org/abs/1409.1556), configurations D and E without the fully connected layers.
"""

from collections.abc import Iterable

WIDTHS = (64, 128, 256, 512, 512)  # channels per block
DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions per block


def conv_shapes(arch: str) -> dict[str, tuple[int, int, int, int]]:
    """Kernel shapes (height, width, in, out) by layer name, in network order from "conv1_1".

    Args:
      arch: a key of `DEPTHS`.
    """
    shapes = {}
    channels = 3
    for number, (depth, width) in enumerate(zip(DEPTHS[arch], WIDTHS, strict=True), start=1):
        for index in range(1, depth + 1):
            shapes[f"conv{number}_{index}"] = (3, 3, channels, width)
            channels = width
    return shapes


def taps(arch: str) -> tuple[str, ...]:
    """Names of all taps, from shallow to deep: conv1_1, relu1_1, conv1_2, ...

    Args:
      arch: a key of `DEPTHS`.
    """
    return tuple(tap for conv in conv_shapes(arch) for tap in (conv, relu(conv)))


def block(name: str) -> int:
    """Block number of a layer or tap: 4 for "relu4_2"."""
    return int(name[4])


def depth(tap: str) -> tuple[int, int]:
    """A sort key that orders taps from shallow to deep: (4, 2) for "relu4_2"."""
    return int(tap[4]), int(tap[6])


def conv(tap: str) -> str:
    """Name of a tap's convolution: "conv4_2" for both "relu4_2" and "conv4_2"."""
    return tap.replace("relu", "conv")


def relu(tap: str) -> str:
    """Name of the tap after the convolution's ReLU: "relu4_2" for "conv4_2"."""
    return tap.replace("conv", "relu")


def smallest_size(taps: Iterable[str]) -> int:
    """Minimum length of a picture's shorter side, in pixels, for the taps to have a position.

    2^(b - 1) for the deepest block b, because every block but the first starts with a pooling that
    halves the sides, rounding down. It is 2 at least, because total variation compares neighbours.

    Args:
      taps: names of the taps in use; one or more.
    """
    return max(2, *(2 ** (block(tap) - 1) for tap in taps))
