"""The results as tables: a row for each cell, in CSV and in JSON lines."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from nst_jax import files

FIELDS = ("status", "message", "steps", "seconds", "steps_per_second", "peak_memory_bytes")


def rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    """A flat row for each cell: name, axis labels, `FIELDS`, terms, metrics; None: not known.

    Every row has the same columns. One whose name an earlier one has says what it is: an axis
    called "steps" makes the column "steps (axis)".
    """
    cells = data["cells"]
    columns = {"name": ("name", None)}
    columns |= {field: (field, None) for field in FIELDS}
    kinds = {
        "axis": ("labels", [axis["name"] for axis in data["axes"]]),
        "term": ("terms", _names(cells, "terms")),
        "metric": ("metrics", _names(cells, "metrics")),
    }
    for kind, (group, names) in kinds.items():
        for name in names:
            columns[f"{name} ({kind})" if name in columns else name] = (group, name)
    labels = [column for column, (group, _) in columns.items() if group == "labels"]
    order = ["name", *labels, *(column for column in columns if column not in ["name", *labels])]
    return [{column: _value(cell, *columns[column]) for column in order} for cell in cells]


def _names(cells: list[dict[str, Any]], group: str) -> list[str]:
    return list(dict.fromkeys(name for cell in cells for name in cell[group]))


def _value(cell: dict[str, Any], group: str, name: str | None) -> Any:
    return cell[group] if name is None else cell[group].get(name)


def write(workdir: Path, data: dict[str, Any]):
    """Writes results.csv and results.jsonl.

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
    """Writes a text file in one step, in UTF-8, and returns its path.

    Raises:
      UserError: it cannot be written.
    """
    with files.replacing(path) as temporary:  # "replace": a file's name may be no Unicode at all
        temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return path
