"""Pickles: torch's two formats and plain dictionaries of NumPy arrays, read without running them.

They may build arrays and containers, nothing else, and no small file takes memory or time without
end.
"""

import io
import itertools
import math
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from nst_jax.errors import UserError

MOST_BYTES = 2 << 30  # of a file's arrays together; VGG-19 with its dense layers has 0.6 GB
MOST_OPERATIONS = 20_000  # of a pickle; those of a VGG are some thousand
LONGEST_NAME = 1000  # of an array
SHARED_TUPLES = 20  # of a pickle that are used again


def bounded(size: int):
    """Refuses members that would take more bytes than any VGG does, before they are read."""
    if size > MOST_BYTES:
        raise UserError(f"refused: it holds over {MOST_BYTES >> 30} GB, which no VGG does")


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
        operations = pickletools.genops(cast(IO[bytes], self.file))
        for count, (opcode, argument, _) in enumerate(operations):
            name, place = opcode.name, cast(Any, argument)
            if name in _PUTS:
                place = len(memo) if name == "MEMOIZE" else place
                memo[place] = before not in _NO_TUPLES
            if count > MOST_OPERATIONS or (name in _PUTS and place > MOST_OPERATIONS):
                raise UserError(f"refused: its pickle has over {MOST_OPERATIONS} operations")
            shared += name == "DUP" or (name in _GETS and memo.get(place, True))
            if shared > SHARED_TUPLES:
                raise UserError("refused: its pickle uses tuples over and over")
            before = name
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
        bounded(self.size + len(text))
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
    if axes is None:
        pickled.array = flat.reshape(shape, order=order)
    else:
        pickled.array = flat.reshape(shape).transpose(axes)
    return pickled


def read_torch_zip(path: Path) -> dict[str, np.ndarray]:
    """torch.save since 1.6: a zip archive of a pickle and of the storages."""
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UserError("a zip archive, but not one that torch.save writes")
        bounded(sum(member.file_size for member in archive.infolist()))
        if any(member.compress_type > zipfile.ZIP_DEFLATED for member in archive.infolist()):
            raise UserError("refused: its members are compressed in a way that knows no bounds")
        folder = pickles[0].removesuffix("data.pkl")
        tensors = _Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
        names = [name for name in archive.namelist() if name.startswith(f"{folder}data/")]
        storages = {name.rpartition("/")[2]: archive.read(name) for name in names}
    return _built(tensors, storages)


def read_torch_legacy(path: Path) -> dict[str, np.ndarray]:
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
            bounded(total := total + arrays[name].nbytes)  # tensors may share a storage
    for key in [key for key in arrays if key.endswith("_W_q")]:
        layer = key.removesuffix("_q")
        bounded(total := total + arrays[key].size * arrays[f"{layer}_table"][:1].nbytes)
        arrays[layer] = arrays.pop(f"{layer}_table")[arrays.pop(key)]
    return arrays


def read_numpy_pickle(path: Path) -> dict[str, np.ndarray]:
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
