"""Masks: which part of a picture each region is, from grayscale files or a colour-coded picture.

Gatys et al. 2017, "Controlling Perceptual Factors in Neural Style Transfer"
(https://arxiv.org/abs/1611.07865), section 4: every region of the content is painted with the style
of the region of the same name.
"""

import itertools
import re
from collections.abc import Iterable, Mapping

import numpy as np
import scipy  # imports its parts when they are used, which takes 0.2 s
from jaxtyping import Float32
from PIL import Image as PillowImage

from nst_jax.errors import UserError
from nst_jax.pictures import decoding, images

Mask = Float32[np.ndarray, "_ _"]

MIN_REGION_SHARE = 0.005  # of the pixels of a colour-coded picture: what a region must cover
SAME_COLOUR_LEVELS = 32  # of 255: colours that differ no more in any channel are one
MAX_REGIONS = 32  # of a colour-coded picture
MAX_CODED_SIDE_PIXELS = 4096  # longer colour-coded pictures are subsampled
MAX_ASPECT_DIFFERENCE = 0.02  # relative, between a mask and its picture, that nobody hears of
MIN_LIGHTEST = 0.05  # what a mask must reach somewhere; segmenters' masks of 0 and 1 do not
MAX_COLOURS = 1 << 18  # of a colour-coded picture; edges and compression make many


def read(
    files: Mapping[str, str] | str, shape: tuple[int, int], names: Iterable[str] = ()
) -> dict[str, Mask]:
    """Reads the masks of a picture.

    Masks are stretched to `shape`, antialiased, so one that was drawn on a thumbnail will do; a
    line on standard error warns of another aspect ratio. The file of a region is grayscale: white
    inside, black outside, gray in between. What is transparent is outside: alpha multiplies a gray
    picture, and is the mask itself where the picture is coloured (a cut-out) or all black.

    The regions of a colour-coded picture are its colours, called "#ff0000" and so on. A colour
    counts where four neighbours in a square agree on it, so that blurred or compressed edges make
    no regions. Colours within `SAME_COLOUR_LEVELS` of a more common one count as that one. What
    then covers `MIN_REGION_SHARE` of the picture is a region, and every pixel belongs to the region
    of the nearest colour. What is transparent belongs to none.

    Args:
      files: region -> grayscale file, "" for the whole picture; or one colour-coded file.
      shape: (height, width) of the picture that the masks are for.
      names: regions of the picture on the other side. A colour within `SAME_COLOUR_LEVELS` of one
        takes its name, because two JPEGs seldom agree on a colour to the last bit.

    Returns:
      region -> [h, w] in [0, 1], 1 inside, 0 outside.

    Raises:
      UserError: a file that is not a picture, a mask that is black everywhere, or a colour-coded
        picture with no region or more than `MAX_REGIONS`.
    """
    if isinstance(files, str):
        return {name: _stretched(mask, shape, files) for name, mask in _split(files, names).items()}
    masks = {
        name: _stretched(_gray(path), shape, path) if path else np.ones(shape, np.float32)
        for name, path in files.items()
    }
    for name, mask in masks.items():
        if mask.max() < MIN_LIGHTEST:
            raise UserError(
                f"region {name!r}: {files[name]} is black or transparent everywhere, or nearly; "
                "paint the region white (255, where it numbers regions)"
            )
    return masks


def _gray(path: str) -> Mask:
    """The mask of a region as `read` describes it, at its own size."""
    colour, alpha = decoding.decode(path)
    most = 255 if colour.dtype == np.uint8 else 1
    if most == 1:
        images.check_range(colour, path)
    gray = colour.mean(-1, dtype=np.float32) / np.float32(most)
    if alpha is None or (alpha == 1).all():
        return gray
    seen = alpha > 0
    hue = (colour.max(-1) - colour.min(-1))[seen] / most
    black = SAME_COLOUR_LEVELS / 255
    is_drawn = seen.any() and hue.max() <= black < gray[seen].max()
    return gray * alpha if is_drawn else alpha


def _stretched(mask: Mask, shape: tuple[int, int], path: str) -> Mask:
    """A mask at the size of its picture."""
    (height, width), (own_height, own_width) = shape, mask.shape
    off = own_width * height / (own_height * width)
    if max(off, 1 / off) > 1 + MAX_ASPECT_DIFFERENCE:
        images.remark(
            f"{path}: a mask of {own_width}x{own_height} pixels is stretched to {width}x{height}, "
            "another aspect ratio"
        )
    return resize(mask, shape)


def resize(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Resamples a mask to (height, width), bilinearly: Lanczos would ring beside an edge."""
    height, width = shape
    bilinear = PillowImage.Resampling.BILINEAR
    resized = PillowImage.fromarray(mask).resize((width, height), bilinear)
    return np.clip(np.asarray(resized), 0, 1)


def _split(path: str, names: Iterable[str]) -> dict[str, Mask]:
    """The regions of a colour-coded picture as `read` describes them, in 0 and 1, at its own size.

    A picture longer than `MAX_CODED_SIDE_PIXELS` is subsampled by an integer.
    """
    picture, alpha = decoding.decode(path)
    stride = -(-max(picture.shape) // MAX_CODED_SIDE_PIXELS)
    pixels = picture[::stride, ::stride]
    if pixels.dtype != np.uint8:
        images.check_range(pixels, path)
        pixels = images.quantized(pixels, 8)
    opacity = np.ones(pixels.shape[:2], np.float32)
    if alpha is not None:
        opacity = alpha[::stride, ::stride]
    codes = pixels @ np.array([1 << 16, 1 << 8, 1])
    colours, index = np.unique(codes, return_inverse=True)
    if len(colours) > MAX_COLOURS:
        raise UserError(
            f"{path} is not a colour-coded guide: it has {len(colours)} colours; paint each "
            "region in one colour"
        )
    index = index.reshape(codes.shape)
    square, filters = (2, 2, 1), scipy.ndimage
    spread = filters.maximum_filter(pixels, square) - filters.minimum_filter(pixels, square)
    plain = (spread.max(-1) <= SAME_COLOUR_LEVELS) & (opacity >= 0.5)
    counts = np.bincount(index[plain], minlength=len(colours))
    known = [int(name[1:], 16) for name in names if re.fullmatch("#[0-9a-f]{6}", name)]
    regions = _regions(colours, counts, codes.size * MIN_REGION_SHARE, known)
    if not 1 <= len(regions) <= MAX_REGIONS:
        raise UserError(
            f"{path} is not a colour-coded guide: it has {len(regions)} plain colours, "
            f"not 1 to {MAX_REGIONS}; paint each region in one colour"
        )
    labels = scipy.cluster.vq.vq(_rgb(colours), _rgb(np.array(regions)))[0][index]
    return {f"#{code:06x}": (labels == k) * opacity for k, code in enumerate(regions)}


def _regions(colours: np.ndarray, counts: np.ndarray, enough: float, known: list[int]) -> list[int]:
    """Colours that at least `enough` pixels are near to: the known, then the most common."""
    rgb, left, waiting, regions = _rgb(colours), counts.copy(), [*known], []
    while left.sum() >= enough:
        code = waiting.pop(0) if waiting else int(colours[left.argmax()])
        near = (np.abs(rgb - _rgb(np.array(code))) <= SAME_COLOUR_LEVELS).all(-1)
        if left[near].sum() >= enough:
            regions.append(code)
        left[near] = 0
    return regions


def _rgb(codes: np.ndarray) -> np.ndarray:
    """Channels of colours 0xrrggbb: [..., 3] in 0 to 255, floats."""
    return (codes[..., None] >> np.array([16, 8, 0]) & 255).astype(np.float64)


def check_partners(content: Iterable[str], styles: Iterable[Iterable[str]]):
    """Checks that every region of the output is in a style picture, and vice versa.

    Raises:
      UserError: a region without a partner.
    """
    regions = {"content": list(content), "style": list(dict.fromkeys(itertools.chain(*styles)))}
    for part, other in (("content", "style"), ("style", "content")):
        for name in regions[part]:
            if name not in regions[other]:
                raise UserError(
                    f"region {name!r} of config.guides.{part} has no partner in "
                    f"config.guides.{other}; it has {', '.join(regions[other]) or 'none'}"
                )
