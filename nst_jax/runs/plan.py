"""Which cells of a sweep share a compiled program, how many run at once, and what that takes."""

import functools
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from nst_jax import config
from nst_jax.network import architecture
from nst_jax.transfer import prepare as inputs, pyramid, paint as transfer
from nst_jax.config.axes import Cell
from nst_jax.errors import UserError
from nst_jax.transfer.prepare import Pictures
from nst_jax.losses.style import STYLE

T = TypeVar("T")

# Pixels of a batch on a CPU: larger ones outgrow its cache and gain nothing (docs/performance.md).
CPU_PIXELS = 256 * 256
MOST_AT_ONCE = 64
MEMORY_SHARE = 0.7  # of the device's memory, for a batch


class Program(NamedTuple):
    """Cells that run in one compiled program.

    Attributes:
      cells: all of them.
      at_once: how many one device runs at once, at most.
      work: what each asks for.
    """

    cells: list[Cell]
    at_once: int
    work: "Work"


class Work(NamedTuple):
    """What an experiment asks of a device.

    Attributes:
      pixels: of the painting, at its largest scale.
      bytes: memory for one painting beside the network, about.
      operations: floating-point operations of all its steps, about.
    """

    pixels: int
    bytes: int
    operations: float


def structure(c: config.Config, pictures: Pictures) -> Hashable:
    """What of an experiment is part of its compiled program, or shared by all that run in it.

    Two of which this is equal differ only in arguments of the program once `widened`.
    """
    lambdas = {part: config.losses(c, part) if c[part] else {} for part in ("content", "style")}
    return (
        (c.arch, c.weights, c.pooling, c.padding, c.convolution, c.rematerialize),
        c.normalize_network,
        # What the network is normalised by: the pictures as they are recoloured.
        (c.content, c.style, *c.color.values(), *c.guides.values())
        if c.normalize_network
        else None,
        transfer.settings_of(c),
        (*pyramid.scales(c), c.log_every),
        (pictures.shape, c.style_scale, c.style_size, *(s.shape for s in pictures.styles)),
        c.blend if len(pictures.styles) > 1 else None,
        tuple(sorted(pictures.regions)),
        tuple(tuple(sorted(regions)) for regions in pictures.style_regions),
        pictures.content_weight is None,
        (c.tv_loss, c.normalize_gradients),
        tuple(sorted(lambdas["content"])),
        # Layers are no part of it: one that is off has the lambda 0. But a loss between neighbours
        # is about the layers that it has.
        tuple(
            (loss, tuple(taps) if STYLE[loss].neighbours > 1 else None)
            for loss, taps in sorted(lambdas["style"].items())
        ),
    )


def widened(configs: Sequence[config.Config]) -> list[config.Config]:
    """Configs of one structure with the same layers everywhere; those that were added weigh 0."""
    for part in ("content", "style"):
        own = [config.losses(c, part) if c[part] else {} for c in configs]
        union = {
            loss: dict.fromkeys(tap for losses in own for tap in losses[loss]) for loss in own[0]
        }
        if all(
            losses[loss].keys() == taps.keys() for losses in own for loss, taps in union.items()
        ):
            continue
        specs = [
            ", ".join(
                f"{loss}({', '.join(f'{tap}:{losses[loss].get(tap, 0.0)!r}' for tap in taps)})"
                for loss, taps in union.items()
            )
            for losses in own
        ]
        configs = [
            config.with_values(c, {f"{part}_losses": spec})
            for c, spec in zip(configs, specs, strict=True)
        ]
    return list(configs)


def terms_of(c: config.Config, names: Iterable[str]) -> list[str]:
    """Of the names of terms those that are a config's own, not of layers that `widened` added."""
    own = {
        f"{part}/{loss}/{tap}"
        for part in ("content", "style")
        if c[part]
        for loss, lambdas in config.losses(c, part).items()
        for tap in lambdas
    }
    return [name for name in names if "/" not in name or "/".join(name.split("/")[:3]) in own]


def plan(cells: Sequence[Cell], batch: int = 0) -> tuple[list[Program], dict[str, str]]:
    """Groups cells by the program that they need, in the order in which they first come.

    Args:
      cells: of a sweep.
      batch: how many each device shall run at once; 0: what suits it.

    Returns:
      The programs, and of each cell whose pictures cannot be used, by its name, why.
    """
    groups: defaultdict[Hashable, list[Cell]] = defaultdict(list)
    asked: dict[Hashable, Work] = {}
    unusable = {}
    for cell in cells:
        try:
            pictures = inputs.read(cell.config)
        except UserError as error:
            unusable[cell.name] = str(error)
            continue
        key = structure(cell.config, pictures)
        groups[key].append(cell)
        own = work(cell.config, pictures.shape)
        asked[key] = max(own, asked.get(key, own), key=lambda one: one.bytes)
    return [
        Program(group, batch or at_once(asked[key]), asked[key]) for key, group in groups.items()
    ], unusable


def table(cells: Sequence[Cell], batch: int = 0) -> str:
    """What `--dry_run` prints: cells with their programs, and what these ask for, about."""
    programs, unusable = plan(cells, batch)
    places = {cell.name: str(k) for k, one in enumerate(programs, 1) for cell in one.cells}
    rows = [["cell", *cells[0].labels, "program"]]
    rows += [
        [cell.name.partition("-")[0], *cell.labels.values(), places.get(cell.name, "none")]
        for cell in cells
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines += [f"{name}: {message}" for name, message in unusable.items()]
    devices, total = len(jax.local_devices()), 0.0
    for k, one in enumerate(programs, 1):
        rate = speed(one.cells[0].config.precision)
        seconds = one.work.operations * len(one.cells) / rate / devices
        total += seconds
        lines.append(
            f"program {k}: cells {len(one.cells)}, at once {min(one.at_once, len(one.cells))}, "
            f"memory {one.at_once * one.work.bytes / 1e6:.0f} MB, {duration(seconds)}"
        )
    lines.append(
        f"{len(cells)} cells, {len(programs)} programs, about {duration(total)} on {devices} "
        f"{jax.local_devices()[0].device_kind} beside compilation"
    )
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A time as people say it: "40 s", "12 min", "3.5 h"."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


@functools.cache
def speed(precision: str) -> float:
    """Floating-point operations a second of a whole step on this device, about.

    Two thirds of those of a convolution of the network's middle, forward, timed here.
    """
    side, channels = 64, 256
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    image = jnp.ones((1, side, side, channels), dtype)
    kernel = jnp.ones((3, 3, channels, channels), dtype)

    @jax.jit
    def convolve(x: Array, w: Array) -> Array:
        with jax.default_matmul_precision(precision):
            return jax.lax.conv_general_dilated(
                x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

    jax.block_until_ready(convolve(image, kernel))
    start = time.perf_counter()
    jax.block_until_ready([convolve(image, kernel) for _ in range(5)])
    seconds = (time.perf_counter() - start) / 5
    return 2 / 3 * 2 * 9 * channels**2 * side**2 / seconds


def batches(group: Sequence[T], at_once: int) -> list[list[T]]:
    """A group in parts of `at_once` at most, whose sizes differ by 1 at most: two programs."""
    count = math.ceil(len(group) / at_once)
    bounds = [round(k * len(group) / count) for k in range(count + 1)]
    return [list(group[start:stop]) for start, stop in itertools.pairwise(bounds)]


def work(c: config.Config, shape: tuple[int, int]) -> Work:
    """What an experiment asks for, by the convolutions of its network.

    A step evaluates the objective and its gradient once: the convolutions there and back.
    Memory is mostly that of the activations: within a tenth of what XLA reports on CPU.
    Rematerialised, half of them are left.
    """
    height, width = shape
    deepest = max(architecture.conv(tap) for tap in inputs.taps_of(c))
    activations = operations = 0.0
    for name, (rows, columns, into, out) in architecture.conv_shapes(c.arch).items():
        if name <= deepest:
            share = 4.0 ** (1 - architecture.block(name))  # of the pixels that are left here
            activations += 2 * out * share
            operations += 2 * 2 * rows * columns * into * out * share
    kept = 0.5 if c.rematerialize else 1
    pictures = 6 + (2 * c.optimizer.memory if c.optimizer.name == "lbfgs" else 2)
    steps = sum(
        scale.steps * (scale.size / max(shape)) ** 2 for scale in pyramid.scales(c)
    )  # as many as at the full size
    return Work(
        height * width,
        round(4 * height * width * (1.1 * kept * activations + 3 * pictures)),
        height * width * operations * steps,
    )


def at_once(asked: Work) -> int:
    """How many experiments one device runs at once, by its memory; on a CPU by its cache."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        most = CPU_PIXELS // asked.pixels
    else:
        memory = (device.memory_stats() or {}).get("bytes_limit", 8 << 30)
        most = int(MEMORY_SHARE * memory) // asked.bytes
    return max(1, min(most, MOST_AT_ONCE))
