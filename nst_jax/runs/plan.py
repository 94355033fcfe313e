"""The plan of a sweep: which cells share compiled programs, how many at once, how long."""

import functools
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from nst_jax.config import rules
from nst_jax.config.axes import Cell
from nst_jax.config.experiment import Experiment
from nst_jax.errors import UserError
from nst_jax.network.convolution import Convolution
from nst_jax.runs.log import duration
from nst_jax.transfer import estimate, failures, prepare
from nst_jax.transfer.cache import Cache
from nst_jax.transfer.estimate import Work
from nst_jax.transfer.paint import check_split, rows_mesh
from nst_jax.transfer.problem import Static, static_of
from nst_jax.transfer.settings import own_settings

T = TypeVar("T")

# Of a convolution's operations a second, those of a whole step (measured on a CPU).
STEP_SPEED_SHARE = 1 / 2
SPEED_TRIALS = 10


class Program(NamedTuple):
    """Cells that share their compiled programs.

    Attributes:
      cells: all of them.
      at_once: how many one device computes at once, at most.
      work: of the cell that asks for most memory.
    """

    cells: list[Cell]
    at_once: int
    work: Work

    @property
    def batch(self) -> int:
        """How many all devices compute at once; one where it is divided among them."""
        if rules.is_split(self.cells[0].experiment):
            return 1
        return self.at_once * len(jax.local_devices())


def plan(
    cells: Sequence[Cell], cache: Cache, at_once: int = 0
) -> tuple[list[Program], dict[str, str]]:
    """Groups cells by their compiled programs, in the order in which they first come.

    Args:
      cells: of a sweep.
      cache: keeps the pictures that were read last.
      at_once: how many each device shall compute at once; 0 for what suits it.

    Returns:
      The programs; and for each cell whose pictures cannot be used, by its name, why.
    """
    groups: defaultdict[Static, list[Cell]] = defaultdict(list)
    asked: dict[Static, Work] = {}
    unusable = {}
    for cell in cells:
        try:
            pictures = prepare.load(cell.experiment, cache)
            check_split(cell.experiment, pictures.shape, rows_mesh(cell.experiment))
            failures.check_memory(cell.experiment, pictures.shape)
        except UserError as error:
            unusable[cell.name] = str(error)
            continue
        static = static_of(cell.experiment, pictures)
        groups[static].append(cell)
        own = estimate.work(cell.experiment, pictures.shape)
        asked[static] = max(own, asked.get(static, own), key=lambda one: one.bytes)
    programs = []
    for static, group in groups.items():
        most = 1 if rules.is_split(group[0].experiment) else at_once
        programs.append(Program(group, most or estimate.batch_size(asked[static]), asked[static]))
    return programs, unusable


def split_evenly(group: Sequence[T], at_once: int) -> list[list[T]]:
    """Splits a group into batches of `at_once` at most.

    Their sizes differ by 1 at most, because every size is a program of its own.

    >>> split_evenly("abcde", 2)
    [['a', 'b'], ['c'], ['d', 'e']]
    """
    count = math.ceil(len(group) / at_once)
    bounds = [round(k * len(group) / count) for k in range(count + 1)]
    return [list(group[start:stop]) for start, stop in itertools.pairwise(bounds)]


@own_settings()
def table(cells: Sequence[Cell], cache: Cache, at_once: int = 0) -> str:
    """What `--dry_run` prints: cells with their programs, and what these ask for, estimated."""
    programs, unusable = plan(cells, cache, at_once)
    numbers = {cell.name: str(k) for k, one in enumerate(programs, 1) for cell in one.cells}
    rows = [["cell", *cells[0].labels, "program"]]
    rows += [
        [cell.name.partition("-")[0], *cell.labels.values(), numbers.get(cell.name, "none")]
        for cell in cells
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines += [f"{name}: {message}" for name, message in unusable.items()]
    devices, total = jax.local_devices(), 0.0
    speed = functools.cache(measure_speed)
    for k, one in enumerate(programs, 1):
        network = one.cells[0].experiment.network
        rate = speed(network.precision, network.convolution)
        seconds = one.work.operations * len(one.cells) / rate / len(devices)
        total += seconds
        lines.append(
            f"program {k}: cells {len(one.cells)}, at once {min(one.at_once, len(one.cells))}, "
            f"memory {one.at_once * one.work.bytes / 1e6:.0f} MB, {duration(seconds)}"
        )
    lines.append(
        f"{len(cells)} cells, {len(programs)} programs, about {duration(total)} on {len(devices)} "
        f"{devices[0].device_kind}, without compilation and metrics"
    )
    return "\n".join(lines)


@own_settings()
def outlook(experiment: Experiment, cache: Cache) -> str:
    """What `run --dry_run` prints: size, tiles, memory and time, estimated.

    Raises:
      UserError: a picture cannot be used, or a device has too little memory or is not there.
    """
    mesh = rows_mesh(experiment)
    pictures = prepare.load(experiment, cache)
    check_split(experiment, pictures.shape, mesh)
    failures.check_memory(experiment, pictures.shape)
    height, width = pictures.shape
    tile = estimate.tile(experiment, pictures.shape)
    asked = estimate.work(experiment, pictures.shape)
    network, device = experiment.network, jax.local_devices()[0]
    devices = estimate.devices(experiment)
    scales = len(experiment.scales)
    seconds = asked.operations / measure_speed(network.precision, network.convolution)
    return (
        f"{width}x{height} pixels, {f'tiles of {tile}' if tile else 'whole'}, "
        f"{experiment.steps} steps{f' at {scales} sizes' if scales > 1 else ''}, memory "
        f"{asked.bytes / 1e9:.2g} GB besides weights, about {duration(seconds / devices)} on "
        f"{f'{devices} ' if devices > 1 else ''}{device.device_kind}, without compilation and "
        "metrics"
    )


def measure_speed(precision: str, convolution: str) -> float:
    """Floating-point operations a second of a whole step on this device, estimated.

    `STEP_SPEED_SHARE` of those of a convolution in the middle of the network, timed here. The
    fastest of several counts: other programs of the machine only ever slow it down.

    Args:
      precision, convolution: see `Network`.
    """
    side, channels = 64, 256
    kernel = np.ones((3, 3, channels, channels), np.float32)
    dtype = jnp.dtype("bfloat16" if precision == "bfloat16" else "float32")
    graph, arrays = nnx.split(
        Convolution(kernel, np.zeros(channels), method=convolution, dtype=dtype)
    )

    @jax.jit
    def convolve(arrays: nnx.State, x: Array) -> Array:
        with jax.default_matmul_precision(precision):
            return nnx.merge(graph, arrays)(x)

    image = jnp.ones((1, side, side, channels), dtype)
    jax.block_until_ready(convolve(arrays, image))

    def timed() -> float:
        start = time.perf_counter()
        jax.block_until_ready(convolve(arrays, image))
        return time.perf_counter() - start

    fastest = min(timed() for _ in range(SPEED_TRIALS))
    return STEP_SPEED_SHARE * 2 * 9 * channels**2 * side**2 / fastest
