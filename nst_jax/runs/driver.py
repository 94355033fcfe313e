"""A batch of a sweep's cells, painted at once, each into a folder of its own."""

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from nst_jax import cli as commands
from nst_jax.runs import checkpoints, record as outputs, plan as programs
from nst_jax.transfer import prepare as inputs, metrics, paint as transfer
from nst_jax.config.axes import Cell
from nst_jax.optimize.loop import NonFiniteLossError, Progress


def begun(folder: Path, cells: Sequence[Cell]) -> list[list[Cell]]:
    """The batches that were under way when a sweep was stopped, by their checkpoints.

    Args:
      folder: of all cells' folders.
      cells: those to look among; checkpoints of a batch that is finished are removed.
    """
    known, batches = {cell.name: cell for cell in cells}, []
    for cell in cells:
        names = checkpoints.batch(folder / cell.name)
        if names[:1] != [cell.name] or not known.keys() >= {*names}:
            continue  # none, or of processes that shared the cells in another way
        batch = [known[name] for name in names]
        if all(outputs.finished(folder / one.name, one.config) for one in batch):
            checkpoints.discard(folder / cell.name)
        else:
            batches.append(batch)
    return batches


def paint(
    folder: Path, cells: Sequence[Cell], interrupts: commands.Interruptible, bar: tqdm
) -> dict[str, str]:
    """Paints cells of one structure, from where they were stopped; returns why which failed.

    The folder of the first has the checkpoints of all, until they are done.

    Args:
      folder: of all cells' folders.
      cells: what `programs.plan` put into one program.
      interrupts: obeyed once there is a checkpoint.
      bar: of the whole sweep.

    Raises:
      UserError: something of one of them does not serve, or the folder cannot be written.
      RuntimeError: of XLA; the device has too little memory, for one.
      KeyboardInterrupt: by a signal.
    """
    configs = programs.widened([cell.config for cell in cells])
    pictures = [inputs.read(cell.config) for cell in cells]
    loaded = transfer.load_weights(configs[0])
    mesh = mesh_of(jax.local_devices()[: len(cells)])
    filler = [len(cells) - 1] * (-len(cells) % (mesh.size if mesh else 1))
    members = [*range(len(cells)), *filler]  # every device has equally many
    folders = [folder / cell.name for cell in cells]
    names = [cells[k].name for k in members]
    found, _ = checkpoints.newest(folders[0], configs[0], pictures[0], names)
    if found and not all((own / "config.json").is_file() for own in folders):
        found = None
    if not found:  # of a batch whose checkpoint does not serve some may be finished
        missing = [c for c in cells if not outputs.finished(folder / c.name, c.config)]
        if len(missing) < len(cells):
            return paint(folder, missing, interrupts, bar) if missing else {}
    lost = {k: at for k, at in found.lost.items() if k < len(cells)} if found else {}
    for k, cell in enumerate(cells):
        if not found:
            outputs.restart(folders[k], cell.config, loaded)
        elif k not in lost:
            outputs.rewind(folders[k], found.progress.step)
    last = {k: row for k, own in enumerate(folders) if (row := outputs.recorded(own))}
    clock = checkpoints.Clock(configs[0].checkpoint_every)

    def keep(at_end: bool) -> bool:
        return configs[0].checkpoint_every > 0 and bool(at_end or clock.due() or interrupts.seen)

    started, seconds, step = None, 0.0, 0
    steps = transfer.paint_together(
        [configs[k] for k in members],
        [pictures[k] for k in members],
        loaded,
        mesh,
        found and found.progress,
        keep,
    )
    try:
        for progress in interrupts.patiently(steps, configs[0].checkpoint_every > 0):
            started = started or time.monotonic() - (found.seconds if found else 0)
            seconds = time.monotonic() - started
            now = enumerate(progress.lost[: len(cells)])
            lost |= {k: int(at) for k, at in now if at >= 0 and k not in lost}
            for k in range(len(cells) if progress.terms else 0):
                if k not in lost:
                    last[k] = record(folders[k], cells[k], pictures[k], progress, k, seconds)
            if progress.state:
                with clock.writing():
                    checkpoints.write(folders[0], progress, seconds, names, lost)
                interrupts.check()
            bar.update((progress.step - step) * len(cells))
            step = progress.step
    except NonFiniteLossError as error:
        lost = {k: int(error.lost.reshape(-1)[k]) for k in range(len(cells))} | lost
    finally:
        interrupts.patient = False
    failed = finish(folder, cells, pictures, last, lost, seconds, bar)
    checkpoints.discard(folders[0])
    return failed


def finish(
    folder: Path,
    cells: Sequence[Cell],
    pictures: Sequence[inputs.Pictures],
    last: dict[int, Progress],
    lost: dict[int, int],
    seconds: float,
    bar: tqdm,
) -> dict[str, str]:
    """Writes how each cell of a batch ended; returns why which failed.

    Args:
      folder, cells, pictures, bar: of the batch.
      last: of each, by its place, the last with a good picture, if there was one.
      lost: at which step those were lost that were.
      seconds: that all have taken.
    """
    failed = {}
    for k in (*range(1, len(cells)), 0):  # the first has the checkpoints until the end
        cell, message, measured = cells[k], "", {}
        if k in lost:
            failed[cell.name] = message = str(NonFiniteLossError(lost[k]))
        elif cell.config.metrics:
            painting = inputs.finished(cell.config, last[k].image, pictures[k])
            measured = metrics.measure(cell.config, painting, pictures[k])
        if k in last:
            result = outputs.result(last[k], seconds / len(cells), measured, message)
            result |= {"batch": len(cells)}
            outputs.finish(folder / cell.name, cell.config, result)
        else:
            outputs.fail(folder / cell.name, cell.config, message)
        with contextlib.suppress(OSError):  # nobody reads it any more
            bar.write(f"{cell.name}: {message or 'done'}, {seconds:.1f} s", file=sys.stderr)
    return failed


def record(
    workdir: Path,
    cell: Cell,
    pictures: inputs.Pictures,
    progress: Progress,
    place: int,
    seconds: float,
) -> Progress:
    """Writes where one cell of a batch stands; returns its own share of the progress."""
    named = programs.terms_of(cell.config, progress.terms)
    terms = {name: float(progress.terms[name][place]) for name in named}
    own = progress._replace(image=progress.image[place], terms=terms, state=None)
    outputs.record(workdir, cell.config, pictures, own, seconds)
    return own


def mesh_of(devices: Sequence[Any]) -> jax.sharding.Mesh | None:
    """The devices in a row along which cells are spread; None of a single one."""
    return jax.sharding.Mesh(np.array(devices), ("cells",)) if len(devices) > 1 else None
