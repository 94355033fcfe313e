"""The taps of a window of a picture, as the whole picture has them there.

A window is a core with a halo around it. The halo holds every position that the core's activations
see (`halo`). What lies beyond the picture's edge is filled in before every layer as `padding` says,
in the window as in the whole picture, so that the activations of the core are the same.

The network is evaluated in sections, whose outputs are kept whole. A section sees less far
than all layers together: 22 pixels up to block 3 and 6 positions of 8 pixels after it, where all
layers up to conv5_1 see 70 pixels. So less work is duplicated. A loss that sees two layers at once
needs all of them in one section, and a margin around the core.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.network.architecture import block, conv, relu
from nst_jax.network.vgg import POOLINGS, VGG

# The last block of the first section. Its pooled output takes 16 bytes a pixel; after block 2 it
# would be 32, and after block 4 the second section would be too small to gain anything.
LOWER_BLOCKS = 3

# Positions around a core that are needed to enlarge its activations to those of an earlier layer,
# whose sides are no multiples of theirs.
MARGIN = 2

Origin = tuple[Array | int, Array | int]


def halos(layers: Sequence[str], margin: int = 0) -> dict[str, int]:
    """How far beyond a core each layer's output must reach, in the layer's own positions.

    Args:
      layers: consecutive convolutions in network order, up to the deepest that is wanted.
      margin: positions of the deepest around its core.

    Returns:
      layer -> positions on every side: the margin at the deepest; a 3x3 convolution needs one more
      of its input, and 2x2 pooling twice as many.
    """
    needed, reach = {}, margin
    for name, before in itertools.zip_longest(reversed(layers), [*reversed(layers)][1:]):
        needed[name] = reach
        reach += 1
        if before and block(before) != block(name):
            reach *= 2
    return needed


def halo(layers: Sequence[str], margin: int = 0) -> int:
    """The halo of a window, in positions of the first layer: 70 pixels up to conv5_1 of VGG-19."""
    return halos(layers, margin)[layers[0]] + 1


class Section(NamedTuple):
    """Consecutive layers that a window passes through at once.

    Attributes:
      layers: names of the convolutions.
      stride: pixels from one position of the section's input to the next.
      halo: positions of the input around a core.
      margin: positions of every tap around its core.
    """

    layers: tuple[str, ...]
    stride: int
    halo: int
    margin: int = 0


def sections(layers: Iterable[str], margin: int = 0) -> list[Section]:
    """The sections of a network: its layers up to block `LOWER_BLOCKS`, and the others.

    With a margin there is only one.
    """
    if margin:
        names = tuple(layers)
        return [Section(names, 1, halo(names, margin), margin)]
    parts = itertools.groupby(layers, lambda name: block(name) > LOWER_BLOCKS)
    found = [tuple(names) for _, names in parts]
    return [Section(names, 2 ** (block(names[0]) - 1), halo(names)) for names in found]


def layer_shapes(
    shape: tuple[int, int], layers: Iterable[str], *, rounds_up: bool
) -> dict[str, tuple[int, int]]:
    """(height, width) of every layer of a picture; pooling halves, rounding down or up."""
    shapes, at = {}, 1
    height, width = shape
    for name in layers:
        while at < block(name):
            height, width = (height + rounds_up) // 2, (width + rounds_up) // 2
            at += 1
        shapes[name] = height, width
    return shapes


def filled(
    features: Float[Array, "1 h w c"], origin: Origin, shape: tuple[int, int], mode: str
) -> Float[Array, "1 h w c"]:
    """The activations of a window, those beyond the picture as `mode` has them.

    Right for the row and column next to the picture; layers see no further.

    Args:
      features: of the window.
      origin: (row, column) of the layer at which the window begins; traced.
      shape: (height, width) of the whole layer.
      mode: "zero", or a mode of `jnp.pad`.
    """
    if mode == "wrap":  # the window has wrapped itself
        return features
    places = [start + jnp.arange(n) for start, n in zip(origin, features.shape[1:3], strict=True)]
    if mode == "zero":
        ys, xs = ((at >= 0) & (at < side) for at, side in zip(places, shape, strict=True))
        return jnp.where((ys[:, None] & xs)[None, ..., None], features, 0)
    for axis, at, side in zip((1, 2), places, shape, strict=True):
        # How far inside lies what stands for the one outside; a single one stands for itself.
        step = 2 if mode == "reflect" and side > 1 else 1
        at = at.reshape(-1, *(1,) * (3 - axis))
        features = jnp.where(at == -1, jnp.roll(features, -step, axis), features)
        features = jnp.where(at == side, jnp.roll(features, step, axis), features)
    return features


def section_taps(
    vgg: VGG,
    section: Section,
    window: Float[Array, "h w c"],
    origin: Origin,
    shape: tuple[int, int],
) -> tuple[dict[str, Float[Array, "_ _ _"]], Array]:
    """The taps of the core of a window. Differentiable in the window.

    Args:
      vgg: the network.
      section: of it.
      window: of the section's input, which for the first is the picture: a core whose sides are
        multiples of 2^(b-1) pixels, b the deepest block, and the section's halo around it.
      origin: (row, column) of the picture, in pixels, at which the core begins, multiples of
        2^(b-1); traced.
      shape: (height, width) of the picture; static.

    Returns:
      tap -> the activations of the core with the section's margin, as `state.features` has them
      there, but undefined beyond the picture; and of the core the input of the section that
      follows.
    """
    names, rounds_up = list(vgg.convs), vgg.pooling == "max_ceil"
    shapes = layer_shapes(shape, names, rounds_up=rounds_up)
    reaches = halos(section.layers, section.margin)
    stride, reach, activations = section.stride, section.halo, {}

    def at(reach: int) -> Origin:
        return origin[0] // stride - reach, origin[1] // stride - reach

    def pooled(features: Array, name: str, reach: int) -> Array:
        if rounds_up and vgg.convs[name].padding != "wrap":
            features = filled(features, at(reach), shapes[name], "edge")
        return POOLINGS[vgg.pooling](features)

    features = window[None]
    if stride == 1:
        features = ((features - vgg.mean[...]) * vgg.scale[...]).astype(vgg.dtype)
    for previous, name in zip(("", *section.layers), section.layers, strict=False):
        if previous and block(previous) != block(name):
            features = pooled(features, previous, reach)
            stride, reach = 2 * stride, reach // 2
        convolution = vgg.convs[name]
        features = filled(features, at(reach), shapes[name], convolution.padding)
        features, reach = convolution.inner(features), reaches[name]
        activations[name] = features
        features = jax.nn.relu(features)
        activations[relu(name)] = features

    def core(tap: str) -> Array:
        reach = reaches[conv(tap)] - section.margin
        _, height, width, _ = activations[tap].shape
        own = activations[tap][0, reach : height - reach, reach : width - reach]
        return own.astype(jnp.float32)

    taps = {tap: core(tap) for tap in vgg.taps if tap in activations}
    return taps, pooled(features, section.layers[-1], section.margin)[0]
