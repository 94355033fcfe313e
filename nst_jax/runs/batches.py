"""Batches: cells of a sweep that share a program, painted together, each into its own folder."""

import contextlib
import math
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from nst_jax.config.axes import Cell
from nst_jax.errors import StoppedError, UnwritableError, UserError, VersionError
from nst_jax.network.weights import Weights
from nst_jax.optimize.loop import NonFiniteLossError
from nst_jax.runs import checkpoints, driver, plan, record
from nst_jax.runs.driver import Member, Standing
from nst_jax.runs.interrupts import Interrupts
from nst_jax.transfer import failures, networks, prepare
from nst_jax.transfer.cache import Cache
from nst_jax.transfer.paint import Job, rows_mesh
from nst_jax.transfer.problem import aligned


class Tools(NamedTuple):
    """What every batch of a sweep uses.

    Attributes:
      interrupts: signals; obeyed once there is a checkpoint.
      cache: keeps what cells have in common.
      bar: counts the steps of all cells.
      check: called with the names of a batch's cells after every progress; see `Claims.check`.
    """

    interrupts: Interrupts
    cache: Cache
    bar: tqdm
    check: Callable[[Sequence[str]], None] = lambda names: None


def begun(folder: Path, cells: Sequence[Cell]) -> list[list[Cell]]:
    """The batches that were under way when a sweep was stopped, by their checkpoints.

    Args:
      folder: of all cells' folders.
      cells: those to look among. Checkpoints of a batch that is finished are removed.
    """
    known, batches = {cell.name: cell for cell in cells}, []
    for cell in cells:
        names = checkpoints.batch(folder / cell.name)
        if names[:1] != [cell.name] or not known.keys() >= {*names}:
            continue  # none, or of processes that shared the cells in another way
        batch = [known[name] for name in names]
        if all(record.is_finished(folder / one.name, one.experiment) for one in batch):
            checkpoints.discard(folder / cell.name)
        else:
            batches.append(batch)
    return batches


def paint_queue(folder: Path, batches: Sequence[list[Cell]], tools: Tools) -> dict[str, str]:
    """Paints batches of cells.

    A batch that cannot be painted is halved, until it fits the device or a single cell is to blame.

    Returns:
      name of a cell that failed -> why.

    Raises:
      UnwritableError: the folder is full or gone; no cell is to blame for that.
      VersionError: another version of the project wrote a checkpoint.
      StoppedError: the device failed.
      OverruledError: others paint the batch now.
    """
    failed: dict[str, str] = {}
    queue = deque(batches)
    while queue:
        tools.interrupts.check()
        batch, before = queue.popleft(), tools.bar.n
        try:
            failed |= paint_batch(folder, batch, tools)
            continue
        except (UnwritableError, VersionError):
            raise
        except UserError as error:
            message = str(error)
        except (RuntimeError, ValueError) as error:
            explained = failures.explained(error, batch[0].experiment)
            if isinstance(explained, StoppedError):
                text = f"{explained}; the same command resumes"
                raise StoppedError(text, explained.code) from error
            message = str(explained)
        tools.bar.update(before - tools.bar.n)
        if len(batch) > 1:
            queue.extendleft(reversed(plan.split_evenly(batch, math.ceil(len(batch) / 2))))
        else:
            failed[batch[0].name] = message
            record.fail(folder / batch[0].name, batch[0].experiment, message)
    return failed


def paint_batch(folder: Path, cells: Sequence[Cell], tools: Tools) -> dict[str, str]:
    """Paints cells of one `Static`, from where they were stopped.

    Until all are done, the folder of the first cell has the checkpoints of the batch.

    Args:
      folder: of all cells' folders.
      cells: of one program.
      tools: of the sweep.

    Returns:
      name of a cell that failed -> why.

    Raises:
      UserError: a cell's picture cannot be used, or the folder cannot be written.
      RuntimeError, ValueError: by the device, for want of memory for example.
      KeyboardInterrupt: by a signal.
    """
    cache, bar = tools.cache, tools.bar
    own = [Job(cell.experiment, prepare.load(cell.experiment, cache)) for cell in cells]
    members = [
        Member(cell.name, job, folder / cell.name) for cell, job in zip(cells, own, strict=True)
    ]
    shared = aligned([cell.experiment for cell in cells])
    jobs = [Job(one, job.pictures) for one, job in zip(shared, own, strict=True)]
    mesh = rows_mesh(shared[0]) or mesh_of(jax.local_devices()[: len(cells)])
    fillers = -len(cells) % (mesh.size if mesh and len(cells) > 1 else 1)  # as many everywhere
    names = [cell.name for cell in cells] + [cells[-1].name] * fillers
    used = networks.load_weights(shared[0].network, cache)
    found = _resumed(members, names)
    if found is None:
        left = [c for c in cells if not record.is_finished(folder / c.name, c.experiment)]
        if len(left) < len(cells):  # the checkpoint is lost, but some are finished
            return paint_batch(folder, left, tools) if left else {}
    standing = Standing(members=len(members))
    _open_folders(members, found, standing, used, cache)
    network = networks.load_network(shared[0], jobs[0].pictures, cache)
    done = 0

    def count(progress: Any):
        nonlocal done
        bar.update((progress.step - done) * len(cells))
        done = progress.step
        tools.check(names)

    driver.drive(
        members,
        [[job] for job in jobs] + [[jobs[-1]]] * fillers,
        network,
        tools.interrupts,
        standing,
        found=found,
        batch=names,
        mesh=mesh,
        on_progress=count,
    )
    failed = _finish(members, standing, tools)
    checkpoints.discard(members[0].folder)
    return failed


def _resumed(members: Sequence[Member], names: Sequence[str]) -> checkpoints.Found | None:
    """The checkpoint of a batch, if there is one and every cell's folder is still there."""
    experiment, pictures = members[0].job
    found, _ = checkpoints.newest(members[0].folder, experiment, pictures, names)
    if found and all((member.folder / "config.json").is_file() for member in members):
        return found
    return None


def _open_folders(
    members: Sequence[Member],
    found: checkpoints.Found | None,
    standing: Standing,
    used: Weights,
    cache: Cache,
):
    """Makes the folders of a batch, or takes them back to where the checkpoint is."""
    if found:
        standing.lost |= {k: step for k, step in found.lost.items() if k < len(members)}
    for k, member in enumerate(members):
        if not found:
            record.restart(member.folder, member.job.experiment, used, cache)
            continue
        if k not in standing.lost:
            record.rewind(member.folder, found.progress.step)
        entry = record.last_entry(member.folder)
        if entry:
            standing.last[k] = entry


def _finish(members: Sequence[Member], standing: Standing, tools: Tools) -> dict[str, str]:
    """Writes how each cell of a batch ended.

    Returns:
      name of a cell that failed -> why.
    """
    failed = {}
    for k in (*range(1, len(members)), 0):  # the first has the checkpoints until the end
        member, message = members[k], ""
        values: Mapping[str, float] = {}
        if k in standing.lost:
            failed[member.name] = message = str(NonFiniteLossError(standing.lost[k]))
        else:
            values = driver.measured(member, standing.last[k], tools.cache)
        experiment, entry = member.job.experiment, standing.last.get(k)
        if entry:
            ending = record.result(entry, standing.share, values, message) | {"batch": len(members)}
            record.finish(member.folder, experiment, ending)
        else:
            record.fail(member.folder, experiment, message)
        with contextlib.suppress(OSError):  # nobody reads it any more
            text = f"{member.name}: {message or 'done'}, {standing.share:.1f} s"
            tools.bar.write(text, file=sys.stderr)
    return failed


def mesh_of(devices: Sequence[Any]) -> jax.sharding.Mesh | None:
    """The devices in a row, along which cells are spread; None for a single one."""
    return jax.sharding.Mesh(np.array(devices), ("cells",)) if len(devices) > 1 else None
