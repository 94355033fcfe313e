"""Writers of picture files: one per format, each with the sRGB profile and a text note.

Pixels are uint8 or uint16 [height, width, 3 or 4], sRGB with straight alpha as the fourth channel.
Output is deterministic: the same pixels always give the same bytes.
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
    """ICC profile of sRGB. A fixed creation date in its header keeps files reproducible."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + made[36:]  # ICC.1:2022, 7.2


SRGB = _srgb()


def _png_info(note: str) -> PngImagePlugin.PngInfo:
    """PNG text chunk that holds the note."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("nst_jax", note)
    return info


def _exif(note: str) -> PillowImage.Exif:
    """EXIF data that hold the note."""
    exif = PillowImage.Exif()
    exif[0x010E] = note  # ImageDescription
    return exif


def _png(pixels: np.ndarray, path: Path, note: str):
    """PNG with 8 bits a channel."""
    PillowImage.fromarray(pixels).save(path, pnginfo=_png_info(note), icc_profile=SRGB)


def _deep_png(pixels: np.ndarray, path: Path, note: str):
    """PNG with 16 bits a channel, by pypng, because Pillow cannot write it."""
    bare = io.BytesIO()
    mode = "RGBA;16" if pixels.shape[2] == 4 else "RGB;16"
    png.from_array(pixels.reshape(len(pixels), -1), mode).write(bare)
    header, *rest = png.Reader(bytes=bare.getvalue()).chunks()
    profile = (b"iCCP", b"sRGB\0\0" + zlib.compress(SRGB))  # name, terminator, deflate
    text = (b"iTXt", b"nst_jax\0\0\0\0\0" + note.encode())  # uncompressed, no language
    with path.open("wb") as file:
        png.write_chunks(file, [header, profile, text, *rest])


def _jpeg(pixels: np.ndarray, path: Path, note: str):
    """JPEG of quality 95 without chroma subsampling."""
    PillowImage.fromarray(pixels).save(
        path, quality=95, subsampling=0, exif=_exif(note), icc_profile=SRGB
    )


def _webp(pixels: np.ndarray, path: Path, note: str):
    """WebP of quality 95."""
    PillowImage.fromarray(pixels).save(path, quality=95, exif=_exif(note), icc_profile=SRGB)


def _tiff(pixels: np.ndarray, path: Path, note: str):
    """TIFF with 8 or 16 bits a channel; Pillow would write colour with 8 bits only."""
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


# Suffix -> bits a channel -> function that writes pixels and a note to a path.
WRITERS: dict[str, dict[int, Callable[[np.ndarray, Path, str], Any]]] = {
    ".png": {8: _png, 16: _deep_png},
    ".jpg": {8: _jpeg},
    ".jpeg": {8: _jpeg},
    ".webp": {8: _webp},
    ".tif": {8: _tiff, 16: _tiff},
    ".tiff": {8: _tiff, 16: _tiff},
}

# Suffix -> bits a channel that the format can hold.
DEPTHS = {suffix: tuple(by_bits) for suffix, by_bits in WRITERS.items()}

# Suffixes of formats that can hold an alpha channel.
TRANSPARENT = (".png", ".webp", ".tif", ".tiff")


def _animate(frames: list[PillowImage.Image], path: Path, durations: list[int], **options: Any):
    """Writes frames with Pillow, as an endless loop."""
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options
    )


def _gif(frames: list[PillowImage.Image], path: Path, durations: list[int], note: str):
    """GIF with a palette of 256 colours per frame, dithered, and without a profile.

    On a painting banding is more visible than the grain of dithering. The octree is a hundred times
    faster than Pillow's other methods and, dithered, about as accurate. GIF cannot hold a profile.
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
    """Animated WebP of quality 90."""
    _animate(frames, path, durations, quality=90, exif=_exif(note), icc_profile=SRGB)


def _animated_png(frames: list[PillowImage.Image], path: Path, durations: list[int], note: str):
    """Animated PNG."""
    _animate(frames, path, durations, pnginfo=_png_info(note), icc_profile=SRGB)


# Suffix -> function (frames, path, durations, note) that writes 8-bit RGB frames of one size, with
# the duration of each in milliseconds and a note, to a path.
ANIMATIONS: dict[str, Callable[[list[PillowImage.Image], Path, list[int], str], Any]] = {
    ".gif": _gif,
    ".webp": _animated_webp,
    ".png": _animated_png,
}
# Suffix of a film -> four letters of its codec, as OpenCV knows it.
FILM_CODECS = {".webm": "vp09", ".mp4": "mp4v", ".avi": "MJPG", ".mkv": "VP90"}
