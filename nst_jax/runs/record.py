"""The work directory: pictures, metrics.jsonl, the config, what it ran on, the loss curve.

final.png        the painting (named by config.output)
frames/          pictures along the way, named by step
metrics.jsonl    one JSON object a line: step, seconds since the first line (compilation is before
                 it), and every term of the objective
losses.png       the same as curves
final/           numbered paintings, and final.gif, instead of one, with config.interpolate
config.json      the resolved config
environment.json versions, device, git commit, weights
result.json      how it ended, written last: status, time, memory, the last terms, metrics
report.html      all of this as one page
checkpoints/     the state to go on from; a run that needs no --extend_steps can do without it

A sweep's folder has sweep.json, its cells as it began, cells/NAME/ with the above for each, and its
own report.html, contact_sheet.png, results.csv and results.jsonl.
"""

import importlib.metadata
import itertools
import json
import math
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nst_jax import config, files
from nst_jax.network import weights
from nst_jax.pictures import images
from nst_jax.runs import workdir as folders
from nst_jax.transfer import prepare as inputs, pyramid
from nst_jax.errors import UnwritableError
from nst_jax.optimize.loop import Progress

FRAME_MILLISECONDS = 120
PACKAGES = ("nst_jax", "jax", "jaxlib", "flax", "optax", "numpy", "pillow", "h5py")


def write_settings(workdir: Path, c: config.Config, used: weights.Weights):
    """Writes environment.json and, by which a run is known to have begun, config.json."""
    files.write_json(workdir / "environment.json", environment(c, used))
    files.write_json(workdir / "config.json", c.to_dict())


def environment(c: config.Config, used: weights.Weights) -> dict[str, Any]:
    """What environment.json says: what an experiment depends on beside its config."""
    device = jax.devices()[0]
    return {
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "git_commit": git_commit(),
        "weights": {
            "arch": used.arch,
            "family": used.family,
            "source": used.source,
            "source_sha256": used.source_sha256,
            "sha256": used.sha256,
        },
        "pictures": {path: files.digest_or_missing(path) for path in inputs.files_of(c)},
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


def record(
    workdir: Path, c: config.Config, pictures: inputs.Pictures, progress: Progress, seconds: float
) -> Path:
    """Writes where an experiment stands: a line of metrics, the painting, a frame if it is time.

    Returns:
      The painting's path.

    Raises:
      UserError: the disk is full or the folder is gone.
    """
    append_metrics(workdir, progress, seconds)
    image = inputs.finished(c, progress.image, pictures)
    alpha = images.read_alpha(c.content, image.shape[-3:-1]) if c.keep_alpha else None
    painting = write_painting(workdir, image, c, alpha)
    if c.save_every and progress.step % c.save_every == 0 and not c.interpolate:
        write_frame(workdir, progress.step, image, c)
    return painting


def finish(workdir: Path, c: config.Config, result: dict[str, Any]):
    """Writes what an ended experiment has besides: the film, the curves and, last, result.json."""
    if not (workdir / "metrics.jsonl").is_file():
        raise UnwritableError(f"cannot read --workdir {workdir}: its metrics.jsonl is gone")
    if c.animation and result["status"] == "done":
        animate(workdir, c)
    if c.tensorboard:
        write_events(workdir, c)
    plot_losses(workdir)
    whole = [painting_path(workdir, c), workdir / "metrics.jsonl", workdir / "config.json"]
    checked = {path.name: files.digest(path) for path in whole if path.is_file()}
    files.write_json(workdir / "result.json", result | {"sha256": checked})


def result(
    progress: Progress | None,
    seconds: float,
    measured: dict[str, float] | None = None,
    message: str = "",
) -> dict[str, Any]:
    """What result.json says of an experiment that ended after `progress`.

    Args:
      progress: the last one with a good picture, if there was any.
      seconds: from the first line of metrics.jsonl to the last; of a batch each member's share.
      measured: its metrics.
      message: why it failed; empty: it did not.
    """
    steps = progress.step if progress else 0
    return {
        "status": "failed" if message else "done",
        "message": message,
        "steps": steps,
        "seconds": round(seconds, 3),
        "steps_per_second": round(steps / seconds, 3) if seconds else None,
        "peak_memory_bytes": peak_memory(),
        "terms": progress.terms if progress else {},
        "metrics": measured or {},
    }


def rewind(workdir: Path, step: int):
    """Takes back what metrics.jsonl says of a step and those after it, and how the run ended.

    Raises:
      UserError: the folder is gone or cannot be written.
    """
    files.clear(workdir)
    rows = itertools.takewhile(lambda row: row["step"] < step, _rows(workdir))
    with files.replacing(workdir / "metrics.jsonl") as temporary:
        temporary.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (workdir / "result.json").unlink(missing_ok=True)


def recorded(workdir: Path) -> Progress | None:
    """Where an experiment stood when metrics.jsonl was last written to; without its picture."""
    rows = [*_rows(workdir)]
    if not rows:
        return None
    terms = {name: value for name, value in rows[-1].items() if name not in ("step", "seconds")}
    return Progress(rows[-1]["step"], jax.numpy.zeros((0, 0, 3)), terms)


def _rows(workdir: Path) -> Iterator[dict[str, Any]]:
    """The lines of metrics.jsonl up to the first that is not whole."""
    path = workdir / "metrics.jsonl"
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
            whole = math.isfinite(row["step"])
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return
        if not whole:
            return
        yield row


def restart(workdir: Path, c: config.Config, used: weights.Weights):
    """Makes the folder of a sweep's cell anew, without what an earlier attempt left."""
    folders.discard(workdir)
    write_settings(workdir, c, used)


def fail(workdir: Path, c: config.Config, message: str):
    """Writes the folder of a cell that came to no picture at all."""
    folders.discard(workdir)
    files.write_json(workdir / "config.json", c.to_dict())
    files.write_json(workdir / "result.json", result(None, 0.0, message=message))


def finished(workdir: Path, c: config.Config) -> bool:
    """Whether a folder holds a whole experiment that did not fail, its files as written."""
    steps = sum(scale.steps for scale in pyramid.scales(c))
    try:
        result = json.loads((workdir / "result.json").read_text())
        names = painting_path(workdir, c).name, "metrics.jsonl", "config.json"
        now = {name: files.digest(workdir / name) for name in names}
        whole = result["sha256"] == now
        return whole and (result["status"], result["steps"]) == ("done", steps)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def peak_memory() -> int | None:
    """Most bytes that this process had in use: on the device, or in all where that is a CPU."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return stats.get("peak_bytes_in_use")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def painting_path(workdir: Path, c: config.Config) -> Path:
    """The painting's path, or that of the film of several, as `interpolate` makes them."""
    path = workdir / c.output
    return path.with_suffix(".gif") if c.interpolate else path


def write_painting(workdir: Path, image: Any, c: config.Config, alpha: images.Plane | None) -> Path:
    """Writes the painting, with the config in its metadata; returns its path.

    Of several [n, h, w, 3] each one in a folder, final/0001.png, and a film of them, final.gif.
    """
    path, image, note = workdir / c.output, np.asarray(image), _note(c)
    if image.ndim == 3:
        images.write(path, image, note, c.bits, alpha)
        return path
    for number, one in enumerate(image, start=1):
        images.write(path.with_suffix("") / f"{number:04d}{path.suffix}", one, note, c.bits, alpha)
    film = painting_path(workdir, c)
    images.write_animation(film, list(image), FRAME_MILLISECONDS, note)
    return film


def write_frame(workdir: Path, step: int, image: images.Picture, c: config.Config):
    """Writes a picture along the way: frames/000040.png."""
    images.write(workdir / "frames" / f"{step:06d}.png", image, _note(c))


def animate(workdir: Path, c: config.Config):
    """Writes the film of all frames that `animation` names."""
    frames = [images.read(path) for path in sorted((workdir / "frames").glob("[0-9]*.png"))]
    images.write_animation(workdir / c.animation, frames, FRAME_MILLISECONDS, _note(c))


def _note(c: config.Config) -> str:
    return json.dumps(c.to_dict(), sort_keys=True)


def append_metrics(workdir: Path, progress: Progress, seconds: float):
    """Adds a line to metrics.jsonl.

    Raises:
      UserError: the disk is full or the folder is gone.
    """
    row = {"step": progress.step, "seconds": round(seconds, 3)} | progress.terms
    try:
        with (workdir / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise UnwritableError(f"cannot write to --workdir {workdir}: {error.strerror}") from error


def write_events(workdir: Path, c: config.Config):
    """Writes metrics.jsonl and the painting as TensorBoard events, at the times they stand for."""
    from tensorboardX import SummaryWriter  # an extra

    rows = [row for row in _rows(workdir) if "seconds" in row]
    if not rows:
        return
    start = time.time() - rows[-1]["seconds"]
    with SummaryWriter(str(workdir)) as writer:
        for row in rows:
            for name in row.keys() - {"step", "seconds"}:
                writer.add_scalar(name, row[name], row["step"], start + row["seconds"])
        painting = images.read(workdir / c.output)
        writer.add_image("painting", painting, rows[-1]["step"], dataformats="HWC")


def plot_losses(workdir: Path):
    """Draws metrics.jsonl as losses.png, on logarithmic axes, which leave out zeros.

    What is no number, or not in every line, is left out as well: the file may be damaged.

    Raises:
      UserError: the folder is gone or cannot be written.
    """
    from matplotlib.figure import Figure  # half a second, only needed here

    rows = [*_rows(workdir)]
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
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, 2), groups.items(), strict=True):
        for name in names:
            points = [(row["step"], row[name]) for row in rows if row[name] > 0]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
                axes.legend(fontsize="small")
        axes.set(title=title, xlabel="step", yscale="log")
        axes.grid(alpha=0.3)
    with files.replacing(workdir / "losses.png") as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})
