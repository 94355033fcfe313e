"""The report page: template, style, scripts, data and pictures combined into one HTML text."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, TypeVar

import numpy as np
from PIL import Image as PillowImage

from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.pictures.sizes import LONGER_SIDE

T = TypeVar("T")

SCRIPTS = ("dom.js", "charts.js", "data.js", "sheet.js", "plots.js", "scatter.js", "parallel.js")
SCRIPTS += ("paper.js", "table.js", "configs.js", "stage.js", "cell.js")  # page.js comes last
MAX_PICTURE_SIDE_PIXELS = 1024  # of a picture that is opened
MAX_THUMBNAIL_SIDE_PIXELS = 160  # of a picture in the sheet
MAX_FRAME_SIDE_PIXELS = 384  # of a picture along the way
MAX_FRAMES = 120  # in a page, of all cells together
MAX_CELL_FRAMES = 12
MAX_FILM_BYTES = 24 << 20  # of a film and its source together, in a page
JPEG_QUALITY = 85


def page(data: dict[str, Any], live: bool) -> str:
    """Renders the report as one HTML text.

    Args:
      data: from `reading.read`.
      live: if False, the page embeds its pictures and may not load anything. If True, it is for a
        server that answers "files/PATH?VERSION" with the file PATH of the folder,
        "inputs/INDEX?VERSION" with that content or style picture, and "data.json" with the current
        data of `reading.read`, which the page requests every two seconds until all cells have
        ended.
    """
    style = _file("page.css")
    script = "\n".join(map(_file, (*SCRIPTS, "page.js")))
    shown, pictures = (data, []) if live else _embedded(data)
    shown = {key: value for key, value in shown.items() if key != "workdir"} | {"live": live}
    return Template(_file("page.html")).substitute(
        title=html.escape(data["name"]),
        policy=_policy(style, script, live),
        style=style,
        data=script_safe(json.dumps(shown, separators=(",", ":"))),
        script=script,
        pictures="\n".join(pictures),
    )


def script_safe(text: str) -> str:
    """Escapes JSON for an HTML script element: neither HTML nor JavaScript can misread it.

    `json.dumps` has already escaped everything outside ASCII, including the line separator U+2028.

    Args:
      text: from `json.dumps`.
    """
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def encoded(path: Path, longest: int) -> bytes | None:
    """Converts a picture file to JPEG in sRGB.

    Args:
      path: a file that `images.read` can read.
      longest: maximum length of the longer side, in pixels.

    Returns:
      The JPEG file, or None if the picture cannot be read.
    """
    try:
        picture = images.read(path, quiet=True)
    except UserError:
        return None
    return _jpeg(picture, longest)


def _jpeg(picture: images.Picture, longest: int) -> bytes:
    """A picture as JPEG, its longer side at most `longest` pixels."""
    if max(picture.shape) > longest:
        picture = images.resize(picture, LONGER_SIDE.fit(picture.shape, longest))
    file = io.BytesIO()
    pixels = PillowImage.fromarray(np.rint(picture * 255).astype(np.uint8))
    pixels.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _embedded(data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The data with thumbnails embedded, and the large pictures as HTML elements.

    The elements belong at the end of the page, where they do not delay the sheet. Paths on this
    machine are removed; file names stay.
    """
    elements = []

    def embed(path: Path, element: str, *longest: int) -> str | None:
        """Embeds a picture at the first of the sizes, and returns it at the last."""
        try:
            picture = images.read(path, quiet=True)
        except UserError:
            return None
        uris = [_uri(_jpeg(picture, size)) for size in longest]
        elements.append(f'<script type="text/plain" id="{element}">{uris[0]}</script>')
        return uris[-1]

    sizes = MAX_PICTURE_SIDE_PIXELS, MAX_THUMBNAIL_SIDE_PIXELS
    at_most = min(MAX_CELL_FRAMES, MAX_FRAMES // len(data["cells"]))
    inputs, cells = [], []
    for index, known in enumerate(data["inputs"]):
        small = embed(Path(known["path"]), f"input-{index}", *sizes) if known["width"] else None
        inputs.append(known | {"path": "", "small": small})
    for index, cell in enumerate(data["cells"]):
        picture = cell["picture"] or cell["frame"]
        if picture is not None:
            small = embed(Path(data["workdir"]) / picture["path"], f"cell-{index}", *sizes)
            picture = (picture | {"small": small}) if small else None
        if film := cell["film"]:
            paths = {role: Path(data["workdir"]) / own["path"] for role, own in film.items()}
            if sum(path.stat().st_size for path in paths.values()) <= MAX_FILM_BYTES:
                elements += [
                    f'<script type="text/plain" id="film-{role}">{_film_uri(path)}</script>'
                    for role, path in paths.items()
                ]
        frames = _spread(cell["frames"], at_most)
        for k, frame in enumerate(frames):
            path = Path(data["workdir"]) / frame["path"]
            embed(path, f"frame-{index}-{k}", MAX_FRAME_SIDE_PIXELS)
        cells.append(cell | {"picture": picture, "frame": None, "frames": frames})
    return data | {"inputs": inputs, "cells": cells}, elements


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly spread, the first among them.

    >>> _spread(range(10), 4)
    [0, 2, 5, 7]
    """
    if len(items) <= count:
        return list(items)
    return [items[k * len(items) // count] for k in range(count)]


def _uri(jpeg: bytes) -> str:
    """A JPEG file as a data URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _film_uri(path: Path) -> str:
    """A film as a data URI."""
    return f"data:video/webm;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _policy(style: str, script: str, live: bool) -> str:
    """Content-Security-Policy: allows this script, this style and, if live, this server.

    Styles that a script sets through the DOM need no permission.
    """
    sources = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "'self' data:" if live else "data:",
        "media-src": "'self'" if live else "data:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {source}" for name, source in sources.items())


def _hash(text: str) -> str:
    """The policy's source expression for an inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    """The text of a file of this package."""
    return (resources.files("nst_jax.report") / name).read_text(encoding="utf-8")
