"""Tables of the results, with one row per cell, as CSV, JSON lines and Parquet."""

import csv
import io
import json
import math
from collections.abc import Set
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
    columns = _columns(data["axes"], cells)
    return [{column: _value(cell, *place) for column, place in columns.items()} for cell in cells]


def _columns(
    axes: list[dict[str, Any]], cells: list[dict[str, Any]]
) -> dict[str, tuple[str, str | None]]:
    """Column -> (key in the cell, key in that group or None for a plain value)."""
    columns: dict[str, tuple[str, str | None]] = {"name": ("name", None)}
    for field in FIELDS:
        columns[field] = (field, None)
    groups = [
        ("axis", "labels", [axis["name"] for axis in axes]),
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
    return {column: columns[column] for column in order}


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
    """Writes results.csv, results.jsonl and, where pyarrow is installed, results.parquet.

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
    labels = {axis["name"] for axis in data["axes"]}
    labels |= {f"{name} (axis)" for name in labels}
    write_parquet(workdir / "results.parquet", table, labels - {"name", *FIELDS})


def write_parquet(path: Path, table: list[dict[str, Any]], labels: Set[str] = frozenset()):
    """Writes rows as Parquet, each column of one type, see `typed`.

    Without pyarrow (the extra `parquet`) nothing is written, and what an earlier call wrote goes.

    Args:
      path: the file.
      table: rows with the same columns.
      labels: columns whose texts are numbers, if all of them are.

    Raises:
      UserError: it cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        path.unlink(missing_ok=True)
        return
    names = list(table[0]) if table else []
    columns = {name: [row[name] for row in table] for name in names}
    for name in labels & columns.keys():
        columns[name] = numbers(columns[name])
    arrays = {_unicode(name): typed(values) for name, values in columns.items()}
    with files.replacing(path) as temporary:
        parquet.write_table(pyarrow.table(arrays), temporary)


def numbers(texts: list[str]) -> list[Any]:
    """The numbers that all of these texts are, as JSON writes them; else the texts."""
    try:
        read = [json.loads(text) for text in texts]
    except (ValueError, RecursionError):
        return texts
    are_numbers = all(type(one) in (int, float) and math.isfinite(one) for one in read)
    return read if are_numbers else texts


def typed(values: list[Any]) -> list[Any]:
    """A column's values as one type; None stays.

    Truth values, whole numbers of 64 bits and texts stay as they are, numbers become floats, and
    everything else becomes the text that a CSV file has of it.
    """
    kinds = {type(value) for value in values if value is not None}
    is_short = all(abs(value) < 2**63 for value in values if type(value) in (int, float))
    if kinds == {bool} or (kinds == {int} and is_short):
        return values
    if kinds <= {int, float} and is_short:
        return [value if value is None else float(value) for value in values]
    return [value if value is None else _unicode(str(value)) for value in values]


def _unicode(text: str) -> str:
    """A text that may hold file names which are not valid Unicode, as `write_text` writes it."""
    return text.encode(errors="replace").decode()


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
