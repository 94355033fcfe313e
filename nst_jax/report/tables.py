"""Tables of the results, with one row per cell, as CSV and as JSON lines."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from nst_jax import files

# Columns besides the name, axis labels, terms and metrics; see `reading.read`.
FIELDS = ("status", "message", "steps", "seconds", "steps_per_second", "peak_memory_bytes")


def rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Flat rows, one per cell: name, axis labels, `FIELDS`, terms and metrics.

    Args:
      data: from `reading.read`.

    Returns:
      Dictionaries with the same columns in the same order; a value is None where it is not known.
      A column whose name is already taken says what it is: an axis called "steps" becomes the
      column "steps (axis)".
    """
    cells = data["cells"]
    # Column -> (key in the cell, key in that group or None for a plain value).
    columns: dict[str, tuple[str, str | None]] = {"name": ("name", None)}
    for field in FIELDS:
        columns[field] = (field, None)
    groups = [
        ("axis", "labels", [axis["name"] for axis in data["axes"]]),
        ("term", "terms", _names(cells, "terms")),
        ("metric", "metrics", _names(cells, "metrics")),
    ]
    for kind, group, names in groups:
        for name in names:
            column = f"{name} ({kind})" if name in columns else name
            columns[column] = (group, name)
    first = ["name"]
    first += [column for column, (group, _) in columns.items() if group == "labels"]
    order = [*first, *(column for column in columns if column not in first)]
    return [{column: _value(cell, *columns[column]) for column in order} for cell in cells]


def _names(cells: list[dict[str, Any]], group: str) -> list[str]:
    """All names that the cells have in a group, in the order of their first appearance."""
    return list(dict.fromkeys(name for cell in cells for name in cell[group]))


def _value(cell: dict[str, Any], group: str, name: str | None) -> Any:
    """A cell's value for a column; None if the cell lacks it."""
    return cell[group] if name is None else cell[group].get(name)


def write(workdir: Path, data: dict[str, Any]):
    """Writes results.csv and results.jsonl.

    Args:
      workdir: the folder.
      data: from `reading.read`.

    Raises:
      UserError: the folder cannot be written.
    """
    table = rows(data)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]) if table else ["name"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_text(workdir / "results.csv", text.getvalue())
    write_text(workdir / "results.jsonl", "".join(json.dumps(row) + "\n" for row in table))


def write_text(path: Path, text: str) -> Path:
    """Writes a text file atomically, in UTF-8.

    Returns:
      The path.

    Raises:
      UserError: it cannot be written.
    """
    with files.replacing(path) as temporary:
        # The text may hold file names that are not valid Unicode, hence errors="replace".
        temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return path
