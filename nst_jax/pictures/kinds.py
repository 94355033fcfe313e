"""What a file is by its first bytes, where Pillow alone does not know it."""

import glob
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# Of files that are taken from a folder.
PICTURE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".jxl"),
    *(".png", ".tif", ".tiff", ".webp"),
)

_INSTALL = 'pip install "nst_jax[formats]", or export it as JPEG or PNG'
_RAWS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb")
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")


def picture_files(pattern: Path) -> list[str]:
    """The files of a folder whose names end like a picture's, or those that a pattern names."""
    if pattern.is_dir():
        found = (str(p) for p in pattern.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    else:
        found = glob.iglob(str(pattern))  # noqa: PTH207 (Path.glob refuses absolute patterns)
    return [name for name in found if Path(name).is_file()]


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
      matches: whether a file is of the kind, by its first kilobyte.
      what: what it is, and what to do.
      plug_in: teaches Pillow to read it; None where nothing can.
    """

    matches: Callable[[bytes], bool]
    what: str
    plug_in: Callable[[], object] | None = None


def _branded(*brands: bytes) -> Callable[[bytes], bool]:
    """Whether a file is of the ISO base media format, with one of these brands, or with any."""
    return lambda start: start[4:8] == b"ftyp" and (not brands or start[8:12] in brands)


_is_film = _branded()

# The first that matches counts.
KINDS = (
    Kind(
        _branded(b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"),
        f"a HEIC picture; {_INSTALL}",
        lambda: importlib.import_module("pillow_heif").register_heif_opener(),
    ),
    Kind(
        _branded(b"avif", b"avis"),
        f"an AVIF picture; {_INSTALL}",
        lambda: importlib.import_module("pillow_heif").register_avif_opener(),
    ),
    Kind(
        lambda start: start.startswith(_JPEG_XL),
        f"a JPEG XL picture; {_INSTALL}",
        lambda: importlib.import_module("pillow_jxl"),  # registers itself
    ),
    Kind(lambda start: b"<svg" in start, "an SVG drawing; export it as PNG"),
    Kind(lambda start: start.startswith(b"%PDF"), "a PDF document; export the page as PNG"),
    Kind(
        lambda start: start.startswith(_RAWS) or start[4:12] == b"ftypcrx ",
        "a camera's raw file, whose picture is yet to develop; export it as TIFF or JPEG",
    ),
    Kind(
        lambda start: _is_film(start) or start.startswith((b"\x1a\x45\xdf\xa3", b"RIFF")),
        "a film or sound; export a frame of it as PNG",
    ),
)
UNKNOWN = Kind(lambda start: True, "no picture of a known format")


def kind_of(path: Path) -> Kind:
    """The kind of a file that Pillow does not know."""
    with path.open("rb") as file:
        start = file.read(1024)
    return next(kind for kind in (*KINDS, UNKNOWN) if kind.matches(start))


def plug_in(kind: Kind) -> bool:
    """Teaches Pillow a kind, where the extra `formats` is installed; returns whether it did."""
    if kind.plug_in is None:
        return False
    try:
        kind.plug_in()
    except (ImportError, AttributeError):  # AVIF is Pillow's own by now
        return False
    return True
