"""Picture files <-> arrays: float32 [height, width, 3], sRGB in [0, 1].

The only room that knows uint8, EXIF, ICC profiles, alpha, resampling and file formats. Everything
beyond it works in sRGB as stored, as the networks were trained.
"""

import contextlib
import io
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image as PillowImage
from PIL import ImageCms, ImageOps, PngImagePlugin

from nst_jax import files
from nst_jax.errors import UserError

Picture = Float[np.ndarray, "_ _ 3"]


def read(path: str | Path, size: int | None = None, smallest: int = 1) -> Picture:
    """Reads anything Pillow opens as sRGB in [0, 1].

    EXIF orientation is obeyed, an embedded ICC profile converted to sRGB, transparency composited
    on white (a line on standard error says so), of an animation the first frame taken. Grayscale
    keeps its 16 bits; colour is decoded to 8.

    Args:
      path: the file.
      size: longer side of the result in pixels; None keeps the file's.
      smallest: shortest side, in pixels, that the file and the result may have.

    Raises:
      UserError: missing, no picture, damaged, or too small.
    """
    if "://" in str(path):
        raise UserError(f"pictures are read from files; download {path} first")
    path = Path(path).expanduser()
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a picture in it")
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata, and its own limit
            with PillowImage.open(path) as opened:
                image = _decode(opened, path)
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
    except Exception as error:  # whatever a damaged file makes a decoder raise is the file's fault
        raise UserError(f"cannot read picture {path}: {error}") from error
    return prepare(image, size, smallest, str(path))


def prepare(image: np.ndarray, size: int | None, smallest: int, name: str) -> Picture:
    """Checks and resizes a picture that is already an array; `read` does this for files.

    Args:
      image: [h, w, 3], floats in [0, 1] or uint8.
      size, smallest: as for `read`.
      name: what to call it in an error.

    Raises:
      UserError: not such an array, or too small.
    """
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(f"{name} has shape {image.shape}; a picture is [height, width, 3]")
    if image.dtype == np.uint8:
        image = image.astype(np.float32) / 255
    if image.dtype.kind != "f":
        raise UserError(f"{name} holds {image.dtype}; a picture holds uint8, or floats in [0, 1]")
    image = np.asarray(image, np.float32)
    if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
        raise UserError(f"{name} has values outside [0, 1]")
    _check_size(image, smallest, f"{name} is")
    if size is not None:
        image = resize(image, fit(image.shape, size))
        _check_size(image, smallest, f"{name}, {size} pixels long, is")
    return image


def _check_size(image: Picture, smallest: int, subject: str):
    height, width, _ = image.shape
    if min(height, width) < smallest:
        raise UserError(
            f"{subject} {width}x{height} pixels, too small for the deepest layer: "
            f"both sides must be {smallest} or more"
        )


def fit(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """(height, width) with the longer side `size` and the aspect of `shape`, each at least 1."""
    height, width = shape[:2]
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(image: Picture, shape: tuple[int, int]) -> Picture:
    """Resamples to (height, width): antialiased Lanczos in float32, clipped to [0, 1]."""
    if image.shape[:2] == shape:
        return image
    height, width = shape
    channels = [
        PillowImage.fromarray(np.ascontiguousarray(channel)).resize(
            (width, height), PillowImage.Resampling.LANCZOS
        )
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.clip(np.stack([np.asarray(channel) for channel in channels], -1), 0, 1)


def _decode(opened: PillowImage.Image, path: Path) -> Picture:
    """The pixels of an open file, in four moves: turn, widen, composite, convert colours."""
    profile = opened.info.get("icc_profile")
    with contextlib.suppress(SyntaxError, ValueError, KeyError, struct.error):  # damaged EXIF
        opened = ImageOps.exif_transpose(opened)
    if opened.mode.startswith("I") or opened.mode == "F":  # 16-bit integers, floats in [0, 1]
        gray = np.asarray(opened, np.float32) / (1 if opened.mode == "F" else 65535)
        return np.repeat(gray[..., None], 3, -1)
    if opened.has_transparency_data:
        print(f"{path}: transparency composited on white", file=sys.stderr)
        opened = opened.convert("RGBA")
        opened = PillowImage.alpha_composite(PillowImage.new("RGBA", opened.size, "white"), opened)
    if opened.mode not in ("RGB", "L", "CMYK"):
        opened = opened.convert("L" if opened.mode in ("1", "LA") else "RGB")
    return np.asarray(_to_srgb(opened, profile), np.float32) / 255


def _to_srgb(image: PillowImage.Image, profile: bytes | None) -> PillowImage.Image:
    """8-bit sRGB by the embedded profile; by Pillow's own formula without a usable one."""
    if profile:
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


def _png(image: PillowImage.Image, path: Path, note: str):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("nst_jax", note)
    image.save(path, pnginfo=info)


def _exif(note: str) -> PillowImage.Exif:
    exif = PillowImage.Exif()
    exif[0x010E] = note  # ImageDescription
    return exif


def _jpeg(image: PillowImage.Image, path: Path, note: str):
    image.save(path, quality=95, subsampling=0, exif=_exif(note))


def _tiff(image: PillowImage.Image, path: Path, note: str):
    image.save(path, compression="tiff_deflate", description=note)


# Suffix -> how to save an 8-bit RGB image with a note (the config, as JSON) in its metadata.
WRITERS: dict[str, Callable[[PillowImage.Image, Path, str], Any]] = {
    ".png": _png,
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".webp": lambda image, path, note: image.save(path, quality=95, exif=_exif(note)),
    ".tif": _tiff,
    ".tiff": _tiff,
}


def write(path: Path, image: Picture, note: str = ""):
    """Writes a picture as 8-bit sRGB, rounded and clipped, in the format of the suffix.

    Args:
      path: where; the suffix is a key of `WRITERS`. Replaced in one step, never half-written.
      image: [h, w, 3]; values outside [0, 1] are clipped.
      note: text for the file's metadata.

    Raises:
      UserError: a suffix that is not known, or a file that cannot be written.
    """
    if path.suffix.lower() not in WRITERS:
        raise UserError(f"cannot write {path}: its name must end in {', '.join(WRITERS)}")
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    with files.replacing(path) as temporary:
        WRITERS[path.suffix.lower()](PillowImage.fromarray(pixels), temporary, note)
