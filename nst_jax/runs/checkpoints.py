"""Checkpoints: all that a run needs to go on to the bit as if it had never stopped.

A file is a line of JSON, which says what it is, and the bytes of the state's arrays in order. What
reads it knows their shapes already, so that no file can ask for more than they take; nothing in it
is code, and a checksum finds a damaged one.

checkpoints/000000060-1.state   after 60 steps, painting the pyramid's scale 1
"""

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import config, files
from nst_jax.transfer import prepare as inputs, pyramid, paint as transfer
from nst_jax.errors import VersionError
from nst_jax.optimize.loop import Progress, State, initial_state

FORMAT = "nst_jax checkpoint 2"
FOLDER = "checkpoints"
KEPT = 2  # the newest, and one in case that it is damaged
LONGEST_HEADER = 1 << 16
NONE = MappingProxyType({})
SHARE = 0.05  # of the time that checkpoints may take


class Found(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      progress: with the state.
      seconds: that it had taken.
      lost: of a batch those that were lost by then, by their place, and at which step.
    """

    progress: Progress
    seconds: float
    lost: dict[int, int]


class DamagedError(Exception):
    """A file is no whole checkpoint of this run; the text says why."""


class Clock:
    """Says when the next checkpoint is due: after so many seconds, or 20 times what one takes.

    Args:
      seconds: between two, at least.
    """

    def __init__(self, seconds: float):
        self._between = seconds
        self._next = time.monotonic() + seconds

    def due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._next

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Times the writing of one."""
        start = time.monotonic()
        yield
        now = time.monotonic()
        self._next = now + max(self._between, (now - start) / SHARE)


def write(
    workdir: Path,
    progress: Progress,
    seconds: float,
    batch: Sequence[str] = (),
    lost: Mapping[int, int] = NONE,
):
    """Writes a checkpoint of a `Progress` with a state, and removes all but the newest.

    Args:
      workdir: the work directory.
      progress: with its state.
      seconds: that the run has taken.
      batch: names of the cells, where it is of several.
      lost: see `Found`.

    Raises:
      UnwritableError: the disk is full or the folder is gone.
    """
    payload = b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in _leaves(progress.state))
    header = {
        "format": FORMAT,
        "step": progress.step,
        "scale": progress.scale,
        "seconds": seconds,
        "batch": [*batch],
        "lost": [*lost.items()],
    }
    header["sha256"] = _digest(header, payload)
    name = f"{progress.step:09d}-{progress.scale}.state"  # in the order of their names
    with files.replacing(workdir / FOLDER / name) as temporary:
        temporary.write_bytes(json.dumps(header).encode() + b"\n" + payload)
    for path in _newest_first(workdir)[KEPT:]:
        path.unlink(missing_ok=True)


def newest(
    workdir: Path, c: config.Config, pictures: inputs.Pictures, batch: Sequence[str] = ()
) -> tuple[Found | None, list[str]]:
    """The newest checkpoint that is whole, and why newer ones are not.

    Args:
      workdir: the work directory.
      c: the config; of a batch the first one's, as the pictures.
      pictures: as `inputs.read` gives them.
      batch: names of its cells.

    Raises:
      VersionError: it is of another version of the project.
    """
    damaged = []
    for path in _newest_first(workdir):
        try:
            return read(path, c, pictures, batch), damaged
        except (DamagedError, OSError) as error:
            damaged.append(f"{path}: {error}")
    return None, damaged


def read(
    path: Path, c: config.Config, pictures: inputs.Pictures, batch: Sequence[str] = ()
) -> Found:
    """A checkpoint of a run with this config, or of a batch.

    Raises:
      DamagedError: it is not whole, or no state of such a run.
      VersionError: it is of another version of the project.
    """
    with path.open("rb") as file:
        line = file.readline(LONGEST_HEADER)
        try:
            header = json.loads(line)
            of, step, number = header["format"], int(header["step"]), int(header["scale"])
            seconds, digest = float(header["seconds"]), header.pop("sha256")
            lost = {int(place): int(at) for place, at in header.get("lost", ())}
            scale = pyramid.scales(c)[number] if number >= 0 else None
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ):
            raise DamagedError("its first line is no checkpoint's") from None
        if not re.fullmatch(r"nst_jax checkpoint \d+", str(of)):
            raise DamagedError("its first line is no checkpoint's")
        if of != FORMAT:
            raise VersionError(
                f"{path} is a {of!r}, but this version reads {FORMAT!r}; finish the run "
                "with the version that began it, or name another folder with --workdir"
            )
        if scale is None:
            raise DamagedError("its first line is no checkpoint's")
        if header.get("batch") != [*batch]:
            raise DamagedError("it is of another batch")
        several = c.interpolate or (len(batch) if len(batch) > 1 else 0)
        shape = inputs.at(c, pictures, scale.size).shape
        like = _like(c, (*[several] * (several > 0), *shape, 3))
        size = sum(leaf.dtype.itemsize * leaf.size for leaf in _leaves(like))
        payload = file.read(size + 1)
    if len(payload) != size:
        raise DamagedError("its length is not that of the run's state")
    if _digest(header, payload) != digest:
        raise DamagedError("its checksum is wrong")
    state = _filled(like, payload)
    return Found(Progress(step, state.average, {}, scale=number, state=state), seconds, lost)


def batch(workdir: Path) -> list[str]:
    """Names of the cells of which a folder has checkpoints, each once, as the newest has them."""
    for path in _newest_first(workdir):
        try:
            with path.open("rb") as file:
                names = json.loads(file.readline(LONGEST_HEADER))["batch"]
            return [*dict.fromkeys(map(str, names))]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
    return []


def discard(workdir: Path):
    """Removes the checkpoints of a work directory."""
    shutil.rmtree(workdir / FOLDER, ignore_errors=True)


def _newest_first(workdir: Path) -> list[Path]:
    """The checkpoints of a work directory."""
    return sorted((workdir / FOLDER).glob("[0-9]*.state"), reverse=True)


def _digest(header: dict[str, Any], payload: bytes) -> str:
    return hashlib.sha256(json.dumps(header).encode() + b"\n" + payload).hexdigest()


def _leaves(state: Any) -> list[Any]:
    return jax.tree.leaves(state)


def _like(c: config.Config, shape: tuple[int, ...]) -> State:
    """The shapes and types of a state whose image has a shape."""
    image = jax.ShapeDtypeStruct(shape, np.float32)
    return jax.eval_shape(lambda x: initial_state(transfer.settings_of(c), x), image)


def _filled(like: State, payload: bytes) -> State:
    """The state whose arrays are these bytes."""
    leaves, place = [], 0
    for leaf in _leaves(like):
        flat = np.frombuffer(payload, leaf.dtype, leaf.size, place)
        leaves.append(flat.reshape(leaf.shape))
        place += flat.nbytes
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
