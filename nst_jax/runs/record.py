"""What is written to a work directory: pictures, losses, settings, how the run ended.

    final.png        the painting (named by config.output)
    frames/          pictures along the way, named by step
    metrics.jsonl    one JSON object a line: step, seconds since the first line (after compilation;
                     in a batch the cell's share of them), and every term of the objective
    losses.png       the same as curves
    final/           numbered paintings, and final.gif, with config.interpolate
    config.json      the config
    environment.json versions, device, git commit, checksums of weights and pictures
    result.json      how the run ended: status, time, memory, the last terms, metrics; written last
    report.html      all of this as one page
    checkpoints/     what it takes to resume; may be deleted after a run that will not be extended

The folder of a sweep has sweep.json, which says what its cells are, cells/NAME/ with the above for
every cell that is done, and a report.html, contact_sheet.png, results.csv, results.jsonl and
results.parquet of its own; and what its workers keep there (`nst_jax.report.fleet`).
"""

import importlib.metadata
import itertools
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import files
from nst_jax.config.experiment import Experiment
from nst_jax.errors import UnwritableError
from nst_jax.network.weights import Weights
from nst_jax.pictures import images
from nst_jax.pictures.images import Picture, Plane
from nst_jax.runs import workdir
from nst_jax.transfer.cache import Cache, file_state
from nst_jax.transfer.paint import Job
from nst_jax.transfer.prepare import finished

try:
    import resource
except ImportError:  # Windows
    resource = None

FRAME_MILLISECONDS = 120
PACKAGES = ("nst_jax", "jax", "jaxlib", "flax", "optax", "numpy", "pillow", "h5py")


class Entry(NamedTuple):
    """Where one experiment stands: a line of metrics.jsonl, and its pictures.

    Attributes:
      step: steps taken.
      terms: of the objective; means over the paintings where there are several.
      images: [n, h, w, 3], one or with config.interpolate several; None in an entry that was read
        from metrics.jsonl.
    """

    step: int
    terms: dict[str, float]
    images: Any


def write_settings(folder: Path, experiment: Experiment, used: Weights, cache: Cache):
    """Writes environment.json and config.json; a run has begun where there is a config.json."""
    files.write_json(folder / "environment.json", environment(experiment, used, cache))
    files.write_json(folder / "config.json", dict(experiment.raw))


def environment(experiment: Experiment, used: Weights, cache: Cache) -> dict[str, Any]:
    """What environment.json says: what an experiment depends on besides its config.

    Args:
      experiment: the experiment.
      used: its weights.
      cache: keeps what the cells of a sweep have in common.
    """
    return {
        **cache.get("system", (), system),
        "weights": {
            "arch": used.arch,
            "family": used.family,
            "source": used.source,
            "source_sha256": used.source_sha256,
            "sha256": used.sha256,
        },
        "pictures": {path: digest(path, cache) for path in experiment.files},
    }


def check_begun(folder: Path, before: dict[str, Any], now: Any, environment: dict[str, Any]):
    """Checks that what began in a folder is what is asked for now.

    Args:
      folder: the work directory.
      before: its config.
      now: the config now.
      environment: from `environment`, now.

    Raises:
      UserError: it had another config, other pictures or other weights.
    """
    then = workdir.read_json(folder / "environment.json")
    same = "pictures", "weights"
    workdir.check_same(
        folder,
        {"config": before, **{name: then.get(name) for name in same}},
        {"config": now, **{name: environment[name] for name in same}},
    )


def digest(path: str, cache: Cache) -> str:
    """The checksum of a file as a user names it; "missing" if it cannot be read."""
    state = file_state(path)
    return cache.get("digest", (path, state), lambda: files.digest_or_missing(path))


def system() -> dict[str, Any]:
    """Versions, device and commit."""
    device = jax.devices()[0]
    return {
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "git_commit": git_commit(),
    }


def git_commit() -> str:
    """The commit of the project's checkout, with "+changes" if it differs; "" outside one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40"]
    command += ["--exclude=*", "--dirty=+changes"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def record(folder: Path, job: Job, entry: Entry, seconds: float) -> Path:
    """Writes where an experiment stands: a line of metrics, the painting, a frame if one is due.

    Returns:
      The painting's path.

    Raises:
      UnwritableError: the disk is full or the folder is gone.
    """
    experiment = job.experiment
    append_metrics(folder, entry, seconds)
    paintings = finished(entry.images, job.pictures, experiment.inputs.color)
    alpha = None
    if experiment.output.keep_alpha:
        assert isinstance(experiment.inputs.content, str), "config.parse asks for a file"
        alpha = images.read_alpha(experiment.inputs.content, paintings.shape[1:3])
    path = write_paintings(folder, paintings, experiment, alpha)
    if experiment.output.is_frame(entry.step) and not experiment.interpolate:
        write_frame(folder, entry.step, paintings[0], experiment)
    return path


def finish(folder: Path, experiment: Experiment, result: Mapping[str, Any]):
    """Writes what an ended run has besides: the film, the curves and, last, result.json.

    Raises:
      UnwritableError: the folder is gone or cannot be written.
    """
    if not (folder / "metrics.jsonl").is_file():
        raise UnwritableError(f"cannot read --workdir {folder}: its metrics.jsonl is gone")
    if experiment.output.animation and result["status"] == "done":
        animate(folder, experiment)
    if experiment.output.tensorboard:
        write_events(folder, experiment)
    plot_losses(folder)
    whole = [painting_path(folder, experiment), folder / "metrics.jsonl", folder / "config.json"]
    checked = {path.name: files.digest(path) for path in whole if path.is_file()}
    files.write_json(folder / "result.json", {**result, "sha256": checked})


def result(
    entry: Entry | None,
    seconds: float,
    measured: Mapping[str, float] | None = None,
    message: str = "",
) -> dict[str, Any]:
    """What result.json says of a run that ended after `entry`.

    Args:
      entry: the last one with a good picture, if there was any.
      seconds: from the first line of metrics.jsonl to the last; in a batch each member's share.
      measured: its metrics.
      message: why it failed; "" if it did not.
    """
    steps = entry.step if entry else 0
    return {
        "status": "failed" if message else "done",
        "message": message,
        "steps": steps,
        "seconds": round(seconds, 3),
        "steps_per_second": round(steps / seconds, 3) if seconds else None,
        "peak_memory_bytes": peak_memory(),
        "terms": entry.terms if entry else {},
        "metrics": dict(measured or {}),
    }


def rewind(folder: Path, step: int):
    """Removes the lines of metrics.jsonl from a step on, and how the run ended.

    Raises:
      UnwritableError: the folder is gone or cannot be written.
    """
    files.clear(folder)
    rows = itertools.takewhile(lambda row: row["step"] < step, read_rows(folder))
    with files.replacing(folder / "metrics.jsonl") as temporary:
        temporary.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "result.json").unlink(missing_ok=True)


def last_entry(folder: Path) -> Entry | None:
    """The last line of metrics.jsonl, without pictures."""
    rows = [*read_rows(folder)]
    if not rows:
        return None
    terms = {name: value for name, value in rows[-1].items() if name not in ("step", "seconds")}
    return Entry(rows[-1]["step"], terms, None)


def read_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of metrics.jsonl up to the first that is not whole."""
    path = folder / "metrics.jsonl"
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
            whole = math.isfinite(row["step"])
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return
        if not whole:
            return
        yield row


def restart(folder: Path, experiment: Experiment, used: Weights, cache: Cache):
    """Makes the folder of a sweep's cell anew, without what an earlier attempt left."""
    workdir.discard(folder)
    write_settings(folder, experiment, used, cache)


def fail(folder: Path, experiment: Experiment, message: str):
    """Writes the folder of a cell that has no picture at all."""
    workdir.discard(folder)
    files.write_json(folder / "config.json", dict(experiment.raw))
    files.write_json(folder / "result.json", result(None, 0.0, message=message))


def is_finished(folder: Path, experiment: Experiment) -> bool:
    """Whether a folder holds a whole run that did not fail, its files as they were written."""
    try:
        result = json.loads((folder / "result.json").read_text())
        names = painting_path(folder, experiment).name, "metrics.jsonl", "config.json"
        now = {name: files.digest(folder / name) for name in names}
        whole = result["sha256"] == now
        return whole and (result["status"], result["steps"]) == ("done", experiment.steps)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def peak_memory() -> int | None:
    """The most bytes that this process had in use: on the device, or on a CPU in all."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return stats.get("peak_bytes_in_use")
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def painting_path(folder: Path, experiment: Experiment) -> Path:
    """The painting's path; with config.interpolate that of the film of all paintings."""
    path = folder / experiment.output.painting
    return path.with_suffix(".gif") if experiment.interpolate else path


def write_paintings(
    folder: Path, paintings: np.ndarray, experiment: Experiment, alpha: Plane | None
) -> Path:
    """Writes the painting, with the config in its metadata.

    With config.interpolate every painting goes into a folder, final/0001.png, and all of them into
    a film, final.gif.

    Args:
      folder: the work directory.
      paintings: [n, h, w, 3].
      experiment: names the file, and its bits.
      alpha: [h, w], or None.

    Returns:
      Path of the painting or of the film.
    """
    output, note = experiment.output, _note(experiment)
    path = folder / output.painting
    if not experiment.interpolate:
        images.write(path, paintings[0], note, output.bits, alpha)
        return path
    for number, one in enumerate(paintings, start=1):
        numbered = path.with_suffix("") / f"{number:04d}{path.suffix}"
        images.write(numbered, one, note, output.bits, alpha)
    film = painting_path(folder, experiment)
    images.write_animation(film, paintings, FRAME_MILLISECONDS, note)
    return film


def write_frame(folder: Path, step: int, image: Picture, experiment: Experiment):
    """Writes a picture along the way: frames/000040.png."""
    images.write(folder / "frames" / f"{step:06d}.png", image, _note(experiment))


def animate(folder: Path, experiment: Experiment):
    """Writes the film of all frames that config.animation names."""
    paths = sorted((folder / "frames").glob("[0-9]*.png"))
    frames = [images.quantized(images.read(path, quiet=True), 8) for path in paths]
    path = folder / experiment.output.animation
    images.write_animation(path, frames, FRAME_MILLISECONDS, _note(experiment))


def _note(experiment: Experiment) -> str:
    return json.dumps(dict(experiment.raw), sort_keys=True)


def append_metrics(folder: Path, entry: Entry, seconds: float):
    """Adds a line to metrics.jsonl.

    Raises:
      UnwritableError: the disk is full or the folder is gone.
    """
    row = {"step": entry.step, "seconds": round(seconds, 3)} | entry.terms
    try:
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise UnwritableError(f"cannot write to --workdir {folder}: {error.strerror}") from error


def write_events(folder: Path, experiment: Experiment):
    """Writes metrics.jsonl and the painting as TensorBoard events, at their own times."""
    from tensorboardX import SummaryWriter  # an extra

    rows = [row for row in read_rows(folder) if "seconds" in row]
    if not rows:
        return
    start = time.time() - rows[-1]["seconds"]
    with SummaryWriter(str(folder)) as writer:
        for row in rows:
            for name in row.keys() - {"step", "seconds"}:
                writer.add_scalar(name, row[name], row["step"], start + row["seconds"])
        painting = images.read(folder / experiment.output.painting, quiet=True)
        writer.add_image("painting", painting, rows[-1]["step"], dataformats="HWC")


def plot_losses(folder: Path):
    """Draws metrics.jsonl as losses.png, on logarithmic axes, which leave out zeros.

    What is not a number, or not in every line, is left out as well: the file may be damaged.

    Raises:
      UnwritableError: the folder is gone or cannot be written.
    """
    from matplotlib.figure import Figure  # takes half a second to import

    rows = [*read_rows(folder)]
    terms = [
        name
        for name in (rows[0] if rows else ())
        if name not in ("step", "seconds", "learning_rate")
        and all(isinstance(row.get(name), int | float) for row in rows)
    ]
    groups = {
        "objective (total) and its terms before weights": [n for n in terms if "/" not in n],
        "layers before their lambdas": [n for n in terms if "/" in n],
    }
    figure = Figure(figsize=(11, 4))
    # A layout that matplotlib computes takes as long as the drawing.
    figure.subplots_adjust(left=0.06, right=0.985, bottom=0.12, top=0.92, wspace=0.13)
    for axes, (title, names) in zip(figure.subplots(1, 2), groups.items(), strict=True):
        for name in names:
            points = [(row["step"], row[name]) for row in rows if row[name] > 0]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
                axes.legend(fontsize="small")
        axes.set(title=title, xlabel="step", yscale="log")
        axes.grid(alpha=0.3)
    with files.replacing(folder / "losses.png") as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})
