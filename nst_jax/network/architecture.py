"""VGG-16 and VGG-19 by name: layers, shapes, taps. Plain facts, nothing to compute with.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015
(https://arxiv.org/abs/1409.1556), configurations D and E without the fully connected layers.
"""

from collections.abc import Iterable

WIDTHS = (64, 128, 256, 512, 512)  # channels of each block
DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions of each block


def conv_shapes(arch: str) -> dict[str, tuple[int, int, int, int]]:
    """Kernel shapes (height, width, in, out) of `arch` by name, in order from "conv1_1"."""
    shapes = {}
    channels = 3
    for number, (depth, width) in enumerate(zip(DEPTHS[arch], WIDTHS, strict=True), start=1):
        for index in range(1, depth + 1):
            shapes[f"conv{number}_{index}"] = (3, 3, channels, width)
            channels = width
    return shapes


def taps(arch: str) -> tuple[str, ...]:
    """All taps of `arch`, shallow to deep: conv1_1, relu1_1, conv1_2, ..."""
    return tuple(tap for conv in conv_shapes(arch) for tap in (conv, relu(conv)))


def block(name: str) -> int:
    """The block of a layer or tap: 4 for "relu4_2"."""
    return int(name[4])


def conv(tap: str) -> str:
    """The convolution behind a tap: conv4_2 for "relu4_2" and "conv4_2"."""
    return tap.replace("relu", "conv")


def relu(tap: str) -> str:
    """The tap behind the nonlinearity: relu4_2 for "conv4_2"."""
    return tap.replace("conv", "relu")


def smallest_size(taps: Iterable[str]) -> int:
    """Shortest side, in pixels, of a picture that still has a position at every tap.

    Each block but the first begins with a pooling that halves the sides, rounding down: 2^(b - 1),
    and 2 at the least, for total variation compares neighbours.
    """
    return max(2, *(2 ** (block(tap) - 1) for tap in taps))
