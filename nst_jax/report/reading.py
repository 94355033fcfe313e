"""Reads the folder of a sweep or a run as plain data, for the page, tables and contact sheet.

A report may be drawn while runs are still writing, so anything missing, incomplete or damaged is
left out.
"""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from nst_jax import files
from nst_jax.config import grammar, rules
from nst_jax.errors import UserError
from nst_jax.report import fleet

MAX_CURVE_POINTS = 200
INTERRUPTED = "interrupted"  # the message of a run that somebody stopped
# A folder with any of these files holds a run.
RUN_FILES = ("config.json", "metrics.jsonl", "result.json")


def read(workdir: Path) -> dict[str, Any]:
    """Reads a sweep or a run.

    Args:
      workdir: the folder of the sweep or run.

    Returns:
      JSON values without NaN and infinities (None stands for them):

          name, kind       the name of the sweep or run; "sweep", "run" or "film"
          ended            whether every cell is done or has failed; a run also if it was stopped
          workdir          absolute path of the folder
          axes             [{"name", "labels"}], the last varies fastest; empty for a run
          inputs           content and style pictures without duplicates: {"path", "name"} and the
                           keys of a picture, whose "width" is None if the file is gone
          higher           the metrics of which more is better
          workers          titles of the workers that are at work, see `fleet.title`
          seconds_left     how long they will take at their present pace, or None
          sweeps           labels of several sweeps, see `several.read`; here []
          cells            see `_cell`

      A picture has "path" (relative to the folder, with slashes), "width" and "height" in pixels,
      and "version", which changes whenever the file does.

    Raises:
      UserError: the folder holds neither a sweep nor a run, or sweep.json is damaged.
    """
    workdir = Path(workdir)
    kind, name, axes, planned = _outline(workdir)
    inputs: list[dict[str, Any]] = []
    working = fleet.live(workdir)
    cells = [
        _cell(workdir, folder, cell | {"is_live": cell["worker"] in working}, inputs)
        for folder, cell in planned
    ]
    workers = sorted(map(fleet.title, working))
    ended = {"done", "failed"}
    if kind != "sweep":  # where others may go on with a cell whose worker has stopped
        ended.add("stopped")
    return {
        "name": name,
        "kind": kind,
        "ended": all(cell["status"] in ended for cell in cells),
        "workdir": str(workdir.resolve()),
        "axes": axes,
        "inputs": inputs,
        "higher": list(rules.HIGHER_IS_BETTER),
        "workers": workers,
        "seconds_left": fleet.seconds_left(cells, workers),
        "sweeps": [],
        "cells": cells,
    }


def is_workdir(folder: Path) -> bool:
    """Whether a folder holds a sweep or a run."""
    return any((folder / name).exists() for name in ("sweep.json", *RUN_FILES))


def _outline(
    workdir: Path,
) -> tuple[str, str, list[dict[str, Any]], list[tuple[Path, dict[str, Any]]]]:
    """(kind, name, axes, cells) of a folder; each cell is its own folder and what was planned."""
    if (workdir / "sweep.json").exists():
        plan = _plan(workdir / "sweep.json")
        newest, cells = fleet.claims(workdir), []
        for cell in plan["cells"]:
            claim = cell["name"], newest.get(cell["name"], 0)
            owner = fleet.worker(workdir, *claim) if claim[1] else ""
            cells.append((fleet.place(workdir, *claim), cell | {"worker": owner}))
        return "sweep", plan["name"], plan["axes"], cells
    if any((workdir / name).exists() for name in RUN_FILES):
        result = _json(workdir / "result.json")
        name = str(result.get("name") or workdir.resolve().name)
        command = result.get("command", "")
        run = {"name": name, "labels": {}, "command": command, "worker": ""}
        kind = "film" if (workdir / "source").is_dir() else "run"
        return kind, name, [], [(workdir, run)]
    raise UserError(f"{workdir} holds neither a sweep (sweep.json) nor a run (config.json)")


def _plan(path: Path) -> dict[str, Any]:
    """sweep.json, checked as far as a report needs it: name, axes, and the labels of every cell."""
    plan = _json(path)
    damaged = UserError(f"{path} is damaged; start the sweep again in another folder")
    try:
        axes = [
            {"name": str(axis["name"]), "labels": [str(label) for label in axis["labels"]]}
            for axis in plan["axes"]
        ]
        cells = []
        for cell in plan["cells"]:
            labels = {axis["name"]: str(cell["labels"][axis["name"]]) for axis in axes}
            cells.append(cell | {"name": str(cell["name"]), "labels": labels})
    except (KeyError, TypeError):
        raise damaged from None
    if len(cells) != math.prod(len(axis["labels"]) for axis in axes):
        raise damaged
    for cell in cells:
        # A name with slashes would lead out of the folder.
        if cell["name"] != Path(cell["name"]).name or "\0" in cell["name"]:
            raise damaged
    return {"name": str(plan.get("name") or path.parent.name), "axes": axes, "cells": cells}


def _cell(
    workdir: Path, folder: Path, planned: dict[str, Any], inputs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Reads one cell and adds its content and style pictures to `inputs`.

    Args:
      workdir: the folder of the sweep or run.
      folder: the cell's own folder; for a run the same.
      planned: the cell's entry in sweep.json, with "worker", which claimed it last, or "", and
        "is_live", whether that is at work.
      inputs: the inputs so far; extended in place.

    Returns:
      name, labels     name of the cell; axis name -> label
      status, message  "done", "failed", "stopped", "running" or "waiting"; why it failed
      worker           title of the worker that paints it, or painted it; "" if nobody claimed it
      steps, seconds, steps_per_second, peak_memory_bytes
                       None where unknown; steps and seconds so far while running
      steps_planned    of a sweep's cell; 0 where unknown
      terms, metrics   name -> last value
      curve            {"step", "seconds", "terms": {name: values}}, up to `MAX_CURVE_POINTS` each
      config, command  the resolved config, nested; the command that reproduces the cell
      picture          the painting, intermediate or final, or None
      frame            the newest file in frames/, or None
      frames           all of them: {"step", "path"}
      content, styles  index into `inputs` or None; list of indices
      film             {"painting", "source"}: {"path", "version"} of the film and of what it was
                       painted from; None of a still picture, or of a film that is not finished
    """
    result = _json(folder / "result.json")
    config = _object(planned.get("config")) or _json(folder / "config.json")
    rows = _rows(folder / "metrics.jsonl")
    is_film = (folder / "source").is_dir()
    if is_film:
        _add_flicker(folder, config, rows)
    last = rows[-1] if rows else {}
    terms = {name: value for name, value in last.items() if name not in ("step", "seconds")}
    frames = _frames(folder)
    content, styles = _named(config.get("content")), _pictures(config.get("style"))
    return {
        "name": planned["name"],
        "labels": planned["labels"],
        "status": _status(folder, result, planned["worker"], planned["is_live"]),
        "message": str(result.get("message") or ""),
        "worker": fleet.title(planned["worker"]),
        "steps": _number(result.get("steps", last.get("step"))),
        "steps_planned": _number(planned.get("steps")) or 0,
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
        "frames": [
            {"step": int(path.stem), "path": path.relative_to(workdir).as_posix()}
            for path in frames
            if path.stem.isdigit()
        ],
        "content": _index(inputs, content) if content and not is_film else None,
        "styles": [_index(inputs, path) for path in styles],
        "film": _film(workdir, folder) if is_film else None,
    }


def _frames(folder: Path) -> list[Path]:
    """Pictures along the way; of a film those of the pass that it has reached."""
    passes = sorted(folder.glob("pass_[0-9]*"), key=lambda path: (len(path.name), path.name))
    for place in (folder / "frames", *reversed(passes)):
        if found := sorted(place.glob("[0-9]*.png")):
            return found
    return []


def _film(workdir: Path, folder: Path) -> dict[str, Any] | None:
    """The films that a page plays."""
    found = {}
    for role, name in (("painting", "film.webm"), ("source", "source.webm")):
        path = folder / name
        try:
            version = path.stat().st_mtime_ns // 10**6
        except OSError:
            return None
        found[role] = {"path": path.relative_to(workdir).as_posix(), "version": version}
    return found


def _add_flicker(folder: Path, config: dict[str, Any], rows: list[dict[str, Any]]):
    """Adds to the lines of a film's last pass how much the frame flickers, next to its source."""
    passes = _number(_object(config.get("film")).get("passes")) or 1
    measured = _lines(folder / "flicker.jsonl")
    count = len(measured) + 1
    for row in measured:
        own, source, frame = (_number(row.get(name)) for name in ("painting", "source", "frame"))
        if own is None or not source or frame is None:
            continue
        step = (passes - 1) * count + (frame if passes % 2 else count + 1 - frame)
        if 0 < step <= len(rows):
            rows[int(step) - 1]["flicker"] = own / source


def _status(folder: Path, result: dict[str, Any], worker: str, is_live: bool) -> str:
    """Status of a cell, given its result.json and its worker."""
    if result:
        if result.get("message") == INTERRUPTED:
            return "stopped"
        return "failed" if result.get("status") == "failed" else "done"
    if is_live:
        return "running"
    if not (folder / "metrics.jsonl").exists():
        return "waiting"
    return "stopped" if worker else "running"


def _painting(workdir: Path, folder: Path, output: str) -> dict[str, Any] | None:
    """The painting, or the film of several (config.interpolate)."""
    if not output or output != Path(output).name:
        return None
    painting = _picture(folder / output, workdir)
    return painting or _picture((folder / output).with_suffix(".gif"), workdir)


def _picture(path: Path, workdir: Path) -> dict[str, Any] | None:
    """A picture file's path, size and version, as in `read`; None if there is no such picture."""
    try:
        version = path.stat().st_mtime_ns // 10**6
        with PillowImage.open(path) as opened:
            width, height = opened.size
            if opened.getexif().get(274, 1) > 4:  # EXIF orientation: rotated by 90 degrees
                width, height = height, width
    except Exception:  # a damaged or vanished file can raise anything
        return None
    relative = path.relative_to(workdir) if path.is_relative_to(workdir) else path
    return {"path": relative.as_posix(), "width": width, "height": height, "version": version}


def _index(inputs: list[dict[str, Any]], named: str) -> int:
    """Index of a content or style picture in `inputs`, where it is added if it is new."""
    path = files.named(named).absolute()
    for index, known in enumerate(inputs):
        if known["path"] == path.as_posix():
            return index
    absent = {"width": None, "height": None, "version": 0}
    found = _picture(path, path.parent) or absent
    inputs.append(found | {"name": path.name, "path": path.as_posix()})
    return len(inputs) - 1


def _named(value: Any) -> str:
    """A file name from JSON; empty if it is not a string."""
    return value if isinstance(value, str) else ""


def _pictures(value: Any) -> list[str]:
    """The paths in a config's `style`: a text, or a list."""
    if not isinstance(value, str | list):
        return []
    try:
        return [_named(picture) for picture in grammar.parse_pictures(value)]
    except (UserError, TypeError):  # a damaged file
        return []


def _rows(path: Path) -> list[dict[str, Any]]:
    """The complete lines of metrics.jsonl that have a step."""
    return [row for row in _lines(path) if _number(row.get("step")) is not None]


def _lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects in a file, one a line."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [_parsed(line) for line in lines]


def _curve(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows as columns, rounded to 5 digits and thinned evenly; the first and last rows stay."""
    if len(rows) > MAX_CURVE_POINTS:
        stride = (len(rows) - 1) / (MAX_CURVE_POINTS - 1)
        rows = [rows[round(k * stride)] for k in range(MAX_CURVE_POINTS)]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [_short(row.get(name)) for row in rows] for name in names}
    step, seconds = columns.pop("step", []), columns.pop("seconds", [])
    return {"step": step, "seconds": seconds, "terms": columns}


def _short(value: Any) -> int | float | None:
    """A finite number with 5 digits, else None; integers keep all theirs."""
    number = _number(value)
    if isinstance(number, float):
        return float(f"{number:.5g}")
    return number


def _number(value: Any) -> int | float | None:
    """The value if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with contextlib.suppress(OverflowError):  # an integer too large for a float
        return value if math.isfinite(value) else None
    return None


def _numbers(values: dict[str, Any]) -> dict[str, int | float | None]:
    """The values that are finite numbers; None for all others."""
    return {name: _number(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """JSON without NaN and infinities, which Python accepts and JavaScript rejects: as strings."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none."""
    try:
        return _parsed(path.read_text(errors="replace"))
    except OSError:
        return {}


def _parsed(text: str) -> dict[str, Any]:
    """The object in a JSON text; empty if there is none."""
    try:
        return _plain(_object(json.loads(text)))
    except (ValueError, RecursionError):
        return {}


def _object(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}
