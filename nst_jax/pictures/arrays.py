"""Pictures of Python callers -> arrays: NumPy, JAX and PIL images, colour or gray."""

from typing import Any

import numpy as np
from PIL import Image as PillowImage

ACCEPTED = "a file name, a NumPy or JAX array or a PIL image"


def as_array(picture: Any, name: str) -> np.ndarray:
    """A picture as [h, w, 3], uint8 or float32.

    Args:
      picture: a PIL image of any mode; or an array [h, w], [h, w, 1], [h, w, 3] or [h, w, 4], uint8
        or floats in [0, 1]. Transparency is composited on white.
      name: what to call it in an error.

    Raises:
      TypeError: not a picture.
    """
    if isinstance(picture, PillowImage.Image):
        mode = "RGBA" if picture.has_transparency_data else "RGB"
        return as_array(np.asarray(picture.convert(mode)), name)
    if isinstance(picture, str | bytes) or not hasattr(picture, "__array__"):
        raise TypeError(f"{name} is of type {type(picture).__name__}; it must be {ACCEPTED}")
    array = np.asarray(picture)
    is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    if array.dtype != np.uint8 and not is_float:
        raise TypeError(f"{name} holds {array.dtype}; it must hold uint8, or floats in [0, 1]")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise TypeError(f"{name} has the shape {array.shape}; it must be [height, width, 3]")
    if is_float:
        array = array.astype(np.float32)
    if array.shape[2] == 1:
        return np.repeat(array, 3, -1)
    if array.shape[2] == 4:
        return _on_white(array)
    return array


def _on_white(array: np.ndarray) -> np.ndarray:
    """[h, w, 4] -> [h, w, 3] of the same type, composited on white."""
    if array.dtype == np.uint8:
        return np.rint(255 * _on_white(array.astype(np.float32) / 255)).astype(np.uint8)
    colour, alpha = array[..., :3], array[..., 3:]
    return colour * alpha + (1 - alpha)
