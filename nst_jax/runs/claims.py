"""Claims: how workers that share the folder of a sweep divide its cells, without a coordinator.

A worker claims a cell by creating a file, which only one process can do. It paints in a folder of
its own, and publishes the finished cell by renaming it. So a worker that was stopped, overruled and
continued disturbs nobody. `nst_jax.report.fleet` says what lies where.
"""

import contextlib
import json
import math
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Self

from nst_jax import files
from nst_jax.errors import UnwritableError
from nst_jax.report import fleet
from nst_jax.runs import workdir

BEATS = 6  # heartbeats in the time after which a worker counts as lost
LIVE, SILENT, GONE = "live", "silent", "gone"


class OverruledError(Exception):
    """Others took this worker for lost, and paint its cells."""


class Claims:
    """A worker's claims; a context manager, within which the worker has a heartbeat.

    Args:
      folder: of the sweep.
      patience: seconds without a heartbeat after which a worker's cells go to others.
    """

    def __init__(self, folder: Path, patience: float = fleet.PATIENCE_SECONDS):
        self.folder, self.patience = folder, patience
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.work = folder / "workers" / self.worker
        self._heartbeat = self.work.with_name(f"{self.worker}.json")
        self._numbers: dict[str, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._was_silent = False
        self._counted = -math.inf, 1  # when workers were counted last, and how many there were
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Makes the folders, and starts the heartbeat."""
        try:
            (self.folder / "claims").mkdir(exist_ok=True)
            (self.folder / "cells").mkdir(exist_ok=True)
        except OSError as error:
            text = f"cannot write to --workdir {self.folder}: {error.strerror}"
            raise UnwritableError(text) from error
        described = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "patience": self.patience,
        }
        files.write_json(self._heartbeat, described)
        self._file = self._heartbeat.open()
        while workdir.try_lock(self._file) is False:  # another worker is looking at it
            time.sleep(0.01)
        self._thread.start()
        return self

    def __exit__(self, *error: object):
        """Leaves what is not finished to others, at once."""
        self._ended.set()
        self._thread.join()
        if self._file is not None:
            self._file.close()
        self._heartbeat.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.work.rmdir()  # unless something in it can be resumed

    def _beat(self):
        before = time.monotonic()
        while not self._ended.wait(self.patience / BEATS):
            with contextlib.suppress(OSError):
                os.utime(self._heartbeat)
            now = time.monotonic()
            if now - before > self.patience:
                self._was_silent = True
            before = now

    def state(self, worker: str) -> str:
        """Whether a worker is `LIVE`, `SILENT` for longer than patience lasts, or `GONE`."""
        heartbeat = self.folder / "workers" / f"{worker}.json"
        if worker == self.worker:
            return LIVE
        try:
            is_old = self._is_old(heartbeat)
            with heartbeat.open() as file:
                is_here = json.load(file)["host"] == socket.gethostname()
                if is_here and workdir.try_lock(file):  # the system released its lock
                    return GONE
        except FileNotFoundError:
            return GONE
        except (OSError, ValueError, LookupError, TypeError):
            return SILENT
        return SILENT if is_old else LIVE

    def _is_old(self, path: Path) -> bool:
        """Whether a file was last changed before the time that patience lasts.

        As the file server sees it, so that clocks need not agree.
        """
        self._heartbeat.touch()
        return self._heartbeat.stat().st_mtime - path.stat().st_mtime > self.patience

    def workers(self) -> int:
        """How many workers are live, this one among them; counted once a heartbeat."""
        counted_at, count = self._counted
        if time.monotonic() - counted_at > self.patience / BEATS:
            beating = (self.folder / "workers").glob("*.json")
            count = max(1, sum(self.state(path.stem) == LIVE for path in beating))
            self._counted = time.monotonic(), count
        return count

    def take(self, name: str, number: int) -> bool:
        """Claims a cell; False if somebody was faster.

        Args:
          name: the cell's.
          number: of the claim, one more than that of the newest.

        Raises:
          UnwritableError: the folder cannot be written.
        """
        path = fleet.claim(self.folder, name, number)
        try:
            with path.open("x") as file:
                file.write(self.worker)
        except FileExistsError:
            return False
        except OSError as error:
            raise UnwritableError(f"cannot write {path}: {error.strerror}") from error
        self._numbers[name] = number
        return True

    def take_over(self, names: Iterable[str]) -> list[str]:
        """Claims cells of a worker that is lost, with what it left of them.

        Args:
          names: of the cells that are not done.

        Returns:
          The cells; [] if no such worker is found.
        """
        newest, claimed = fleet.claims(self.folder), {}
        for name in names:
            number = newest.get(name, 0)
            owner = fleet.worker(self.folder, name, number) if number else ""
            if owner or (number and self._is_old(fleet.claim(self.folder, name, number))):
                claimed.setdefault(owner, []).append(name)
        for owner, theirs in claimed.items():
            if (state := self.state(owner)) == LIVE:
                continue
            taken = []
            for name in theirs:
                # Looked at after the state: a worker publishes before it is gone.
                if (self.folder / "cells" / name).exists():
                    continue
                if not self.take(name, newest[name] + 1):
                    break  # another worker takes over these
                taken.append(name)
                if owner:
                    _inherit(self.work.with_name(owner) / name, self.work / name, state == GONE)
            if taken:
                return taken
        return []

    def check(self, names: Iterable[str]):
        """Checks that these cells are still this worker's, if it was silent for a while.

        Raises:
          OverruledError: one is not.
        """
        if self._was_silent and self.is_overruled(names):
            raise OverruledError
        self._was_silent = False

    def is_overruled(self, names: Iterable[str]) -> bool:
        """Whether another worker has claimed one of these cells since."""
        numbers = ((name, self._numbers[name] + 1) for name in names)
        return any(fleet.claim(self.folder, *newer).exists() for newer in numbers)

    def publish(self, name: str, is_finished: Callable[[Path], bool]):
        """Moves a cell to where all can see it.

        Args:
          name: the cell's.
          is_finished: whether a folder has the cell, painted and undamaged. One that is there
            already stays.

        Raises:
          UnwritableError: the folder cannot be written.
        """
        source, target = self.work / name, self.folder / "cells" / name
        if not source.exists():
            return
        try:
            if not is_finished(target):
                workdir.discard(target)
                source.rename(target)
        except OSError as error:
            if not is_finished(target):  # nobody else has published it in the meantime
                raise UnwritableError(f"cannot write {target}: {error.strerror}") from error
        workdir.discard(source)

    def abandon(self, names: Iterable[str]):
        """Removes what this worker has of cells that others paint."""
        for name in names:
            workdir.discard(self.work / name)

    def clear(self):
        """Removes what lost workers left, once every cell is done."""
        for path in (self.folder / "workers").iterdir():
            if self.state(path.name.removesuffix(".json")) != LIVE:
                workdir.discard(path)


def _inherit(source: Path, target: Path, is_alone: bool):
    """Moves a cell from one worker to another, or copies it where the first may still write."""
    try:
        target.parent.mkdir(exist_ok=True)
        if is_alone:
            source.rename(target)
        else:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"))
    except OSError:  # there is nothing, or no longer
        workdir.discard(target)
