"""Benchmarks, each a table of ratios measured in one run.

  python scripts/bench.py step
  python scripts/bench.py step --sizes 512 --json step.json
  python scripts/bench.py quality --sizes 256 --content me.jpg --style painting.jpg
  python scripts/bench.py memory --sizes 512,1024
  python scripts/bench.py sweep --sizes 128 --rounds 5

step      an Adam step of the default objective, against PyTorch's on the same device (needs the
          extra `bench`) and against direct convolutions
precision the same in every precision, against PyTorch's, also compiled; and the share of a large
          matrix product's speed that it reaches
quality   seconds until the loss is within 5 % of that which neural-style-pt's 500 steps of L-BFGS
          reach in PyTorch, from the photograph, against the time of those; and the loss at shares
          of that time, as a multiple of the one to reach, with --pictures as pictures; measured
          once
sweep     a cell of a sweep, batched as `nst_jax.sweep` does it, against one after another
memory    most bytes that a command had in use, a pixel of the painting: what the larger of two
          sizes takes more, by the pixels that it has more
compile   seconds to compile the steps of a size, and from the start of a command to its first step

A ratio below 1 is better than the reference. Machines are noisy: every round measures all sides in
turn, and a table has the median over rounds of the ratio within a round, with its smallest and
largest. Compilation is not counted but by compile, which on a GPU leaves out the search for kernels
that XLA remembers within a process.

2 CPU cores: step 4 minutes, quality 7 at 256 pixels and 20 at 512, sweep 12, memory 5, compile 5.
"""

import functools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from measuring import ROUNDS, STEPS, Row, begun, experiment, rounds, row, sizes, stepped
from quality import quality

from nst_jax import cli
from nst_jax import config
from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.transfer import prepare

_JSON = flags.DEFINE_string("json", "", "Also write the table to this file.")


def step() -> Iterator[Row]:
    """A step on a square picture; PyTorch's is the better one of its two layouts."""
    from torch_reference import painter

    from nst_jax.transfer import paint as transfer

    for size in sizes(256, 512):
        c = experiment(size)
        content, style = square(c)
        loaded = transfer.load_weights(c)
        layouts = {"NCHW": False, "channels last": True}
        sides: dict[str, Callable[[], Any]] = {
            f"PyTorch, {name}": functools.partial(
                painter(c, loaded, content, style, last).steps, STEPS.value
            )
            for name, last in layouts.items()
        }
        for method in ("auto", "direct"):
            own = config.with_values(c, {"convolution": method})
            pictures = prepare.read(own, content, [style])
            sides[method] = stepped(own, pictures, loaded)
        seconds = rounds(sides)
        reference = min(list(sides)[:2], key=lambda name: statistics.median(seconds[name]))
        for name in sides:
            label = f"{size} pixels, {name}, against {reference}"
            yield row(label, seconds[name], seconds[reference], STEPS.value)


def square(c: config.Config) -> list[images.Picture]:
    """The pictures of a config, resized to squares."""
    shape = c.image_size, c.image_size
    return [images.resize(images.read(path), shape) for path in (c.content, c.style)]


PRECISIONS = ("float32", "tensorfloat32", "bfloat16")


def precision() -> Iterator[Row]:
    """A step on a square picture in every precision, with its speed; against PyTorch's better way.

    Counted are the operations of the direct convolutions there and back: nothing between them, and
    not the forward pass for the terms of the log, once in `--steps`.
    """
    from torch_reference import painter

    from nst_jax.runs import plan
    from nst_jax.transfer import paint as transfer

    for size in sizes(512):
        for name in PRECISIONS:
            c = experiment(size, precision=name)
            content, style = square(c)
            loaded = transfer.load_weights(c)
            multiply, products = product(name)
            ways = {
                "PyTorch, NCHW": (False, False),
                "PyTorch, channels last": (True, False),
                "PyTorch, channels last, compiled": (True, True),
            }
            others = {
                way: functools.partial(painter(c, loaded, content, style, *how).steps, STEPS.value)
                for way, how in ways.items()
            }
            own = stepped(c, prepare.read(c, content, [style]), loaded)
            seconds = rounds({"nst_jax": own, "product": multiply} | others)
            best = products / statistics.median(seconds.pop("product"))
            operations = plan.work(c, (size, size)).operations
            reference = min(others, key=lambda way: statistics.median(seconds[way]))
            for way in seconds:
                label = f"{size} pixels, {name}, {way}, against {reference}"
                speed = operations / statistics.median(seconds[way])
                note = f"{speed / 1e12:.3g} TFLOP/s, {speed / best:.2f} of a product's"
                yield row(label, seconds[way], seconds[reference], STEPS.value)._replace(note=note)


def product(precision: str) -> tuple[Callable[[], Any], float]:
    """Ten products of large matrices in one precision, and how many operations they are."""
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
    """Cells that differ in beta, in batches, against one after another; on a GPU up to 64."""
    import jax

    from nst_jax.runs import plan
    from nst_jax.transfer import paint as transfer

    counts = (1, 4, 16) if jax.default_backend() == "cpu" else (1, 16, 64)
    for size in sizes(128, 256):
        for optimizer in ("adam", "lbfgs"):
            base = experiment(size, **{"optimizer.name": optimizer})
            pictures, loaded = prepare.read(base), transfer.load_weights(base)
            most = plan.at_once(plan.work(base, pictures.shape))
            for count in counts:
                cells = [config.with_values(base, {"beta": 0.02 * (1 + k)}) for k in range(count)]
                seconds = rounds(
                    {
                        "in turn": functools.partial(in_turn, cells, pictures, loaded),
                        "batched": functools.partial(batched, cells, pictures, loaded, most),
                    }
                )
                label = f"{size} pixels, {optimizer}, {count} cells, {min(most, count)} at once"
                yield row(label, seconds["batched"], seconds["in turn"], count)


def in_turn(cells: Sequence[Any], pictures: Any, loaded: Any):
    """Paints one after another."""
    from nst_jax.transfer import paint as transfer

    for c in cells:
        finish(transfer.paint(c, pictures, loaded))


def batched(cells: Sequence[Any], pictures: Any, loaded: Any, most: int):
    """Paints in batches."""
    from nst_jax.runs import plan
    from nst_jax.transfer import paint as transfer

    for batch in plan.batches(cells, most):
        finish(transfer.paint_together(batch, [pictures] * len(batch), loaded))


def finish(progress: Iterator[Any]):
    """Paints to the end."""
    for one in progress:
        one.image.block_until_ready()


ROOT = Path(__file__).parents[1]
MEMORY_WAYS: dict[str, dict[str, Any]] = {
    "Adam": {},
    "Adam, direct": {"convolution": "direct"},
    "Adam, rematerialize": {"rematerialize": True},
    "Adam, bfloat16": {"precision": "bfloat16"},
    "Adam, bfloat16, rematerialize": {"precision": "bfloat16", "rematerialize": True},
    "L-BFGS, memory 20": {"optimizer.name": "lbfgs"},
    "L-BFGS, memory 20, rematerialize": {"optimizer.name": "lbfgs", "rematerialize": True},
}


def command(folder: str, size: int, keys: dict[str, Any], cache: str = "") -> tuple[float, Path]:
    """Runs starry.py at one size for two steps: seconds to the first of them, and its folder."""
    shared = {"image_size": size, "pyramid.min_size": 0, "steps": 2, "log_every": 1}
    keys = shared | {"save_every": 0, "optimizer.name": "adam"} | keys
    workdir = Path(tempfile.mkdtemp(dir=folder)) / "run"
    words = [sys.executable, "-m", "nst_jax.run", "--config", str(ROOT / "configs" / "starry.py")]
    words += [f"--workdir={workdir}", *(f"--config.{key}={value}" for key, value in keys.items())]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
    seconds, start = 0.0, time.perf_counter()
    unseen, seen = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(words, stdout=unseen, stderr=seen, text=True, env=environment) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if re.match("step 1/", line):
                seconds = time.perf_counter() - start
    assert not child.returncode, f"{words} ended with {child.returncode}"
    return seconds, workdir


def memory() -> Iterator[Row]:
    """Kilobytes a pixel of the painting, by optimiser and precision."""
    small, large = min(sizes(512, 1024)), max(sizes(512, 1024))
    if small == large:
        raise UserError("memory compares two sizes; name both with --sizes")
    first = None
    for name, keys in MEMORY_WAYS.items():
        pixels, used = [], []
        with tempfile.TemporaryDirectory() as folder:
            for size in (small, large):
                workdir = command(folder, size, keys)[1]
                height, width, _ = images.read(workdir / "final.png").shape
                pixels.append(height * width)
                result = json.loads((workdir / "result.json").read_text())
                used.append(result["peak_memory_bytes"])
        each = (used[1] - used[0]) / (pixels[1] - pixels[0])
        first = first or each
        label = f"{name}, {used[1] / 1e9:.2f} GB at {large} pixels"
        yield Row(label, each / 1e3, [each / first])


def compilation() -> Iterator[Row]:
    """Seconds to compile, and from the start of a command to its first step."""
    import jax

    from nst_jax.optimize.loop import chunk
    from nst_jax.transfer import paint as transfer

    jax.config.update("jax_enable_compilation_cache", False)
    ways = {f"{o}, {m}": (o, m) for o in ("adam", "lbfgs") for m in ("auto", "direct")}
    for size in sizes(256, 512):
        sides = {}
        for name, (optimizer, method) in ways.items():
            c = experiment(size, **{"optimizer.name": optimizer, "convolution": method})
            settings, *rest = begun(c, prepare.read(c), transfer.load_weights(c))
            given = settings, c.log_every, 0, *rest
            sides[name] = functools.partial(compiled, chunk, given)
        seconds = rounds(sides)
        for name in sides:
            yield row(f"{size} pixels, {name}", seconds[name], seconds["adam, auto"], 1)
    with tempfile.TemporaryDirectory() as folder:
        cold = [command(folder, 256, {}, f"{folder}/{k}")[0] for k in range(ROUNDS.value)]
        warm = [command(folder, 256, {}, f"{folder}/{k}")[0] for k in range(ROUNDS.value)]
    yield row("256 pixels, a command to its first step, from nothing", cold, cold, 1)
    yield row("256 pixels, the same, programs kept", warm, cold, 1)


def compiled(function: Any, given: Sequence[Any]):
    """Traces and compiles anew."""
    import jax

    jax.clear_caches()
    function.lower(*given).compile()


# name -> (benchmark, what its values are)
BENCHMARKS: dict[str, tuple[Callable[[], Iterator[Row]], str]] = {
    "step": (step, "seconds"),
    "precision": (precision, "seconds"),
    "quality": (quality, "seconds"),
    "sweep": (sweep, "seconds"),
    "memory": (memory, "kB/pixel"),
    "compile": (compilation, "seconds"),
}


def main(name: str):
    """Measures and prints a table, and writes it as JSON if asked."""
    # A GPU is shared with PyTorch, and with commands that are started.
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
