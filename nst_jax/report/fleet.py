"""Who paints what in the folder of a sweep, as its workers leave it there.

cells/NAME/           a cell that is done, or failed
claims/NAME.1         the first claim of a cell: the name of a worker; NAME.2 overrules it, ...
workers/WORKER.json   a worker's machine; the file's time is its last heartbeat
workers/WORKER/NAME/  a cell that the worker has not finished
"""

import contextlib
import json
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60.0  # without a heartbeat, after which a worker counts as lost


def claims(folder: Path) -> dict[str, int]:
    """The number of every cell's newest claim; cells without one are left out."""
    newest: dict[str, int] = {}
    with contextlib.suppress(OSError), os.scandir(folder / "claims") as entries:
        for entry in entries:
            name, _, number = entry.name.rpartition(".")
            if number.isdecimal():
                newest[name] = max(newest.get(name, 0), int(number))
    return newest


def claim(folder: Path, name: str, number: int) -> Path:
    """The file of a cell's claim."""
    return folder / "claims" / f"{name}.{number}"


def worker(folder: Path, name: str, number: int) -> str:
    """The worker that claimed a cell; "" while it is still writing that down."""
    try:
        written = claim(folder, name, number).read_text()
    except (OSError, ValueError):
        return ""
    return written if written == Path(written).name else ""


def place(folder: Path, name: str, number: int) -> Path:
    """The folder of a cell, wherever it is now."""
    published = folder / "cells" / name
    if published.exists() or not (owner := worker(folder, name, number)):
        return published
    return folder / "workers" / owner / name


def live(folder: Path) -> set[str]:
    """The workers whose heartbeat is recent; clocks of two machines may differ a little."""
    found, now = set(), time.time()
    for heartbeat in (folder / "workers").glob("*.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            patience = json.loads(heartbeat.read_text()).get("patience", PATIENCE_SECONDS)
            if now - heartbeat.stat().st_mtime < 2 * patience:
                found.add(heartbeat.stem)
    return found


def title(worker: str) -> str:
    """How a page calls a worker: its machine and process.

    >>> title("gpu-3-4121-a0b1")
    'gpu-3-4121'
    """
    return worker.rpartition("-")[0] or worker


def seconds_left(cells: Sequence[dict[str, Any]], workers: Collection[str]) -> float | None:
    """How long a sweep will take at the present pace.

    The pace of a worker is the steps a second of the cells that it has under way; of those that it
    has finished as long as it has none with two lines of metrics. The seconds of a cell are its
    share of its batch's time, so that those of a batch add up.

    Args:
      cells: from `reading.read`.
      workers: titles of those that are at work.

    Returns:
      The steps that are left, divided by the sum of the workers' paces; None if no pace is known.
    """
    taken: dict[str, list[float]] = {}
    for status in ("running", "done"):
        sums: dict[str, list[float]] = {}
        for cell in cells:
            steps, seconds = cell["curve"]["step"], cell["curve"]["seconds"]
            if cell["status"] != status or cell["worker"] not in workers or len(steps) < 2:
                continue
            if None in (seconds[0], seconds[-1]) or seconds[-1] <= seconds[0]:
                continue
            total = sums.setdefault(cell["worker"], [0.0, 0.0])
            total[0] += steps[-1] - steps[0]
            total[1] += seconds[-1] - seconds[0]
        taken = sums | taken
    pace = sum(steps / seconds for steps, seconds in taken.values())
    left = sum(
        max(cell["steps_planned"] - (cell["steps"] or 0), 0)
        for cell in cells
        if cell["status"] not in ("done", "failed")
    )
    return left / pace if pace else None
