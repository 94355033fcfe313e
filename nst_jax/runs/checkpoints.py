"""Checkpoints: all that a run needs to resume bit-exactly.

A file is a line of JSON, which says what it is, and the bytes of the state's arrays in order. The
reader knows their shapes already, so that no file can ask for more memory than they take. Nothing
in a file is code, and a checksum finds a damaged one.

    checkpoints/000000060-1.state   after 60 steps, at scale 1 of the pyramid
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import files
from nst_jax.config.experiment import Experiment
from nst_jax.errors import VersionError
from nst_jax.optimize.loop import Progress
from nst_jax.optimize.step import State, initial_state
from nst_jax.transfer.prepare import Pictures, shape_at

FORMAT = "nst_jax checkpoint 2"
FOLDER = "checkpoints"
MAX_CHECKPOINTS = 2  # the newest, and one in case that it is damaged
MAX_HEADER_BYTES = 1 << 16
MAX_TIME_SHARE = 0.05  # of a run, for writing checkpoints
NONE_LOST: Mapping[int, int] = MappingProxyType({})


class Found(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      progress: with the state.
      seconds: that the run had taken.
      lost: place in the batch -> step at which the picture was lost, for those that were.
    """

    progress: Progress
    seconds: float
    lost: dict[int, int]


class DamagedError(Exception):
    """A file is not a whole checkpoint of this run; the text says why."""


class Clock:
    """Says when the next checkpoint is due.

    Args:
      seconds: between two checkpoints, at least; more where writing one takes long, so that all of
        them take `MAX_TIME_SHARE` of the run at most.
    """

    def __init__(self, seconds: float):
        self._between = seconds
        self._next = time.monotonic() + seconds

    def due(self) -> bool:
        """Whether a checkpoint is due."""
        return time.monotonic() >= self._next

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Times the writing of a checkpoint."""
        start = time.monotonic()
        yield
        now = time.monotonic()
        self._next = now + max(self._between, (now - start) / MAX_TIME_SHARE)


def write(
    folder: Path,
    progress: Progress,
    seconds: float,
    batch: Sequence[str] = (),
    lost: Mapping[int, int] = NONE_LOST,
):
    """Writes a checkpoint, and removes all but the newest `MAX_CHECKPOINTS`.

    Args:
      folder: the work directory.
      progress: with its state.
      seconds: that the run has taken.
      batch: names of the cells of a sweep's batch; () for a run.
      lost: see `Found`.

    Raises:
      UnwritableError: the disk is full or the folder is gone.
    """
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(progress.state)]
    header = {
        "format": FORMAT,
        "step": progress.step,
        "scale": progress.scale,
        "seconds": seconds,
        "batch": [*batch],
        "lost": [*lost.items()],
    }
    digest = _digest(header)
    for leaf in leaves:
        digest.update(leaf.data)
    header["sha256"] = digest.hexdigest()
    name = f"{progress.step:09d}-{progress.scale}.state"  # in the order of their names
    with files.replacing(folder / FOLDER / name) as temporary, temporary.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        for leaf in leaves:  # one after another: they may be large
            file.write(leaf.data)
    for path in _newest_first(folder)[MAX_CHECKPOINTS:]:
        path.unlink(missing_ok=True)


def newest(
    folder: Path, experiment: Experiment, pictures: Pictures, batch: Sequence[str] = ()
) -> tuple[Found | None, list[str]]:
    """The newest checkpoint that is whole, and why newer ones are not.

    Args:
      folder: the work directory.
      experiment: the experiment; of a batch the first one.
      pictures: its pictures.
      batch: names of the cells of a sweep's batch; () for a run.

    Raises:
      VersionError: another version of the project wrote it.
    """
    damaged = []
    for path in _newest_first(folder):
        try:
            return read(path, experiment, pictures, batch), damaged
        except (DamagedError, OSError) as error:
            damaged.append(f"{path}: {error}")
    return None, damaged


def read(
    path: Path, experiment: Experiment, pictures: Pictures, batch: Sequence[str] = ()
) -> Found:
    """Reads a checkpoint of a run with this experiment, or of a batch.

    Raises:
      DamagedError: it is not whole, or not a state of such a run.
      VersionError: another version of the project wrote it.
    """
    with path.open("rb") as file:
        header = _header(path, file.readline(MAX_HEADER_BYTES), len(experiment.scales))
        if header["batch"] != [*batch]:
            raise DamagedError("it is of another batch")
        shape = shape_at(pictures, experiment.scales[header["scale"]])
        count = experiment.interpolate or len(batch) or 1
        like = _like(experiment, (count, *shape, 3))
        state = _read_state(file, like, _digest(header["raw"]), header["sha256"])
    progress = Progress(header["step"], state.average, {}, scale=header["scale"], state=state)
    return Found(progress, header["seconds"], header["lost"])


def _header(path: Path, line: bytes, scales: int) -> dict[str, Any]:
    """The first line of a checkpoint, checked; "raw" is the line's object without its checksum."""
    no_header = DamagedError("its first line is not a checkpoint's")
    try:
        raw = json.loads(line)
        digest = raw.pop("sha256")
        header = {
            "raw": raw,
            "sha256": digest,
            "format": str(raw["format"]),
            "step": int(raw["step"]),
            "scale": int(raw["scale"]),
            "seconds": float(raw["seconds"]),
            "batch": raw.get("batch"),
            "lost": {int(place): int(step) for place, step in raw.get("lost", ())},
        }
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise no_header from None
    if not re.fullmatch(r"nst_jax checkpoint \d+", header["format"]):
        raise no_header
    if header["format"] != FORMAT:
        raise VersionError(
            f"{path} is a {header['format']!r}, but this version reads {FORMAT!r}; finish the run "
            "with the version that began it, or name another folder with --workdir"
        )
    if not 0 <= header["scale"] < scales:
        raise no_header
    return header


def batch(folder: Path) -> list[str]:
    """Names of the cells that the newest checkpoint of a folder is of, each once."""
    for path in _newest_first(folder):
        try:
            with path.open("rb") as file:
                names = json.loads(file.readline(MAX_HEADER_BYTES))["batch"]
            return [*dict.fromkeys(map(str, names))]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
    return []


def discard(folder: Path):
    """Removes the checkpoints of a work directory."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _newest_first(folder: Path) -> list[Path]:
    """The checkpoints of a work directory."""
    return sorted((folder / FOLDER).glob("[0-9]*.state"), reverse=True)


def _digest(header: dict[str, Any]) -> Any:
    """The checksum of a header, to be continued with the state."""
    return hashlib.sha256(json.dumps(header).encode() + b"\n")


def _like(experiment: Experiment, shape: tuple[int, ...]) -> State:
    """The shapes and types of a state whose images have a shape."""
    images = jax.ShapeDtypeStruct(shape, np.float32)
    return jax.eval_shape(lambda x: initial_state(experiment.optimizer.static, x), images)


def _read_state(file: BufferedReader, like: State, digest: Any, expected: str) -> State:
    """The state whose arrays a file has from here on to its end.

    Raises:
      DamagedError: it does not, or the checksum is another.
    """
    wrong_length = DamagedError("its length is not that of the run's state")
    size = sum(leaf.dtype.itemsize * leaf.size for leaf in jax.tree.leaves(like))
    if os.fstat(file.fileno()).st_size - file.tell() != size:
        raise wrong_length
    leaves = []
    for leaf in jax.tree.leaves(like):
        array = np.empty(leaf.shape, leaf.dtype)
        if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
            raise wrong_length
        digest.update(array.data)
        leaves.append(array)
    if digest.hexdigest() != expected:
        raise DamagedError("its checksum is wrong")
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
