"""Paints many experiments that differ along axes: one command, few compiled programs, one report.

  python -m nst_jax.sweep --config configs/ablations/style_weight.py
  python -m nst_jax.sweep --config configs/starry.py --axis "beta=0.002, 0.02" --axis "seed=0, 1"
  python -m nst_jax.sweep --config configs/ablations/losses.py --config.image_size=128 --dry_run
  python -m nst_jax.sweep --config configs/starry.py --config.content=photos/

The axes are the config's, or given with --axis; a folder or a pattern ("photos/*.jpg") as content
or style is one, too. Any other key can be set with --config.KEY=VALUE. Experiments that differ only
in numbers and pictures share their compiled programs and run in batches, spread over the machine's
devices. The same command again resumes where it stopped, and paints what is missing or failed. With
--worker, any number of commands paint one sweep, on any machines that see its folder; each may come
and go at any time.

Exit codes: 0 all painted; 1 some failed (the report says why), or the device did; 2 a mistake in a
flag, config or file; 130 interrupted, 143 asked to end.
"""

import itertools
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from nst_jax import cli, config
from nst_jax.config import axes
from nst_jax.config.axes import Axis, Cell
from nst_jax.errors import UserError
from nst_jax.report import fleet
from nst_jax.runs.interrupts import Interrupts

cli.define_config("Config file, e.g. configs/ablations/style_weight.py, or with :smoke after it.")
_AXIS = flags.DEFINE_multi_string(
    "axis", [], 'Another axis, as "KEY=VALUE, VALUE"; replaces the config\'s axis of that name.'
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder to write to; runs/NAME of the config if empty."
)
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Only print cells, programs, memory and time.")
_BATCH = flags.DEFINE_integer(
    "batch", 0, "Experiments at once on each device; 0: by its memory.", lower_bound=0
)
_WORKER = flags.DEFINE_boolean(
    "worker", False, "Share the sweep with other workers, which may come and go."
)
_PATIENCE = flags.DEFINE_float(
    "patience",
    fleet.PATIENCE_SECONDS,
    "Seconds without a heartbeat after which a worker's cells go to others.",
    lower_bound=1.0,
)
_PUBLISH = flags.DEFINE_string(
    "publish", "", "Copy finished cells and the report to a store, as in gs://bucket/sweep."
)
_LAUNCH = flags.DEFINE_enum(
    "launch", "", ["", "slurm", "local"], "Submit workers as jobs instead of painting."
)
_JOBS = flags.DEFINE_integer("jobs", 1, "How many workers to submit.", lower_bound=1)
_LAUNCH_ARGS = flags.DEFINE_list(
    "launch_args", [], "What each job asks for, as in gpus_per_node=1,partition=a,timeout_min=240."
)
_DISTRIBUTED = flags.DEFINE_boolean(
    "distributed", False, "A worker on a TPU pod, whose processes JAX must start together."
)


def main():
    """Flags -> cells -> sweep; prints the report's path."""
    given, name = cli.given_config()
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    cells = cells_of(given, _AXIS.value, overrides)
    if _DRY_RUN.value:
        from nst_jax.runs import plan
        from nst_jax.transfer.cache import Cache

        cli.answer(plan.table(cells, Cache(), _BATCH.value))
        return
    is_shared = _WORKER.value or _DISTRIBUTED.value
    if is_shared and not _WORKDIR.value:
        raise UserError("workers need the folder that they share; name it with --workdir")
    if _LAUNCH.value:
        cli.answer(_launch(cells, axes.of(given), name))
        return
    interrupts = Interrupts()
    from nst_jax.runs import processes, stores, sweeps  # import JAX

    if _DISTRIBUTED.value:
        processes.start_together()
    store = stores.opened(_PUBLISH.value) if _PUBLISH.value else None
    page = sweeps.sweep(
        cells,
        axes.of(given),
        name,
        _WORKDIR.value,
        interrupts,
        command_of=command_of,
        at_once=_BATCH.value,
        is_shared=is_shared,
        patience=_PATIENCE.value,
        store=store,
    )
    cli.answer(page)


def _launch(cells: Sequence[Cell], varied: Sequence[Axis], name: str) -> Path:
    """Submits workers of the sweep; returns the report, or as long as there is none the folder."""
    from nst_jax.runs import launch, sweeps  # import JAX

    path = sweeps.begin(cells, varied, name, _WORKDIR.value, command_of)
    own = [word for word in cli.typed() if not re.match("--?(launch|jobs|workdir|worker)", word)]
    words = ["-m", "nst_jax.sweep", *own, f"--workdir={path.resolve()}", "--worker"]
    launch.submit(path, words, _LAUNCH.value, _JOBS.value, _LAUNCH_ARGS.value)
    page = path / "report.html"
    return page if page.exists() else path


def cells_of(c: config.Config, texts: Sequence[str], overrides: dict[str, Any]) -> list[Cell]:
    """The cells of a config whose axes are replaced or joined by those of --axis.

    Args:
      c: the config; gets the axes.
      texts: values of --axis.
      overrides: values of --config.KEY.

    Raises:
      UserError: no axis, a bad one, or a key that is set and also varied by an axis.
    """
    own, given = axes.of(c), [axes.parse(text) for text in texts]
    for key in ("content", "style"):
        several = axes.pictures(key, c[key]) if isinstance(c[key], str) and c[key] else None
        if several and key not in {axis.name for axis in given}:
            given.append(several)
            overrides = {name: value for name, value in overrides.items() if name != key}
    known = {axis.name for axis in own}
    replaced = ([other for other in given if other.name == axis.name] or [axis] for axis in own)
    added = (axis for axis in given if axis.name not in known)
    c.axes = (*itertools.chain(*replaced), *added)
    if not c.axes:
        raise UserError('nothing varies; name an axis, as in --axis "beta=0.002, 0.02, 0.2"')
    for key in axes.keys_of(c) & overrides.keys():
        raise UserError(
            f"--config.{key} is given, but an axis varies it; leave it out, or give the axis other "
            f'values with --axis "{key}=VALUE, VALUE"'
        )
    cells = axes.cells(c)
    for cell in cells:
        config.check_still(cell.experiment)
    if any(cell.experiment.interpolate for cell in cells):
        raise UserError(
            "config.interpolate makes several paintings of one experiment; in a sweep, vary the "
            "weights of config.style instead"
        )
    return cells


def command_of(cell: Cell) -> str:
    """The command that paints a cell by itself."""
    file = [word for word in cli.typed() if re.match("--?config=", word)]
    given = config_flags.get_override_values(flags.FLAGS["config"]) | {"axes": ()}
    settings = [f"--config.{key}={value}" for key, value in (given | cell.settings).items()]
    return shlex.join(["python", "-m", "nst_jax.run", *file, *settings])


if __name__ == "__main__":
    cli.start(main)
