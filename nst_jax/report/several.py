"""Several sweeps and runs as one, on the axes of all of them and one more, "sweep"."""

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nst_jax.config import axes
from nst_jax.config.schema import flat
from nst_jax.errors import UserError
from nst_jax.report import reading

NONE = "\u2013"  # the label of a cell on an axis that its sweep lacks and its config does not know


def read(folders: Sequence[Path]) -> dict[str, Any]:
    """Reads several sweeps and runs; a run is a sweep of one cell.

    The first axis is "sweep", with the names of the folders. Then come the axes of all sweeps. A
    cell whose sweep lacks one of them has the label that its config's value would have, or `NONE`
    where the axis is no key. Not every combination of labels need have a cell.

    Args:
      folders: work directories, at least one.

    Returns:
      As `reading.read`. "sweeps" are the labels of the first axis, "workdir" is the folder that
      holds all others, and the name of a cell begins with that of its sweep.

    Raises:
      UserError: a folder holds neither a sweep nor a run, or it holds a film.
    """
    named = {Path(folder).resolve(): folder for folder in folders}
    titles, root = titles_of([*named]), Path(os.path.commonpath(named))
    found, inputs, cells = [], {}, []
    for (path, folder), title in zip(named.items(), titles, strict=True):
        data = reading.read(folder)
        if data["kind"] == "film":
            raise UserError(f"{folder} holds a film, which has a page of its own; leave it out")
        for one in data["inputs"]:
            inputs.setdefault(one["path"], one)
        places = [[*inputs].index(one["path"]) for one in data["inputs"]]
        place = path.relative_to(root).as_posix()
        cells += [_moved(cell, place, title, places) for cell in data["cells"]]
        found.append(data)
    varied = [axis for data in found for axis in data["axes"]]
    first = "sweep" if all(axis["name"] != "sweep" for axis in varied) else "folder"
    names = [*dict.fromkeys(axis["name"] for axis in varied)]
    known = {name: _labels_of_values(name, cells) for name in names}
    for cell in cells:
        own = {name: cell["labels"].get(name) or _label(name, cell, known[name]) for name in names}
        cell["labels"] = {first: cell["sweep"]} | own
    labels = {name: _in_order(cell["labels"][name] for cell in cells) for name in names}
    return {
        "name": ", ".join(titles) if len(titles) <= 4 else f"{len(titles)} sweeps",
        "kind": "sweep",
        "ended": all(data["ended"] for data in found),
        "workdir": str(root),
        "axes": [{"name": name, "labels": own} for name, own in ({first: titles} | labels).items()],
        "inputs": [*inputs.values()],
        "higher": found[0]["higher"],
        "workers": sorted({worker for data in found for worker in data["workers"]}),
        "seconds_left": None,
        "sweeps": titles,
        "cells": cells,
    }


def titles_of(paths: Sequence[Path]) -> list[str]:
    """Names of folders, with those of the folders that hold them where that tells them apart.

    >>> titles_of([Path("/runs/a"), Path("/old/a"), Path("/runs/b")])
    ['runs/a', 'old/a', 'b']
    """

    def ends(path: Path) -> Iterable[str]:
        parts = path.parts
        return ("/".join(parts[-count:]) for count in range(1, len(parts) + 1))

    taken = [{*ends(path)} for path in paths]
    return [
        next((end for end in ends(path) if sum(end in one for one in taken) == 1), str(path))
        for path in paths
    ]


def _moved(cell: dict[str, Any], folder: str, sweep: str, places: list[int]) -> dict[str, Any]:
    """A cell as it is seen from the folder that holds all; `places` are those of its inputs."""

    def within(picture: dict[str, Any] | None) -> dict[str, Any] | None:
        return picture and picture | {"path": f"{folder}/{picture['path']}"}

    return cell | {
        "sweep": sweep,
        "name": f"{sweep}/{cell['name']}" if cell["labels"] else sweep,
        "picture": within(cell["picture"]),
        "frame": within(cell["frame"]),
        "frames": [within(frame) for frame in cell["frames"]],
        "content": None if cell["content"] is None else places[cell["content"]],
        "styles": [places[index] for index in cell["styles"]],
    }


def _values(axis: str, cell: dict[str, Any]) -> list[Any] | None:
    """What a cell's config says of an axis, which may be of several keys; None if it does not."""
    settings = flat(cell["config"])
    keys = axis.split(", ")
    return [settings[key] for key in keys] if settings.keys() >= {*keys} else None


def _labels_of_values(axis: str, cells: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Values of an axis, as JSON -> the label that its sweep gives them."""
    own = [cell for cell in cells if axis in cell["labels"]]
    return {json.dumps(_values(axis, cell)): cell["labels"][axis] for cell in own}


def _label(axis: str, cell: dict[str, Any], known: dict[str, str]) -> str:
    """The label of a cell on an axis that its sweep lacks."""
    values = _values(axis, cell)
    if values is None:
        return NONE
    with contextlib.suppress(UserError, TypeError, ValueError):  # a damaged config
        alone = (axes.each(*pair) for pair in zip(axis.split(", "), values, strict=True))
        likely = ", ".join(one.places[0][0] for one in alone)
        return known.get(json.dumps(values), likely)
    return NONE


def _in_order(labels: Iterable[str]) -> list[str]:
    """Labels, each once: numbers from the least on, words as they come, `NONE` last."""
    found = [*dict.fromkeys(labels)]
    with contextlib.suppress(ValueError):
        return sorted(found, key=float)
    return sorted(found, key=lambda label: label == NONE)
