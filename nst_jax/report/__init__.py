"""The report of a sweep or a run: a page, tables of the results, and a contact sheet.

`write` leaves these files in the work directory:

    report.html         the page, a single file that loads nothing from elsewhere
    results.csv         one row per cell: labels, status, times, all terms and metrics
    results.jsonl       the same, one JSON object per line
    contact_sheet.png   the paintings of a sweep, arranged by its axes
"""

from pathlib import Path

from nst_jax.pictures import images
from nst_jax.report import contact, reading, tables
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
