"""Pixels -> picture files: how each format stores them, the sRGB profile and a note.

Pixels are uint8 or uint16 [height, width, 3 or 4]: sRGB, and straight alpha as the fourth channel.
The same pixels give the same bytes, whenever they are written.
"""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import png
import tifffile
from PIL import Image as PillowImage
from PIL import ImageCms, PngImagePlugin


def _srgb() -> bytes:
    """The ICC profile of sRGB. Its header tells when it was made, here a date that stands still."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + made[36:]  # ICC.1:2022, 7.2


SRGB = _srgb()


def _png_info(note: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("nst_jax", note)
    return info


def _exif(note: str) -> PillowImage.Exif:
    exif = PillowImage.Exif()
    exif[0x010E] = note  # ImageDescription
    return exif


def _png(pixels: np.ndarray, path: Path, note: str):
    PillowImage.fromarray(pixels).save(path, pnginfo=_png_info(note), icc_profile=SRGB)


def _deep_png(pixels: np.ndarray, path: Path, note: str):
    """16 bits a channel, which Pillow cannot write. pypng leaves the metadata's chunks to us."""
    bare = io.BytesIO()
    mode = "RGBA;16" if pixels.shape[2] == 4 else "RGB;16"
    png.from_array(pixels.reshape(len(pixels), -1), mode).write(bare)
    header, *rest = png.Reader(bytes=bare.getvalue()).chunks()
    profile = (b"iCCP", b"sRGB\0\0" + zlib.compress(SRGB))  # name, end of name, deflate
    text = (b"iTXt", b"nst_jax\0\0\0\0\0" + note.encode())  # not compressed, of no language
    with path.open("wb") as file:
        png.write_chunks(file, [header, profile, text, *rest])


def _jpeg(pixels: np.ndarray, path: Path, note: str):
    PillowImage.fromarray(pixels).save(
        path, quality=95, subsampling=0, exif=_exif(note), icc_profile=SRGB
    )


def _webp(pixels: np.ndarray, path: Path, note: str):
    PillowImage.fromarray(pixels).save(path, quality=95, exif=_exif(note), icc_profile=SRGB)


def _tiff(pixels: np.ndarray, path: Path, note: str):
    """8 or 16 bits; tifffile, for Pillow writes colour in 8 only."""
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        extrasamples=["unassalpha"] * (pixels.shape[2] - 3),
        compression="zlib",
        predictor=True,
        description=note.encode(),
        iccprofile=SRGB,
        metadata=None,
        software=False,
    )


# Suffix -> bits a channel -> writes such pixels, and a note, to a path.
WRITERS: dict[str, dict[int, Callable[[np.ndarray, Path, str], Any]]] = {
    ".png": {8: _png, 16: _deep_png},
    ".jpg": {8: _jpeg},
    ".jpeg": {8: _jpeg},
    ".webp": {8: _webp},
    ".tif": {8: _tiff, 16: _tiff},
    ".tiff": {8: _tiff, 16: _tiff},
}

# Suffix -> the bits a channel that it can hold.
DEPTHS = {suffix: tuple(by_bits) for suffix, by_bits in WRITERS.items()}

# Suffixes that can hold a fourth channel.
TRANSPARENT = (".png", ".webp", ".tif", ".tiff")


def _animate(frames: list[PillowImage.Image], path: Path, durations: list[int], **options: Any):
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options
    )


def _gif(frames: list[PillowImage.Image], path: Path, durations: list[int], note: str):
    """256 colours of each frame's own, dithered: banding shows more than grain on a painting.

    The octree is a hundred times faster than Pillow's other methods and, dithered, about as close.
    GIF has no place for a profile.
    """
    frames = [
        frame.quantize(
            palette=frame.quantize(256, PillowImage.Quantize.FASTOCTREE),
            dither=PillowImage.Dither.FLOYDSTEINBERG,
        )
        for frame in frames
    ]
    _animate(frames, path, durations, comment=note.encode())


def _animated_webp(frames: list[PillowImage.Image], path: Path, durations: list[int], note: str):
    _animate(frames, path, durations, quality=90, exif=_exif(note), icc_profile=SRGB)


def _animated_png(frames: list[PillowImage.Image], path: Path, durations: list[int], note: str):
    _animate(frames, path, durations, pnginfo=_png_info(note), icc_profile=SRGB)


# Suffix -> writes 8-bit RGB frames of one size, milliseconds for each, and a note, to a path.
ANIMATIONS: dict[str, Callable[[list[PillowImage.Image], Path, list[int], str], Any]] = {
    ".gif": _gif,
    ".webp": _animated_webp,
    ".png": _animated_png,
}
