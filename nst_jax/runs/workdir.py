"""Work directories: made, or opened again to resume; locked, so that one command uses them.

`nst_jax.runs.record` says what is in them.
"""

import contextlib
import itertools
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nst_jax import files
from nst_jax.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has no such locks: two commands in one folder go unnoticed
    fcntl = None

# What a command leaves that was killed before its run began, and what no user misses.
LEFTOVERS = re.compile(r"\.lock|\.[0-9a-f]{16}\.\w+|environment\.json|\.DS_Store")


def open_run(workdir: str, name: str) -> tuple[Path, bool]:
    """Makes the folder of a run, or opens one in which a run began.

    Args:
      workdir: the folder; "" for a new one, runs/NAME-TIME.
      name: of the config.

    Returns:
      The folder, and whether a run began there.

    Raises:
      UserError: it cannot be made, or holds something else.
    """
    with _writable(workdir or "runs"):
        if not workdir:
            return _new_folder(name), False
        path = _made(workdir)
        began = (path / "config.json").is_file() and not (path / "sweep.json").exists()
        if not (began or _is_empty(path)):
            raise _not_empty(path)
        return path, began


def open_sweep(workdir: str, name: str, plan: dict[str, Any]) -> Path:
    """Makes the folder of a sweep, or opens one in which the same sweep began.

    Args:
      workdir: the folder; "" for runs/NAME.
      name: of the config.
      plan: for sweep.json; its "cells" and "inputs" must be those of the folder.

    Raises:
      UserError: it cannot be made, holds something else, or a sweep with other settings.
    """
    path = Path(workdir or Path("runs") / name)
    with _writable(path):
        path = _made(path)
        was_empty = _is_empty(path)  # looked at first: another worker may begin in between
        if (path / "sweep.json").exists():
            check_same_sweep(path, read_json(path / "sweep.json"), plan)
        elif not was_empty:
            raise _not_empty(path)
        files.write_json(path / "sweep.json", plan)
    return path


@contextlib.contextmanager
def lock(path: Path, is_shared: bool = False, advice: str = "") -> Iterator[None]:
    """Locks a folder for this command. The system releases it however the command ends.

    Args:
      path: the folder.
      is_shared: whether others may hold it that share it, too.
      advice: what else to do if another command holds it.

    Raises:
      UserError: another command holds it.
    """
    with _writable(path), (path / ".lock").open("a") as file:
        if try_lock(file, is_shared) is False:
            raise UserError(
                f"another command is at work in --workdir {path}; wait until it ends, or name "
                f"another folder{advice}"
            )
        yield


def is_locked(path: Path) -> bool:
    """Whether a command is at work in a folder."""
    try:
        with (path / ".lock").open() as file:
            return try_lock(file, is_shared=True) is False
    except OSError:  # no command ever was
        return False


def try_lock(file: IO[str], is_shared: bool = False) -> bool | None:
    """Locks a file until it is closed, if nobody holds it; None where the system has no locks."""
    if not fcntl:
        return None
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def check_same_sweep(
    place: Path | str, before: dict[str, Any], now: dict[str, Any], flag: str = "--workdir"
):
    """Checks that what began somewhere is the same sweep.

    Args:
      place: where.
      before, now: what sweep.json says, then and now.
      flag: names the place.

    Raises:
      UserError: it is another, or damaged.
    """
    check_same(place, _identity(before), _identity(now), flag)


def check_same(
    place: Path | str, before: dict[str, Any], now: dict[str, Any], flag: str = "--workdir"
):
    """Checks that what began somewhere had these settings.

    Args:
      place: where.
      before, now: nested settings, then and now.
      flag: names the place.

    Raises:
      UserError: they differ; names the first three differences.
    """
    old, new = _flat(before), _flat(json.loads(json.dumps(now)))  # as read
    changes = [
        f"{key} was {old.get(key, 'absent')!r}, is {new.get(key, 'absent')!r}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]
    if changes:
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise UserError(
            f"{place} was begun with other settings: {'; '.join(changes[:3])}{more}; "
            f"name another folder with {flag}"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file of a work directory.

    Raises:
      UserError: it cannot be read, or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text())
        _flat(content)  # raises where it is nested too deeply to be compared
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged; name another folder with --workdir")
    return content


def discard(workdir: Path):
    """Removes a work directory without a picture, or a file in its place."""
    shutil.rmtree(workdir, ignore_errors=True)
    with contextlib.suppress(OSError):
        workdir.unlink()


@contextlib.contextmanager
def _writable(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write to --workdir {path}: {error.strerror}") from error


def _made(workdir: str | Path) -> Path:
    path = Path(workdir)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _is_empty(path: Path) -> bool:
    return all(LEFTOVERS.fullmatch(file.name) for file in path.iterdir())


def _not_empty(path: Path) -> UserError:
    return UserError(f"--workdir {path} is not empty; name another folder")


def _new_folder(name: str) -> Path:
    """Makes runs/NAME-TIME, or runs/NAME-TIME-2, ...: two runs may start in one second."""
    stamped = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in itertools.count(1):
        path = Path("runs") / (stamped if number == 1 else f"{stamped}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            return path
    raise AssertionError("unreachable")


def _identity(plan: dict[str, Any]) -> dict[str, Any]:
    """What may not change of a sweep: the settings of every cell, the pictures, the weights."""
    try:
        cells = {cell["name"]: cell["config"] for cell in plan["cells"]}
        return {"cell": cells, **plan["inputs"]}
    except (KeyError, TypeError):
        raise UserError("sweep.json is damaged; name another folder with --workdir") from None


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Leaves of nested dicts by their path: {"cell 00: optimizer.name": "adam", ...}."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {
        name: leaf
        for key, value in tree.items()
        for name, leaf in _flat(value, f"{path}.{key}" if path else key).items()
    }
