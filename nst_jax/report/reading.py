"""The folder of a sweep or a run as plain data: what page, tables and contact sheet are made of.

Whatever is missing, half-written or damaged is left out: a report is drawn while runs still write.
"""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from nst_jax.config import grammar as specs
from nst_jax.errors import UserError

MOST_POINTS = 200  # of a curve
RUN_FILES = ("config.json", "metrics.jsonl", "result.json")


def read(workdir: Path) -> dict[str, Any]:
    """Reads a sweep or a run.

    Returns:
      Values that JSON can hold (no NaN or infinity: None instead):
        name, kind       what the sweep or run is called; "sweep" or "run"
        ended            whether every cell is done or has failed
        workdir          the folder's absolute path
        axes             [{"name", "labels"}], the last varies fastest; none for a run
        inputs           content and style pictures, each once: {"path", "name"} and what a picture
                         has, of which "width" is None where the file is gone
        cells            see `_cell`
      A picture has "path" (relative to the folder, with slashes), "width" and "height" in pixels,
      and "version", which changes with the file.

    Raises:
      UserError: the folder holds neither a sweep nor a run, or sweep.json is damaged.
    """
    workdir = Path(workdir)
    inputs: list[dict[str, Any]] = []
    if (workdir / "sweep.json").exists():
        kind, plan = "sweep", _plan(workdir / "sweep.json")
        cells = [
            _cell(workdir, workdir / "cells" / cell["name"], cell, inputs) for cell in plan["cells"]
        ]
    elif any((workdir / name).exists() for name in RUN_FILES):
        kind, result = "run", _json(workdir / "result.json")
        name = str(result.get("name") or workdir.resolve().name)
        plan = {"name": name, "axes": []}
        run = {"name": name, "labels": {}, "command": result.get("command", "")}
        cells = [_cell(workdir, workdir, run, inputs)]
    else:
        raise UserError(f"{workdir} holds neither a sweep (sweep.json) nor a run (config.json)")
    return {
        "name": plan["name"],
        "kind": kind,
        "ended": all(cell["status"] in ("done", "failed") for cell in cells),
        "workdir": str(workdir.resolve()),
        "axes": plan["axes"],
        "inputs": inputs,
        "cells": cells,
    }


def _plan(path: Path) -> dict[str, Any]:
    """sweep.json, as far as it must be right: names, axes, and the labels of every cell."""
    plan = _json(path)
    try:
        axes = [
            {"name": str(axis["name"]), "labels": [str(label) for label in axis["labels"]]}
            for axis in plan["axes"]
        ]
        cells = [
            cell
            | {
                "name": str(cell["name"]),
                "labels": {axis["name"]: str(cell["labels"][axis["name"]]) for axis in axes},
            }
            for cell in plan["cells"]
        ]
        if len(cells) != math.prod(len(axis["labels"]) for axis in axes):
            raise KeyError("cells")
        if any(cell["name"] != Path(cell["name"]).name or "\0" in cell["name"] for cell in cells):
            raise KeyError("name")  # a path would lead out of the folder
    except (KeyError, TypeError):
        raise UserError(f"{path} is damaged; start the sweep again in another folder") from None
    return {"name": str(plan.get("name") or path.parent.name), "axes": axes, "cells": cells}


def _cell(
    workdir: Path, folder: Path, planned: dict[str, Any], inputs: list[dict[str, Any]]
) -> dict[str, Any]:
    """One cell; adds its content and style pictures to `inputs`.

    Returns:
      name, labels     the label on each axis, by the axis' name
      status, message  "done", "failed", "running" or "waiting", and why it failed
      steps, seconds, steps_per_second, peak_memory_bytes
                       None where not known; steps and seconds so far while running
      terms, metrics   the last value of each, by name
      curve            {"step", "seconds", "terms": {name: values}}: `MOST_POINTS` points at most
      config, command  the resolved config, nested, and what to type to have this cell again
      picture          the painting, so far or final, else None
      frame            the last of the pictures along the way, else None
      content, styles  an index into the inputs or None, and a list of such
    """
    result = _json(folder / "result.json")
    config = _object(planned.get("config")) or _json(folder / "config.json")
    rows = _rows(folder / "metrics.jsonl")
    last = rows[-1] if rows else {}
    terms = {name: value for name, value in last.items() if name not in ("step", "seconds")}
    if result:
        status = "failed" if result.get("status") == "failed" else "done"
    else:
        status = "running" if (folder / "metrics.jsonl").exists() else "waiting"
    frames = sorted((folder / "frames").glob("[0-9]*.png"))
    content, styles = _named(config.get("content")), _pictures(config.get("style"))
    return {
        "name": planned["name"],
        "labels": planned["labels"],
        "status": status,
        "message": str(result.get("message") or ""),
        "steps": _number(result.get("steps", last.get("step"))),
        "seconds": _number(result.get("seconds", last.get("seconds"))),
        "steps_per_second": _number(result.get("steps_per_second")),
        "peak_memory_bytes": _number(result.get("peak_memory_bytes")),
        "terms": _numbers(_object(result.get("terms")) or terms),
        "metrics": _numbers(_object(result.get("metrics"))),
        "curve": _curve(rows),
        "config": config,
        "command": str(planned.get("command") or ""),
        "picture": _painting(workdir, folder, _named(config.get("output"))),
        "frame": _picture(frames[-1], workdir) if frames else None,
        "content": _index(inputs, content) if content else None,
        "styles": [_index(inputs, path) for path in styles],
    }


def _painting(workdir: Path, folder: Path, output: str) -> dict[str, Any] | None:
    """The painting; where there are several (config.interpolate), the film of them."""
    if not output or output != Path(output).name:
        return None
    paths = folder / output, (folder / output).with_suffix(".gif")
    return next(filter(None, (_picture(path, workdir) for path in paths)), None)


def _picture(path: Path, workdir: Path) -> dict[str, Any] | None:
    """What the page must know of a picture file before it shows it; None where there is none."""
    try:
        version = path.stat().st_mtime_ns // 10**6
        with PillowImage.open(path) as opened:
            width, height = opened.size
            if opened.getexif().get(274, 1) > 4:  # EXIF: lies on its side
                width, height = height, width
    except Exception:  # whatever a damaged or vanished file raises: there is no picture
        return None
    relative = path.relative_to(workdir) if path.is_relative_to(workdir) else path
    return {"path": relative.as_posix(), "width": width, "height": height, "version": version}


def _index(inputs: list[dict[str, Any]], named: str) -> int:
    """Where a content or style picture stands in `inputs`, which gets it if it is new."""
    path = Path(named)
    with contextlib.suppress(RuntimeError):  # a home folder that is not there
        path = path.expanduser()
    path = path.absolute()
    for index, known in enumerate(inputs):
        if known["path"] == path.as_posix():
            return index
    absent = {"width": None, "height": None, "version": 0}
    found = _picture(path, path.parent) or absent
    inputs.append(found | {"name": path.name, "path": path.as_posix()})
    return len(inputs) - 1


def _named(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _pictures(spec: Any) -> list[str]:
    """The paths in a config's style."""
    try:
        return list(specs.parse_pictures(_named(spec)))
    except UserError:
        return []


def _rows(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that are whole and name their step."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    rows = [_parsed(line) for line in lines]
    return [row for row in rows if _number(row.get("step")) is not None]


def _curve(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows as columns, evenly thinned; first and last stay. Values have 5 digits."""
    if len(rows) > MOST_POINTS:
        stride = (len(rows) - 1) / (MOST_POINTS - 1)
        rows = [rows[round(k * stride)] for k in range(MOST_POINTS)]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [_short(row.get(name)) for row in rows] for name in names}
    step, seconds = columns.pop("step", []), columns.pop("seconds", [])
    return {"step": step, "seconds": seconds, "terms": columns}


def _short(value: Any) -> int | float | None:
    number = _number(value)
    return number if number is None or isinstance(number, int) else float(f"{number:.5g}")


def _number(value: Any) -> int | float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with contextlib.suppress(OverflowError):  # an integer of hundreds of digits
        return value if math.isfinite(value) else None
    return None


def _numbers(values: dict[str, Any]) -> dict[str, int | float | None]:
    return {name: _number(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """Without the NaN and infinities that Python's JSON has and JavaScript's has not."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    try:
        return _parsed(path.read_text(errors="replace"))
    except OSError:
        return {}


def _parsed(text: str) -> dict[str, Any]:
    try:
        return _plain(_object(json.loads(text)))
    except (ValueError, RecursionError):
        return {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
