"""Benchmarks. Each prints a table of ratios that are measured in one run.

  python scripts/bench.py step
  python scripts/bench.py step --sizes 512 --json step.json
  python scripts/bench.py quality --sizes 256 --content me.jpg --style painting.jpg
  python scripts/bench.py memory --sizes 512,1024
  python scripts/bench.py sweep --sizes 128 --rounds 5
  python scripts/bench.py tiles --sizes 1024 --steps 2 --rounds 3

step      an Adam step of the default objective, against PyTorch's on the same device (needs the
          extra `bench`) and against direct convolutions
precision a step in every precision, against PyTorch's, also compiled; and its speed as a share of a
          large matrix product's
quality   seconds until the loss is within 5 % of what neural-style-pt reaches in PyTorch with 500
          steps of L-BFGS from the photograph, against the time of those steps; and the loss at
          shares of that time, as a multiple of the loss to reach; --pictures saves the pictures;
          measured once
sweep     a cell of a sweep in batches, as `nst_jax.sweep` paints it, against one cell at a time
memory    a command's peak memory per pixel of the painting: the difference between two sizes,
          divided by their difference in pixels
tiles     an Adam step in tiles, against one of the whole picture
compile   seconds to compile the steps at a size, and from the start of a command to its first step

A ratio below 1 is better than the reference. Machines are noisy: every round measures all sides in
turn, and a table has the median over rounds of the ratio within a round, with its smallest and
largest. Only `compile` counts compilation; on a GPU it leaves out the search for kernels, which XLA
remembers within a process.

2 CPU cores: step 4 minutes, quality 7 at 256 pixels and 20 at 512, sweep 12, memory 5, compile 5,
tiles 4 at 1024 pixels with --steps 1, and 14 at 2048 with --steps 1 --rounds 2.
"""

import functools
import json
import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import measuring
import quality
from absl import flags
from measuring import ROUNDS, STEPS, Row, begun, experiment, loaded, rounds, row, sizes, stepped

from nst_jax import cli, config
from nst_jax.config.experiment import Experiment, Pixels
from nst_jax.errors import UserError
from nst_jax.pictures import images

_JSON = flags.DEFINE_string("json", "", "Also write the table to this file.")
flags.adopt_module_key_flags(measuring)
flags.adopt_module_key_flags(quality)

PRECISIONS = ("float32", "tensorfloat32", "bfloat16")


def square(size: int, keys: Mapping[str, Any]) -> Experiment:
    """The default objective, with the sample's pictures resized to squares."""
    c = config.sample()
    content, style = (
        Pixels(images.resize(images.read(path), (size, size)), path)
        for path in (c.content, c.style)
    )
    return experiment(size, keys, content, [(style, 1.0)])


def step() -> Iterator[Row]:
    """A step on a square picture, against the faster of PyTorch's two memory layouts."""
    from torch_reference import painter

    for size in sizes(256, 512):
        base = square(size, {})
        pictures, _ = loaded(base)
        layouts = {"NCHW": False, "channels last": True}
        sides: dict[str, Callable[[], Any]] = {
            f"PyTorch, {name}": functools.partial(painter(base, pictures, last).steps, STEPS.value)
            for name, last in layouts.items()
        }
        for method in ("auto", "direct"):
            sides[method] = stepped(square(size, {"convolution": method}))
        seconds = rounds(sides)
        reference = min(list(sides)[:2], key=lambda name: statistics.median(seconds[name]))
        for name in sides:
            label = f"{size} pixels, {name}, against {reference}"
            yield row(label, seconds[name], seconds[reference], STEPS.value)


def precision() -> Iterator[Row]:
    """A step on a square picture in every precision, against PyTorch's fastest way; and its speed.

    The speed counts the operations of the direct convolutions, forward and backward. It leaves out
    everything between them, and the forward pass for the log's terms, one in --steps.
    """
    from torch_reference import painter

    from nst_jax.transfer import estimate

    ways = {
        "PyTorch, NCHW": (False, False),
        "PyTorch, channels last": (True, False),
        "PyTorch, channels last, compiled": (True, True),
    }
    for size in sizes(512):
        for name in PRECISIONS:
            base = square(size, {"precision": name})
            pictures, _ = loaded(base)
            multiply, products = product(name)
            others = {
                way: functools.partial(painter(base, pictures, *how).steps, STEPS.value)
                for way, how in ways.items()
            }
            seconds = rounds({"nst_jax": stepped(base), "product": multiply} | others)
            best = products / statistics.median(seconds.pop("product"))
            operations = estimate.work(base, (size, size)).operations
            reference = min(others, key=lambda way: statistics.median(seconds[way]))
            for way in seconds:
                label = f"{size} pixels, {name}, {way}, against {reference}"
                speed = operations / statistics.median(seconds[way])
                note = f"{speed / 1e12:.3g} TFLOP/s, {speed / best:.2f} of a product's"
                yield row(label, seconds[way], seconds[reference], STEPS.value)._replace(note=note)


def product(precision: str) -> tuple[Callable[[], Any], float]:
    """Ten products of large matrices in one precision, and the number of their operations."""
    import jax
    import jax.numpy as jnp

    side = 2048 if jax.default_backend() == "cpu" else 8192
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    matrix = jax.random.normal(jax.random.key(0), (side, side), dtype) * side**-0.5

    @jax.jit
    def powers(matrix: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return jax.lax.fori_loop(0, 10, lambda _, power: power @ matrix, matrix)

    return lambda: jax.block_until_ready(powers(matrix)), 10 * 2 * side**3


def sweep() -> Iterator[Row]:
    """Cells that differ in beta, in batches, against one at a time; up to 64 cells on a GPU."""
    import jax

    from nst_jax.transfer import estimate
    from nst_jax.transfer.paint import Job

    counts = (1, 4, 16) if jax.default_backend() == "cpu" else (1, 16, 64)
    for size in sizes(128, 256):
        for optimizer in ("adam", "lbfgs"):
            keys = {"optimizer.name": optimizer}
            base = experiment(size, keys)
            pictures, network = loaded(base)
            most = estimate.batch_size(estimate.work(base, pictures.shape))
            for count in counts:
                jobs = [
                    Job(experiment(size, keys | {"beta": 0.02 * (1 + k)}), pictures)
                    for k in range(count)
                ]
                seconds = rounds(
                    {
                        "in turn": functools.partial(painted, jobs, network, 1),
                        "batched": functools.partial(painted, jobs, network, most),
                    }
                )
                label = f"{size} pixels, {optimizer}, {count} cells, {min(most, count)} at once"
                yield row(label, seconds["batched"], seconds["in turn"], count)


def painted(jobs: Sequence[Any], network: Any, at_once: int):
    """Paints all jobs, in batches of `at_once` at most."""
    from nst_jax.runs import plan
    from nst_jax.transfer.paint import paint

    for batch in plan.split_evenly(jobs, at_once):
        for progress in paint(batch, network):
            progress.images.block_until_ready()


MEMORY_WAYS: dict[str, dict[str, Any]] = {
    "Adam": {},
    "Adam, direct": {"convolution": "direct"},
    "Adam, rematerialize": {"rematerialize": True},
    "Adam, bfloat16": {"precision": "bfloat16"},
    "Adam, bfloat16, rematerialize": {"precision": "bfloat16", "rematerialize": True},
    "L-BFGS, memory 20": {"optimizer.name": "lbfgs"},
    "L-BFGS, memory 20, rematerialize": {"optimizer.name": "lbfgs", "rematerialize": True},
}


def run(folder: str, size: int, keys: Mapping[str, Any], cache: str = "") -> tuple[float, Path]:
    """Runs starry.py at one size for two steps.

    Args:
      folder: for the work directory.
      size: longer side in pixels.
      keys: other settings.
      cache: JAX's compilation cache; "" for none.

    Returns:
      Seconds until the first step was logged, and the work directory.
    """
    shared = {"image_size": size, "pyramid.min_size": 0, "steps": 2, "log_every": 1}
    shared |= {"save_every": 0, "optimizer.name": "adam"}
    workdir = Path(tempfile.mkdtemp(dir=folder)) / "run"
    words = measuring.run_command(workdir, {**shared, **keys})
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
    seconds, start = 0.0, time.perf_counter()
    unseen, seen = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(words, stdout=unseen, stderr=seen, text=True, env=environment) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if re.match("step 1/", line):
                seconds = time.perf_counter() - start
    assert not child.returncode, f"{words} exited with {child.returncode}"
    return seconds, workdir


def memory() -> Iterator[Row]:
    """Kilobytes per pixel of the painting, by optimiser and precision."""
    small, large = min(sizes(512, 1024)), max(sizes(512, 1024))
    if small == large:
        raise UserError("memory compares two sizes; name both with --sizes")
    first = None
    for name, keys in MEMORY_WAYS.items():
        pixels, used = [], []
        with tempfile.TemporaryDirectory() as folder:
            for size in (small, large):
                _, workdir = run(folder, size, keys)
                height, width, _ = images.read(workdir / "final.png").shape
                pixels.append(height * width)
                result = json.loads((workdir / "result.json").read_text())
                used.append(result["peak_memory_bytes"])
        each = (used[1] - used[0]) / (pixels[1] - pixels[0])
        first = first or each
        label = f"{name}, {used[1] / 1e9:.2f} GB at {large} pixels"
        yield Row(label, each / 1e3, [each / first])


def tiles() -> Iterator[Row]:
    """A step on a square picture in tiles, against one of the whole picture."""
    for size in sizes(1024, 2048):
        if size <= 512:
            raise UserError(
                f"--sizes {size}: tiles are of 512 pixels at least; choose a larger size"
            )
        tiled = {f"in tiles of {tile}": {"tile": tile} for tile in (512, 1024) if tile < size}
        ways = {"whole": {"tile": 0}, **tiled}
        seconds = rounds({way: stepped(square(size, keys)) for way, keys in ways.items()})
        for way in tiled:
            yield row(f"{size} pixels {way}", seconds[way], seconds["whole"], STEPS.value)


def compilation() -> Iterator[Row]:
    """Seconds to compile, and from the start of a command to its first step."""
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    ways = {f"{o}, {m}": (o, m) for o in ("adam", "lbfgs") for m in ("auto", "direct")}
    for size in sizes(256, 512):
        sides = {}
        for name, (optimizer, method) in ways.items():
            own = experiment(size, {"optimizer.name": optimizer, "convolution": method})
            sides[name] = functools.partial(compiled, *begun(own))
        seconds = rounds(sides)
        for name in sides:
            yield row(f"{size} pixels, {name}", seconds[name], seconds["adam, auto"], 1)
    with tempfile.TemporaryDirectory() as folder:
        cold = [run(folder, 256, {}, f"{folder}/{k}")[0] for k in range(ROUNDS.value)]
        warm = [run(folder, 256, {}, f"{folder}/{k}")[0] for k in range(ROUNDS.value)]
    yield row("256 pixels, a command to its first step, empty cache", cold, cold, 1)
    yield row("256 pixels, the same, cached programs", warm, cold, 1)


def compiled(static: Any, *others: Any):
    """Traces and compiles a chunk from nothing."""
    import jax

    from nst_jax.optimize.step import chunk

    jax.clear_caches()
    chunk.lower(static, STEPS.value, 0, *others).compile()


# Name -> (benchmark, unit of its values).
BENCHMARKS: dict[str, tuple[Callable[[], Iterator[Row]], str]] = {
    "step": (step, "seconds"),
    "precision": (precision, "seconds"),
    "quality": (quality.quality, "seconds"),
    "sweep": (sweep, "seconds"),
    "memory": (memory, "kB/pixel"),
    "tiles": (tiles, "seconds"),
    "compile": (compilation, "seconds"),
}


def main(name: str):
    """Runs a benchmark, prints its table, and writes it as JSON if asked to."""
    # PyTorch and the commands started here share the GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    device = jax.devices()[0].device_kind
    versions = f"Python {platform.python_version()}, JAX {jax.__version__}"
    print(f"{name}: {device} ({platform.machine()}), {versions}")
    benchmark, unit = BENCHMARKS[name]
    print(f"{'':<60}{unit:>10}{'ratio':>8}  from to", flush=True)
    rows = []
    for one in benchmark():
        rows.append(one._asdict())
        spread = f"{one.ratios[0]:.2f} {one.ratios[-1]:.2f}"
        middle = statistics.median(one.ratios)
        line = f"{one.label:<60}{one.value:>10.3f}{middle:>8.2f}  {spread}  {one.note}"
        print(line.rstrip(), flush=True)
    if _JSON.value:
        table = {"benchmark": name, "device": device, "versions": versions, "unit": unit}
        Path(_JSON.value).write_text(json.dumps(table | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    cli.start(main, BENCHMARKS)
