"""Who paints what in the folder of a sweep, as its workers leave it there.

cells/NAME/           a cell that is done, or failed
claims/NAME.1         the first claim of a cell: the name of a worker; NAME.2 overrules it, ...
workers/WORKER.json   a worker's machine; the file's time is its last sign of life
workers/WORKER/NAME/  a cell that the worker has not finished
"""

import contextlib
import os
from pathlib import Path


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
