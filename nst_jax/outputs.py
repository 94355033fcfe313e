"""The work directory: pictures, metrics.jsonl, the config, what it ran on, the loss curve.

final.png        the painting (named by config.output)
frames/          pictures along the way, named by step
metrics.jsonl    one JSON object a line: step, seconds since the first line (compilation is before
                 it), and every term of the objective
losses.png       the same as curves
final/           numbered paintings, and final.gif, instead of one, with config.interpolate
config.json      the resolved config
environment.json versions, device, git commit, weights
"""

import importlib.metadata
import json
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nst_jax import config, files, images, weights
from nst_jax.errors import UserError
from nst_jax.optimize import Progress

FRAME_MILLISECONDS = 120
PACKAGES = ("nst_jax", "jax", "jaxlib", "flax", "optax", "numpy", "pillow", "h5py")


def create(workdir: str, name: str) -> Path:
    """Makes the work directory: `workdir`, or a new folder under runs/ named after `name` and now.

    Raises:
      UserError: it cannot be made, or is not empty: nothing of the user's is ever overwritten.
    """
    try:
        path = Path(workdir) if workdir else _new_folder(name)
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UserError(f"--workdir {path} is not empty; name another folder")
        (path / "metrics.jsonl").touch(exist_ok=False)
    except OSError as error:
        raise UserError(
            f"cannot write to --workdir {workdir or 'runs'}: {error.strerror}"
        ) from error
    return path


def _new_folder(name: str) -> Path:
    """Makes runs/NAME-TIME, or runs/NAME-TIME-2, ...: two runs may start in one second."""
    stamped = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = stamped, 1
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1
            path = stamped.with_name(f"{stamped.name}-{number}")


def write_settings(workdir: Path, c: config.Config, used: weights.Weights):
    """Writes config.json and environment.json."""
    _write_json(workdir / "config.json", c.to_dict())
    device = jax.devices()[0]
    environment = {
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
    }
    _write_json(workdir / "environment.json", environment)


def git_commit() -> str:
    """The commit of the project's checkout, with "+changes" if it differs; "" outside one."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40"]
    command += ["--exclude=*", "--dirty=+changes"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def write_painting(workdir: Path, image: Any, c: config.Config, alpha: images.Plane | None) -> Path:
    """Writes the painting, with the config in its metadata; returns its path.

    Of several [n, h, w, 3], as `interpolate` makes them, each one in a folder, final/0001.png, and
    a film of them, final.gif, whose path is returned.
    """
    path, image, note = workdir / c.output, np.asarray(image), _note(c)
    if image.ndim == 3:
        images.write(path, image, note, c.bits, alpha)
        return path
    for number, one in enumerate(image, start=1):
        images.write(path.with_suffix("") / f"{number:04d}{path.suffix}", one, note, c.bits, alpha)
    film = path.with_suffix(".gif")
    images.write_animation(film, list(image), FRAME_MILLISECONDS, note)
    return film


def write_frame(workdir: Path, step: int, image: images.Picture, c: config.Config):
    """Writes a picture along the way: frames/000040.png."""
    images.write(workdir / "frames" / f"{step:06d}.png", image, _note(c))


def animate(workdir: Path, c: config.Config):
    """Writes the film of all frames that `animation` names."""
    frames = [images.read(path) for path in sorted((workdir / "frames").glob("*.png"))]
    images.write_animation(workdir / c.animation, frames, FRAME_MILLISECONDS, _note(c))


def _note(c: config.Config) -> str:
    return json.dumps(c.to_dict(), sort_keys=True)


def discard(workdir: Path):
    """Removes a work directory that no picture came to."""
    shutil.rmtree(workdir, ignore_errors=True)


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
        raise UserError(f"cannot write to --workdir {workdir}: {error.strerror}") from error


def plot_losses(workdir: Path):
    """Draws metrics.jsonl as losses.png, on logarithmic axes, which leave out zeros.

    Raises:
      UserError: the folder is gone or cannot be written.
    """
    from matplotlib.figure import Figure  # half a second, only needed here

    try:
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
    except OSError as error:
        raise UserError(f"cannot read --workdir {workdir}: {error.strerror}") from error
    rows = [json.loads(line) for line in lines]
    terms = [name for name in rows[0] if name not in ("step", "seconds")]
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


def _write_json(path: Path, content: dict[str, Any]):
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
