"""Benchmarks, each a table of ratios measured in one run.

  python scripts/bench.py sweep
  python scripts/bench.py sweep --sizes 128 --rounds 5 --json sweep.json

sweep   cells a second, batched as `nst_jax.sweep` does it, against one after another

Machines are noisy: a round measures the reference and the other side one after the other, and a
table has the median over rounds of their ratio, with its smallest and largest. Compilation is not
counted.

2 CPU cores: sweep 8 minutes.
"""

import functools
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from nst_jax import commands, config, inputs

_SIZES = flags.DEFINE_list("sizes", ["128", "256"], "Longer sides of the painting, in pixels.")
_STEPS = flags.DEFINE_integer("steps", 4, "Optimiser steps of one measurement.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Measurements of each row.", lower_bound=1)
_JSON = flags.DEFINE_string("json", "", "Also write the table to this file.")


class Row(NamedTuple):
    """A line of a table: what was measured, and the ratios of its rounds to the reference."""

    label: str
    seconds: float
    ratios: list[float]


def sweep() -> Iterator[Row]:
    """Cells a second of 1, 4 and 16 cells that differ in beta, relative to one after another."""
    from nst_jax import programs, transfer

    for size in map(int, _SIZES.value):
        for optimizer in ("adam", "lbfgs"):
            base = config.sample()
            base.update(image_size=size, steps=_STEPS.value, log_every=_STEPS.value, save_every=0)
            base.optimizer.name = optimizer
            base = config.validate(base)
            pictures, loaded = inputs.read(base), transfer.load_weights(base)
            most = programs.at_once(base, programs.work(base, pictures.shape))
            for count in (1, 4, 16):
                cells = [config.with_values(base, {"beta": 0.02 * (1 + k)}) for k in range(count)]
                ones = functools.partial(in_turn, cells, pictures, loaded)
                all_at_once = functools.partial(batched, cells, pictures, loaded, most)
                seconds, ratios = compared(ones, all_at_once)
                label = f"{size} pixels, {optimizer}, {count} cells, {min(most, count)} at once"
                yield Row(label, seconds / count, ratios)


def in_turn(cells: Sequence[Any], pictures: Any, loaded: Any):
    """Paints one after another."""
    from nst_jax import transfer

    for c in cells:
        finish(transfer.paint(c, pictures, loaded))


def batched(cells: Sequence[Any], pictures: Any, loaded: Any, most: int):
    """Paints in batches."""
    from nst_jax import programs, transfer

    for batch in programs.batches(cells, most):
        finish(transfer.paint_together(batch, [pictures] * len(batch), loaded))


def finish(progress: Iterator[Any]):
    """Paints to the end."""
    for one in progress:
        one.image.block_until_ready()


def compared(reference: Callable[[], None], other: Callable[[], None]) -> tuple[float, list[float]]:
    """Median seconds of the reference, and how many times as fast the other is, by rounds."""
    seconds, ratios = [], []
    for k in range(_ROUNDS.value + 1):
        times = []
        for measured in (reference, other):
            start = time.perf_counter()
            measured()
            times.append(time.perf_counter() - start)
        if k:  # the first one compiles
            seconds.append(times[0])
            ratios.append(times[0] / times[1])
    return statistics.median(seconds), sorted(ratios)


BENCHMARKS = {"sweep": (sweep, "seconds a cell in turn", "times as fast at once")}


def main(name: str):
    """Measures and prints a table, and writes it as JSON if asked."""
    import jax

    rows_of, unit, ratio = BENCHMARKS[name]
    device = jax.devices()[0].device_kind
    print(f"{name}: {device}, {platform.machine()}, JAX {jax.__version__}", flush=True)
    print(f"{'':<46}{unit:>24}{ratio:>24}  (from to)")
    rows = []
    for row in rows_of():
        rows.append(row._asdict())
        middle = statistics.median(row.ratios)
        spread = f"({row.ratios[0]:.2f} {row.ratios[-1]:.2f})"
        print(f"{row.label:<46}{row.seconds:>24.3f}{middle:>24.2f}  {spread}", flush=True)
    if _JSON.value:
        table = {"benchmark": name, "device": device, "jax": jax.__version__, "rows": rows}
        Path(_JSON.value).write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    commands.start(main, BENCHMARKS)
