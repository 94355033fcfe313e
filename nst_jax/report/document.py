"""The page: template, style and scripts of this folder, the data, and the pictures, in one text."""

import base64
import hashlib
import html
import io
import json
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from nst_jax.errors import UserError
from nst_jax.pictures import images

SCRIPTS = ("dom.js", "charts.js", "data.js", "sheet.js", "plots.js", "table.js", "cell.js")
LARGE, SMALL = 1024, 160  # longer sides of a picture in the page and in the sheet, in pixels
QUALITY = 85  # of JPEG


def page(data: dict[str, Any], live: bool) -> str:
    """The report as one HTML text.

    Args:
      data: from `read`.
      live: for a server that answers "files/PATH?VERSION" with the file PATH of the folder,
        "inputs/INDEX?VERSION" with that content or style picture, and "data.json" with `read`'s
        data as it is then. The page asks for that every two seconds until everything has ended.
        False: the pictures are in the page, and it may fetch nothing at all.
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
    """JSON that no HTML parser can take for the end of a script, nor JavaScript for a new line.

    `json.dumps` has escaped everything outside of ASCII, U+2028 among it.
    """
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def encoded(path: Path, longest: int) -> bytes | None:
    """A picture file as JPEG, its longer side `longest` pixels or less; None if it is unreadable.

    Anything that `images.read` reads, in sRGB, as browsers show it.
    """
    try:
        picture = images.read(path)
    except UserError:
        return None
    return _jpeg(picture, longest)


def _jpeg(picture: images.Picture, longest: int) -> bytes:
    if max(picture.shape) > longest:
        picture = images.resize(picture, images.fit(picture.shape, longest))
    file = io.BytesIO()
    pixels = PillowImage.fromarray(np.rint(picture * 255).astype(np.uint8))
    pixels.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _embedded(data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The data with small pictures in it, and the large ones as elements for the page's end.

    There they do not delay the sheet. Of the paths on this machine, only names stay.
    """
    elements = []

    def embed(path: Path, element: str) -> str | None:
        try:
            picture = images.read(path)
        except UserError:
            return None
        large = _uri(_jpeg(picture, LARGE))
        elements.append(f'<script type="text/plain" id="{element}">{large}</script>')
        return _uri(_jpeg(picture, SMALL))

    inputs, cells = [], []
    for index, known in enumerate(data["inputs"]):
        small = embed(Path(known["path"]), f"input-{index}") if known["width"] else None
        inputs.append(known | {"path": "", "small": small})
    for index, cell in enumerate(data["cells"]):
        picture = cell["picture"] or cell["frame"]
        if picture is not None:
            small = embed(Path(data["workdir"]) / picture["path"], f"cell-{index}")
            picture = picture | {"small": small} if small else None
        cells.append(cell | {"picture": picture, "frame": None})
    return data | {"inputs": inputs, "cells": cells}, elements


def _uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _policy(style: str, script: str, live: bool) -> str:
    """The Content-Security-Policy: this script, this style, and no network but that of `live`.

    Styles that the script sets on elements are its own doing and need no permission.
    """
    sources = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "'self' data:" if live else "data:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {source}" for name, source in sources.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    return (resources.files("nst_jax.report") / name).read_text(encoding="utf-8")
