"""Benchmarks, each a table of ratios measured in one run.

  python scripts/bench.py step
  python scripts/bench.py step --sizes 512 --json step.json
  python scripts/bench.py quality --sizes 256 --content me.jpg --style painting.jpg
  python scripts/bench.py memory --sizes 512,1024
  python scripts/bench.py sweep --sizes 128 --rounds 5

step    an Adam step of the default objective, against PyTorch's (needs the extra `bench`) and
        against direct convolutions
quality seconds until the loss is within 5 % of that which neural-style-pt's 500 steps of L-BFGS
        reach in PyTorch, from the photograph, against the time of those; and the loss at shares of
        that time, as a multiple of the one to reach, with --pictures as pictures; measured once
sweep   a cell of a sweep, batched as `nst_jax.sweep` does it, against one after another
memory  most bytes that a command had in use, a pixel of the painting: what the larger of two sizes
        takes more, by the pixels that it has more
compile seconds to compile the steps of a size, and from the start of a command to its first step

A ratio below 1 is better than the reference. Machines are noisy: every round measures all sides in
turn, and a table has the median over rounds of the ratio within a round, with its smallest and
largest. Compilation is not counted but by compile.

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
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from nst_jax import commands, config, images, inputs, sheets

_SIZES = flags.DEFINE_list("sizes", [], "Sides of the painting, in pixels; 256 and 512 if empty.")
_STEPS = flags.DEFINE_integer("steps", 10, "Steps of one measurement.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Measurements of each side.", lower_bound=1)
_CONTENT = flags.DEFINE_string("content", "", "Photograph of `quality`; the sample's if empty.")
_STYLE = flags.DEFINE_string("style", "", "Painting of `quality`; the one in images/ if empty.")
_PICTURES = flags.DEFINE_string("pictures", "", "Folder for the sheets of `quality`; empty: none.")
_JSON = flags.DEFINE_string("json", "", "Also write the table to this file.")


class Row(NamedTuple):
    """A line of a table.

    Attributes:
      label: what was measured, against what.
      value: median of what was measured.
      ratios: of each round, to the reference, in order of size.
      note: more about it.
    """

    label: str
    value: float
    ratios: list[float]
    note: str = ""


def rounds(sides: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Seconds of each side in every round; a first one compiles and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(_ROUNDS.value + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def row(label: str, own: list[float], reference: list[float], each: int) -> Row:
    """A line of what was measured against its reference, in seconds of one of `each`."""
    ratios = sorted(a / b for a, b in zip(own, reference, strict=True))
    return Row(label, statistics.median(own) / each, ratios)


def experiment(size: int, **keys: Any) -> config.Config:
    """The default objective at a size, in a single chunk."""
    c = config.sample()
    c.update_from_flattened_dict(keys)
    c.image_size, c.steps, c.log_every, c.save_every = size, _STEPS.value, _STEPS.value, 0
    return config.validate(c)


def step() -> Iterator[Row]:
    """A step on a square picture; PyTorch's is the better one of its two layouts."""
    from torch_reference import painter

    from nst_jax import transfer

    for size in map(int, _SIZES.value or ("256", "512")):
        c = experiment(size)
        content, style = (
            images.resize(images.read(path), (size, size)) for path in (c.content, c.style)
        )
        loaded = transfer.load_weights(c)
        layouts = {"NCHW": False, "channels last": True}
        sides: dict[str, Callable[[], Any]] = {
            f"PyTorch, {name}": functools.partial(
                painter(c, loaded, content, style, last).steps, _STEPS.value
            )
            for name, last in layouts.items()
        }
        for method in ("auto", "direct"):
            own = config.with_values(c, {"convolution": method})
            pictures = inputs.read(own, content, [style])
            sides[method] = stepped(own, pictures, loaded)
        seconds = rounds(sides)
        reference = min(list(sides)[:2], key=lambda name: statistics.median(seconds[name]))
        for name in sides:
            label = f"{size} pixels, {name}, against {reference}"
            yield row(label, seconds[name], seconds[reference], _STEPS.value)


def stepped(c: config.Config, pictures: Any, loaded: Any) -> Callable[[], None]:
    """A function that takes a chunk of steps and goes on where the last one ended."""
    import jax

    from nst_jax import transfer
    from nst_jax.optimize import chunk, initial_state
    from nst_jax.starts import start_image

    settings = transfer.settings_of(c)
    network = transfer.network_for(c, loaded)
    args = transfer.problem(c, pictures, network)
    args, rates = jax.device_put((args, transfer.rates_of(c)))
    state = [initial_state(settings, start_image(c, pictures, loaded.mean))]
    count = _STEPS.value

    def steps():
        state[0] = jax.block_until_ready(chunk(settings, count, count, state[0], args, rates))[0]

    return steps


NEURAL_STYLE = Path(__file__).parents[1] / "configs" / "presets" / "neural_style.py"
WITHIN = 1.05  # of the loss to reach
WAYS: dict[str, dict[str, Any]] = {
    "L-BFGS": {"optimizer.name": "lbfgs"},
    "L-BFGS, fourier": {"optimizer.name": "lbfgs", "parameterization": "fourier"},
    "L-BFGS, fourier, from half the size": {
        "optimizer.name": "lbfgs",
        "parameterization": "fourier",
        "pyramid.factor": 2.0,
        "pyramid.first_steps": 60,
    },
    "Adam, rate 0.04": {"optimizer.name": "adam", "optimizer.learning_rate": 0.04},
    "Adam, rate 0.01": {"optimizer.name": "adam", "optimizer.learning_rate": 0.01},
    "Adam, rate 0.02, fourier": {
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.02,
        "parameterization": "fourier",
    },
}
MOST_STEPS = 500
SHARES = {"1/12": 1 / 12, "1/6": 1 / 6, "1/4": 1 / 4}  # of PyTorch's time, to compare pictures at


class Point(NamedTuple):
    """Where a way has come to: its time, its loss (infinite below full size) and its picture."""

    seconds: float
    steps: int
    loss: float
    picture: Any


def quality() -> Iterator[Row]:
    """Ways to the loss that neural-style-pt's own way comes to, and its time for that."""
    import jax.numpy as jnp
    from torch_reference import painter

    from nst_jax import transfer
    from nst_jax.objective import objective

    for size in map(int, _SIZES.value or ("256",)):
        c = config.load(NEURAL_STYLE)
        c.image_size, c.steps, c.log_every, c.save_every = size, MOST_STEPS, 10, 0
        c.content, c.style = _CONTENT.value or c.content, _STYLE.value or c.style
        c.init.picture, c.init.noise = "content", 0.0
        c = config.validate(c)
        pictures, loaded = inputs.read(c), transfer.load_weights(c)
        assert pictures.content is not None
        reference = painter(c, loaded, pictures.content, pictures.styles[0], channels_last=False)
        args = transfer.problem(c, pictures, transfer.network_for(c, loaded))
        points, seconds = [], 0.0
        for steps in range(c.log_every, MOST_STEPS + 1, c.log_every):
            start = time.perf_counter()
            reference.steps(c.log_every)
            seconds += time.perf_counter() - start
            saved = reference.image.detach().clamp(0, 1)[0].permute(1, 2, 0).numpy()
            loss = float(objective(jnp.asarray(saved), args))
            points.append(Point(seconds, steps, loss, np.array(saved)))
        whole, _, wanted, _ = points[-1]
        curves = {"PyTorch, L-BFGS": points}
        label = f"{size} pixels, PyTorch, L-BFGS, {MOST_STEPS} steps to {wanted:.4g}"
        yield Row(label, whole, [1.0], at_shares(points, whole, wanted))
        for name, keys in WAYS.items():
            half = {"pyramid.min_size": size // 2} if "pyramid.factor" in keys else {}
            own = config.with_values(c, keys | half)
            warm = config.with_values(own, {"steps": 10, "pyramid.first_steps": 10})
            followed(warm, pictures, loaded, 0, 0)
            points = curves[name] = followed(own, pictures, loaded, WITHIN * wanted, whole)
            end = next((one for one in points if one.loss <= WITHIN * wanted), points[-1])
            label = f"{size} pixels, {name}, {end.steps} steps to {end.loss:.4g}"
            yield Row(label, end.seconds, [end.seconds / whole], at_shares(points, whole, wanted))
        if _PICTURES.value:
            rows = [
                [after(points, s * whole).picture for s in SHARES.values()]
                for points in curves.values()
            ]
            columns = [f"{s * whole:.0f} s" for s in SHARES.values()]
            sheet = sheets.sheet(rows, list(curves), columns, height=size)
            images.write(Path(_PICTURES.value) / f"quality-{size}.png", sheet)


def followed(
    c: config.Config, pictures: Any, loaded: Any, wanted: float, whole: float
) -> list[Point]:
    """Paints until the loss is low enough and the last of `SHARES` of a time is over."""
    from nst_jax import transfer

    start, points = time.perf_counter(), []
    for progress in transfer.paint(c, pictures, loaded):
        full = progress.image.shape[:2] == pictures.shape
        loss = progress.terms["total"] if full else np.inf
        seconds = time.perf_counter() - start
        points.append(Point(seconds, progress.step, loss, progress.image))
        if min(one.loss for one in points) <= wanted and seconds >= whole * max(SHARES.values()):
            break
    return points


def after(points: Sequence[Point], seconds: float) -> Point:
    """The last point that is reached by then; the first, if there is none."""
    return [points[0], *(one for one in points if one.seconds <= seconds)][-1]


def at_shares(points: Sequence[Point], whole: float, wanted: float) -> str:
    """The loss at each of `SHARES` of a time, as a multiple of the one that is wanted."""
    losses = {name: after(points, share * whole).loss / wanted for name, share in SHARES.items()}
    return ", ".join(f"{name}: {loss:.3f}" for name, loss in losses.items())


def sweep() -> Iterator[Row]:
    """A cell of 1, 4 and 16 that differ in beta, in batches, against one after another."""
    from nst_jax import programs, transfer

    for size in map(int, _SIZES.value or ("128", "256")):
        for optimizer in ("adam", "lbfgs"):
            base = experiment(size, **{"optimizer.name": optimizer})
            pictures, loaded = inputs.read(base), transfer.load_weights(base)
            most = programs.at_once(programs.work(base, pictures.shape))
            for count in (1, 4, 16):
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
    sizes = sorted(map(int, _SIZES.value or ("512", "1024")))
    first = None
    for name, keys in MEMORY_WAYS.items():
        pixels, used = [], []
        with tempfile.TemporaryDirectory() as folder:
            for size in (sizes[0], sizes[-1]):
                workdir = command(folder, size, keys)[1]
                height, width, _ = images.read(workdir / "final.png").shape
                pixels.append(height * width)
                result = json.loads((workdir / "result.json").read_text())
                used.append(result["peak_memory_bytes"])
        each = (used[1] - used[0]) / (pixels[1] - pixels[0])
        first = first or each
        label = f"{name}, {used[1] / 1e9:.2f} GB at {sizes[-1]} pixels"
        yield Row(label, each / 1e3, [each / first])


def compilation() -> Iterator[Row]:
    """Seconds to compile, and from the start of a command to its first step."""
    import jax

    from nst_jax import transfer
    from nst_jax.optimize import chunk, initial_state
    from nst_jax.starts import start_image

    jax.config.update("jax_enable_compilation_cache", False)
    ways = {f"{o}, {m}": (o, m) for o in ("adam", "lbfgs") for m in ("auto", "direct")}
    for size in map(int, _SIZES.value or ("256", "512")):
        sides = {}
        for name, (optimizer, method) in ways.items():
            c = experiment(size, **{"optimizer.name": optimizer, "convolution": method})
            pictures, loaded = inputs.read(c), transfer.load_weights(c)
            settings, network = transfer.settings_of(c), transfer.network_for(c, loaded)
            args = transfer.problem(c, pictures, network)
            state = initial_state(settings, start_image(c, pictures, loaded.mean))
            given = settings, c.log_every, 0, state, args, transfer.rates_of(c)
            sides[name] = functools.partial(compiled, chunk, given)
        seconds = rounds(sides)
        for name in sides:
            yield row(f"{size} pixels, {name}", seconds[name], seconds["adam, auto"], 1)
    with tempfile.TemporaryDirectory() as folder:
        cold = [command(folder, 256, {}, f"{folder}/{k}")[0] for k in range(_ROUNDS.value)]
        warm = [command(folder, 256, {}, f"{folder}/{k}")[0] for k in range(_ROUNDS.value)]
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
    "quality": (quality, "seconds"),
    "sweep": (sweep, "seconds"),
    "memory": (memory, "kB/pixel"),
    "compile": (compilation, "seconds"),
}


def main(name: str):
    """Measures and prints a table, and writes it as JSON if asked."""
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
    commands.start(main, BENCHMARKS)
