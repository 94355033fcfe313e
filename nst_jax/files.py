"""Atomic writing of files, so that readers never see a partial one, and checksums."""

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nst_jax.errors import UnwritableError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context manager that replaces a file atomically, and only if its block succeeds.

    The block writes to a temporary path in the same folder. That name is unique, so several
    processes may write the same file: the last one wins, and every reader sees a complete file. It
    keeps the suffix, because writers choose the format by it.

    Args:
      path: the file; its folder is made if it does not exist.

    Yields:
      The temporary path.

    Raises:
      UnwritableError: the file cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UnwritableError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def clear(folder: Path):
    """Removes the temporary files that a killed command left in a folder or its subfolders."""
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\.[0-9a-f]{16}\.\w+", path.name):
            path.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]):
    """Writes a JSON file atomically.

    Args:
      path: the file.
      content: a JSON object.

    Raises:
      UnwritableError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def named(path: str | Path) -> Path:
    """The path that a user means: "~" is the home folder, unless a file has this very name."""
    literal = Path(path)
    try:
        return literal if literal.exists() else literal.expanduser()
    except (OSError, RuntimeError, ValueError):  # no such user, or no name of a file
        return literal


def user_cache() -> Path:
    """Path of this project's folder in the user's cache; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nst_jax"


def programs_folder() -> Path | None:
    """Folder for compiled programs; None where it is not this user's alone.

    JAX runs what it finds there, so nobody else may write to it.
    """
    if not hasattr(os, "getuid"):
        return None
    folder = user_cache() / "programs"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except OSError:
        return None
    return folder if state.st_uid == os.getuid() and not state.st_mode & 0o022 else None


def digest_or_missing(path: str) -> str:
    """SHA-256 checksum of the file at a path that a user gave, or "missing".

    It is "missing" if the path is not a regular file (a device may never end) or cannot be read.
    """
    try:
        file = named(path)
        return digest(file) if file.is_file() else "missing"
    except (OSError, ValueError):
        return "missing"


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file, in hexadecimal.

    Args:
      path: the file.
      algorithm: a name that hashlib knows.

    Raises:
      OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def memory_bytes() -> int:
    """The memory of this machine, or the limit of this process's group (cgroup); 0: unknown."""
    sizes = []
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(sizes, default=0)
