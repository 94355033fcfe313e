"""Writing so that a reader never meets half a file, and checksums."""

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
    """Yields a temporary path beside `path` that takes its place only if the block succeeds.

    The temporary name is unique, so several processes may write the same file: the last one wins
    and every reader sees a whole file. It keeps the suffix, which names the format.

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
    """Removes the temporaries that a killed command has left in a folder and below."""
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\.[0-9a-f]{16}\.\w+", path.name):
            path.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]):
    """Writes a JSON file.

    Raises:
      UnwritableError: the disk is full or the folder is gone.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def user_cache() -> Path:
    """This project's folder in the user's cache folder; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nst_jax"


def digest_or_missing(path: str) -> str:
    """The checksum of a file as a user names it; "missing" if it cannot be read."""
    try:
        named = Path(path).expanduser()
        return digest(named) if named.is_file() else "missing"  # a device may have no end
    except (OSError, RuntimeError, ValueError):
        return "missing"


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The file's checksum in hexadecimal, by any algorithm that hashlib knows."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
