"""`Tiling`: how a picture is cut into tiles, and its rows divided among devices."""

import math
from typing import NamedTuple

import jax
from flax import nnx

from nst_jax.network.architecture import block, conv
from nst_jax.network.state import NetworkState
from nst_jax.network.windows import layer_shapes

ROWS = "rows"  # axis of a mesh over which a picture's rows are split


class Tiling(NamedTuple):
    """How a picture is cut into tiles, all of one size.

    Attributes:
      shape: (height, width) of the picture.
      core: (height, width) of a tile without its halo.
      counts: rows and columns of tiles on a device; those at the end may reach beyond the picture.
      merged: rows and columns of tiles that are one tile after the first section, where
        activations take less memory.
      wraps: whether opposite edges meet; beyond the others there are zeros.
      mesh: the devices that have a share of the rows each; None for one device.
      keeps: whether activations are kept for the backward pass; otherwise they are recomputed.
      margin: positions that losses see around the core of a tile; see `windows.sections`.
    """

    shape: tuple[int, int]
    core: tuple[int, int]
    counts: tuple[int, int]
    merged: tuple[int, int] = (1, 1)
    wraps: bool = False
    mesh: jax.sharding.Mesh | None = None
    keeps: bool = False
    margin: int = 0

    @property
    def devices(self) -> int:
        """How many devices share the rows."""
        return self.mesh.size if self.mesh else 1

    @property
    def local(self) -> tuple[int, int]:
        """(height, width) in pixels of all tiles on a device."""
        return self.counts[0] * self.core[0], self.counts[1] * self.core[1]

    @property
    def rows(self) -> int:
        """Rows of pixels of all tiles on all devices: the height of the canvas."""
        return self.devices * self.local[0]


def tiling(
    network: NetworkState,
    shape: tuple[int, int],
    most: int,
    mesh: jax.sharding.Mesh | None = None,
    margin: int = 0,
) -> Tiling | None:
    """The tiles of a picture; None where it is computed whole.

    With circular padding, a picture whose sides are no multiples of 2^(b-1), b the deepest block,
    is whole: the layers would drop its last rows and wrap elsewhere.

    Args:
      network: whose taps are wanted.
      shape: (height, width) of the picture.
      most: the longest side of a core in pixels, a multiple of 16; 0 for any. Cores are as alike as
        can be.
      mesh: devices that share the rows, along its axis "rows".
      margin: see `Tiling`.
    """
    if mesh is None and not 0 < most < max(shape):
        return None
    vgg = nnx.merge(network.graphdef, network.params)
    layers = list(vgg.convs)
    deepest, wraps = block(layers[-1]), vgg.convs[layers[-1]].padding == "wrap"
    if mesh is None and not is_tileable(shape, deepest, wraps=wraps):
        return None
    cut = cut_of(shape, most, deepest, mesh)
    keeps = cut.counts == (1, 1) and not vgg.rematerialize
    return cut._replace(wraps=wraps, keeps=keeps, margin=margin)


def is_tileable(shape: tuple[int, int], deepest: int, *, wraps: bool) -> bool:
    """Whether one device can compute a picture of this (height, width) in tiles; see `tiling`.

    Args:
      shape: of the picture.
      deepest: the last block of the network.
      wraps: whether opposite edges meet.
    """
    unit = 2 ** (deepest - 1)
    return not (wraps and (shape[0] % unit or shape[1] % unit))


def cut_of(
    shape: tuple[int, int], most: int, deepest: int, mesh: jax.sharding.Mesh | None = None
) -> Tiling:
    """How a picture is cut; for the arguments see `tiling` and `is_tileable`."""
    sides = math.ceil(shape[0] / (mesh.size if mesh else 1)), shape[1]
    cuts = [_cuts(side, most, 2 ** (deepest - 1)) for side in sides]
    core, counts, merged = ((rows, columns) for rows, columns in zip(*cuts, strict=True))
    return Tiling(shape, core, counts, merged, mesh=mesh)


def _cuts(side: int, most: int, unit: int) -> tuple[int, int, int]:
    """How one side is cut: the side of a core, how many there are, how many are merged."""
    merged = 2 if 0 < most < side else 1
    count = merged * math.ceil(side / (merged * most)) if most else 1
    return math.ceil(side / count / unit) * unit, count, merged


def tap_shapes(shape: tuple[int, int], network: NetworkState) -> dict[str, tuple[int, int]]:
    """Tap -> (height, width) there of a picture of this (height, width)."""
    vgg = nnx.merge(network.graphdef, network.params)
    shapes = layer_shapes(shape, vgg.convs, rounds_up=vgg.pooling == "max_ceil")
    return {tap: shapes[conv(tap)] for tap in vgg.taps}
