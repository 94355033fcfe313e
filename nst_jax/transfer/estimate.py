"""What an experiment asks of a device: memory, operations, and how many fit at once."""

import math
from typing import NamedTuple

import jax

from nst_jax import files
from nst_jax.config import rules
from nst_jax.config.experiment import Experiment
from nst_jax.losses.content import CONTENT
from nst_jax.losses.hypercolumns import GRID
from nst_jax.losses.style import STYLE
from nst_jax.network import architecture
from nst_jax.network.tiling import is_tileable
from nst_jax.network.windows import MARGIN, Section, sections
from nst_jax.optimize.lbfgs import pairs_of

# Pixels of a batch on a CPU: a larger one outgrows the cache and gains nothing
# (docs/performance.md).
MAX_CPU_BATCH_PIXELS = 256 * 256
MAX_BATCH = 64
BATCH_MEMORY_SHARE = 0.7  # of the device's memory
UNKNOWN_DEVICE_BYTES = 8 << 30
STATE_PICTURES = 6  # float32 pictures that a step keeps besides the optimiser's
REMATERIALIZED_SHARE = 0.5  # of the activations' memory
TILES = (2048, 1024, 512, 256)  # sides in pixels, of which one is chosen
MATTING_PICTURES = 31  # 108 bytes a pixel of colours, and 260 of a step
HYPERCOLUMN_COPIES = 2  # targets, and what a step keeps
# Numbers a pixel of a whole picture, as XLA reports them on CPU, ...
DESCRIBED_NUMBERS = 200  # ... while the targets of a style picture are computed,
NORMALIZED_NUMBERS = 145  # ... for the means of `normalize_network`,
MEASURED_NUMBERS = 341  # ... and for the metrics.
TILED_PICTURES = 2  # that a step in tiles keeps besides, among them the first section's output


class Work(NamedTuple):
    """What an experiment asks of a device.

    Attributes:
      pixels: of the painting, at its last scale.
      bytes: memory of one painting on a device, without the network; an estimate.
      operations: floating-point operations of all steps; an estimate.
    """

    pixels: int
    bytes: int
    operations: float


def work(experiment: Experiment, shape: tuple[int, int]) -> Work:
    """Estimates what an experiment asks for, from the convolutions of its network.

    A step evaluates the objective and its gradient once: the convolutions forwards and backwards.
    Memory is mostly activations. The estimate is within a tenth of what XLA reports on CPU.

    Args:
      experiment: the experiment.
      shape: (height, width) of the painting.
    """
    height, width = shape
    arch = experiment.network.arch
    deepest = _deepest(experiment)
    operations = sum(
        2 * 2 * rows * columns * into * out * _share(name)
        for name, (rows, columns, into, out) in architecture.conv_shapes(arch).items()
        if name <= deepest
    )
    cut = tile(experiment, shape)
    return Work(
        height * width,
        max(
            memory(experiment, shape, cut, recomputes=recomputes_content(experiment, shape, cut)),
            _whole_bytes(experiment, shape),
        ),
        height
        * width
        * operations
        * experiment.weighed(experiment.steps)
        * _excess(experiment, cut),
    )


def _whole_bytes(experiment: Experiment, shape: tuple[int, int]) -> int:
    """Memory of what is never computed in tiles, before the first step or after the last."""
    numbers = MEASURED_NUMBERS if experiment.output.metrics else 0
    if experiment.network.normalize:
        numbers = max(numbers, NORMALIZED_NUMBERS)
    return 4 * numbers * math.prod(shape)


def _deepest(experiment: Experiment) -> str:
    """The last convolution that is computed."""
    return max(architecture.conv(tap) for tap in experiment.objective.taps)


def deepest_block(experiment: Experiment) -> int:
    """The block of the last convolution."""
    return architecture.block(_deepest(experiment))


def _share(name: str) -> float:
    """Of the picture's pixels, the positions of a layer."""
    return 4.0 ** (1 - architecture.block(name))


def _first_section(experiment: Experiment) -> Section:
    """The first section that a tile passes through."""
    deepest = _deepest(experiment)
    layers = [name for name in architecture.conv_shapes(experiment.network.arch) if name <= deepest]
    return sections(layers, MARGIN if rules.is_paired(experiment) else 0)[0]


def _excess(experiment: Experiment, tile: int) -> float:
    """How many times the operations tiles take, for their halos and a second forward pass."""
    if not tile:
        return 1.0
    passes = 2 if experiment.objective.normalize_gradients else 1
    return (2 + passes) / 2 * (1 + 2 * _first_section(experiment).halo / tile) ** 2


def devices(experiment: Experiment) -> int:
    """How many devices share a painting."""
    asked = experiment.network.split
    return len(jax.devices()) if asked < 0 else max(asked, 1)


def memory(
    experiment: Experiment, shape: tuple[int, int], tile: int, *, recomputes: bool = False
) -> int:
    """The memory that a painting takes on a device, without the network, in bytes; an estimate.

    Args:
      experiment: the experiment.
      shape: (height, width) of the painting.
      tile: the longest side of its tiles in pixels; 0 for none.
      recomputes: whether content targets are recomputed.
    """
    static = experiment.optimizer.static
    deepest = _deepest(experiment)
    is_tiled = 0 < tile < max(shape)
    section = _first_section(experiment)
    last = architecture.block(section.layers[-1] if is_tiled else deepest)
    activations = sum(
        2 * out * _share(name)
        for name, (*_, out) in architecture.conv_shapes(experiment.network.arch).items()
        if name <= deepest and architecture.block(name) <= last
    )
    if experiment.network.rematerialize and not is_tiled:
        activations *= REMATERIALIZED_SHARE
    pictures = STATE_PICTURES + 2
    if static.name == "lbfgs":
        pictures = STATE_PICTURES + 2 * pairs_of(static.memory, math.prod(shape))
    if experiment.objective.matting_weight:
        pictures += MATTING_PICTURES
    numbers = HYPERCOLUMN_COPIES * _hypercolumn_channels(experiment) / GRID**2
    height, width = math.ceil(shape[0] / devices(experiment)), shape[1]
    seen = height * width * 1.1
    if is_tiled:
        pictures += TILED_PICTURES
        numbers += _content_numbers(experiment, recomputes=recomputes)
        seen = math.prod(min(side, tile) + 2 * section.halo for side in (height, width))
    kept = 3 * pictures + numbers
    style = math.prod(shape) * _style_pixels(experiment)
    targets = style * _style_numbers(experiment)
    step = seen * activations + height * width * kept + targets
    describing = style * _described_numbers(experiment)
    if not is_tiled and experiment.network.tile <= 0:
        describing = style / max(len(experiment.inputs.styles), 1) * DESCRIBED_NUMBERS
    return round(4 * max(step, describing))


def _style_pixels(experiment: Experiment) -> float:
    """Pixels of the style pictures for each of the painting, as if their sides were in ratio."""
    scale = experiment.scales[-1]
    return len(experiment.inputs.styles) * (scale.style_size / scale.size) ** 2


def _style_numbers(experiment: Experiment) -> float:
    """Numbers a pixel of the style pictures that the targets keep, besides statistics."""
    shapes = architecture.conv_shapes(experiment.network.arch)
    numbers = (
        STYLE[term.name].keeps * shapes[name][-1] * _share(name)
        for term in experiment.objective.style
        for name in map(architecture.conv, term.layers)
    )
    return sum(numbers, 0.0)


def _described_numbers(experiment: Experiment) -> float:
    """Numbers a pixel of layers of the style pictures that are whole while targets are computed."""
    shapes = architecture.conv_shapes(experiment.network.arch)
    terms = [term for term in experiment.objective.style if not STYLE[term.name].adds]
    layers = {architecture.conv(tap) for term in terms for tap in term.layers}
    return sum((shapes[name][-1] * _share(name) for name in layers), 0.0)


def _content_numbers(experiment: Experiment, *, recomputes: bool) -> float:
    """Numbers a pixel of the content targets, or of that from which they are recomputed."""
    arch, taps, again = experiment.network.arch, set(), set()
    for term in experiment.objective.content:
        is_local = recomputes and CONTENT[term.name].is_local
        (again if is_local else taps).update(map(architecture.conv, term.layers))
    shapes = architecture.conv_shapes(arch)
    margin = MARGIN if rules.is_paired(experiment) else 0
    inputs = [
        part.layers[0] for part in sections(shapes, margin) if not again.isdisjoint(part.layers)
    ]
    kept = sum(shapes[name][-1] * _share(name) for name in taps)
    return float(kept + sum(shapes[name][-2] * _share(name) for name in inputs))


def _recomputing_saves(experiment: Experiment) -> bool:
    """Whether recomputed content targets take less memory than kept ones."""
    recomputed = _content_numbers(experiment, recomputes=True)
    return recomputed < _content_numbers(experiment, recomputes=False)


def _hypercolumn_channels(experiment: Experiment) -> int:
    """Channels of all layers of the losses on hypercolumns."""
    shapes = architecture.conv_shapes(experiment.network.arch)
    return sum(
        shapes[architecture.conv(tap)][-1]
        for term in experiment.objective.style
        if term.name in rules.MATCHED_LOSSES
        for tap in term.layers
    )


def tile(experiment: Experiment, shape: tuple[int, int], available: float = 0.0) -> int:
    """The side of the tiles in which a painting is computed, in pixels; 0 for whole.

    What the config says; or none where the painting fits the device, else the largest of `TILES`
    with which it does.

    Args:
      experiment: the experiment.
      shape: (height, width) of the painting.
      available: memory of a device in bytes; 0 for this machine's.
    """
    asked = experiment.network.tile
    wraps, deepest = experiment.network.padding == "circular", deepest_block(experiment)
    if not rules.is_split(experiment) and not is_tileable(shape, deepest, wraps=wraps):
        return 0
    if asked >= 0:
        return asked if asked < max(shape) else 0
    most = _most(available)
    if rules.untileable(experiment) or memory(experiment, shape, 0) <= most:
        return 0
    ways = (False,)
    if _recomputing_saves(experiment):
        ways = (True,) if experiment.network.rematerialize else (False, True)
    fitting = (
        side
        for recomputes in ways
        for side in TILES
        if side < max(shape) and memory(experiment, shape, side, recomputes=recomputes) <= most
    )
    return next(fitting, TILES[-1])


def recomputes_content(
    experiment: Experiment, shape: tuple[int, int], tile: int, available: float = 0.0
) -> bool:
    """Whether a painting in tiles recomputes its content targets instead of keeping them.

    It does where the config asks to recompute, or where memory is short; but not where that would
    take more.

    Args:
      experiment: the experiment.
      shape: (height, width) of the painting.
      tile: of the painting, from `tile`.
      available: memory of a device in bytes; 0 for this machine's.
    """
    if not _recomputing_saves(experiment) or not (tile or devices(experiment) > 1):
        return False
    asked = experiment.network.rematerialize
    return asked or memory(experiment, shape, tile) > _most(available)


def _most(available: float) -> float:
    """How much of a device's memory, in bytes, a painting may take; of this machine's for 0."""
    return BATCH_MEMORY_SHARE * (available or device_bytes() or UNKNOWN_DEVICE_BYTES)


def device_bytes() -> int:
    """The memory of a device, of a CPU that of the machine; 0 where it is not known."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return files.memory_bytes()
    return int((device.memory_stats() or {}).get("bytes_limit", 0))


def batch_size(asked: Work) -> int:
    """How many experiments one device computes at once: by its memory, a CPU by its cache."""
    if jax.local_devices()[0].platform == "cpu":
        most = MAX_CPU_BATCH_PIXELS // asked.pixels
    else:
        most = int(_most(0.0)) // asked.bytes
    return max(1, min(most, MAX_BATCH))
