"""What is summed over the tiles of a picture, on one device or several.

Every tile is a window (`nst_jax.network.windows`): a core with a halo. Only one tile's activations
are kept at a time. Of several devices, each has some rows of the picture and asks its neighbours
for the rows of the halo; nothing else crosses between devices but the sums.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import PartitionSpec as P
from jaxtyping import Float

from nst_jax.network.architecture import conv
from nst_jax.network.state import NetworkState, features
from nst_jax.network.tiling import ROWS, Tiling, tap_shapes
from nst_jax.network.windows import (
    Origin,
    Section,
    filled,
    section_taps,
    sections,
)

EVERYWHERE = P()


NOTHING: Mapping[str, Array] = {}


class Tile(NamedTuple):
    """What is seen of a tile at once.

    Attributes:
      taps: tap -> activations, of the taps of one section.
      around: the same with the tiling's margin around them.
      pixels: [h + 2, w + 2, 3] the tile with a pixel around it, edges of the picture replicated;
        None after the first section.
      origin: (row, column) of the picture, in pixels, at which the tile begins; traced. None for a
        whole picture, whose pixels have nothing around them.
      first: row of the picture, in pixels, at which the device's own rows begin.
      content: tap -> activations of the content picture there, where they are recomputed.
    """

    taps: dict[str, Array]
    around: dict[str, Array]
    pixels: Array | None
    origin: Origin | None
    first: Array | int
    content: Mapping[str, Array] = NOTHING


class Given(NamedTuple):
    """What all tiles of a device have in common.

    Attributes:
      network: the network.
      arguments: of the function that summarizes.
      first: see `Tile`.
      content: see `inputs_in_tiles`.
    """

    network: NetworkState
    arguments: Any
    first: Array
    content: Mapping[str, Array]


Summary = dict[Any, Any]


def whole(network: NetworkState, image: Float[Array, "h w 3"]) -> Tile:
    """A picture as its only tile, with no origin."""
    taps = features(network, image)
    return Tile(taps, taps, image, None, 0)


def sum_over_tiles(
    tiles: Tiling,
    network: NetworkState,
    image: Float[Array, "h w 3"],
    summarize: Callable[[Any, Tile], Summary],
    arguments: Any = (),
    spread: Any = EVERYWHERE,
    content: Mapping[str, Array] = NOTHING,
) -> Summary:
    """The sums of what a function makes of every tile. The VJP computes the tiles once more.

    Args:
      tiles: of the picture.
      network: the network.
      image: [h, w, 3] sRGB in [0, 1]; of several devices on the canvas, with `tiles.rows` rows.
      summarize: (arguments, tile) -> name -> pytree. Names of different sections differ.
      arguments: of `summarize`; no gradient reaches them.
      spread: `PartitionSpec`s of the arguments.
      content: of a content picture, from `inputs_in_tiles`, for `Tile.content`.
    """

    def of_device(image: Array, network: NetworkState, arguments: Any, content: Any) -> Summary:
        return _pass(tiles, network, image, summarize, arguments, content=content).sums

    if tiles.mesh is None:
        return of_device(image, network, arguments, content)

    def of_one(*given: Any) -> Summary:
        return jax.tree.map(lambda leaf: leaf[None], of_device(*given))

    spread_out = jax.shard_map(
        of_one,
        mesh=tiles.mesh,
        in_specs=(P(ROWS), EVERYWHERE, spread, P(ROWS)),
        out_specs=P(ROWS),
        check_vma=False,
    )
    return jax.tree.map(lambda leaf: leaf.sum(0), spread_out(image, network, arguments, content))


def features_in_tiles(
    tiles: Tiling, network: NetworkState, image: Float[Array, "h w 3"], taps: Iterable[str]
) -> dict[str, Float[Array, "_ _ _"]]:
    """Some of the taps of a picture, computed tile by tile; not meant to be differentiated.

    Those on several devices keep the rows of the canvas.
    """
    shapes = tap_shapes(tiles.shape, network)
    found = _by_rows(tiles, network, image, wanted=tuple(taps)).taps
    heights = {tap: None if tiles.mesh else shapes[tap][0] for tap in found}
    return {tap: whole[: heights[tap], : shapes[tap][1]] for tap, whole in found.items()}


def inputs_in_tiles(
    tiles: Tiling, network: NetworkState, image: Float[Array, "h w 3"], taps: Iterable[str]
) -> dict[str, Array]:
    """What a picture is at the input of the sections that have some of the taps.

    From that, every tile computes its own taps anew, which takes less memory than the taps of a
    whole picture: 12 bytes a pixel up to block 3, where relu2_2 takes 128, and 16 bytes after it,
    where relu4_2 takes 32.

    Returns:
      first layer of a section -> its input, with a halo around every device's rows.
    """
    return _by_rows(tiles, network, image, again=tuple(taps)).inputs


def _by_rows(tiles: Tiling, network: NetworkState, image: Array, **keeps: Any) -> "_Passed":
    """A forward pass that sums nothing; what it keeps of every device lies by rows."""

    def of_device(image: Array, network: NetworkState) -> _Passed:
        return _pass(tiles, network, image, lambda arguments, tile: {}, (), **keeps)

    if tiles.mesh is None:
        return of_device(image, network)
    return jax.shard_map(
        of_device,
        mesh=tiles.mesh,
        in_specs=(P(ROWS), EVERYWHERE),
        out_specs=P(ROWS),
        check_vma=False,
    )(image, network)


class _Passed(NamedTuple):
    """What a forward pass leaves: sums, taps, and the inputs of sections by their first layer."""

    sums: Summary
    taps: dict[str, Array]
    inputs: dict[str, Array]


def _pass(
    tiles: Tiling,
    network: NetworkState,
    image: Array,
    summarize: Callable[[Any, Tile], Summary],
    arguments: Any,
    *,
    wanted: tuple[str, ...] = (),
    again: tuple[str, ...] = (),
    content: Mapping[str, Array] = NOTHING,
) -> _Passed:
    """A forward pass over a device's own tiles.

    Args:
      tiles: of the picture.
      network: the network.
      image: the device's rows.
      summarize: see `sum_over_tiles`.
      arguments: of `summarize`.
      wanted: taps to keep.
      again: taps that will be computed again, from the inputs of their sections.
      content: see `sum_over_tiles`.
    """
    first = jax.lax.axis_index(ROWS) * tiles.local[0] if tiles.mesh else jnp.int32(0)
    given = Given(network, arguments, first, content)
    parts = sections(nnx.merge(network.graphdef, network.params).convs, tiles.margin)
    halo = parts[0].halo
    below, beside = (local - side for local, side in zip(tiles.local, image.shape[:2], strict=True))
    canvas = jnp.pad(image, ((halo, halo + below), (halo, halo + beside), (0, 0)))
    passed = _Passed({}, {}, {})
    for section, following in zip(parts, [*parts[1:], None], strict=True):
        canvas = _bordered(tiles, section, canvas)
        rooms = {tap: 0 for tap in wanted if conv(tap) in section.layers}
        if any(conv(tap) in section.layers for tap in again):
            passed.inputs[section.layers[0]] = canvas
        if following:
            rooms["following"] = following.halo
        of_tile = functools.partial(_of_tile, tiles, section, summarize, rooms)
        own, canvases = _over_tiles(tiles, section, of_tile, rooms, canvas, given)
        passed.sums.update(own)
        canvas = canvases.pop("following", canvas)
        passed.taps.update(canvases)
    return passed


def _of_tile(
    tiles: Tiling,
    section: Section,
    summarize: Callable[[Any, Tile], Summary],
    kept: Iterable[str],
    window: Array,
    corner: Array,
    given: Given,
) -> tuple[Summary, dict[str, Array]]:
    """What is made of a tile, whose window begins at a corner of the device's rows, in pixels."""
    network, arguments, first, content = given
    vgg = nnx.merge(network.graphdef, jax.lax.stop_gradient(network.params))
    origin = first + corner[0], corner[1]
    around, output = section_taps(vgg, section, window, origin, tiles.shape)
    taps, others = _cores(tiles, around), NOTHING
    if section.layers[0] in content:
        windows = _Layout(window.shape, section.stride)
        photo = windows.read(content[section.layers[0]], corner)
        others = _cores(tiles, section_taps(vgg, section, photo, origin, tiles.shape)[0])
    pixels = None
    if section.stride == 1:
        rim = section.halo - 1
        own = window[rim : window.shape[0] - rim, rim : window.shape[1] - rim]
        pixels = filled(own[None], (origin[0] - 1, origin[1] - 1), tiles.shape, "edge")[0]
    summary = summarize(arguments, Tile(taps, around, pixels, origin, first, others))
    return summary, {name: taps.get(name, output) for name in kept}


def _cores(tiles: Tiling, around: Mapping[str, Array]) -> dict[str, Array]:
    """Activations without the margin around them."""
    rim = tiles.margin
    return {tap: own[rim : len(own) - rim, rim : own.shape[1] - rim] for tap, own in around.items()}


def _over_tiles(
    tiles: Tiling,
    section: Section,
    of_tile: Callable[[Array, Array, Given], tuple[Summary, dict[str, Array]]],
    rooms: Mapping[str, int],
    canvas: Array,
    given: Given,
) -> tuple[Summary, dict[str, Array]]:
    """The sums over a section's tiles, and canvases of what is kept of each.

    Args:
      tiles: of the picture.
      section: which.
      of_tile: (window, corner, given) -> (what is summed, name -> what is kept).
      rooms: name -> positions to leave free around a canvas.
      canvas: the section's input, with its halo.
      given: what all tiles have in common.
    """
    merged = tiles.merged if section.stride > 1 else (1, 1)
    core = tiles.core[0] * merged[0], tiles.core[1] * merged[1]
    counts = tiles.counts[0] // merged[0], tiles.counts[1] // merged[1]
    corners: Any = np.array(
        [(y * core[0], x * core[1]) for y in range(counts[0]) for x in range(counts[1])], np.int32
    )
    height, width = (side // section.stride + 2 * section.halo for side in core)
    windows = _Layout((height, width, canvas.shape[2]), section.stride)
    shapes = jax.eval_shape(
        lambda canvas, corner: of_tile(windows.read(canvas, corner), corner, given),
        canvas,
        corners[0],
    )
    layouts = {
        name: _Layout(one.shape, core[0] // one.shape[0], rooms[name])
        for name, one in shapes[1].items()
    }

    def forward(canvas: Array, given: Given) -> tuple[Summary, dict[str, Array]]:
        nothing = 0 * canvas[0, 0, 0]  # zeros that XLA cannot hoist out of the loop of the steps

        def add(carry: Any, corner: Array) -> tuple[Any, None]:
            sums, canvases = carry
            own, cores = of_tile(windows.read(canvas, corner), corner, given)
            written = {
                name: layouts[name].written(canvases[name], one, corner)
                for name, one in cores.items()
            }
            return (jax.tree.map(jnp.add, sums, own), written), None

        sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[0])
        canvases = {
            name: jnp.full(layouts[name].canvas(counts), nothing.astype(one.dtype))
            for name, one in shapes[1].items()
        }
        return jax.lax.scan(add, (sums, canvases), corners)[0]

    def backward(residuals: tuple[Array, Given], cotangents: Any) -> tuple[Array, None]:
        (canvas, given), (sums, canvases) = residuals, cotangents

        def add(total: Array, corner: Array) -> tuple[Array, None]:
            cores = {name: layouts[name].read(canvases[name], corner) for name in layouts}
            window = windows.read(canvas, corner)
            _, pull = jax.vjp(lambda window: of_tile(window, corner, given), window)
            (cotangent,) = pull((sums, cores))
            return windows.written(total, windows.read(total, corner) + cotangent, corner), None

        empty = jnp.full(canvas.shape, 0 * canvas[0, 0, 0])
        return jax.lax.scan(add, empty, corners)[0], None

    if tiles.keeps:
        return forward(canvas, given)
    recomputing = jax.custom_vjp(forward)
    recomputing.defvjp(lambda canvas, given: (forward(canvas, given), (canvas, given)), backward)
    return recomputing(canvas, given)


class _Layout(NamedTuple):
    """How the parts that belong to tiles lie in a canvas.

    Attributes:
      part: shape of one.
      stride: pixels from one position to the next.
      room: positions that are left free around the canvas.
    """

    part: tuple[int, ...]
    stride: int
    room: int = 0

    def canvas(self, counts: tuple[int, int]) -> tuple[int, ...]:
        """The shape of a canvas with so many rows and columns of parts."""
        sides = (n * side + 2 * self.room for n, side in zip(counts, self.part[:2], strict=True))
        return *sides, self.part[2]

    def _place(self, corner: Array) -> tuple[Any, Any, int]:
        """Where the part of the tile with a corner, in pixels, begins."""
        return corner[0] // self.stride + self.room, corner[1] // self.stride + self.room, 0

    def read(self, canvas: Array, corner: Array) -> Array:
        """The part of a tile."""
        return jax.lax.dynamic_slice(canvas, self._place(corner), self.part)

    def written(self, canvas: Array, part: Array, corner: Array) -> Array:
        """The canvas with the part of a tile."""
        return jax.lax.dynamic_update_slice(canvas, part, self._place(corner))


def _bordered(tiles: Tiling, section: Section, canvas: Array) -> Array:
    """A section's input with its halo: from the neighbours, or from the opposite edges."""
    halo = section.halo
    height, width = (side // section.stride for side in tiles.shape)
    rows, columns = (side - 2 * halo for side in canvas.shape[:2])

    def around(count: int, side: int) -> Array:
        return halo + jnp.arange(-halo, count + halo) % side

    if tiles.wraps:
        canvas = canvas[:, around(columns, width)]
    if tiles.mesh is None:
        return canvas[around(rows, height)] if tiles.wraps else canvas
    devices, own, have = tiles.devices, canvas[halo : halo + rows], 0
    for hop in range(1, math.ceil(halo / rows) + 1):  # the halo may be higher than a neighbour
        some = min(rows, halo - have)
        down = _to_neighbours(own[rows - some :], hop, devices, tiles.wraps)
        up = _to_neighbours(own[:some], -hop, devices, tiles.wraps)
        canvas = canvas.at[halo - have - some : halo - have].set(down)
        start = halo + rows + have
        canvas = canvas.at[start : start + some].set(up)
        have += some
    return canvas


def _to_neighbours(rows: Array, hop: int, devices: int, wraps: bool) -> Array:
    """What the device `hop` places above sent; zeros where there is none."""
    pairs = [(k, k + hop) for k in range(devices)]
    if wraps:
        pairs = [(source, target % devices) for source, target in pairs]
    return jax.lax.ppermute(rows, ROWS, [pair for pair in pairs if 0 <= pair[1] < devices])
