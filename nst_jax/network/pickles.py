"""Reads pickled weights without executing them: torch's two formats, dictionaries of NumPy arrays.

A pickle may build arrays and dictionaries and nothing else. Limits on its operations, on shared
objects and on bytes keep a small malicious file from taking up memory or time.
"""

import io
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

MAX_ARRAY_BYTES = 2 << 30  # all arrays of a file; VGG-19 with its dense layers has 0.6 GB
MAX_PICKLE_OPERATIONS = 20_000  # a VGG has a few thousand
MAX_NAME_CHARACTERS = 1000  # of an array's full name
MAX_REUSED_TUPLES = 20  # per pickle


def bounded(size: int):
    """Checks the size of a file's arrays before they are read.

    Args:
      size: in bytes, of all arrays so far.

    Raises:
      UserError: it is above `MAX_ARRAY_BYTES`.
    """
    if size > MAX_ARRAY_BYTES:
        raise UserError(f"refused: it holds over {MAX_ARRAY_BYTES >> 30} GB, more than any VGG")


_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
# Operations that leave something other than a tuple on top of the stack.
_NO_TUPLES = {opcode.name for opcode in pickletools.opcodes if "BYTES" in opcode.name}
_NO_TUPLES |= {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BYTEARRAY8"}
_NO_TUPLES |= {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # Python 2's
_NO_TUPLES |= {"GLOBAL", "STACK_GLOBAL", "EMPTY_DICT", "EMPTY_LIST", "REDUCE"}


class _Unpickler(pickle.Unpickler):
    """An unpickler that builds dictionaries, NumPy arrays and torch tensors, and refuses all else.

    A tensor becomes a function {storage key: bytes} -> array, because torch stores the numbers
    after the pickle or beside it. `dtypes` collects the dtypes of the storages by key.
    """

    def __init__(self, file: io.BufferedIOBase):
        super().__init__(file)
        self.dtypes: dict[str, np.dtype] = {}
        self.file = file
        self.encoded_bytes = 0

    def load(self) -> Any:
        """Unpickles as `pickle.Unpickler` does, after checking the operations."""
        start = self.file.tell()
        self._check_operations()
        self.file.seek(start)
        return super().load()

    def _check_operations(self):
        """Refuses pickles with which a small file could take up memory or time.

        `pickle.Unpickler` allocates its memo up to the largest index that is named, and hashing
        nested tuples takes exponential time if they reuse each other. `genops` itself raises on
        sizes that run past the end of the file.
        """
        memo: dict[int, bool] = {}  # index -> whether a tuple may be stored there
        reused = 0
        previous = ""
        operations = pickletools.genops(cast(IO[bytes], self.file))
        for count, (opcode, argument, _) in enumerate(operations):
            name = opcode.name
            index = cast(Any, argument)
            if name in _PUTS:
                if name == "MEMOIZE":
                    index = len(memo)
                memo[index] = previous not in _NO_TUPLES
            if count > MAX_PICKLE_OPERATIONS or (name in _PUTS and index > MAX_PICKLE_OPERATIONS):
                raise UserError(f"refused: its pickle has over {MAX_PICKLE_OPERATIONS} operations")
            if name == "DUP" or (name in _GETS and memo.get(index, True)):
                reused += 1
            if reused > MAX_REUSED_TUPLES:
                raise UserError(f"refused: its pickle reuses over {MAX_REUSED_TUPLES} tuples")
            previous = name

    def find_class(self, module: str, name: str) -> Any:
        """The builder that stands for a name in the pickle."""
        if module == "torch" and name in _TORCH_STORAGES:
            return np.dtype(_TORCH_STORAGES[name])
        builders: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("_codecs", "encode"): self._encoded,  # protocol 2 writes bytes this way
            ("torch._utils", "_rebuild_tensor"): _tensor,  # 2017, torchvision's VGGs among them
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
            raise UserError(f"refused: its pickle asks for {module}.{name}, which is not an array")
        return builders[module, name]

    def _encoded(self, text: str, _: str) -> bytes:
        """The bytes of a text. A pickle may encode the same text repeatedly, so count every use."""
        bounded(self.encoded_bytes + len(text))
        self.encoded_bytes += len(text)
        return text.encode("latin-1")

    def persistent_load(self, pid: Any) -> tuple[str, np.dtype]:
        """The (key, dtype) of a torch storage."""
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
    """The tensor of a torch parameter."""
    if not callable(tensor):
        raise UserError("refused: a parameter in its pickle is not a tensor")
    return tensor


def _tensor(
    storage: tuple[str, np.dtype], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Callable[[_Storages], np.ndarray]:
    """A function that builds a torch tensor, a strided view of a storage, from the storages."""
    key, dtype = storage

    def build(storages: _Storages) -> np.ndarray:
        flat = np.frombuffer(storages[key], dtype)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        leaves = min(offset, *shape, *strides) < 0 or last >= flat.size
        if leaves or math.prod(shape) > flat.size:
            raise UserError(f"a tensor of shape {shape} leaves its storage of {flat.size} elements")
        byte_strides = [s * dtype.itemsize for s in strides]
        return np.lib.stride_tricks.as_strided(flat[offset:], shape, byte_strides).copy()

    return build


class _PickledDtype:
    """A numeric NumPy dtype in native byte order, given by a code such as "f4"."""

    def __init__(self, code: str):
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "fiu":
            raise UserError(f"refused: its pickle holds an array of {code!r}, not of numbers")

    def __setstate__(self, state: tuple):
        if state[1] not in "<|=":
            raise UserError("refused: its pickle holds big-endian arrays; save it in little-endian")


class _PickledArray:
    """A NumPy array, restored from the state that NumPy pickles."""

    def __setstate__(self, state: tuple):
        _, shape, dtype, fortran_order, content = state
        flat = np.frombuffer(content, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if fortran_order else "C")


def _from_buffer(
    content: bytes | bytearray, dtype: _PickledDtype, shape: tuple, order: Any, axes: Any = None
) -> _PickledArray:
    """A NumPy array as protocol 5 pickles it; `axes` is its order in memory for order "K"."""
    pickled, flat = _PickledArray(), np.frombuffer(content, dtype.dtype)
    if axes is None:
        pickled.array = flat.reshape(shape, order=order)
    else:
        pickled.array = flat.reshape(shape).transpose(axes)
    return pickled


def read_torch_zip(path: Path) -> dict[str, np.ndarray]:
    """Reads a file of torch.save since torch 1.6: a zip archive of a pickle and the storages.

    Raises:
      UserError: it is not such a file, or it is refused.
    """
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UserError("a zip archive, but not one from torch.save")
        bounded(sum(member.file_size for member in archive.infolist()))
        if any(member.compress_type > zipfile.ZIP_DEFLATED for member in archive.infolist()):
            raise UserError("refused: its members are compressed, but not by deflate")
        folder = pickles[0].removesuffix("data.pkl")
        tensors = _Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
        names = [name for name in archive.namelist() if name.startswith(f"{folder}data/")]
        storages = {name.rpartition("/")[2]: archive.read(name) for name in names}
    return _built(tensors, storages)


def read_torch_legacy(path: Path) -> dict[str, np.ndarray]:
    """Reads a file of torch.save before torch 1.6: five pickles, then the storages.

    The pickles are a magic number, the version, the machine, the tensors and the storage keys.

    Raises:
      UserError: it is truncated or refused.
    """
    with path.open("rb") as file:
        for _ in range(3):
            _Unpickler(file).load()
        unpickler = _Unpickler(file)
        tensors = unpickler.load()
        keys = _Unpickler(file).load()
        storages = {key: _sized(file, unpickler.dtypes[key]) for key in keys}
    return _built(tensors, storages)


def _sized(file: io.BufferedIOBase, dtype: np.dtype) -> bytes:
    """One legacy storage: an 8-byte count of elements, then the elements."""
    (count,) = struct.unpack("<q", file.read(8))
    content = file.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise UserError("truncated; download it again")
    return content


def _built(tensors: Any, storages: _Storages) -> dict[str, np.ndarray]:
    """The tensors of a state dict as arrays, with 8-bit codebooks (`_W_q`, `_W_table`) decoded."""
    arrays, total = {}, 0
    for name, build in tensors.items():
        if callable(build):
            arrays[name] = build(storages)
            total += arrays[name].nbytes  # several tensors may share one storage
            bounded(total)
    for key in [key for key in arrays if key.endswith("_W_q")]:
        layer = key.removesuffix("_q")
        total += arrays[key].size * arrays[f"{layer}_table"][:1].nbytes
        bounded(total)
        codes = arrays.pop(key)
        arrays[layer] = arrays.pop(f"{layer}_table")[codes]
    return arrays


def read_numpy_pickle(path: Path) -> dict[str, np.ndarray]:
    """Reads a pickle of nested dictionaries of NumPy arrays; their keys are joined by slashes.

    Raises:
      UserError: it is refused.
    """
    with path.open("rb") as file:
        tree = _Unpickler(file).load()
    arrays, visited = {}, 0

    def collect(prefix: str, node: Any):
        nonlocal visited
        if visited > MAX_PICKLE_OPERATIONS:  # dictionaries can contain each other many times over
            raise UserError(f"refused: its pickle has over {MAX_PICKLE_OPERATIONS} dictionaries")
        visited += 1
        if len(prefix) > MAX_NAME_CHARACTERS:
            raise UserError(f"refused: a name of over {MAX_NAME_CHARACTERS} characters")
        if isinstance(node, _PickledArray):
            arrays[prefix] = node.array
        elif isinstance(node, dict):
            for key, child in node.items():
                collect(f"{prefix}/{key}" if prefix else str(key), child)

    collect("", tree)
    return arrays
