"""A sweep: a worker claims batches of its cells, paints and publishes them, until all are done.

A command that is alone in the folder is a sweep's only worker.
"""

import contextlib
import functools
import itertools
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from nst_jax import report
from nst_jax.config.axes import Axis, Cell
from nst_jax.errors import StoppedError, UnwritableError, UserError
from nst_jax.report import fleet
from nst_jax.runs import batches, plan, record, workdir
from nst_jax.runs.batches import Tools
from nst_jax.runs.claims import Claims, OverruledError
from nst_jax.runs.interrupts import Interrupts
from nst_jax.runs.log import say
from nst_jax.runs.plan import Program
from nst_jax.runs.stores import Store
from nst_jax.transfer import metrics, networks
from nst_jax.transfer.cache import Cache
from nst_jax.transfer.settings import own_settings

POLL_SECONDS = 2.0  # between two looks at what other workers have done


@own_settings()
def sweep(
    cells: Sequence[Cell],
    axes: Sequence[Axis],
    name: str,
    folder: str,
    interrupts: Interrupts,
    *,
    command_of: Callable[[Cell], str],
    at_once: int = 0,
    is_shared: bool = False,
    patience: float = fleet.PATIENCE_SECONDS,
    store: Store | None = None,
) -> Path:
    """Paints what is missing of a sweep, and waits for what other workers paint of it.

    Args:
      cells, axes: of the sweep.
      name: of the config.
      folder: the work directory; "" for runs/NAME.
      interrupts: signals; armed here, after JAX is imported.
      command_of: cell -> what to type to paint it alone.
      at_once: cells that each device computes at once; 0 for what suits it.
      is_shared: whether other workers may use the folder at the same time.
      patience: seconds without a heartbeat after which a worker's cells go to others.
      store: gets a copy of every finished cell and of the report; cells that it has already are
        taken from there.

    Returns:
      Path of the report.

    Raises:
      UserError: the folder or the weights cannot be used.
      StoppedError: interrupted, or cells failed; names one.
    """
    interrupts.arm()
    jax.devices()  # a device that is not there is said before anything is written
    cache = Cache()
    path = begin(cells, axes, name, folder, command_of, cache)
    advice = "" if is_shared else ", or let both share it with --worker"
    try:
        with (
            workdir.lock(path, is_shared, advice),
            Claims(path, patience) as own,
            tqdm(unit="step", disable=not sys.stderr.isatty()) as bar,
        ):
            if store:
                _synchronize(own, cells, store)
            tools = Tools(interrupts, cache, bar, own.check)
            paint_missing(own, cells, tools, functools.partial(_publish, own, store), at_once)
            own.clear()
    except KeyboardInterrupt:
        with contextlib.suppress(UserError):  # the interrupt is what matters
            report.write(path)
        finished = sum(is_finished(path, cell) for cell in cells)
        raise StoppedError(
            f"interrupted; {finished} of {len(cells)} cells are done, and the same command resumes",
            interrupts.code,
        ) from None
    page = report.write(path)
    if store:
        store.upload_report(path)
    if failed := failures_of(path, cells):
        first = next(iter(failed))
        raise StoppedError(
            f"{len(failed)} of {len(cells)} cells failed, such as {first}: {failed[first]}; "
            f"see {page}",
            1,
        )
    return page


def begin(
    cells: Sequence[Cell],
    axes: Sequence[Axis],
    name: str,
    folder: str,
    command_of: Callable[[Cell], str],
    cache: Cache | None = None,
) -> Path:
    """Makes the folder of a sweep, or opens it again; fetches the weights that are not there.

    Args:
      cells, axes, name, folder, command_of: see `sweep`.
      cache: keeps what cells have in common.

    Raises:
      UserError: the folder or the weights cannot be used, or another sweep began there.
    """
    cache = cache or Cache()
    for arch in {cell.experiment.network.arch for cell in cells if cell.experiment.output.metrics}:
        experiments = (cell.experiment for cell in cells)
        metrics.prepare(next(e for e in experiments if e.network.arch == arch), cache)
    return workdir.open_sweep(folder, name, described(cells, axes, name, command_of, cache))


def described(
    cells: Sequence[Cell],
    axes: Sequence[Axis],
    name: str,
    command_of: Callable[[Cell], str],
    cache: Cache,
) -> dict[str, Any]:
    """What sweep.json says: the axes, every cell, and the files that they depend on."""
    pictures = sorted({path for cell in cells for path in cell.experiment.files})
    wanted = [cell.experiment.network for cell in cells]
    users = {f"{network.arch} {network.weights}".strip(): network for network in wanted}
    return {
        "name": name,
        "axes": [
            {"name": axis.name, "labels": [label for label, _ in axis.places]} for axis in axes
        ],
        "inputs": {
            "picture": {path: record.digest(path, cache) for path in pictures},
            "weights": {
                source: networks.load_weights(users[source], cache).sha256 for source in users
            },
        },
        "cells": [
            {
                "name": cell.name,
                "labels": cell.labels,
                "steps": cell.experiment.steps,
                "command": command_of(cell),
                "config": cell.experiment.raw,
            }
            for cell in cells
        ],
    }


def is_finished(path: Path, cell: Cell) -> bool:
    """Whether a cell of a sweep is done, and its files are as they were written."""
    return record.is_finished(path / "cells" / cell.name, cell.experiment)


def failures_of(path: Path, cells: Sequence[Cell]) -> dict[str, str]:
    """name of a cell that is not done -> why."""
    return {
        cell.name: workdir.read_json(path / "cells" / cell.name / "result.json")["message"]
        for cell in cells
        if not is_finished(path, cell)
    }


def _synchronize(own: Claims, cells: Sequence[Cell], store: Store):
    """Brings the finished cells of the folder and of the store to each other.

    Raises:
      UserError: the store has another sweep.
    """
    path = own.folder
    if plan_there := store.plan():
        plan_here = workdir.read_json(path / "sweep.json")
        workdir.check_same_sweep(store.url, plan_there, plan_here, "--publish")
    there = store.cells()
    for cell in cells:
        if is_finished(path, cell):
            if cell.name not in there:
                store.upload(path / "cells" / cell.name)
        elif cell.name in there:
            store.download(cell.name, own.work / cell.name)
            _publish(own, None, cell)
    store.upload_report(path)


def paint_missing(
    own: Claims,
    cells: Sequence[Cell],
    tools: Tools,
    publish: Callable[[Cell], None],
    at_once: int = 0,
):
    """Paints the cells that are not done, as other workers do, until all are done or have failed.

    First come cells that a lost worker left, then those that nobody has claimed.

    Args:
      own: the claims of this worker.
      cells: all of the sweep.
      tools: of the sweep.
      publish: called with every cell that is painted, or has failed.
      at_once: cells that each device computes at once; 0 for what suits it.

    Raises:
      UserError: the folder cannot be written.
      StoppedError: the device failed.
      KeyboardInterrupt: by a signal.
    """
    path, newest = own.folder, fleet.claims(own.folder)
    left = {cell.name: cell for cell in cells if not is_finished(path, cell)}
    failed = {name for name in left if (path / "cells" / name).exists()}
    # What nobody has claimed, or has failed, and the number of the claim to make.
    free = {name: newest.get(name, 0) + 1 for name in left if name in failed or name not in newest}
    if newest:
        done, begun = len(cells) - len(left), len(left) - len(free)
        say(f"resuming: {done} of {len(cells)} cells are done, {begun} under way")
    tools.bar.total = sum(cell.experiment.steps for cell in left.values())
    programs, unusable = plan.plan([left[name] for name in free], tools.cache, at_once)
    for name, message in unusable.items():
        if _take(own, name, free):
            record.fail(own.work / name, left[name].experiment, message)
            publish(left.pop(name))
    open_programs = deque((one, deque(cell.name for cell in one.cells)) for one in programs)
    looks_back, is_waiting = True, False
    while left:
        tools.interrupts.check()
        queue: list[list[Cell]] = []
        if looks_back:
            taken = own.take_over(name for name in left if name not in free)
            queue = _as_begun(own, [left[name] for name in taken], tools.cache, at_once)
        looks_back = bool(queue)  # there may be more
        while open_programs and not queue:
            if names := _take_some(own, *open_programs[0], free):
                queue = [[left[name] for name in names]]
            else:
                open_programs.popleft()
        for batch in queue:
            if _is_painted(own, batch, tools):
                for cell in batch:
                    publish(left.pop(cell.name))
        if queue:
            continue
        looks_back = True
        for name in [name for name in left if (path / "cells" / name).exists()]:
            tools.bar.update(left.pop(name).experiment.steps)
        if left and not is_waiting:
            is_waiting = True
            say(f"waiting for {len(left)} cells that other workers paint")
        if left:
            time.sleep(POLL_SECONDS)


def _take(own: Claims, name: str, free: dict[str, int]) -> bool:
    """Claims a free cell, unless somebody is faster. Of one that had failed, nothing stays."""
    if not own.take(name, free.pop(name)):
        return False
    workdir.discard(own.folder / "cells" / name)
    return True


def _take_some(own: Claims, program: Program, names: deque[str], free: dict[str, int]) -> list[str]:
    """Claims a batch of a program's cells; [] if none is free.

    It is no larger than this worker's share of what is left.

    Args:
      own: the claims of this worker.
      program: which.
      names: of its cells that are left; what is tried is removed.
      free: see `paint_missing`.
    """
    if not names:
        return []
    fair = min(program.batch, math.ceil(len(names) / own.workers()))
    wanted = round(len(names) / math.ceil(len(names) / fair))  # as `plan.split_evenly`
    taken: list[str] = []
    while names and len(taken) < wanted:
        name = names.popleft()
        if _take(own, name, free):
            taken.append(name)
    return taken


def _as_begun(own: Claims, cells: Sequence[Cell], cache: Cache, at_once: int) -> list[list[Cell]]:
    """Cells of a lost worker: in its own batches where there are checkpoints, else in new ones."""
    resumed = batches.begun(own.work, cells)
    known = {cell.name for cell in itertools.chain(*resumed)}
    programs, _ = plan.plan([cell for cell in cells if cell.name not in known], cache, at_once)
    new = (plan.split_evenly(program.cells, program.batch) for program in programs)
    return [*resumed, *itertools.chain(*new)]


def _is_painted(own: Claims, batch: list[Cell], tools: Tools) -> bool:
    """Paints claimed cells; False if another worker has taken them over in the meantime."""
    try:
        batches.paint_queue(own.work, [batch], tools)
    except (OverruledError, UnwritableError):
        if not own.is_overruled(cell.name for cell in batch):
            raise
        say(f"another worker has taken over {', '.join(cell.name for cell in batch)}")
        own.abandon(cell.name for cell in batch)
        return False
    return True


def _publish(own: Claims, store: Store | None, cell: Cell):
    """Moves a cell to where all can see it; copies it to the store if it is done."""
    own.publish(cell.name, lambda folder: record.is_finished(folder, cell.experiment))
    if store and is_finished(own.folder, cell):
        store.upload(own.folder / "cells" / cell.name)
