"""Tables of the results, with one row per cell, as CSV and as JSON lines."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from nst_jax import files
from nst_jax.config.schema import flat
from nst_jax.report.reading import read

# Columns besides the name, axis labels, terms and metrics; see `reading.read`.
FIELDS = ("status", "message", "steps", "seconds", "steps_per_second", "peak_memory_bytes")


def rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Flat rows, one per cell: name, axis labels, `FIELDS`, terms, metrics and the whole config.

    Args:
      data: from `reading.read`.

    Returns:
      Dictionaries with the same columns in the same order; a value is None where it is not known.
      A column whose name is already taken says what it is: an axis called "steps" becomes the
      column "steps (axis)". Keys of the config are "config.alpha" and so on.
    """
    cells = [cell | {"settings": flat(cell["config"], "config.")} for cell in data["cells"]]
    # Column -> (key in the cell, key in that group or None for a plain value).
    columns: dict[str, tuple[str, str | None]] = {"name": ("name", None)}
    for field in FIELDS:
        columns[field] = (field, None)
    groups = [
        ("axis", "labels", [axis["name"] for axis in data["axes"]]),
        ("term", "terms", _names(cells, "terms")),
        ("metric", "metrics", _names(cells, "metrics")),
        ("key", "settings", _names(cells, "settings")),
    ]
    for kind, group, names in groups:
        for name in names:
            column = f"{name} ({kind})" if name in columns else name
            columns[column] = (group, name)
    first = ["name"]
    first += [column for column, (group, _) in columns.items() if group == "labels"]
    order = [*first, *(column for column in columns if column not in first)]
    return [{column: _value(cell, *columns[column]) for column in order} for cell in cells]


def load_results(*folders: str | Path) -> list[dict[str, Any]]:
    """Reads the results of runs and sweeps, a row for each painting, also of those under way.

    `pandas.DataFrame(nst_jax.load_results("runs/a", "runs/b"))` makes a frame of them.

    Args:
      *folders: work directories of runs or sweeps.

    Returns:
      Dictionaries with the folder, the name, axis labels, status, times, terms, metrics, and every
      key of the config as "config.KEY". Numbers are numbers; what is not known is None.

    Raises:
      UserError: a folder holds neither a sweep nor a run.
    """
    return [{"folder": str(folder)} | row for folder in folders for row in rows(read(Path(folder)))]


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
