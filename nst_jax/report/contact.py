"""The contact sheet: small copies of a sweep's paintings, arranged by its axes."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from nst_jax.errors import UserError
from nst_jax.pictures import images, sheets
from nst_jax.pictures.images import Picture

MAX_PAINTING_HEIGHT_PIXELS = 160
MIN_PAINTING_HEIGHT_PIXELS = 24
MAX_SHEET_SIDE_PIXELS = 16_000  # roughly; paintings shrink to keep it


def sheet(data: dict[str, Any]) -> Picture | None:
    """Draws all paintings of a sweep on one sheet.

    The last axis runs along the columns, the axes before it along the rows. A single axis is
    wrapped into several rows, with labels above each row. Cells without a painting stay white.

    Args:
      data: from `reading.read`.

    Returns:
      [h, w, 3] in [0, 1], or None if there is no painting at all.
    """
    cells, axes = data["cells"], data["axes"]
    if not cells:
        return None
    columns = len(axes[-1]["labels"]) if len(axes) > 1 else wrap(len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    height = MAX_SHEET_SIDE_PIXELS // max(columns, len(rows))
    height = max(MIN_PAINTING_HEIGHT_PIXELS, min(MAX_PAINTING_HEIGHT_PIXELS, height))
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
    """Number of columns for the cells of a single axis.

    Up to 6 cells stand in one row; more are wrapped to roughly twice as many columns as rows.

    Args:
      cells: their number, >= 0.
    """
    if cells <= 6:
        return max(1, cells)
    rows = max(2, round(math.sqrt(cells / 2)))
    return math.ceil(cells / rows)


def _wrapped(
    pictures: list[list[Picture | None]], labels: list[list[str]], title: str, height: int
) -> Picture:
    """One sheet per row, stacked, so that each row has its own labels.

    Every painting is padded to the width of the widest, so that columns line up across the sheets
    unless a label is wider than that.
    """
    widest = max(p.shape[1] for row in pictures for p in row if p is not None)
    white = np.ones((height, widest, 3), np.float32)
    strips = []
    for row, above in zip(pictures, labels, strict=True):
        cells = [white if picture is None else _centred(picture, white) for picture in row]
        heading = "" if strips else title
        strips.append(sheets.sheet([cells], [""], above, heading, height))
    width = max(strip.shape[1] for strip in strips)
    padded = [
        np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=1)
        for strip in strips
    ]
    return np.concatenate(padded)


def _centred(picture: Picture, white: Picture) -> Picture:
    """A picture in the middle of a white one of the same height."""
    result = white.copy()
    left = (white.shape[1] - picture.shape[1]) // 2
    result[:, left : left + picture.shape[1]] = picture
    return result


def _small(workdir: str, cell: dict[str, Any], height: int) -> Picture | None:
    """A cell's painting at a height in pixels; None if there is none or it cannot be read."""
    if cell["picture"] is None:
        return None
    try:
        picture = images.read(Path(workdir) / cell["picture"]["path"], quiet=True)
    except UserError:
        return None
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return images.resize(picture, (height, width))


def _label(cell: dict[str, Any], axes: list[dict[str, Any]]) -> str:
    """A cell's labels on the axes, one per line, or its name if there are no axes."""
    lines = [f"{axis['name']} {cell['labels'][axis['name']]}" for axis in axes]
    return "\n".join(lines) or cell["name"]
