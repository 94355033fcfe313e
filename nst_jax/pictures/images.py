"""Picture files <-> arrays: float32 [height, width, 3], sRGB in [0, 1].

The only module that knows integers, EXIF, ICC profiles, alpha and resampling; `writers` knows how
each format stores pixels. Everything else works in sRGB as stored, as the networks were trained.
"""

import contextlib
import io
import struct
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image as PillowImage
from PIL import ImageCms, ImageFile, ImageOps

from nst_jax import files
from nst_jax.errors import UserError
from nst_jax.pictures.writers import ANIMATIONS, DEPTHS, SRGB, TRANSPARENT, WRITERS

Picture = Float[np.ndarray, "_ _ 3"]
Plane = Float[np.ndarray, "_ _"]

# Pillow's name for the byte order of 16-bit channels (big, little, native) -> the other order.
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def read(path: str | Path, size: int | None = None, smallest: int = 1) -> Picture:
    """Reads anything Pillow opens as sRGB in [0, 1].

    EXIF orientation is obeyed, an embedded ICC profile is converted to sRGB, transparency is
    composited on white (a line on standard error says so), and the first frame of an animation is
    taken. Grayscale keeps 16 bits, and so does RGB(A) unless its profile must be converted;
    everything else is decoded to 8 bits.

    Args:
      path: the file.
      size: longer side of the result in pixels; None keeps the file's.
      smallest: shortest side, in pixels, that the file and the result may have.

    Returns:
      [h, w, 3] float32.

    Raises:
      UserError: missing, not a picture, damaged, or too small.
    """
    with _opening(path) as opened:
        _check_size(opened.size[::-1], size, smallest, str(path))  # before its pixels take time
        image = _decode(opened)
    return prepare(image, size, smallest, str(path))


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
    with _opening(path) as opened:
        alpha = _decode_alpha(opened)
    return None if alpha is None else _resample(alpha, shape)


@contextlib.contextmanager
def _opening(path: str | Path) -> Iterator[ImageFile.ImageFile]:
    """Opens a picture file; an error before the block ends becomes one line."""
    if "://" in str(path):
        raise UserError(f"pictures are read from files; download {path} first")
    path = Path(path).expanduser()
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a picture in it")
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about odd metadata and its own limit
            with PillowImage.open(path) as opened:
                if opened.format == "EPS":  # Ghostscript would run it without a limit
                    raise UserError(f"{path} is PostScript, a program; save it as a picture first")
                yield opened
    except FileNotFoundError:
        raise UserError(f"no picture {path}") from None
    except PillowImage.DecompressionBombError:
        most = 2 * (PillowImage.MAX_IMAGE_PIXELS or 0) / 1e6  # Pillow warns at one, raises at two
        raise UserError(
            f"{path} claims too many pixels to open; scale it to {most:.0f} megapixels at most"
        ) from None
    except PillowImage.UnidentifiedImageError:
        raise UserError(f"{path} is no picture of a known format") from None
    except UserError:
        raise
    except Exception as error:  # damaged files make decoders raise anything
        raise UserError(f"cannot read picture {path}: {error}") from error


def prepare(image: np.ndarray, size: int | None, smallest: int, name: str) -> Picture:
    """Checks and resizes a picture that is already an array.

    Args:
      image: [h, w, 3], floats in [0, 1] or uint8.
      size, smallest: as for `read`.
      name: what to call it in an error.

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
        image = np.asarray(image, np.float32)
        if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
            raise UserError(f"{name} has values outside [0, 1]")
    _check_size(image.shape, size, smallest, name)
    return _unit(image if size is None else _resized(image, fit(image.shape, size)))


def _check_size(shape: tuple[int, ...], size: int | None, smallest: int, name: str):
    """Raises UserError for a picture that is too small, or would be with the longer side `size`."""
    shapes = {f"{name} is": shape[:2]}
    if size is not None:
        shapes[f"{name}, {size} pixels long, is"] = fit(shape, size)
    for subject, (height, width) in shapes.items():
        if min(height, width) < smallest:
            raise UserError(
                f"{subject} {width}x{height} pixels, too small for the deepest layer: "
                f"both sides must be {smallest} or more"
            )


def fit(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """(height, width) with the longer side `size` and the aspect ratio of `shape`; at least 1.

    >>> fit((300, 400, 3), 200)
    (150, 200)
    """
    height, width = shape[:2]
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(image: Picture, shape: tuple[int, int]) -> Picture:
    """Resamples to (height, width): antialiased Lanczos in float32, clipped to [0, 1]."""
    return _resized(image, shape)


def _resized(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """As `resize`, also for uint8."""
    if image.shape[:2] == shape:
        return image
    return np.stack([_resample(channel, shape) for channel in np.moveaxis(image, -1, 0)], -1)


def _unit(image: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in [0, 1]; floats stay as they are."""
    unit = np.ascontiguousarray(image, np.float32)
    if image.dtype == np.uint8:
        unit /= 255  # in place: it is a copy
    return unit


def _resample(plane: np.ndarray, shape: tuple[int, int]) -> Plane:
    height, width = shape
    resampled = PillowImage.fromarray(_unit(plane)).resize(
        (width, height), PillowImage.Resampling.LANCZOS
    )
    return np.clip(np.asarray(resampled), 0, 1)


def _decode(opened: ImageFile.ImageFile) -> np.ndarray:
    """Decodes an open file: orientation, 16 bits, transparency, colour profile.

    Returns:
      [h, w, 3], uint8 for 8-bit files, else floats in [0, 1].
    """
    profile = opened.info.get("icc_profile")
    image = _turned(opened)
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit integers, floats in [0, 1]
        gray = np.asarray(image, np.float32) / (1 if image.mode == "F" else 65535)
        return np.repeat(gray[..., None], 3, -1)
    if image.has_transparency_data:
        with contextlib.suppress(OSError):  # the reader is gone
            print(f"{opened.filename}: transparency composited on white", file=sys.stderr)
    deep = _deepened(image, opened) if profile in (None, SRGB) else None
    if deep is not None:
        colour, alpha = deep[..., :3], deep[..., 3:]
        return colour * alpha + (1 - alpha) if alpha.size else colour
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = PillowImage.alpha_composite(PillowImage.new("RGBA", image.size, "white"), image)
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
    return np.asarray(_to_srgb(image, profile))


def _decode_alpha(opened: ImageFile.ImageFile) -> Plane | None:
    image = _turned(opened)
    if not image.has_transparency_data:
        return None
    deep = _deepened(image, opened)
    if deep is not None:
        return deep[..., 3]
    return np.asarray(image.convert("RGBA").getchannel("A"), np.float32) / 255


def _turned(opened: PillowImage.Image) -> PillowImage.Image:
    with contextlib.suppress(SyntaxError, ValueError, KeyError, struct.error):  # damaged EXIF
        return ImageOps.exif_transpose(opened)
    return opened


def _deepened(
    image: PillowImage.Image, opened: ImageFile.ImageFile
) -> Float[np.ndarray, "_ _ _"] | None:
    """[h, w, 3 or 4] in [0, 1] for files with 16-bit RGB or RGBA; None for others.

    Pillow has no such mode: it decodes the high bytes, which are `image`, and drops the low ones.
    Told that the bytes are in the other order, it decodes the low ones.
    """
    if opened.format not in ("PNG", "TIFF") or "transparency" in opened.info:
        return None  # Pillow handles a single transparent colour
    with PillowImage.open(opened.filename) as again:
        tiles = [_swapped(tile) for tile in again.tile]
        if not all(tiles):
            return None
        again.tile = [tile for tile in tiles if tile]
        deep = np.asarray(image, np.float32) * 256
        deep += np.asarray(_turned(again))
    deep /= 65535  # in place: a large picture is gigabytes
    return deep


def _swapped(tile: ImageFile._Tile) -> ImageFile._Tile | None:
    """A tile of 16-bit RGB or RGBA with the byte order swapped; None for any other tile."""
    mode, *rest = (tile.args,) if isinstance(tile.args, str) else tile.args or ("",)
    if mode[:-1] not in ("RGB;16", "RGBA;16"):
        return None
    mode = mode[:-1] + _OTHER_ORDER[mode[-1]]
    return tile._replace(args=(mode, *rest) if rest else mode)


def _to_srgb(image: PillowImage.Image, profile: bytes | None) -> PillowImage.Image:
    """8-bit sRGB, by the embedded profile, or by Pillow's formula where none is usable."""
    if profile and profile != SRGB:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):  # damaged, or not of the pixels' colour space
            pass
    return image.convert("RGB")


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
    return quantized(_unit(_resized(frame, shape)), 8)


def quantized(image: Float[np.ndarray, "_ _ _"], bits: int) -> np.ndarray:
    """[0, 1] -> uint8 or uint16, clipped and rounded."""
    most = (1 << bits) - 1
    return np.rint(np.clip(image, 0, 1) * most).astype(np.uint8 if bits == 8 else np.uint16)


@contextlib.contextmanager
def _saving(path: Path) -> Iterator[Path]:
    """`files.replacing`; what a format cannot hold becomes one line, too."""
    try:
        with files.replacing(path) as temporary:
            yield temporary
    except (ValueError, OverflowError, RuntimeError, struct.error) as error:  # too wide, mostly
        raise UserError(f"cannot write {path} (try another suffix): {error}") from error
