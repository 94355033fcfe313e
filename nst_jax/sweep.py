"""Paints many experiments that differ along axes: one command, few compiled programs, one report.

  python -m nst_jax.sweep --config configs/ablations/style_weight.py
  python -m nst_jax.sweep --config configs/starry.py --axis "beta=0.002, 0.02" --axis "seed=0, 1"
  python -m nst_jax.sweep --config configs/ablations/losses.py --config.image_size=128 --dry_run

The axes are the config's, or given with --axis; any other key can be set with --config.KEY=VALUE.
Experiments that differ in numbers and pictures alone share a compiled program and run in batches,
spread over the machine's devices. Each is finished by itself: the same command again goes on where
it stopped, and paints what is missing or failed. With --distributed, several processes share a
sweep and its folder.

Exit codes: 0 all painted; 1 some failed, the report says why, or the device did; 2 a mistake in a
flag, config or file; 130 interrupted, 143 asked to end.
"""

import contextlib
import itertools
import re
import shlex
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from nst_jax import cli as commands
from nst_jax import config
from nst_jax.config import axes
from nst_jax.config.axes import Cell
from nst_jax.errors import UnwritableError, UserError, VersionError

PATIENCE = 300  # seconds that a process waits for process 0, as long as JAX itself would

config_flags.DEFINE_config_file(
    "config", None, "Config file, e.g. configs/ablations/style_weight.py, or with :smoke after it."
)
_AXIS = flags.DEFINE_multi_string(
    "axis", [], 'A further axis, as "KEY=VALUE, VALUE"; in place of the config\'s of that name.'
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder to write to; runs/NAME of the config if empty."
)
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Only print cells, programs, memory and time.")
_BATCH = flags.DEFINE_integer(
    "batch", 0, "Experiments at once on each device; 0: by its memory.", lower_bound=0
)
_DISTRIBUTED = flags.DEFINE_boolean(
    "distributed", False, "Share the sweep with other processes, as Slurm, Open MPI or TPUs tell."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "host:port of process 0, where nothing tells of the others."
)
_PROCESSES = flags.DEFINE_integer("processes", 0, "How many they are.", lower_bound=0)
_PROCESS = flags.DEFINE_integer("process", 0, "Number of this one, from 0.", lower_bound=0)


def main():
    """Flags -> cells -> paintings; prints the report's path."""
    given, name = commands.given_config()
    cells = cells_of(given, _AXIS.value, config_flags.get_override_values(flags.FLAGS["config"]))
    if not _DRY_RUN.value:
        commands.answer(sweep(cells, given, name, _WORKDIR.value))
        return
    from nst_jax.runs import plan as programs

    commands.answer(programs.table(cells, _BATCH.value))


def cells_of(c: config.Config, texts: Sequence[str], overrides: dict[str, Any]) -> list[Cell]:
    """The cells of a config whose axes are replaced or joined by those that flags describe.

    Raises:
      UserError: no axis, a bad one, or a key that is set beside the axis that varies it.
    """
    own, given = axes.of(c), [axes.parse(text) for text in texts]
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
    if any(cell.config.interpolate for cell in cells):
        raise UserError(
            "config.interpolate makes several paintings of one experiment; in a sweep, vary the "
            "weights of config.style instead"
        )
    return cells


def sweep(cells: list[Cell], given: config.Config, name: str, workdir: str) -> Path:
    """Paints what is missing of a sweep; returns its report.

    Raises:
      UserError: the folder or the weights do not serve.
      commands.StoppedError: interrupted, or cells failed; names one.
    """
    interrupts = commands.Interruptible()
    shared = _DISTRIBUTED.value or _COORDINATOR.value
    if shared and not workdir:
        raise UserError("processes that share a sweep need its folder; name it with --workdir")
    if not _COORDINATOR.value and (_PROCESSES.value or _PROCESS.value):
        raise UserError("--processes and --process need --coordinator, the HOST:PORT of process 0")
    process, processes = share() if shared else (0, 1)
    from nst_jax import report
    from nst_jax.runs import record as outputs
    from nst_jax.runs import workdir as folders
    from nst_jax.transfer import metrics

    interrupts.arm()
    for measured in {c.arch: c for c in (cell.config for cell in cells) if c.metrics}.values():
        metrics.prepare(measured)
    folder = folders.open_sweep(workdir, name, described(cells, given, name))
    try:
        with folders.lock(folder, process if shared else None):
            failed = paint_missing(folder / "cells", cells[process::processes], interrupts)
    except KeyboardInterrupt:
        with contextlib.suppress(UserError):  # the interrupt is what matters
            report.write(folder)
        done = sum(outputs.finished(folder / "cells" / cell.name, cell.config) for cell in cells)
        raise commands.StoppedError(
            f"interrupted; {done} of {len(cells)} cells are done, and the same command goes on",
            interrupts.code,
        ) from None
    page = report.write(folder)
    if failed:
        first = next(iter(failed))
        raise commands.StoppedError(
            f"{len(failed)} of {len(cells)} cells failed, such as {first}: {failed[first]}; "
            f"see {page}",
            1,
        )
    return page


def paint_missing(
    folder: Path, cells: Sequence[Cell], interrupts: commands.Interruptible
) -> dict[str, str]:
    """Paints those cells that are not finished; returns why which failed."""
    import jax

    from nst_jax.runs import driver as batches
    from nst_jax.runs import plan as programs
    from nst_jax.runs import record as outputs
    from nst_jax.transfer import pyramid

    begun = batches.begun(folder, cells)
    resumed = {cell.name for cell in itertools.chain(*begun)}
    missing = [
        cell
        for cell in cells
        if cell.name not in resumed and not outputs.finished(folder / cell.name, cell.config)
    ]
    planned, failed = programs.plan(missing, _BATCH.value)
    for cell in missing:
        if cell.name in failed:
            outputs.fail(folder / cell.name, cell.config, failed[cell.name])
    devices = len(jax.local_devices())
    queue = [*begun]
    for program in planned:
        queue += programs.batches(program.cells, program.at_once * devices)
    steps = sum(s.steps for cell in itertools.chain(*queue) for s in pyramid.scales(cell.config))
    with tqdm(total=steps, unit="step", disable=not sys.stderr.isatty()) as bar:
        return failed | paint(folder, queue, interrupts, bar)


def paint(
    folder: Path, waiting: Sequence[list[Cell]], interrupts: commands.Interruptible, bar: tqdm
) -> dict[str, str]:
    """Paints cells in batches, each into a folder of its own; returns why which failed.

    A batch that cannot be painted is halved, until it fits the device or a single cell is to blame.

    Raises:
      UnwritableError: the folder is full or gone; no cell is to blame for that.
      VersionError: a checkpoint is of another version.
      commands.StoppedError: the device failed.
    """
    from nst_jax.runs import driver as batches
    from nst_jax.runs import plan as programs
    from nst_jax.runs import record as outputs

    failed: dict[str, str] = {}
    queue = deque(waiting)
    while queue:
        interrupts.check()
        batch, before = queue.popleft(), bar.n
        try:
            failed |= batches.paint(folder, batch, interrupts, bar)
            continue
        except (UnwritableError, VersionError):
            raise
        except UserError as error:
            message = str(error)
        except (RuntimeError, ValueError) as error:
            if not commands.out_of_memory(error):
                failure = commands.device_failed(error)
                raise commands.StoppedError(f"{failure}; the same command goes on", 1) from error
            message = commands.too_little_memory(batch[0].config)
        bar.update(before - bar.n)
        if len(batch) > 1:
            queue.extendleft(reversed(programs.batches(batch, len(batch) // 2 + len(batch) % 2)))
        else:
            failed[batch[0].name] = message
            outputs.fail(folder / batch[0].name, batch[0].config, message)
    return failed


def share() -> tuple[int, int]:
    """Which of how many processes this is, agreed upon with the others.

    They part again at once: each computes on its own devices and needs none of the others, so that
    the loss of one is no loss to the rest.

    Raises:
      UserError: the others cannot be found.
    """
    import jax

    host, _, port = _COORDINATOR.value.rpartition(":")
    if _COORDINATOR.value and not (host and re.fullmatch(r"\d{1,5}", port)):
        raise UserError(f"--coordinator {_COORDINATOR.value!r}; write it as HOST:PORT")
    if _COORDINATOR.value and _PROCESS.value >= _PROCESSES.value:
        raise UserError(
            f"--process={_PROCESS.value} of --processes={_PROCESSES.value}; they count from 0"
        )
    print("waiting for the other processes", file=sys.stderr, flush=True)
    if _PROCESS.value:
        await_listener(host.strip("[]"), int(port))
    try:
        if _COORDINATOR.value:
            jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        else:
            jax.distributed.initialize()
        place = jax.process_index(), jax.process_count()
        jax.distributed.shutdown()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the processes that share the sweep do not find each other ({error}); "
            "give --coordinator, --processes and --process"
        ) from error
    return place


def await_listener(host: str, port: int):
    """Waits until somebody listens there; JAX would end the process without a word.

    Raises:
      UserError: nobody does, for five minutes.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((host, port), timeout=10).close()
            return
        except (OSError, OverflowError, UnicodeError) as error:
            if time.monotonic() > until:
                raise UserError(
                    f"process 0 does not listen on --coordinator {host}:{port} ({error}); "
                    "start it, or correct the address"
                ) from error
        time.sleep(0.5)


def described(cells: list[Cell], given: config.Config, name: str) -> dict[str, Any]:
    """What sweep.json says: the axes, every cell, and the files that they depend on."""
    from nst_jax import files
    from nst_jax.transfer import paint as transfer
    from nst_jax.transfer import prepare as inputs

    pictures = sorted({path for cell in cells for path in inputs.files_of(cell.config)})
    users = {f"{cell.config.arch} {cell.config.weights}".strip(): cell.config for cell in cells}
    return {
        "name": name,
        "axes": [
            {"name": axis.name, "labels": [label for label, _ in axis.places]}
            for axis in axes.of(given)
        ],
        "inputs": {
            "picture": {path: files.digest_or_missing(path) for path in pictures},
            "weights": {source: transfer.load_weights(c).sha256 for source, c in users.items()},
        },
        "cells": [
            {
                "name": cell.name,
                "labels": cell.labels,
                "command": alone(cell),
                "config": cell.config.to_dict(),
            }
            for cell in cells
        ],
    }


def alone(cell: Cell) -> str:
    """The command that paints a cell by itself."""
    file = [word for word in commands.typed() if re.match("--?config=", word)]
    given = config_flags.get_override_values(flags.FLAGS["config"]) | {"axes": ()}
    settings = [f"--config.{key}={value}" for key, value in (given | cell.settings).items()]
    return shlex.join(["python", "-m", "nst_jax.run", *file, *settings])


if __name__ == "__main__":
    commands.start(main)
