"""Reads files of arrays in every container that published weights come in: path -> {name: array}.

HDF5, safetensors and MATLAB files are read by the libraries of those formats, torch files and plain
pickles by `pickles`. No code in a file is ever executed. The arrays of a file may take up to
`MAX_ARRAY_BYTES`, and MATLAB's reader four times as much.
"""

import dataclasses
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy
from safetensors.numpy import load_file

from nst_jax.errors import UserError
from nst_jax.network import pickles
from nst_jax.network.pickles import MAX_ARRAY_BYTES, bounded

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None


def contents(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of a file, by their full names.

    Args:
      path: a file in any of the `CONTAINERS`; its first bytes say in which.

    Raises:
      UserError: the file cannot be read, its container is unknown, it is damaged, or it is refused
        because it is too large or asks to run code.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read weights {path}: {error.strerror or error}") from error
    container = next((c for c in CONTAINERS if c.matches(start)), None)
    if container is None:
        known = ", ".join(c.title for c in CONTAINERS)
        raise UserError(f"{path}: not a weights file of a known format ({known})")
    try:
        bounded(size)
        return container.read(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a damaged file can make a parser raise anything
        raise UserError(f"{path}: damaged {container.title} file ({str(error)[:200]})") from error


def _read_hdf5(path: Path) -> dict[str, np.ndarray]:
    """All numeric datasets of an HDF5 file."""
    arrays, total = {}, 0

    def collect(name: str, item: Any):
        nonlocal total
        # Of numeric datasets the size is known before they are read.
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":
            total += item.nbytes
            bounded(total)
            arrays[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(collect)
    return arrays


def _read_matlab(path: Path) -> dict[str, np.ndarray]:
    """Runs `_load_matlab` in a child process, because damaged files can crash SciPy's reader.

    SciPy does not tell how large a file's arrays are, so the memory of the process is limited.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _bound_memory, (4 * MAX_ARRAY_BYTES,)) as process:
        return process.submit(_load_matlab, path).result()


def _bound_memory(most: int):
    """Limits the address space of this process to `most` bytes, where the system supports it."""
    if resource is None:
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _load_matlab(path: Path) -> dict[str, np.ndarray]:
    """The weights in MatConvNet's `layers`, a cell array of structs: LAYER/0 kernel, LAYER/1 bias.

    A struct has a name and a cell `weights` of two arrays. In files from before 2015 it has the
    fields `filters` and `biases` instead.
    """
    arrays = {}
    for cell in scipy.io.loadmat(path, variable_names="layers")["layers"].ravel():
        layer = cell[0, 0]
        fields = layer.dtype.names
        if "weights" in fields:
            parts = layer["weights"].ravel()
        else:
            parts = [layer[field] for field in ("filters", "biases") if field in fields]
        for index, part in enumerate(parts):
            arrays[f"{layer['name'].item()}/{index}"] = part
    return arrays


@dataclasses.dataclass(frozen=True)
class Container:
    """A file format that stores arrays.

    Attributes:
      title: its name, for messages.
      matches: whether a file that starts with these 16 bytes has the format.
      read: path -> {name: array}.
    """

    title: str
    matches: Callable[[bytes], bool]
    read: Callable[[Path], dict[str, np.ndarray]]


_TORCH_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")

# The first container that matches is taken.
CONTAINERS = (
    Container("HDF5", lambda start: start.startswith(b"\x89HDF\r\n\x1a\n"), _read_hdf5),
    Container("torch zip", lambda start: start.startswith(b"PK"), pickles.read_torch_zip),
    Container("torch", lambda start: start.startswith(_TORCH_MAGIC), pickles.read_torch_legacy),
    Container("MATLAB 5", lambda start: start.startswith(b"MATLAB 5.0"), _read_matlab),
    Container("safetensors", lambda start: start[8:9] == b"{", load_file),
    Container("pickle", lambda start: start[:1] == b"\x80", pickles.read_numpy_pickle),
)
