"""The report of a sweep or a run, or of several: a page, tables of the results, a contact sheet.

`write` leaves these files in the work directory:

    report.html         the page, a single file that loads nothing from elsewhere
    results.csv         one row per cell: labels, status, times, all terms and metrics
    results.jsonl       the same, one JSON object per line
    results.parquet     the same, numbers as numbers; only where pyarrow is installed
    contact_sheet.png   the paintings of a sweep, arranged by its axes
"""

from collections.abc import Sequence
from pathlib import Path

from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.report import contact, reading, several, tables
from nst_jax.report.document import page as page
from nst_jax.report.reading import read as read


def write(workdir: Path) -> Path:
    """Writes the report of a sweep or a run into its folder, each file atomically.

    A run, and a sweep without any painting yet, get no contact sheet.

    Args:
      workdir: the folder.

    Returns:
      Path of the page.

    Raises:
      UserError: the folder holds neither a sweep nor a run, or cannot be written.
    """
    data = reading.read(workdir)
    tables.write(workdir, data)
    sheet = contact.sheet(data) if data["kind"] == "sweep" else None
    if sheet is not None:
        images.write(workdir / "contact_sheet.png", sheet)
    return tables.write_text(workdir / "report.html", page(data, live=False))


def write_several(folders: Sequence[Path], path: Path, has_tables: bool = True) -> Path:
    """Writes one page about several sweeps and runs.

    Args:
      folders: their work directories.
      path: the page, or the folder for a report.html.
      has_tables: whether to write the tables of the results beside the page, too.

    Returns:
      Path of the page.

    Raises:
      UserError: a folder holds neither a sweep nor a run, or a film; the page cannot be written, or
        it would lie in the folder of a sweep or a run, which has its own.
    """
    path = path / "report.html" if path.is_dir() else path
    data = several.read(folders)
    if reading.is_workdir(path.parent):
        raise UserError(f"{path.parent} has its own report; name another place with --output")
    if has_tables:
        tables.write(path.parent, data)
    return tables.write_text(path, page(data, live=False))
