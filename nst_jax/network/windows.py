"""The taps of a window of a picture, as the whole picture has them there; and tiles of windows.

A window is a core with a halo around it. The halo holds every pixel that the core's activations see
(`halo`). What lies beyond the picture's edge is filled in before every layer as `padding` says, in
the window as in the whole picture, so that the activations of the core are the same.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from nst_jax.network.architecture import block, conv, relu
from nst_jax.network.state import NetworkState
from nst_jax.network.vgg import POOLINGS

T = TypeVar("T")
Origin = tuple[Array | int, Array | int]


def halos(layers: Sequence[str]) -> dict[str, int]:
    """How far beyond a core each layer's output must reach, in the layer's own positions.

    Args:
      layers: the convolutions in network order, up to the deepest that is wanted.

    Returns:
      layer -> positions on every side: 0 at the deepest; a 3x3 convolution needs one more of its
      input, and 2x2 pooling twice as many.
    """
    needed, reach = {}, 0
    for name, before in itertools.zip_longest(reversed(layers), [*reversed(layers)][1:]):
        needed[name] = reach
        reach += 1
        if before and block(before) != block(name):
            reach *= 2
    return needed


def halo(layers: Sequence[str]) -> int:
    """The halo of a window in pixels: 70 up to conv5_1, 38 up to conv4_2 of VGG-19."""
    return halos(layers)[layers[0]] + 1


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


def _filled(features: Array, origin: Origin, shape: tuple[int, int], mode: str) -> Array:
    """The activations of a window, those beyond the picture as a mode of `jnp.pad` has them.

    Right for the row and column next to the picture; layers see no further.
    """
    _, rows, columns, _ = features.shape
    (top, left), (height, width) = origin, shape
    ys, xs = top + jnp.arange(rows), left + jnp.arange(columns)
    inside = ((ys >= 0) & (ys < height))[:, None] & ((xs >= 0) & (xs < width))[None]
    if mode == "zero":
        return jnp.where(inside[None, ..., None], features, 0)
    if mode == "wrap":  # the window wraps itself, see `window`
        return features
    beyond = 1 if mode == "reflect" else 0  # which position inside stands for the one outside

    def source(places: Array, start: Array | int, side: int) -> Array:
        reflected = jnp.where(places < 0, beyond, places)
        reflected = jnp.where(places >= side, side - 1 - beyond, reflected)
        return reflected - start

    features = features.at[:, source(ys, top, height)].get(mode="clip")
    return features.at[:, :, source(xs, left, width)].get(mode="clip")


def window_features(
    network: NetworkState,
    window: Float[Array, "h w 3"],
    origin: Origin,
    shape: tuple[int, int],
) -> dict[str, Float[Array, "_ _ _"]]:
    """The taps of the core of a window. Differentiable in the window only.

    Args:
      network: the network.
      window: a core whose sides are multiples of 2^(b-1), b the deepest block, and `halo` pixels
        around it.
      origin: (row, column) of the picture at which the core begins, multiples of 2^(b-1); traced.
      shape: (height, width) of the picture; static.

    Returns:
      tap -> the activations of the core, as `state.features` has them there.
    """
    vgg = nnx.merge(network.graphdef, jax.lax.stop_gradient(network.params))
    layers = list(vgg.convs)
    reaches, rounds_up = halos(layers), vgg.pooling == "max_ceil"
    shapes = layer_shapes(shape, layers, rounds_up=rounds_up)
    reach, stride, activations = halo(layers), 1, {}

    def at(reach: int) -> Origin:
        return origin[0] // stride - reach, origin[1] // stride - reach

    features = ((window - vgg.mean[...]) * vgg.scale[...])[None].astype(vgg.dtype)
    for previous, name in zip(["", *layers], layers, strict=False):
        if previous and block(previous) != block(name):
            if rounds_up and vgg.convs[name].padding != "wrap":
                features = _filled(features, at(reach), shapes[previous], "edge")
            features = POOLINGS[vgg.pooling](features)
            stride, reach = 2 * stride, reach // 2
        convolution = vgg.convs[name]
        features = _filled(features, at(reach), shapes[name], convolution.padding)
        features, reach = convolution.inner(features), reaches[name]
        activations[name] = features
        features = jax.nn.relu(features)
        activations[relu(name)] = features

    def core(tap: str) -> Array:
        reach = reaches[conv(tap)]
        _, height, width, _ = activations[tap].shape
        own = activations[tap][0, reach : height - reach, reach : width - reach]
        return own.astype(jnp.float32)

    return {tap: core(tap) for tap in vgg.taps}


class Tiling(NamedTuple):
    """How a picture is cut into tiles: all of one size, in rows and columns.

    Attributes:
      shape: (height, width) of the picture.
      core: (height, width) of a tile without its halo.
      counts: rows and columns of tiles; those at the end may reach beyond the picture.
      halo: pixels around a core.
      padding: mode of `jnp.pad` for what lies beyond the picture.
    """

    shape: tuple[int, int]
    core: tuple[int, int]
    counts: tuple[int, int]
    halo: int
    padding: str


def tiling(network: NetworkState, image: Array, most: int) -> Tiling | None:
    """The tiles of a picture; None where it is computed whole.

    With circular padding, a picture whose sides are no multiples of 2^(b-1), b the deepest block,
    is whole: the layers would drop its last rows and wrap elsewhere.

    Args:
      network: whose taps are wanted.
      image: [h, w, 3], of which only the shape matters.
      most: the longest side of a core, a multiple of 16; 0 for whole pictures. Cores are as alike
        as can be.
    """
    height, width, _ = image.shape
    if not 0 < most < max(height, width):
        return None
    vgg = nnx.merge(network.graphdef, network.params)
    layers = list(vgg.convs)
    unit = 2 ** (block(layers[-1]) - 1)
    wraps = vgg.convs[layers[-1]].padding == "wrap"
    if wraps and (height % unit or width % unit):
        return None
    counts = math.ceil(height / most), math.ceil(width / most)

    def core(side: int, count: int) -> int:
        return math.ceil(side / count / unit) * unit

    cores = core(height, counts[0]), core(width, counts[1])
    return Tiling((height, width), cores, counts, halo(layers), "wrap" if wraps else "constant")


def tap_shapes(tiles: Tiling, network: NetworkState) -> dict[str, tuple[int, int]]:
    """Tap -> (height, width) of the whole picture there."""
    vgg = nnx.merge(network.graphdef, network.params)
    shapes = layer_shapes(tiles.shape, vgg.convs, rounds_up=vgg.pooling == "max_ceil")
    return {tap: shapes[conv(tap)] for tap in vgg.taps}


def _cut(tiles: Tiling, image: Array) -> tuple[Array, Array]:
    """The picture with the halo of its tiles around it, and where the tiles begin: [n, 2]."""
    ends = [count * side for count, side in zip(tiles.counts, tiles.core, strict=True)]
    around = [
        (tiles.halo, tiles.halo + end - side) for end, side in zip(ends, tiles.shape, strict=True)
    ]
    padded = jnp.pad(image, (*around, (0, 0)), tiles.padding)
    rows, columns = tiles.counts
    height, width = tiles.core
    origins = [(y * height, x * width) for y in range(rows) for x in range(columns)]
    return padded, jnp.array(origins)


def _taps_of(
    tiles: Tiling, network: NetworkState, padded: Array, origin: Array
) -> dict[str, Array]:
    """The taps of the tile that begins at `origin`."""
    top, left = origin
    size = *(side + 2 * tiles.halo for side in tiles.core), 3
    window = jax.lax.dynamic_slice(padded, (top, left, 0), size)
    return window_features(network, window, (top, left), tiles.shape)


def sum_over_tiles(
    tiles: Tiling,
    network: NetworkState,
    image: Float[Array, "h w 3"],
    summarize: Callable[[dict[str, Array], Origin], T],
) -> T:
    """The sum of what a function makes of every tile. Its VJP computes the tiles once more.

    Args:
      tiles: of the picture.
      network: the network.
      image: [h, w, 3] sRGB in [0, 1].
      summarize: (taps of a tile's core, where it begins in pixels) -> pytree.
    """
    padded, origins = _cut(tiles, image)

    @jax.checkpoint
    def of_one(padded: Array, origin: Array) -> T:
        return summarize(_taps_of(tiles, network, padded, origin), (origin[0], origin[1]))

    def add(total: T, origin: Array) -> tuple[T, None]:
        return jax.tree.map(jnp.add, total, of_one(padded, origin)), None

    shapes = jax.eval_shape(of_one, padded, origins[0])
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(add, start, origins)[0]


def features_in_tiles(
    tiles: Tiling, network: NetworkState, image: Float[Array, "h w 3"], taps: Iterable[str]
) -> dict[str, Float[Array, "_ _ _"]]:
    """Some of the taps of a picture, computed tile by tile; not meant to be differentiated."""
    taps = tuple(taps)
    padded, origins = _cut(tiles, image)

    def of_one(origin: Array) -> dict[str, Array]:
        found = _taps_of(tiles, network, padded, origin)
        return {tap: found[tap] for tap in taps}

    shapes = tap_shapes(tiles, network)

    def joined(tap: str, parts: Array) -> Array:
        (rows, columns), (_, height, width, channels) = tiles.counts, parts.shape
        parts = parts.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
        whole = parts.reshape(rows * height, columns * width, channels)
        own_height, own_width = shapes[tap]
        return whole[:own_height, :own_width]

    return {tap: joined(tap, parts) for tap, parts in jax.lax.map(of_one, origins).items()}
