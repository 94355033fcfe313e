"""Brush strokes: where each painting goes, as the masks of `config.guides`.

With two paintings or more, each stroke on the photograph gives its area to one of them. What no
stroke covers is the rest. It is painted in the paintings without strokes, or, if all have some, in
the first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image, ImageDraw

Mask = Bool[np.ndarray, "h w"]

REST = ""  # stands for no painting, in a stroke that gives its area back to the rest
COLORS = ("#e8590c", "#1c7ed6", "#2f9e44", "#ae3ec9", "#f2b705", "#0c8599")  # of the paintings


class Stroke(NamedTuple):
    """A line of the brush.

    Attributes:
      painting: the painting that goes there; `REST` takes earlier strokes away.
      width: in pixels of the preview.
      points: (x, y) in pixels of the preview.
    """

    painting: str
    width: float
    points: Sequence[tuple[float, float]]


def areas(
    strokes: Sequence[Stroke], size: tuple[int, int], paintings: Sequence[str]
) -> Int[np.ndarray, "h w"]:
    """Where each painting goes: its place in `paintings`, or -1 for the rest.

    Args:
      strokes: the earliest first; later ones cover earlier ones.
      size: width and height of the preview, in pixels.
      paintings: all paintings. Strokes of others count as `REST`.
    """
    drawn = Image.new("I", size, -1)
    draw = ImageDraw.Draw(drawn)
    for stroke in strokes:
        is_known = stroke.painting in paintings
        place = paintings.index(stroke.painting) if is_known else -1
        draw.line(stroke.points, fill=place, width=round(stroke.width), joint="curve")
        for x, y in stroke.points:  # round ends, and a dot where nothing was dragged
            r = stroke.width / 2
            draw.ellipse((x - r, y - r, x + r, y + r), fill=place)
    return np.asarray(drawn)


def regions(
    strokes: Sequence[Stroke], size: tuple[int, int], paintings: Sequence[str]
) -> dict[str, tuple[Mask, list[str]]]:
    """The regions of the photograph.

    Returns:
      name -> its mask, of the preview's size, and the paintings that go there; {} if there is just
      one region. A painting for which no room is left is in none of them.
    """
    place = areas(strokes, size, paintings)
    own = [path for number, path in enumerate(paintings) if (place == number).any()]
    if len(own) == len(paintings):
        place = np.where(place == 0, -1, place)
        own = own[1:]
    others = [path for path in paintings if path not in own]
    found = {"rest": (place == -1, others)} if (place == -1).any() else {}
    for path in own:
        number = paintings.index(path)
        found[f"painting{number + 1}"] = (place == number, [path])
    return found if len(found) > 1 else {}


def overlay(strokes: Sequence[Stroke], size: tuple[int, int], paintings: Sequence[str]) -> str:
    """The strokes as an SVG of the preview's size, each in the colour of its painting."""
    parts = []
    for stroke in strokes:
        is_known = stroke.painting in paintings
        color = color_of(paintings.index(stroke.painting)) if is_known else "#ffffff"
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*stroke.points, stroke.points[-1]])
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{color}" stroke-opacity="0.6" '
            f'stroke-width="{stroke.width:.1f}" stroke-linecap="round" stroke-linejoin="round"/>'
        )
    return f'<svg viewBox="0 0 {size[0]} {size[1]}">{"".join(parts)}</svg>'


def color_of(number: int) -> str:
    """The colour of a painting, by its place."""
    return COLORS[number % len(COLORS)]
