"""The contact sheet: the paintings of a sweep, small, laid out by its axes."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from nst_jax.errors import UserError
from nst_jax.pictures import images, sheets
from nst_jax.pictures.images import Picture

HEIGHT = 160  # of a painting, in pixels
LONGEST = 16000  # side of a sheet, about: with more cells they are smaller
SMALLEST = 24


def sheet(data: dict[str, Any]) -> Picture | None:
    """All paintings of a sweep; cells without one stay white.

    The last axis makes the columns, those before it the rows. One axis alone is wrapped, with its
    labels above every row.

    Returns:
      [h, w, 3], or None if there is no painting at all.
    """
    cells, axes = data["cells"], data["axes"]
    if not cells:
        return None
    columns = len(axes[-1]["labels"]) if len(axes) > 1 else wrap(len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    height = max(SMALLEST, min(HEIGHT, LONGEST // max(columns, len(rows))))
    pictures = [[_small(data["workdir"], cell, height) for cell in row] for row in rows]
    if not any(picture is not None for row in pictures for picture in row):
        return None
    if len(axes) > 1:
        left = [_label(row[0], axes[:-1]) for row in rows]
        above = [_label(cell, axes[-1:]) for cell in rows[0]]
        return sheets.sheet(pictures, left, above, data["name"], height)
    labels = [[_label(cell, axes) for cell in row] for row in rows]
    return _wrapped(pictures, labels, data["name"], height)


def wrap(cells: int) -> int:
    """Columns for one axis of cells: all in a row up to 6, else twice as wide as high, about."""
    if cells <= 6:
        return max(1, cells)
    rows = max(2, round(math.sqrt(cells / 2)))
    return math.ceil(cells / rows)


def _wrapped(
    pictures: list[list[Picture | None]], labels: list[list[str]], title: str, height: int
) -> Picture:
    """A sheet for every row, below each other: each has labels of its own.

    Cells stand in columns because all sheets share the widest painting, unless a label is wider.
    """
    widest = max(p.shape[1] for row in pictures for p in row if p is not None)
    white = np.ones((height, widest, 3), np.float32)
    strips = [
        sheets.sheet(
            [[white if picture is None else _centred(picture, white) for picture in row]],
            [""],
            above,
            "" if index else title,
            height,
        )
        for index, (row, above) in enumerate(zip(pictures, labels, strict=True))
    ]
    width = max(strip.shape[1] for strip in strips)
    padded = [
        np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=1)
        for strip in strips
    ]
    return np.concatenate(padded)


def _centred(picture: Picture, white: Picture) -> Picture:
    result, left = white.copy(), (white.shape[1] - picture.shape[1]) // 2
    result[:, left : left + picture.shape[1]] = picture
    return result


def _small(workdir: str, cell: dict[str, Any], height: int) -> Picture | None:
    """A cell's painting at that height; None where there is none that can be read."""
    if cell["picture"] is None:
        return None
    try:
        picture = images.read(Path(workdir) / cell["picture"]["path"])
    except UserError:
        return None
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return images.resize(picture, (height, width))


def _label(cell: dict[str, Any], axes: list[dict[str, Any]]) -> str:
    """The cell's label on each of the axes, one a line; its name where there are no axes."""
    lines = [f"{axis['name']} {cell['labels'][axis['name']]}" for axis in axes]
    return "\n".join(lines) or cell["name"]
