"""TIFF: which of a file's pages is the picture, and the layouts that Pillow misreads or refuses.

Pillow reads the first page, which in files of cameras and scanners is often a thumbnail. It takes
planes of 16 bits for bytes, and knows neither floating-point colour nor 16-bit gray with alpha.
"""

import itertools
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image as PillowImage

from nst_jax.errors import UserError

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it reports damage to stderr

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION = 274
_PLANAR = 2  # PlanarConfiguration
_MAX_PAGES = 64  # that are looked at
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_INVERTED, _GRAY, _RGB = 0, 1, 2  # PhotometricInterpretation
_RAW = (32803, 34892)  # colour filter array, linear raw
_ASSOCIATED, _STRAIGHT = 1, 2  # ExtraSamples: alpha multiplied into the colour, or not
_DEFLATE, _DECODED = (8, 32946), (1, 8, 32946, 32773)  # compressions; those that tifffile decodes


class Page(NamedTuple):
    """The page of a file that is the picture.

    Attributes:
      place: its number; of a sub-page, the number of its page and its own.
      shape: (height, width) as stored.
      bits: of a channel.
      is_inverted: whether white is 0, where Pillow does not invert it.
      is_ours: whether `decode` reads it; Pillow reads the others well.
    """

    place: tuple[int, ...]
    shape: tuple[int, int]
    bits: int
    is_inverted: bool
    is_ours: bool


class Samples(NamedTuple):
    """What `decode` reads.

    Attributes:
      colour: [h, w, 1 or 3] straight, in [0, 1].
      alpha: [h, w] in [0, 1], or None.
      profile: ICC profile, or None.
      orientation: as in EXIF, 1 to 8.
    """

    colour: np.ndarray
    alpha: np.ndarray | None
    profile: bytes | None
    orientation: int


def find(path: Path) -> Page | None:
    """The largest full-resolution page of a TIFF file.

    Args:
      path: of any file.

    Returns:
      The page; None for other files, and for damaged ones.

    Raises:
      UserError: a raw file, which only the camera's program can develop; numbers without a known
        range; or a layout that is not read.
    """
    with path.open("rb") as file:
        start = file.read(10)
    if start[:4] not in _MAGIC:
        return None
    if start[8:10] == b"CR":  # Canon's raw files do not say that they are
        raise _is_raw(path)
    try:
        with tifffile.TiffFile(path) as file:
            pages = dict(_pages(file))
            area = {place: page.imagelength * page.imagewidth for place, page in pages.items()}
            raw = [place for place, page in pages.items() if int(page.photometric) in _RAW]
            developed = [place for place in pages if place not in raw]
            whole = [p for p in developed if not int(pages[p].subfiletype) & (_REDUCED | _MASK)]
            place = max(whole or developed or raw, key=lambda place: area[place])
            if any(area[other] >= area[place] for other in raw):
                raise _is_raw(path)
            return _described(path, place, pages[place])
    except UserError:
        raise
    except Exception:  # damaged files make it raise anything; Pillow says what is wrong
        return None


def _is_raw(path: Path) -> UserError:
    return UserError(
        f"{path} is a camera's raw file, whose picture is yet to develop; export it as TIFF, PNG "
        "or JPEG"
    )


def _pages(file: tifffile.TiffFile) -> Iterator[tuple[tuple[int, ...], Any]]:
    """The pages by their places, and the sub-pages of each after it."""
    for number in range(_MAX_PAGES):
        try:
            page: Any = file.pages[number]
        except IndexError:
            return
        page = page if isinstance(page, tifffile.TiffPage) else page.aspage()
        yield (number,), page
        for sub, inner in enumerate(itertools.islice(page.pages or (), _MAX_PAGES)):
            yield (number, sub), inner


def _described(path: Path, place: tuple[int, ...], page: Any) -> Page:
    kind, compression = int(page.photometric), page.compression
    if page.dtype is not None and page.dtype.kind == "i":
        raise UserError(
            f"{path} holds signed integers, whose black and white are not known; save it with 8 or "
            "16 bits a channel"
        )
    bits = int(page.bitspersample)
    is_deep = page.dtype is not None and bits in (16, 32, 64)
    is_known = kind in (_INVERTED, _GRAY, _RGB) and int(compression) in _DECODED
    is_ours = len(place) > 1 or (is_deep and is_known)
    is_planar = int(page.planarconfig) == _PLANAR and page.samplesperpixel > 1
    is_float = page.dtype is not None and page.dtype.kind == "f"
    is_odd = is_deep and (is_planar or (is_float and page.samplesperpixel > 1))
    if not is_known and (is_ours or is_odd):
        raise UserError(
            f"{path} has a layout that is not read ({getattr(compression, 'name', compression)}, "
            f"{bits} bits); save it as TIFF without compression, or as PNG"
        )
    return Page(
        place,
        (page.imagelength, page.imagewidth),
        bits,
        kind == _INVERTED and bits > 8,
        is_ours,
    )


def decode(path: Path, page: Page) -> Samples:
    """Decodes a page that Pillow does not read well (`Page.is_ours`).

    Integers are divided by the largest one. Floats are taken as they are, so that values outside
    [0, 1] can be refused. Channels that the file does not call alpha are left out.
    """
    height, width = page.shape
    if height * width > 2 * (PillowImage.MAX_IMAGE_PIXELS or np.inf):
        raise PillowImage.DecompressionBombError
    with tifffile.TiffFile(path) as file:
        found = dict(_pages(file))[page.place]
        if int(found.compression) in _DEFLATE:
            _check_deflated(found)
        array, profile = found.asarray(), found.iccprofile
        orientation = int(found.tags.valueof(_ORIENTATION, default=1))
    if int(found.planarconfig) == _PLANAR and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    array = array.reshape(height, width, -1)
    if array.dtype.kind == "u":
        array = array / np.float32(np.iinfo(array.dtype).max)
    channels = 3 if int(found.photometric) == _RGB else 1
    if array.shape[2] < channels + bool(found.extrasamples):
        raise ValueError("it has fewer channels than its tags say")
    colour = array[..., :channels].astype(np.float32)
    if int(found.photometric) == _INVERTED:
        colour = 1 - colour
    alpha, extra = None, [int(kind) for kind in found.extrasamples[:1]]
    if extra in ([_ASSOCIATED], [_STRAIGHT]):
        alpha = array[..., channels].astype(np.float32)
        if extra == [_ASSOCIATED]:
            colour = np.clip(colour / np.maximum(alpha, 1e-6)[..., None], 0, 1)
    return Samples(colour, alpha, profile, orientation)


def _check_deflated(page: Any):
    """Checks that no strip or tile holds more than it says: tifffile inflates without a limit.

    Raises:
      ValueError: one does.
    """
    most = int(np.prod(page.chunks)) * page.dtype.itemsize
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        handle.seek(offset)
        if len(zlib.decompressobj().decompress(handle.read(count), most + 1)) > most:
            raise ValueError("a strip holds more pixels than it says")
