"""Copies of a sweep's finished cells in an object store, through fsspec (the extra `cloud`)."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax.errors import UnwritableError, UserError

REPORT = (
    "report.html",
    "contact_sheet.png",
    "results.csv",
    "results.jsonl",
    "results.parquet",
    "sweep.json",
)
MARK = "result.json"  # of a whole cell; copied last


class Store(NamedTuple):
    """A folder of an object store.

    Attributes:
      files: the file system, of fsspec.
      root: the folder's path there.
      url: as the user named it.
    """

    files: Any
    root: str
    url: str

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """One line for whatever a store's own library raises."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            text = str(error) or type(error).__name__
            raise UnwritableError(f"cannot copy to or from --publish {self.url}: {text}") from None

    def plan(self) -> dict[str, Any]:
        """The sweep.json there; {} if there is none."""
        with self._explained():
            try:
                return json.loads(self.files.cat_file(f"{self.root}/sweep.json"))
            except FileNotFoundError:
                return {}

    def cells(self) -> set[str]:
        """Names of the cells that are whole there."""
        with self._explained():
            self.files.invalidate_cache()
            found = self.files.glob(f"{self.root}/cells/*/{MARK}")
            return {path.rsplit("/", 2)[1] for path in found}

    def upload(self, folder: Path):
        """Copies a finished cell; `MARK` last, so that only a whole cell has it."""
        target = f"{self.root}/cells/{folder.name}"
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        with self._explained():
            for path in sorted(paths, key=lambda path: path == folder / MARK):
                self._put(path, f"{target}/{path.relative_to(folder).as_posix()}")

    def upload_report(self, folder: Path):
        """Copies the files about the whole sweep."""
        with self._explained():
            for path in (folder / name for name in REPORT):
                if path.exists():
                    self._put(path, f"{self.root}/{path.name}")

    def _put(self, path: Path, target: str):
        self.files.makedirs(target.rpartition("/")[0], exist_ok=True)
        self.files.put_file(str(path), target)

    def download(self, name: str, folder: Path):
        """Copies a finished cell into a folder, which must not be there.

        Args:
          name: the cell's.
          folder: the copy.

        Raises:
          UnwritableError: the store cannot be read, or the folder not be written.
        """
        source = f"{self.root}/cells/{name}"
        with self._explained():
            try:
                for path in self.files.find(source):
                    target = folder / path.removeprefix(f"{source}/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self.files.get_file(path, str(target))
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise


def opened(url: str) -> Store:
    """Opens a folder of a store.

    Args:
      url: such as gs://bucket/sweep, s3://bucket/sweep, or a path.

    Raises:
      UserError: fsspec is not there, or does not know the store.
    """
    try:
        import fsspec
    except ImportError as error:
        raise UserError(f'--publish needs fsspec ({error}); pip install "nst_jax[cloud]"') from None
    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"--publish {url}: {error}") from None
    return Store(files, root.rstrip("/"), url)
