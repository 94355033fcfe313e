"""Sheets: labelled tables of pictures, for figures and documentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.pictures.images import Picture
from nst_jax.pictures.writers import WRITERS

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def sheet(
    rows: Sequence[Sequence[Picture | None]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str = "",
    height: int = 160,
) -> Picture:
    """Lays out pictures in a table of equal cells, with black labels on white.

    Labels are to the left of the rows and above the columns. A cell is `height` pixels high and as
    wide as the widest picture or column label. Each picture is scaled to the cell's height, keeps
    its aspect ratio and is centred. Gaps, margins and letters scale with `height`. Labels may have
    several lines. Row labels, column labels or a title that are all "" take no space.

    Args:
      rows: pictures [h, w, 3] of any sizes; None leaves a cell white.
      row_labels: one per row.
      column_labels: one per column; every row has that many cells.
      title: a heading over the table.
      height: of a cell, in pixels; labels are legible from about 80.

    Returns:
      [h, w, 3] in [0, 1].

    Raises:
      ValueError: there is no picture, or the labels and cells differ in number.
    """
    if len(row_labels) != len(rows) or any(len(row) != len(column_labels) for row in rows):
        raise ValueError("a sheet needs a label for each row and column, and rows of equal length")
    layout = _layout(rows, row_labels, column_labels, title, height)
    result = _labelled(layout, row_labels, column_labels, title)
    for i, row in enumerate(rows):
        for k, picture in enumerate(row):
            if picture is not None:
                width = _width(picture, height)
                y = layout.top_of(i)
                x = layout.left_of(k) + (layout.cell_width - width) // 2
                result[y : y + height, x : x + width] = images.resize(picture, (height, width))
    return result


class _Layout(NamedTuple):
    """Measures of a sheet, in pixels, and its fonts."""

    cell_width: int
    cell_height: int
    gap: int
    row_label_width: int
    title_height: int
    left: int  # of the first column
    top: int  # of the first row
    width: int  # of the whole sheet
    font: Font
    title_font: Font

    def left_of(self, column: int) -> int:
        return self.left + column * (self.cell_width + self.gap)

    def top_of(self, row: int) -> int:
        return self.top + row * (self.cell_height + self.gap)


def _layout(
    rows: Sequence[Sequence[Picture | None]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str,
    height: int,
) -> _Layout:
    """The layout of a sheet; the arguments are those of `sheet`."""
    gap = max(1, height // 20)
    font = ImageFont.load_default(max(6, height // 10))
    title_font = ImageFont.load_default(max(6, height // 8))
    row_label_width = max(_extent(label, font)[0] for label in row_labels)
    column_extents = [_extent(label, font) for label in column_labels]
    title_width, title_height = _extent(title, title_font)

    widest = max(_width(picture, height) for row in rows for picture in row if picture is not None)
    cell_width = max(widest, *(width for width, _ in column_extents))
    column_label_height = max(label_height for _, label_height in column_extents)
    left = top = gap
    if row_label_width:
        left += row_label_width + gap
    if title_height:
        top += title_height + gap
    if column_label_height:
        top += column_label_height + gap
    return _Layout(
        cell_width=cell_width,
        cell_height=height,
        gap=gap,
        row_label_width=row_label_width,
        title_height=title_height,
        left=left,
        top=top,
        width=max(left + len(column_labels) * (cell_width + gap), title_width + 2 * gap),
        font=font,
        title_font=title_font,
    )


def _labelled(
    layout: _Layout, row_labels: Sequence[str], column_labels: Sequence[str], title: str
) -> Picture:
    """The sheet with its title and labels, without pictures."""
    gap, font = layout.gap, layout.font
    canvas = PillowImage.new("RGB", (layout.width, layout.top_of(len(row_labels))), "white")
    draw = ImageDraw.Draw(canvas)
    centre = gap + layout.title_height / 2
    draw.multiline_text((gap, centre), title, "black", layout.title_font, "lm")
    for k, label in enumerate(column_labels):
        middle = layout.left_of(k) + layout.cell_width / 2
        draw.multiline_text((middle, layout.top - gap), label, "black", font, "md", align="center")
    for i, label in enumerate(row_labels):
        middle = layout.top_of(i) + layout.cell_height / 2
        right = gap + layout.row_label_width
        draw.multiline_text((right, middle), label, "black", font, "rm", align="right")
    return np.asarray(canvas, np.float32) / 255


def destination(path: str) -> Path:
    """Checks where a sheet is to be written, before the work that it takes.

    Args:
      path: the file.

    Raises:
      UserError: `images.write` does not know the suffix.
    """
    if Path(path).suffix.lower() not in WRITERS:
        raise UserError(f"cannot write {path}: its name must end in {', '.join(WRITERS)}")
    return Path(path)


def _width(picture: Picture, height: int) -> int:
    """Width of a picture scaled to a height, in pixels."""
    return max(1, round(height * picture.shape[1] / picture.shape[0]))


def _extent(text: str, font: Font) -> tuple[int, int]:
    """(width, height) of a text in pixels, with the font's own margins; (0, 0) if it is empty."""
    if not text:
        return 0, 0
    draw = ImageDraw.Draw(PillowImage.new("L", (1, 1)))
    left, _, right, bottom = draw.multiline_textbbox((0, 0), text, font=font)
    return int(np.ceil(right - left)), int(np.ceil(bottom))
