"""Compares the objective of a whole picture with that of tiles, and of rows on several devices.

  python scripts/split_equality.py
  python scripts/split_equality.py --devices=2 --rows gram,reflect --tile=80

Every row of the table is a config. Its columns say how far the value and the gradient are from
those of the whole picture on one device, relative to the value and to the gradient's largest
element, and what crosses between devices: how often rows go to a neighbour, sums are taken, and
whether anything is gathered. A CPU is made to look like several devices. With --processes, one
device of every process:

  python scripts/split_equality.py --coordinator=localhost:9876 --processes=2 --process=0 &
  python scripts/split_equality.py --coordinator=localhost:9876 --processes=2 --process=1

2 CPU cores: about a minute a row.
"""

import os
import re
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from nst_jax import cli, config
from nst_jax.config import grammar, rules
from nst_jax.errors import UserError
from nst_jax.pictures import images

if TYPE_CHECKING:
    import jax

    from nst_jax.config.experiment import Experiment
    from nst_jax.transfer.prepare import Pictures

_ROWS = flags.DEFINE_string("rows", "", "Rows, each by the start of its name; all if empty.")
_DEVICES = flags.DEFINE_list("devices", ["1", "2", "4", "8"], "Numbers of devices; 1: tiles only.")
_TILE = flags.DEFINE_integer("tile", 80, "Side of the tiles with one device, in pixels.")
_SPLIT_TILE = flags.DEFINE_integer("split_tile", 0, "The same with several; 0: none.")
_SIZE = flags.DEFINE_integer("size", 252, "Longer side in pixels.", lower_bound=32)
_COORDINATOR = flags.DEFINE_string("coordinator", "", "host:port of process 0.")
_PROCESSES = flags.DEFINE_integer("processes", 1, "Number of processes.", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process", 0, "Number of this process.", lower_bound=0)

# Tiles and halos see the same numbers, but sums in another order; where that decides between two
# equal elements of a window, max pooling would send the gradient elsewhere.
COMMON = {"pooling": "average", "init.noise": 0.1, "convolution": "direct"}
# {0}: the folder with the pictures.
MASKS = {
    f"guides.{of}": f"left={{0}}/{of}_left.png, right={{0}}/{of}_right.png"
    for of in ("content", "style")
}
STYLE = config.PICTURES / "starry.jpg"
# Row -> the config keys that differ.
ROWS: dict[str, dict[str, Any]] = {
    **{
        name: {"style_losses": name}
        for name in rules.STYLE_LOSSES
        if name not in rules.WHOLE_LOSSES
    },
    **{f"content {name}": {"content_losses": name} for name in rules.CONTENT_LOSSES},
    **{name: {"padding": name} for name in ("reflect", "replicate", "replicate_first")},
    **{f"tv {name}": {"tv_loss": name} for name in rules.TV_LOSSES},
    "normalized": {"normalize_gradients": True, "optimizer.name": "adam"},
    "max pooling": {"pooling": "max"},
    "winograd": {"convolution": "winograd"},
    "bfloat16": {"precision": "bfloat16"},
    "circular": {"padding": "circular", "content": "{0}/square.png", "image_size": 256},
    "recomputed": {"rematerialize": True, "content_layers": "relu2_1, relu4_2"},
    "two regions": MASKS,
    "two styles": {"style": f"{STYLE}:2, {config.sample_photograph()}"},
}


def main():
    """Prints the table."""
    wanted = tuple(grammar.words(_ROWS.value))
    rows = [row for row in ROWS if not wanted or row.startswith(wanted)]
    if not rows:
        raise UserError(f"--rows {_ROWS.value!r} matches no row; there are {', '.join(ROWS)}")
    counts = [int(count) for count in _DEVICES.value]
    if _PROCESSES.value > 1:
        counts = [_PROCESSES.value]
    forced = 1 if _PROCESSES.value > 1 else max(counts)
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={forced}"
    if _PROCESSES.value > 1:
        import jax

        jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    print(f"{'':<24}devices     value  gradient  to neighbours  sums  gathered")
    with TemporaryDirectory() as folder:
        write_pictures(Path(folder))
        for row in rows:
            settings = {
                key: value.replace("{0}", folder) if isinstance(value, str) else value
                for key, value in ROWS[row].items()
            }
            value, gradient, _ = evaluated(settings, 0, 1)
            for count in counts:
                cells = compared(settings, count, value, gradient)
                print(f"{row:<24}{count:>7}{cells}", flush=True)


def write_pictures(folder: Path):
    """Writes a square picture, and masks of the left and right parts of content and style."""
    photograph = images.read(config.sample_photograph())
    images.write(folder / "square.png", photograph[:256, :256])
    for of, picture in (("content", photograph), ("style", images.read(STYLE))):
        left = np.zeros_like(picture)
        left[:, : 2 * picture.shape[1] // 5] = 1
        images.write(folder / f"{of}_left.png", left)
        images.write(folder / f"{of}_right.png", 1 - left)


def compared(settings: dict[str, Any], count: int, value: float, gradient: np.ndarray) -> str:
    """The cells of a row for a number of devices, against the whole picture."""
    tile = _SPLIT_TILE.value if count > 1 else _TILE.value
    other, slope, operations = evaluated(settings, tile, count)
    off = np.abs(slope - gradient).max() / np.abs(gradient).max()
    return (
        f"{abs(other - value) / abs(value):>10.1e}{off:>10.1e}"
        f"{operations['collective-permute']:>15}{operations['all-reduce']:>6}"
        f"{operations['all-gather'] + operations['all-to-all']:>10}"
    )


def evaluated(
    settings: dict[str, Any], tile: int, count: int
) -> tuple[float, np.ndarray, Counter[str]]:
    """The objective, its gradient, and how often devices talk with each other."""
    import jax

    from nst_jax.losses.objective import objective
    from nst_jax.transfer import networks, paint, prepare, problem, starts
    from nst_jax.transfer.cache import SHARED

    experiment = experiment_of(settings | {"tile": tile, "split": count})
    pictures: Pictures = prepare.load(experiment, SHARED)
    network = networks.load_network(experiment, pictures, SHARED)
    mesh = paint.rows_mesh(experiment)
    paint.check_split(experiment, pictures.shape, mesh)
    place = paint.placement(experiment, pictures.shape, mesh)
    image = starts.start_image(experiment.inputs.start, 0, pictures, network.mean)
    network = place.put_everywhere(network)
    given = problem.problem_of(experiment, pictures, network, place)
    program = jax.jit(jax.value_and_grad(objective))
    arguments = place.put_picture(np.asarray(image)), network, place.put_problem(given, 0)
    compiled = program.lower(*arguments).compile()
    value, gradient = compiled(*arguments)
    return float(value), np.asarray(place.shown(gradient[None])[0]), talk(compiled)


def experiment_of(settings: dict[str, Any]) -> "Experiment":
    """The experiment of a row."""
    c = config.default()
    c.content = config.sample_photograph()
    c.style = str(STYLE)
    own = {"image_size": _SIZE.value, **COMMON, **settings}
    return config.with_values(c, own)


def talk(compiled: "jax.stages.Compiled") -> Counter[str]:
    """How often each collective operation is in a program."""
    return Counter(
        re.findall(
            r" (all-gather|all-reduce|all-to-all|collective-permute)(?:-start)?\(",
            compiled.as_text() or "",
        )
    )


if __name__ == "__main__":
    cli.start(main)
