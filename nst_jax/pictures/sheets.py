"""Pictures beside and below each other, with labels: sheets for figures and documentation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.pictures.images import Picture
from nst_jax.pictures.writers import WRITERS


def sheet(
    rows: Sequence[Sequence[Picture | None]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str = "",
    height: int = 160,
) -> Picture:
    """A table of pictures in equal cells, black labels to the left and above, on white.

    A cell is `height` pixels high and as wide as its widest picture or column label at that height;
    every picture fills its cell's height, keeps its aspect and stands in the middle. Gaps, margin
    and letters grow with `height`. Labels may have several lines; where all of a side are "", they
    take no room, and neither does an empty title.

    Args:
      rows: [h, w, 3] each, of any sizes; None leaves a cell white.
      row_labels: one for each row.
      column_labels: one for each column; every row has that many cells.
      title: a heading over everything.
      height: of a cell, in pixels; labels can be read from about 80.

    Raises:
      ValueError: no picture at all, or labels and cells that do not match in number.
    """
    if len(row_labels) != len(rows) or any(len(row) != len(column_labels) for row in rows):
        raise ValueError("a sheet has a label for each row and column, and rows of equal length")
    gap = max(1, height // 20)
    font, large = (ImageFont.load_default(max(6, size)) for size in (height // 10, height // 8))
    left = max(_extent(label, font)[0] for label in row_labels)
    widest = max(_width(picture, height) for row in rows for picture in row if picture is not None)
    widest = max(widest, *(_extent(label, font)[0] for label in column_labels))
    above = max(_extent(label, font)[1] for label in column_labels)
    top = _extent(title, large)[1]

    x0 = gap + (left + gap if left else 0)  # of the first cell
    y0 = gap + sum(room + gap for room in (top, above) if room)
    wide = max(x0 + len(column_labels) * (widest + gap), _extent(title, large)[0] + 2 * gap)
    canvas = PillowImage.new("RGB", (wide, y0 + len(rows) * (height + gap)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.multiline_text((gap, gap + top / 2), title, "black", large, "lm")
    for k, label in enumerate(column_labels):
        middle = x0 + k * (widest + gap) + widest / 2
        draw.multiline_text((middle, y0 - gap), label, "black", font, "md", align="center")
    for i, label in enumerate(row_labels):
        middle = y0 + i * (height + gap) + height / 2
        draw.multiline_text((gap + left, middle), label, "black", font, "rm", align="right")

    result = np.asarray(canvas, np.float32) / 255
    for i, row in enumerate(rows):
        for k, picture in enumerate(row):
            if picture is not None:
                width = _width(picture, height)
                y = y0 + i * (height + gap)
                x = x0 + k * (widest + gap) + (widest - width) // 2
                result[y : y + height, x : x + width] = images.resize(picture, (height, width))
    return result


def destination(path: str) -> Path:
    """Where a sheet shall be written, checked before minutes of work.

    Raises:
      UserError: a suffix that `images.write` does not know.
    """
    if Path(path).suffix.lower() not in WRITERS:
        raise UserError(f"cannot write {path}: its name must end in {', '.join(WRITERS)}")
    return Path(path)


def _width(picture: Picture, height: int) -> int:
    """Of a picture at a height, in pixels."""
    return max(1, round(height * picture.shape[1] / picture.shape[0]))


def _extent(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[int, int]:
    """(width, height) of the room that a text takes, in pixels, with the letters' own margins."""
    if not text:
        return 0, 0
    draw = ImageDraw.Draw(PillowImage.new("L", (1, 1)))
    left, _, right, bottom = draw.multiline_textbbox((0, 0), text, font=font)
    return int(np.ceil(right - left)), int(np.ceil(bottom))
