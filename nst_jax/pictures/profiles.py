"""What stored colours mean: ICC profiles, and the gamma and primaries of a PNG -> sRGB."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image as PillowImage
from PIL import ImageCms

Colors = Float[np.ndarray, "*_ 3"]
Plane = Float[np.ndarray, "_ _"]

# Linear light with the primaries and the D65 white of IEC 61966-2-1 -> CIE XYZ, to seven digits.
SRGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)

_SRGB_GAMMA = 1 / 2.2  # as PNG writes it
_SRGB_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # white, red, green, blue
_SAME_GAMMA = 0.02  # relative difference that is none
_SAME_CHROMATICITY = 0.01


def to_light(colors: np.ndarray) -> np.ndarray:
    """sRGB as stored -> linear light (IEC 61966-2-1); below 0 the curve continues as a line."""
    curved = ((np.maximum(colors, 0) + 0.055) / 1.055) ** 2.4
    return np.where(colors <= 0.04045, colors / 12.92, curved)


def from_light(light: np.ndarray) -> np.ndarray:
    """Inverse of `to_light`."""
    curved = 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, curved)


def to_srgb(image: PillowImage.Image, profile: bytes | None) -> PillowImage.Image:
    """Converts a picture to 8-bit sRGB.

    Args:
      image: of a mode with 8 bits a channel and without alpha.
      profile: its ICC profile. Without one, or where it is damaged or of another colour space than
        the picture, Pillow's formula is taken; for CIE Lab, the profile of Lab.
    """
    if image.mode == "L" and profile:
        levels = np.rint(255 * _levels(profile)).astype(np.uint8)
        return PillowImage.fromarray(levels[np.asarray(image)])
    converted = _by_profile(image, profile) if profile else None
    if converted is None and image.mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        converted = _by_profile(image, lab.tobytes())
    return image.convert("RGB") if converted is None else converted


def gray_to_srgb(gray: Plane, profile: bytes | None) -> Colors:
    """Converts a gray picture to sRGB, keeping its depth.

    Args:
      gray: [h, w] in [0, 1].
      profile: its ICC profile, whose curve is read off at 256 levels and interpolated between them;
        None, or one that is not of gray, for sRGB.

    Returns:
      [h, w, 3] float32.
    """
    if not profile:
        return np.repeat(gray.astype(np.float32)[..., None], 3, -1)
    at = np.linspace(0, 1, 256)
    found = [np.interp(gray, at, channel) for channel in _levels(profile).T]
    return np.stack(found, -1).astype(np.float32)


def _levels(profile: bytes) -> Float[np.ndarray, "256 3"]:
    """sRGB in [0, 1] of the 256 levels of gray; those of sRGB for a profile that is not of gray."""
    levels = PillowImage.fromarray(np.arange(256, dtype=np.uint8)[None])
    converted = _by_profile(levels, profile, ImageCms.Flags.NOOPTIMIZE)
    return np.asarray(converted or levels.convert("RGB"))[0] / 255


def png_to_srgb(
    colors: Colors, gamma: float | None, chromaticities: Sequence[float] | None
) -> Colors:
    """Converts the colours of a PNG by its gAMA and cHRM chunks.

    light = colors^(1 / gamma); then from the primaries and the white of cHRM to those of sRGB, with
    the white scaled in XYZ; then the sRGB curve.

    Args:
      colors: [h, w, 3] in [0, 1].
      gamma: of gAMA, about 0.45 for sRGB; None for sRGB's curve.
      chromaticities: of cHRM, x and y of white, red, green and blue; None for sRGB's.

    Returns:
      [h, w, 3], clipped to [0, 1]; `colors` itself where the chunks say what sRGB is anyway, or
      nothing sensible.

    References:
      PNG specification, third edition (https://www.w3.org/TR/png-3/), 11.3.2.
    """
    exponent = None
    if gamma and 0.1 < gamma < 10 and abs(gamma / _SRGB_GAMMA - 1) > _SAME_GAMMA:
        exponent = 1 / gamma
    matrix = _between(np.array(chromaticities or _SRGB_CHROMATICITIES, np.float64))
    if exponent is None and matrix is None:
        return colors
    converted = np.empty(colors.shape, np.float32)
    for start in range(0, len(colors), rows := max(1, (1 << 20) // colors.shape[1])):
        some = colors[start : start + rows]
        light = to_light(some) if exponent is None else some**exponent
        light = light if matrix is None else light @ matrix.T
        converted[start : start + rows] = np.clip(from_light(light), 0, 1)
    return converted


def _between(chromaticities: np.ndarray) -> np.ndarray | None:
    """Linear light with these primaries -> linear light with sRGB's, white to white: [3, 3].

    None for those of sRGB, and for those that are no colours.
    """
    xy = chromaticities.reshape(4, 2)
    is_usual = np.abs(chromaticities - _SRGB_CHROMATICITIES).max() < _SAME_CHROMATICITY
    if is_usual or (xy[:, 1] < 0.01).any() or (xy.sum(1) > 1.01).any():
        return None
    xyz = np.concatenate([xy, 1 - xy.sum(1, keepdims=True)], 1) / xy[:, 1:]
    white, primaries = xyz[0], xyz[1:].T
    if abs(np.linalg.det(primaries)) < 0.01 or (white < 0.01).any():
        return None
    to_xyz = primaries * np.linalg.solve(primaries, white)
    adapted = np.diag(SRGB_TO_XYZ.sum(1) / white) @ to_xyz
    return np.linalg.solve(SRGB_TO_XYZ, adapted)


def _by_profile(
    image: PillowImage.Image, profile: bytes, flags: ImageCms.Flags = ImageCms.Flags.NONE
) -> PillowImage.Image | None:
    """8-bit sRGB by a profile; None where it is damaged, or not of the picture's colour space.

    Without the flag NOOPTIMIZE, curves are sampled at a few places: 7 levels off in dark gray.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB", flags=flags
        )
    except (ImageCms.PyCMSError, OSError):
        return None
