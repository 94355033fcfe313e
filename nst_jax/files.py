"""Writing so that a reader never meets half a file, and checksums."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nst_jax.errors import UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place only if the block succeeds.

    The temporary name is unique, so several processes may write the same file: the last one wins
    and every reader sees a whole file. It keeps the suffix, which names the format.

    Raises:
      UserError: the file cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
        temporary = Path(name)
        os.close(handle)
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The process's file mode mask, which mkstemp (mode 600) does not follow."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The file's checksum in hexadecimal, by any algorithm that hashlib knows."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
