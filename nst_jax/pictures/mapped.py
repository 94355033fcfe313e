"""Large pictures on the disk, mapped, so that they take memory only while they are used."""

import mmap
import tempfile

import numpy as np

MAPPED_BYTES = 64 << 20


def on_disk(array: np.ndarray) -> np.ndarray:
    """A large array in a temporary file that it is mapped from; a small one as it is.

    The file has no name and is gone with the array. What is read of it takes memory until
    `release`. Where there is no room on the disk, the array stays where it is.

    Args:
      array: of any shape and type; nobody writes to it any more.
    """
    if array.nbytes < MAPPED_BYTES or isinstance(array, np.memmap):
        return array
    try:
        with tempfile.TemporaryFile(prefix="nst_jax-") as file:
            array.tofile(file)
            file.flush()
            return np.memmap(file, array.dtype, "r", shape=array.shape)
    except OSError:
        return array


def release(array: np.ndarray):
    """Gives back the memory of an array that is `on_disk`; its next use reads it again."""
    mapping = getattr(array, "_mmap", None)  # NumPy has no public name for it
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):  # Windows does it by itself
        mapping.madvise(mmap.MADV_DONTNEED)
