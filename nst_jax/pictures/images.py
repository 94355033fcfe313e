"""Picture files <-> arrays: float32 [height, width, 3], sRGB in [0, 1].

`decoding` knows what files hold and `writers` how each format stores pixels. Everything else works
in sRGB as stored, as the networks were trained.
"""

import contextlib
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy
from jaxtyping import Float
from PIL import Image as PillowImage

from nst_jax import files
from nst_jax.errors import UserError
from nst_jax.pictures import decoding
from nst_jax.pictures.decoding import Decoded
from nst_jax.pictures.sizes import FILTERS, LONGER_SIDE, Sizing
from nst_jax.pictures.writers import ANIMATIONS, DEPTHS, TRANSPARENT, WRITERS

Picture = Float[np.ndarray, "_ _ 3"]
Plane = Float[np.ndarray, "_ _"]

MIN_VISIBLE_ALPHA = 1 / 16  # below it, a colour is not to be trusted
BAND_ROWS = 256  # of a picture, converted at once


def read(
    path: str | Path,
    size: int | None = None,
    smallest: int = 1,
    sizing: Sizing = LONGER_SIDE,
    *,
    fills: bool = False,
    says_enlarged: bool = False,
    quiet: bool = False,
) -> Picture:
    """Reads a picture file as sRGB in [0, 1].

    The largest page of a TIFF and the first frame of an animation are taken, upright, their colours
    converted to sRGB; docs/pictures.md says what is read how. Transparency is composited on white,
    which a line on standard error says, or filled.

    Args:
      path: the file.
      size: of the result, in pixels; None keeps the file's.
      smallest: shortest side, in pixels, that the file and the result may have.
      sizing: what the size means, and how the picture is resampled.
      fills: whether what is transparent gets the nearest colour that is not, so that no white
        shows at soft edges when the picture gets its transparency back.
      says_enlarged: whether a line on standard error says that the picture is enlarged.
      quiet: whether nothing is said about transparency: for pictures of our own.

    Returns:
      [h, w, 3] float32.

    Raises:
      UserError: missing, not a picture, damaged, or too small.
    """
    with decoding.opening(path) as opened:
        _check_size(opened.shape, size, smallest, sizing, str(path))  # before its pixels take time
        decoded = opened.decode()
    if decoded.alpha is None:
        image = decoded.colour
    elif fills:
        image = filled(decoded)
    else:
        if not quiet:
            remark(f"{path}: transparency composited on white")
        image = on_white(decoded)
    prepared = prepare(image, size, smallest, str(path), sizing)
    if says_enlarged and prepared.size > image.size:
        (height, width, _), (new_height, new_width, _) = image.shape, prepared.shape
        remark(f"{path}: {width}x{height} pixels, enlarged to {new_width}x{new_height}")
    return prepared


def remark(text: str):
    """Prints a line on standard error."""
    with contextlib.suppress(OSError):  # the reader is gone
        print(text, file=sys.stderr)


def on_white(decoded: Decoded) -> Picture:
    """The picture composited on white."""
    assert decoded.alpha is not None
    alpha = decoded.alpha[..., None]
    return _unit(decoded.colour) * alpha + (1 - alpha)


def filled(decoded: Decoded) -> np.ndarray:
    """The colours, with the nearest visible one where alpha is below `MIN_VISIBLE_ALPHA`."""
    assert decoded.alpha is not None
    hidden = decoded.alpha < MIN_VISIBLE_ALPHA
    if hidden.all() or not hidden.any():
        return decoded.colour
    nearest = scipy.ndimage.distance_transform_edt(
        hidden, return_distances=False, return_indices=True
    )
    return decoded.colour[tuple(nearest)]


def read_alpha(path: str | Path, shape: tuple[int, int]) -> Plane | None:
    """Reads the alpha channel of a picture file, straight, with EXIF orientation obeyed.

    Args:
      path: the file.
      shape: (height, width) to resample to.

    Returns:
      [height, width] in [0, 1]; None if the file has no transparency.

    Raises:
      UserError: missing, not a picture, or damaged.
    """
    alpha = decoding.decode(path).alpha
    return None if alpha is None else _resample(alpha, shape, "lanczos")


def prepare(
    image: np.ndarray, size: int | None, smallest: int, name: str, sizing: Sizing = LONGER_SIDE
) -> Picture:
    """Checks and resizes a picture that is already an array.

    Args:
      image: [h, w, 3], floats in [0, 1] or uint8.
      size, smallest: as for `read`.
      name: what to call it in an error.
      sizing: as for `read`.

    Raises:
      UserError: another shape or type, values outside [0, 1], or too small.
    """
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(f"{name} has shape {image.shape}; a picture is [height, width, 3]")
    if image.dtype != np.uint8:  # uint8 is converted at its last size: the picture may be large
        if image.dtype.kind != "f":
            raise UserError(
                f"{name} holds {image.dtype}; a picture holds uint8, or floats in [0, 1]"
            )
        with np.errstate(over="ignore"):
            image = np.asarray(image, np.float32)
        check_range(image, name)
    _check_size(image.shape, size, smallest, sizing, name)
    if size is not None:
        image = _resized(image, sizing.fit(image.shape, size), sizing.resample)
    return _unit(image)


def check_range(array: np.ndarray, name: str):
    """Checks that floats are in [0, 1].

    Raises:
      UserError: one is not, or is NaN.
    """
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise UserError(f"{name} has values outside [0, 1]")


def _check_size(shape: tuple[int, ...], size: int | None, smallest: int, sizing: Sizing, name: str):
    """Raises UserError for a picture that is too small, or would be once it has its size."""
    shapes = {f"{name} is": shape[:2]}
    if size is not None:
        shapes[f"{name} at size {size} is"] = sizing.fit(shape, size)
    for subject, (height, width) in shapes.items():
        if min(height, width) < smallest:
            longer = -(-smallest * max(shape[:2]) // min(shape[:2]))
            raise UserError(
                f"{subject} {width}x{height} pixels, too small for the deepest layer: both sides "
                f"must be {smallest} or more, the longer one thus {longer}"
            )


def resize(image: Picture, shape: tuple[int, int], resample: str = "lanczos") -> Picture:
    """Resamples to (height, width), antialiased, in float32, and clips to [0, 1].

    Args:
      image: [h, w, 3].
      shape: (height, width) of the result.
      resample: a key of `sizes.FILTERS`.
    """
    return _resized(image, shape, resample)


def _resized(image: np.ndarray, shape: tuple[int, int], resample: str) -> np.ndarray:
    """As `resize`, also for uint8."""
    if image.shape[:2] == shape:
        return image
    resized = np.empty((*shape, image.shape[2]), np.float32)  # a channel at a time: it may be large
    for k, channel in enumerate(np.moveaxis(image, -1, 0)):
        resized[..., k] = _resample(channel, shape, resample)
    return resized


def _unit(image: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in [0, 1]; floats stay as they are."""
    unit = np.ascontiguousarray(image, np.float32)
    if image.dtype == np.uint8:
        unit /= 255  # in place: it is a copy
    return unit


def _resample(plane: np.ndarray, shape: tuple[int, int], resample: str) -> Plane:
    height, width = shape
    resampled = PillowImage.fromarray(_unit(plane)).resize((width, height), FILTERS[resample])
    return np.clip(np.asarray(resampled), 0, 1)


def write(path: Path, image: Picture, note: str = "", bits: int = 8, alpha: Plane | None = None):
    """Writes a picture as sRGB, rounded and clipped, in the format of the suffix.

    The file says that it is sRGB, by an ICC profile. The same arguments give the same bytes.

    Args:
      path: its suffix is a key of `WRITERS`. Replaced atomically.
      image: [h, w, 3]; values outside [0, 1] are clipped.
      note: text for the file's metadata.
      bits: of a channel: 8, or 16 where `DEPTHS` has it for the suffix.
      alpha: [h, w] opacity, clipped to [0, 1], for a suffix in `TRANSPARENT`; stored straight, so
        that colours stay as they are. None writes no alpha.

    Raises:
      UserError: a suffix that is unknown or cannot hold this, or a file that cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise UserError(f"cannot write {path}: its name must end in {', '.join(WRITERS)}")
    if bits not in DEPTHS[suffix]:
        able = [other for other, depths in DEPTHS.items() if bits in depths]
        raise UserError(
            f"cannot write {path} with {bits} bits a channel: {', '.join(able) or 'no suffix'} can"
        )
    if alpha is not None:
        if suffix not in TRANSPARENT:
            raise UserError(f"cannot write {path} with transparency: {', '.join(TRANSPARENT)} can")
        image = np.concatenate([image, alpha[..., None]], -1)
    with _saving(path) as temporary:
        WRITERS[suffix][bits](quantized(image, bits), temporary, note)


def write_animation(
    path: Path, frames: Sequence[np.ndarray] | np.ndarray, milliseconds: int, note: str = ""
):
    """Writes pictures as an animation that repeats for ever, in the format of the suffix.

    Args:
      path: its suffix is a key of `ANIMATIONS`. Replaced atomically.
      frames: [h, w, 3] each, floats in [0, 1] or uint8; all are resampled to the size of the last.
      milliseconds: for each frame; the last one stays a second longer. GIF counts in tens.
      note: text for the file's metadata.

    Raises:
      UserError: an unknown suffix, no frames, or a file that cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in ANIMATIONS:
        raise UserError(f"cannot write {path}: its name must end in {', '.join(ANIMATIONS)}")
    if not len(frames):
        raise UserError(f"cannot write {path}: there are no frames")
    shape = frames[-1].shape[:2]
    images = [PillowImage.fromarray(_eight_bits(frame, shape)) for frame in frames]
    durations = [milliseconds] * (len(images) - 1) + [milliseconds + 1000]
    with _saving(path) as temporary:
        ANIMATIONS[suffix](images, temporary, durations, note)


def _eight_bits(frame: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A frame at a size, as uint8."""
    if frame.dtype == np.uint8 and frame.shape[:2] == shape:
        return frame
    return quantized(_unit(_resized(frame, shape, "lanczos")), 8)


def quantized(image: Float[np.ndarray, "_ _ _"], bits: int) -> np.ndarray:
    """[0, 1] -> uint8 or uint16, clipped and rounded."""
    most = (1 << bits) - 1
    levels = np.empty(image.shape, np.uint8 if bits == 8 else np.uint16)
    for start in range(0, len(image), BAND_ROWS):  # it may be large
        band = slice(start, start + BAND_ROWS)
        levels[band] = np.rint(np.clip(image[band], 0, 1) * most)
    return levels


@contextlib.contextmanager
def _saving(path: Path) -> Iterator[Path]:
    """`files.replacing`; what a format cannot hold becomes one line, too."""
    try:
        with files.replacing(path) as temporary:
            yield temporary
    except (ValueError, OverflowError, RuntimeError, struct.error) as error:  # too wide, mostly
        raise UserError(f"cannot write {path} (try another suffix): {error}") from error
