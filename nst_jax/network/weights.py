"""Converted weights: the file, its checks, and normalisation over pictures.

`weights/vgg19.h5` has for every layer `conv1_1/kernel` [3, 3, in, out] and `conv1_1/bias` [out],
float32, for RGB input, and attributes that say where the numbers come from:

    format          version of this layout                    arch     "vgg19" or "vgg16"
    family          training family, a key of `FAMILIES`      source   file or package, in words
    mean, scale     [3]: the network sees (rgb - mean) * scale, rgb in [0, 1]
    source_sha256   checksum of the published file            sha256   of arrays, mean and scale
    created         date, UTC                                 version  of nst_jax that converted it
"""

import dataclasses
import datetime
import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nst_jax import files
from nst_jax.errors import UserError
from nst_jax.network import formats
from nst_jax.network.architecture import conv_shapes, relu

FORMAT = 1

# What the first convolution sees is (rgb - mean) * scale with rgb in [0, 1].
FAMILIES = {
    # The authors' own training in Caffe: 0 to 255, the training set's mean colour subtracted.
    "caffe": (np.array([123.68, 116.779, 103.939], np.float32) / 255, np.full(3, 255, np.float32)),
    # torchvision's: the training set's mean and standard deviation.
    "torchvision": (
        np.array([0.485, 0.456, 0.406], np.float32),
        1 / np.array([0.229, 0.224, 0.225], np.float32),
    ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """A pretrained network and what its numbers assume; fields as in the module's docstring."""

    arch: str
    layers: formats.Layers
    mean: np.ndarray
    scale: np.ndarray
    family: str
    source: str
    source_sha256: str
    sha256: str


def load(path: Path, arch: str) -> Weights:
    """Reads and checks a converted file.

    Raises:
      UserError: unreadable, truncated, not a converted file, of another network, with a missing,
        extra or misshapen layer, or with numbers that do not match their checksum.
    """
    try:
        with h5py.File(path, "r") as file:
            attributes: dict[str, Any] = dict(file.attrs)
            if attributes.get("format") != FORMAT or "sha256" not in attributes:
                raise UserError(
                    f"{path} was not written by this version of the project's converter; convert "
                    f"the published file: python weights/convert_vgg19.py --source FILE"
                )
            if any(np.shape(attributes[name]) != (3,) for name in ("mean", "scale")):
                raise UserError(f"{path} is damaged: its mean or scale is not three numbers")
            if attributes["arch"] != arch:
                raise UserError(f"{path} holds {attributes['arch']}, but config.arch is {arch}")
            layers = _read_layers(file, path, arch)
        if digest(layers, attributes["mean"], attributes["scale"]) != attributes["sha256"]:
            raise UserError(
                f"{path} is damaged: its numbers do not match their checksum; "
                "delete it to fetch it again, or name another"
            )
        return Weights(
            layers=layers,
            **{
                f.name: attributes[f.name]
                for f in dataclasses.fields(Weights)
                if f.name != "layers"
            },
        )
    except (OSError, KeyError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"cannot read weights {path} ({error}); delete it to fetch it again, or name another"
        ) from error


def save(weights: Weights, path: Path):
    """Writes a converted file, in one step."""
    with files.replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for name, (kernel, bias) in weights.layers.items():
            file[f"{name}/kernel"] = kernel
            file[f"{name}/bias"] = bias
        for field in dataclasses.fields(Weights):
            if field.name != "layers":
                file.attrs[field.name] = getattr(weights, field.name)
        file.attrs["format"] = FORMAT
        file.attrs["created"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        file.attrs["version"] = importlib.metadata.version("nst_jax")


def _read_layers(file: h5py.File, path: Path, arch: str) -> formats.Layers:
    shapes = conv_shapes(arch)
    missing = [name for name in shapes if name not in file]
    extra = [name for name in file if name not in shapes]
    if missing or extra:
        raise UserError(f"{path} is not {arch}: missing {missing}, extra {extra}")
    layers: formats.Layers = {}
    for name, shape in shapes.items():
        arrays = []
        for part, expected in (("kernel", shape), ("bias", shape[-1:])):
            array: Any = file.get(f"{name}/{part}", default=np.zeros(0))
            if getattr(array, "shape", None) != expected or array.dtype != np.float32:
                kind = getattr(array, "dtype", "a folder"), getattr(array, "shape", "")
                raise UserError(
                    f"{path}: {name}/{part} is {kind[0]} {kind[1]}, "
                    f"but {arch} needs float32 {expected}"
                )
            arrays.append(np.asarray(array))  # read only now that its size is known
        layers[name] = arrays[0], arrays[1]
    return layers


def digest(layers: formats.Layers, mean: np.ndarray, scale: np.ndarray) -> str:
    """sha256 over names, shapes and values, in network order."""
    checksum = hashlib.sha256()
    for name, arrays in {"input": (mean, scale), **layers}.items():
        for array in arrays:
            checksum.update(f"{name} {array.shape}".encode())
            checksum.update(np.ascontiguousarray(array, "<f4").data)
    return checksum.hexdigest()


def normalized(weights: Weights, means: Sequence[Mapping[str, Any]]) -> Weights:
    """Rescales a network to a mean activation of 1 in every channel, over pictures and positions.

    Kernels and biases are divided by the mean of the channel after its ReLU, and kernels multiplied
    by the means of the channels they read. Pooling and ReLU scale with their input, so nothing else
    changes. Gatys et al. 2015 (https://arxiv.org/abs/1505.07376), section 2, average over ImageNet.

    A few pictures leave some channels nearly silent; at a mean of 1 these would outweigh all
    others. So a channel whose mean is below a tenth of the mean of its layer is scaled as if it had
    that tenth. A layer that never responds stays as it is.

    Args:
      weights: a network as trained.
      means: of each picture, the mean activations [channels] of every "relu..." tap.
    """
    layers: formats.Layers = {}
    before = np.ones(3, np.float32)
    for name, (kernel, bias) in weights.layers.items():
        after = np.mean([np.asarray(mean[relu(name)]) for mean in means], 0)
        after = np.maximum(after, after.mean() / 10) if after.any() else np.ones_like(after)
        layers[name] = kernel * before[:, None] / after, bias / after
        before = after
    return dataclasses.replace(weights, layers=layers)
