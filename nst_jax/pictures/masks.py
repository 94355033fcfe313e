"""Spatial guides: where in a picture each region is, in pixels and at every layer of the network.

Gatys et al. 2017, "Controlling Perceptual Factors in Neural Style Transfer"
(https://arxiv.org/abs/1611.07865), section 4: each region of the content is painted with the style
of the region of the same name.
"""

import functools
import itertools
import re
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float32
from PIL import Image as PillowImage
from scipy import ndimage
from scipy.cluster.vq import vq

from nst_jax.errors import UserError
from nst_jax.network import architecture
from nst_jax.pictures import images

Mask = Float32[np.ndarray, "_ _"]
# A file for each region (empty: the region is the whole picture), or one colour-coded picture.
Guides = dict[str, str] | str

SHARE = 0.005  # of a guide's pixels: what a colour must cover to be a region
NEAR = 32  # of 255 levels: colours that differ no more in any channel are one
MOST = 32  # regions of a colour-coded picture
LONGEST = 4096  # side of one, in pixels
MOST_COLOURS = 1 << 18  # of its pixels, which edges and compression make many


def parse(spec: str) -> Guides:
    """Reads "sky=sky.png, ground=" as {"sky": "sky.png", "ground": ""}, "guide.png" as itself.

    An empty spec is {}: no guides. What holds no "=" is the path of one colour-coded picture.

    Raises:
      UserError: a path without a name beside others with one, or a region named twice.
    """
    if "=" not in spec:
        return spec.strip() or {}
    files = {}
    for word in filter(None, (word.strip() for word in spec.split(","))):
        name, equals, path = (part.strip() for part in word.partition("="))
        if not (name and equals):
            raise UserError(f"{word!r} names no region; write it as NAME=PATH")
        if name in files:
            raise UserError(f"region {name!r} is named twice")
        files[name] = path
    return files


def parse_styles(spec: str, count: int) -> list[Guides]:
    """Reads the guides of `count` style pictures: "sky=a.png; ; sky=c.png", each part as `parse`.

    Part k is for picture k; an empty part, or a missing one at the end, is {}.

    Raises:
      UserError: more parts than pictures, or a part that `parse` rejects.
    """
    parts = spec.split(";")
    if len(parts) > count:
        raise UserError(
            f"guides for {len(parts)} style pictures, and there are {count}; leave some out"
        )
    return [parse(part) for part in parts] + [{}] * (count - len(parts))


def read(guides: Guides, shape: tuple[int, int], names: Iterable[str] = ()) -> dict[str, Mask]:
    """Reads the masks of a picture: region -> [h, w] in [0, 1], 1 inside, 0 outside.

    Masks are stretched to `shape`, antialiased, so one drawn on a thumbnail will do. A file named
    for a region is grayscale: white inside, black outside, gray in between; `images.read` makes
    transparency white.

    The regions of a colour-coded picture are its colours, called "#ff0000" and so on. A colour
    counts where four neighbours in a square agree on it: edges, blurred or compressed, make no
    regions. Colours within `NEAR` of a commoner one are that one; what then covers `SHARE` of the
    picture is a region, and every pixel belongs to the region of the nearest colour.

    Args:
      guides: what `parse` returned.
      shape: (height, width) of the picture they guide.
      names: regions of the partner. A colour within `NEAR` of one takes its name, for two JPEGs
        seldom agree on a colour to the last bit.

    Raises:
      UserError: a file that is no picture, a mask that is black everywhere, or a colour-coded
        picture without colours that make regions, or with more than `MOST`.
    """
    if isinstance(guides, str):
        return {name: resize(mask, shape) for name, mask in _split(guides, names).items()}
    masks = {
        name: resize(images.read(path).mean(-1), shape) if path else np.ones(shape, np.float32)
        for name, path in guides.items()
    }
    for name, mask in masks.items():
        if not mask.any():
            raise UserError(
                f"region {name!r}: {guides[name]} is black everywhere; paint the region white"
            )
    return masks


def resize(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Resamples to (height, width); unlike `images.resize` without ringing beyond an edge."""
    height, width = shape
    resized = PillowImage.fromarray(mask).resize((width, height), PillowImage.Resampling.BILINEAR)
    return np.clip(np.asarray(resized), 0, 1)


def _split(path: str, names: Iterable[str]) -> dict[str, Mask]:
    """The regions of a colour-coded picture as `read` describes, in 0 and 1.

    They have its own size; of one longer than `LONGEST` every second row and column is taken, or
    every third, ...
    """
    picture = images.read(path)
    stride = -(-max(picture.shape) // LONGEST)
    pixels = np.rint(picture[::stride, ::stride] * 255).astype(np.uint8)
    codes = pixels @ np.array([1 << 16, 1 << 8, 1])
    colours, index = np.unique(codes, return_inverse=True)
    if len(colours) > MOST_COLOURS:
        raise UserError(
            f"{path} looks like no colour-coded guide: it has {len(colours)} colours; paint each "
            "region in one colour"
        )
    index = index.reshape(codes.shape)
    spread = ndimage.maximum_filter(pixels, (2, 2, 1)) - ndimage.minimum_filter(pixels, (2, 2, 1))
    counts = np.bincount(index[spread.max(-1) <= NEAR], minlength=len(colours))
    known = [int(name[1:], 16) for name in names if re.fullmatch("#[0-9a-f]{6}", name)]
    regions = _regions(colours, counts, codes.size * SHARE, known)
    if not 1 <= len(regions) <= MOST:
        raise UserError(
            f"{path} looks like no colour-coded guide: it has {len(regions)} plain colours, "
            f"not 1 to {MOST}; paint each region in one colour"
        )
    labels = vq(_rgb(colours), _rgb(np.array(regions)))[0][index]
    return {f"#{code:06x}": (labels == k).astype(np.float32) for k, code in enumerate(regions)}


def _regions(colours: np.ndarray, counts: np.ndarray, enough: float, known: list[int]) -> list[int]:
    """The colours, of those `known` and then the commonest, that `enough` pixels are near to."""
    rgb, left, waiting, regions = _rgb(colours), counts.copy(), [*known], []
    while left.sum() >= enough:
        code = waiting.pop(0) if waiting else int(colours[left.argmax()])
        near = (np.abs(rgb - _rgb(np.array(code))) <= NEAR).all(-1)
        if left[near].sum() >= enough:
            regions.append(code)
        left[near] = 0
    return regions


def _rgb(codes: np.ndarray) -> np.ndarray:
    """Channels of colours 0xrrggbb: [..., 3] in 0 to 255, floats."""
    return (codes[..., None] >> np.array([16, 8, 0]) & 255).astype(np.float64)


def check_partners(content: Iterable[str], styles: Iterable[Iterable[str]]):
    """Checks the names of regions: the content's are in one of the style pictures, and vice versa.

    Raises:
      UserError: a region without partner.
    """
    regions = {"content": list(content), "style": list(dict.fromkeys(itertools.chain(*styles)))}
    for part, other in (("content", "style"), ("style", "content")):
        for name in regions[part]:
            if name not in regions[other]:
                raise UserError(
                    f"region {name!r} of config.guides.{part} has no partner in "
                    f"config.guides.{other}; it has {', '.join(regions[other]) or 'none'}"
                )


def receptive_field(tap: str, arch: str) -> tuple[int, int, int]:
    """(stride, first, last): row i of a tap sees the rows i stride + first to i stride + last.

    `last` included, columns alike; the rows may lie outside the picture. A 3x3 convolution sees one
    row more on each side, a 2x2 pooling before each block but the first two rows as one.
    """
    stride, first, last = 1, 0, 0
    for layer in architecture.conv_shapes(arch):
        if layer.endswith("_1") and architecture.block(layer) > 1:
            stride, last = 2 * stride, last + stride
        first, last = first - stride, last + stride
        if layer == architecture.conv(tap):
            return stride, first, last
    raise KeyError(tap)


def _average(mask: Mask, stride: int, _size: int) -> Mask:
    """The mean of the stride x stride pixels that pooling alone makes one position of."""
    height, width = (side // stride for side in mask.shape)
    blocks = mask[: height * stride, : width * stride].reshape(height, stride, width, stride)
    return blocks.mean((1, 3), dtype=np.float64).astype(np.float32)  # never below the minimum


def _extreme(running: Callable[..., np.ndarray], mask: Mask, stride: int, size: int) -> Mask:
    """A running minimum or maximum, where it is centred on the receptive field of a position."""
    height, width = (side // stride for side in mask.shape)
    seen = running(mask, size, mode="nearest")  # repeats what a field that is cut off has anyway
    return seen[stride // 2 :: stride, stride // 2 :: stride][:height, :width]


# Name -> mask, stride and size of the receptive field in pixels -> mask at the layer.
PROPAGATIONS: dict[str, Callable[[Mask, int, int], Mask]] = {
    "simple": _average,
    "inside": functools.partial(_extreme, ndimage.minimum_filter),
    "all": functools.partial(_extreme, ndimage.maximum_filter),
}


def propagate(mask: Mask, tap: str, arch: str, how: str) -> Mask:
    """A mask [h, w] as a tap's positions have it: [h // 2^(b - 1), w // 2^(b - 1)], b the block.

    "simple" averages the pixels under a position, "inside" takes the minimum of all that it sees
    and "all" the maximum: positions that see nothing but the region, and any of it. A region
    narrower than the receptive field is empty at "inside". The three ways are in Gatys et al.'s
    published code, which makes masks black and white for the latter two; here soft edges stay.
    """
    stride, first, last = receptive_field(tap, arch)
    return PROPAGATIONS[how](mask, stride, last - first + 1)
