"""Files of arrays in every container that published weights come in: path -> {name: array}.

HDF5, safetensors and MATLAB by their libraries' readers, torch's and plain pickles by `pickles`.
Nothing in a file is ever run, and its arrays take `MOST_BYTES` at most; MATLAB's reader four times
that.
"""

import dataclasses
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from safetensors.numpy import load_file

from nst_jax.errors import UserError
from nst_jax.network import pickles
from nst_jax.network.pickles import MOST_BYTES, bounded


def contents(path: Path) -> dict[str, np.ndarray]:
    """Every array in a file by its full name, whatever the container."""
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
    except Exception as error:  # whatever a damaged file makes a parser raise is the file's fault
        raise UserError(f"{path}: damaged {container.title} file ({str(error)[:200]})") from error


def _read_hdf5(path: Path) -> dict[str, np.ndarray]:
    arrays, total = {}, 0

    def collect(name: str, item: Any):
        nonlocal total
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":  # others know no bounds
            bounded(total := total + item.nbytes)
            arrays[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(collect)
    return arrays


def _read_matlab(path: Path) -> dict[str, np.ndarray]:
    """`_load_matlab` in a process of its own, for damaged files make SciPy's reader crash.

    Its memory is bounded instead of the file's members, whose sizes SciPy does not tell.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _bound_memory, (4 * MOST_BYTES,)) as process:
        return process.submit(_load_matlab, path).result()


def _bound_memory(most: int):
    """Lets this process have so many bytes at most, where the system can do that."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _load_matlab(path: Path) -> dict[str, np.ndarray]:
    """MatConvNet's `layers`: a cell array of structs with a name and a cell of two weights.

    Files before 2015 hold fields `filters` and `biases` instead.
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
    """How a file stores arrays: how to know it by its first 16 bytes, and how to read it."""

    title: str
    matches: Callable[[bytes], bool]
    read: Callable[[Path], dict[str, np.ndarray]]


_TORCH_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")

CONTAINERS = (
    Container("HDF5", lambda start: start.startswith(b"\x89HDF\r\n\x1a\n"), _read_hdf5),
    Container("torch zip", lambda start: start.startswith(b"PK"), pickles.read_torch_zip),
    Container("torch", lambda start: start.startswith(_TORCH_MAGIC), pickles.read_torch_legacy),
    Container("MATLAB 5", lambda start: start.startswith(b"MATLAB 5.0"), _read_matlab),
    Container("safetensors", lambda start: start[8:9] == b"{", load_file),
    Container("pickle", lambda start: start[:1] == b"\x80", pickles.read_numpy_pickle),
)
