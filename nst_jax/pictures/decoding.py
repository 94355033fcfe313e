"""Picture files -> straight sRGB and alpha, whatever their format, depth, layout and tags."""

import contextlib
import functools
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image as PillowImage
from PIL import ImageFile, ImageOps

from nst_jax import files
from nst_jax.errors import UserError
from nst_jax.pictures import kinds, profiles, tiff
from nst_jax.pictures.writers import SRGB

Plane = Float[np.ndarray, "_ _"]

# Pillow's name for the byte order of 16-bit channels (big, little, native) -> the other order.
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

MAX_SIDE_PIXELS = 1 << 17


class Decoded(NamedTuple):
    """The pixels of a file, upright.

    Attributes:
      colour: [h, w, 3] sRGB, not multiplied by alpha; uint8, or floats in [0, 1].
      alpha: [h, w] in [0, 1]; None if the file has no transparency.
    """

    colour: np.ndarray
    alpha: Plane | None


class Opened(NamedTuple):
    """A file whose header was read.

    Attributes:
      shape: (height, width) as stored, perhaps on its side.
      decode: decodes the pixels, which takes time.
    """

    shape: tuple[int, int]
    decode: Callable[[], Decoded]


def decode(path: str | Path) -> Decoded:
    """Decodes a picture file.

    Raises:
      UserError: missing, not a picture, of a format that cannot be read, or damaged.
    """
    with opening(path) as opened:
        return opened.decode()


@contextlib.contextmanager
def opening(path: str | Path) -> Iterator[Opened]:
    """Opens a picture file; an error before the block ends becomes one line.

    Raises:
      UserError: missing, not a picture, of a format that cannot be read, or damaged.
    """
    if "://" in str(path):
        raise UserError(f"pictures are read from files; download {path} first")
    path = files.named(path)
    try:
        if path.is_dir():
            raise UserError(
                f"{path} is a folder; name a picture in it, or paint all of them with nst_jax.sweep"
            )
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no file")
        page = tiff.find(path)
        if page is not None and page.is_ours:
            _check_sides(path, page.shape)
            yield Opened(page.shape, functools.partial(_decode_tiff, path, page))
            return
        with _opened_by_pillow(path) as opened:
            if page is not None:
                opened.seek(page.place[0])
            width, height = opened.size
            _check_sides(path, (height, width))
            yield Opened((height, width), functools.partial(_decode, opened, page))
    except FileNotFoundError:
        raise UserError(f"no picture {path}") from None
    except PillowImage.DecompressionBombError:
        most = 2 * (PillowImage.MAX_IMAGE_PIXELS or 0) / 1e6  # Pillow warns at one, raises at two
        raise UserError(
            f"{path} claims too many pixels to open; scale it to {most:.0f} megapixels at most"
        ) from None
    except PillowImage.UnidentifiedImageError:
        raise UserError(f"{path} is {kinds.kind_of(path).what}") from None
    except UserError:
        raise
    except Exception as error:  # damaged files make decoders raise anything
        raise UserError(f"cannot read picture {path}: {error}") from error


@contextlib.contextmanager
def _opened_by_pillow(path: Path) -> Iterator[ImageFile.ImageFile]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about odd metadata and its own limit
        try:
            image = PillowImage.open(path)
        except PillowImage.UnidentifiedImageError:
            if not kinds.plug_in(kinds.kind_of(path)):
                raise
            image = PillowImage.open(path)
        with image as opened:
            if opened.format == "EPS":  # Ghostscript would run it without a limit
                raise UserError(f"{path} is PostScript, a program; save it as a picture first")
            yield opened


def _check_sides(path: Path, shape: tuple[int, int]):
    """Checks for shapes that no camera makes, which take minutes.

    Raises:
      UserError: a side is too long.
    """
    if max(shape) > MAX_SIDE_PIXELS:
        raise UserError(
            f"{path} claims a side of {max(shape)} pixels; {MAX_SIDE_PIXELS} are the most"
        )


def _decode_tiff(path: Path, page: tiff.Page) -> Decoded:
    colour, alpha, profile, orientation = tiff.decode(path, page)
    profile = None if profile == SRGB else profile
    if colour.shape[2] == 1:
        colour = profiles.gray_to_srgb(colour[..., 0], profile)
    elif profile:
        eight = PillowImage.fromarray(np.uint8(np.rint(np.clip(colour, 0, 1) * 255)))
        colour = np.asarray(profiles.to_srgb(eight, profile))
    alpha = None if alpha is None else _upright(alpha, orientation)
    return Decoded(_upright(colour, orientation), alpha)


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """An array turned as EXIF's orientation says."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def _decode(opened: ImageFile.ImageFile, page: tiff.Page | None) -> Decoded:
    """Decodes an open file: orientation, depth, transparency, colours."""
    profile = opened.info.get("icc_profile")
    profile = None if profile == SRGB else profile
    image = _turned(opened)
    if image.mode.startswith("I") or image.mode == "F":
        return Decoded(profiles.gray_to_srgb(_gray(image, page), profile), None)
    deep = _deepened(image, opened) if profile is None else None
    if deep is not None:
        colour, alpha = deep[..., :3], deep[..., 3] if deep.shape[2] == 4 else None
    else:
        alpha = None
        if image.has_transparency_data:
            opacity = image.convert("RGBA").getchannel("A")
            alpha = np.asarray(opacity, np.float32) / 255
        colour = np.asarray(profiles.to_srgb(_without_alpha(image), profile))
    if opened.format == "PNG" and not profile and "srgb" not in opened.info:
        colour = _by_png(colour, opened)
    return Decoded(colour, alpha)


def _gray(image: PillowImage.Image, page: tiff.Page | None) -> Plane:
    """Gray of more than 8 bits, in [0, 1]. Floats are as they are."""
    gray = np.asarray(image, np.float32)
    if image.mode != "F":
        gray = gray / ((1 << page.bits) - 1 if page is not None and page.bits < 16 else 65535)
    return 1 - gray if page is not None and page.is_inverted else gray


def _without_alpha(image: PillowImage.Image) -> PillowImage.Image:
    """The colours in a mode that profiles are for; alpha is dropped, not composited."""
    if image.mode in ("RGB", "L", "CMYK", "LAB"):
        return image
    if image.mode in ("1", "LA"):
        return image.convert("L")
    return image.convert("RGBA").convert("RGB")


def _by_png(colour: np.ndarray, opened: ImageFile.ImageFile) -> np.ndarray:
    """The colours of a PNG by its gamma and primaries."""
    gamma, primaries = opened.info.get("gamma"), opened.info.get("chromaticity")
    if not gamma and not primaries:
        return colour
    unit = colour / np.float32(255) if colour.dtype == np.uint8 else colour
    converted = profiles.png_to_srgb(unit, gamma, primaries)
    return colour if converted is unit else converted


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
        again.seek(opened.tell())
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
