"""Pictures of Python callers -> arrays: files, PIL images, arrays, tensors, lists of numbers."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from nst_jax.errors import UserError
from nst_jax.pictures import decoding, images
from nst_jax.pictures.decoding import Decoded

ACCEPTED = "a file, its bytes, an array, a tensor, nested lists of numbers or a PIL image"


def as_array(picture: Any, name: str) -> np.ndarray:
    """A picture as [h, w, 3], uint8 or float32.

    Args:
      picture: a PIL image of any mode; the bytes of a file, or an open file; or what NumPy makes an
        array of: [h, w], [h, w, 1], [h, w, 3] or [h, w, 4], integers from 0 to 255 or floats in
        [0, 1]. Transparency is composited on white.
      name: what to call it in an error.

    Raises:
      TypeError: not a picture.
      UserError: bytes of a file that is no picture.
    """
    if hasattr(picture, "read") and not isinstance(picture, PillowImage.Image):
        picture = picture.read()
    if isinstance(picture, bytes | bytearray | memoryview):
        return _opaque(_decoded(bytes(picture), name))
    if isinstance(picture, PillowImage.Image):
        mode = "RGBA" if picture.has_transparency_data else "RGB"
        if picture.mode.startswith("I"):  # 16 bits
            return as_array(np.asarray(picture, np.float32) / 65535, name)
        picture = picture.convert("F" if picture.mode == "F" else mode)
    array = _numbers(picture, name)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        turned = "; move its channels to the end" if array.shape[:1] in ((1,), (3,)) else ""
        raise TypeError(
            f"{name} has the shape {array.shape}; it must be [height, width, 3]{turned}"
        )
    if array.shape[2] == 1:
        return np.repeat(array, 3, -1)
    if array.dtype != np.uint8:
        images.check_range(array, name)
    if array.shape[2] == 4:
        unit = array / np.float32(255 if array.dtype == np.uint8 else 1)
        return _opaque(Decoded(array[..., :3], unit[..., 3]))
    return array


def _numbers(picture: Any, name: str) -> np.ndarray:
    """An array of uint8 or float32."""
    is_array = any(hasattr(picture, name) for name in ("__array__", "__array_interface__"))
    is_tensor = not is_array and hasattr(picture, "__dlpack__")
    if not (is_array or is_tensor or isinstance(picture, list | tuple)):
        raise TypeError(f"{name} is of type {type(picture).__name__}; it must be {ACCEPTED}")
    try:
        make: Any = np.from_dlpack if is_tensor else np.asarray
        array = make(picture)
    except Exception as error:  # tensors on a GPU or with a gradient, ragged lists
        reason = str(error).partition("\n")[0][:150]
        raise TypeError(f"{name} cannot become a NumPy array: {reason}") from None
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        with np.errstate(over="ignore"):  # what is infinite then is refused later
            return array.astype(np.float32)
    is_small = array.dtype.kind in "iu" and (array.dtype == np.uint8 or _fits(array))
    if not is_small:
        raise TypeError(
            f"{name} holds {array.dtype}; it must hold integers from 0 to 255, or floats in [0, 1]"
        )
    return array.astype(np.uint8)


def _fits(array: np.ndarray) -> bool:
    """Whether integers of the usual type, as lists give, are levels; 16 bits mean another range."""
    if array.dtype.itemsize < 4 or not array.size:
        return False
    return int(array.min()) >= 0 and int(array.max()) <= 255


def _decoded(content: bytes, name: str) -> Decoded:
    with tempfile.TemporaryDirectory(prefix="nst_jax-") as folder:
        path = Path(folder) / "picture"
        path.write_bytes(content)
        try:
            return decoding.decode(path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), name)) from None


def _opaque(decoded: Decoded) -> np.ndarray:
    """[h, w, 3] of uint8 or float32, composited on white, in the type of its colours."""
    if decoded.alpha is None:
        return decoded.colour
    white = images.on_white(decoded)
    return images.quantized(white, 8) if decoded.colour.dtype == np.uint8 else white
