"""The arguments of the objective besides the image and the network, and how losses see the taps."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec as P
from jaxtyping import Complex, Float

from nst_jax.losses.style import STYLE
from nst_jax.network import architecture, tiling
from nst_jax.network.state import NetworkState
from nst_jax.network.tiles import NOTHING, Tile
from nst_jax.network.tiling import ROWS, Tiling
from nst_jax.network.windows import MARGIN, Origin

Image = Float[Array, "h w 3"]
ByTap = dict[str, Any]  # arrays, by the tap they belong to


class Temporal(NamedTuple):
    """What a frame of a film takes over from the frames before it.

    Attributes:
      picture: [h, w, 3] their paintings, warped to the frame.
      weights: [h, w] how much each pixel counts, 0 to 1; 0 where nothing is known.
    """

    picture: Float[Array, "h w 3"]
    weights: Float[Array, "h w"]


class Targets(NamedTuple):
    """What the content and style pictures ask for; computed once for every scale of a run.

    Attributes:
      content: loss -> tap -> target; None where it is recomputed.
      style: loss -> tap -> region -> pairs (share, target). The region is "" without guides. There
        are several pairs only where the losses of several style pictures are blended.
      temporal: of a frame of a film; None for a still picture.
      matting: [9, h - 2, w - 2, 3] the photograph's `matting.colour_basis`; None without that loss.
      spectrum: [h, w // 2 + 1, 3] the texture's `spectrum.spectrum`; None without that loss.
      inputs: of the content picture, from `tiles.inputs_in_tiles`, where targets are recomputed.
    """

    content: dict[str, dict[str, Any]]
    style: dict[str, dict[str, dict[str, tuple[tuple[Array, Any], ...]]]]
    temporal: Temporal | None = None
    matting: Float[Array, "9 h2 w2 3"] | None = None
    spectrum: Complex[Array, "h w2 3"] | None = None
    inputs: Mapping[str, Array] = NOTHING


class Knobs(NamedTuple):
    """Scalars that weigh the terms. They are traced: changing one does not recompile.

    Attributes:
      alpha, beta: weights of content and style, >= 0.
      content, style: loss -> tap -> lambda, >= 0; 0 switches a layer off.
      smoothness: total variation -> weight, >= 0.
      regions: region -> weight, >= 0.
      temporal: weight of the difference from the warped frames before, >= 0; unused without them.
      matting, spectrum: weights of those losses, >= 0; unused without their targets.
    """

    alpha: float
    beta: float
    content: dict[str, dict[str, float]]
    style: dict[str, dict[str, float]]
    smoothness: dict[str, float]
    regions: dict[str, float]
    temporal: float = 0.0
    matting: float = 0.0
    spectrum: float = 0.0


class GuideWeights(NamedTuple):
    """Where in the painting each loss looks.

    Attributes:
      content: tap -> [h, w], how much the content counts at each position; {} for the same
        everywhere.
      regions: region -> tap -> [h, w] weights that sum to 1; {"": {}} without guides.
    """

    content: ByTap
    regions: dict[str, ByTap]


NO_GUIDES = GuideWeights({}, {"": {}})


class Split(NamedTuple):
    """A picture whose rows lie on several devices.

    Attributes:
      mesh: the devices, along its axis "rows".
      height: of the picture. Its array is a canvas with as many rows on every device; those below
        the picture count for nothing.
    """

    mesh: jax.sharding.Mesh
    height: int


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ObjectiveStatic:
    """Static options of the objective, besides the names of its losses.

    Attributes:
      normalize_gradients: scale the gradient with respect to every layer's activations to L1 norm
        1, before its lambda (neural-style's -normalize_gradients).
      tile: the longest side of the tiles in which the objective is computed, in pixels, a multiple
        of 16; 0 for whole pictures. The value is the same, the memory that of one tile.
      split: how the picture lies on several devices; None for one device.
      recomputes: whether every tile computes its content targets anew, for less memory, where the
        loss is local; the value is the same.
    """

    normalize_gradients: bool = False
    tile: int = 0
    split: Split | None = None
    recomputes: bool = False

    def shape(self, image: Image) -> tuple[int, int]:
        """(height, width) of the picture."""
        height, width, _ = image.shape
        return (self.split.height if self.split else height), width

    def tiling(self, network: NetworkState, image: Image, margin: int = 0) -> Tiling | None:
        """The tiles of the picture; None where it is computed whole. For `margin` see `Tiling`."""
        mesh = self.split.mesh if self.split else None
        return tiling.tiling(network, self.shape(image), self.tile, mesh, margin)


class Problem(NamedTuple):
    """What the objective depends on besides the image and the network.

    Attributes:
      targets: what the pictures ask for.
      knobs: weights of the terms.
      guides: where each loss looks.
      key: random key of losses that draw.
      static: static options.
    """

    targets: Targets
    knobs: Knobs
    guides: GuideWeights
    key: Array
    static: ObjectiveStatic = ObjectiveStatic()


def groups(loss: str, lambdas: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The taps that a style loss sees together, by the first: one, it and the next, or all."""
    taps = sorted(lambdas, key=architecture.depth)
    count = STYLE[loss].neighbours or len(taps)
    return {taps[i]: tuple(taps[i : i + count]) for i in range(len(taps) - count + 1)}


def margin(knobs: Knobs) -> int:
    """How far losses see around the core of a tile; see `Tiling`."""
    return MARGIN if any(STYLE[loss].neighbours > 1 for loss in knobs.style) else 0


def activations_of(tile: Tile, group: tuple[str, ...]) -> Any:
    """What a loss sees of a tile: the activations of a tap, or a tuple of those of several.

    A loss that enlarges the second to the size of the first must see around it in a tile.
    """
    first, *others = group
    activations = tile.taps[first]
    return (activations, *(tile.around[tap] for tap in others)) if others else activations


def place(tap: str, origin: Origin) -> Origin:
    """Where a tile that begins at a pixel begins at a tap."""
    stride = 2 ** (architecture.block(tap) - 1)
    return origin[0] // stride, origin[1] // stride


def spread(problem: Problem, axes: int = 0) -> Any:
    """How a problem lies on the devices of a `Split`: targets of the content's size by rows.

    Args:
      problem: the arguments.
      axes: before those of the arrays, of a batch.

    Returns:
      A `PartitionSpec` for every leaf, of the axes after those.
    """

    def of(target: Array) -> P:
        return P(ROWS) if jnp.ndim(target) - axes == 3 else P()

    everywhere = jax.tree.map(lambda leaf: P(), problem)
    own = jax.tree.map(of, {"content": problem.targets.content, "inputs": problem.targets.inputs})
    return everywhere._replace(targets=everywhere.targets._replace(**own))
