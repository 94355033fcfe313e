"""The report of a sweep or a run: one page to look at, tables to compute with, a contact sheet.

report.html         the page, whole in one file: nothing is fetched
results.csv         a row for each cell: labels, status, times, every term, every metric
results.jsonl       the same as one JSON object a line
contact_sheet.png   the paintings of a sweep, laid out by its axes
"""

from pathlib import Path

from nst_jax.pictures import images
from nst_jax.report import contact, reading, tables
from nst_jax.report.document import page as page
from nst_jax.report.reading import read as read


def write(workdir: Path) -> Path:
    """Writes the report of a sweep or a run into its folder, each file in one step.

    A sweep without any painting gets no contact sheet.

    Returns:
      The page's path.

    Raises:
      UserError: the folder holds neither a sweep nor a run, or cannot be written.
    """
    data = reading.read(workdir)
    tables.write(workdir, data)
    sheet = contact.sheet(data) if data["kind"] == "sweep" else None
    if sheet is not None:
        images.write(workdir / "contact_sheet.png", sheet)
    return tables.write_text(workdir / "report.html", page(data, live=False))
