"""Seconds to a picture as good as neural-style-pt's, which itself runs in PyTorch."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from measuring import ROOT, Row, loaded, sizes

from nst_jax import config
from nst_jax.config.experiment import Experiment
from nst_jax.pictures import images, sheets

_CONTENT = flags.DEFINE_string(
    "content", "", "Photograph for `quality`; the sample's photograph if empty."
)
_STYLE = flags.DEFINE_string("style", "", "Painting for `quality`; the one in images/ if empty.")
_PICTURES = flags.DEFINE_string(
    "pictures", "", "Folder for the sheets of `quality`; none if empty."
)

NEURAL_STYLE = ROOT / "configs" / "presets" / "neural_style.py"
MAX_LOSS_RATIO = 1.05  # to the loss to reach
WAYS: dict[str, dict[str, Any]] = {
    "L-BFGS": {"optimizer.name": "lbfgs"},
    "L-BFGS, fourier": {"optimizer.name": "lbfgs", "parameterization": "fourier"},
    "L-BFGS, fourier, from half the size": {
        "optimizer.name": "lbfgs",
        "parameterization": "fourier",
        "pyramid.factor": 2.0,
        "pyramid.first_steps": 60,
    },
    "Adam, rate 0.04": {"optimizer.name": "adam", "optimizer.learning_rate": 0.04},
    "Adam, rate 0.01": {"optimizer.name": "adam", "optimizer.learning_rate": 0.01},
    "Adam, rate 0.02, fourier": {
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.02,
        "parameterization": "fourier",
    },
}
MAX_STEPS = 500
LOG_EVERY = 10  # steps
SHARES = {"1/12": 1 / 12, "1/6": 1 / 6, "1/4": 1 / 4}  # of PyTorch's time, to compare pictures at


class Point(NamedTuple):
    """Where a painting stands.

    Attributes:
      seconds: since its start.
      steps: taken so far.
      loss: infinite below full size.
      picture: [h, w, 3].
    """

    seconds: float
    steps: int
    loss: float
    picture: Any


def quality() -> Iterator[Row]:
    """Times neural-style-pt's steps in PyTorch, then our ways to the loss that they reach."""
    for size in sizes(256):
        c = neural_style(size)
        base = config.parse(c)
        pictures, network = loaded(base)
        points = reference(base, pictures, network)
        whole, _, wanted, _ = points[-1]
        curves = {"PyTorch, L-BFGS": points}
        label = f"{size} pixels, PyTorch, L-BFGS, {MAX_STEPS} steps to {wanted:.4g}"
        yield Row(label, whole, [1.0], at_shares(points, whole, wanted))
        for name, keys in WAYS.items():
            half = {"pyramid.min_size": size // 2} if "pyramid.factor" in keys else {}
            short = {"steps": LOG_EVERY, "pyramid.first_steps": LOG_EVERY}
            followed(with_values(c, keys, half, short), pictures, network, 0, 0)  # compiles
            own, goal = with_values(c, keys, half), MAX_LOSS_RATIO * wanted
            points = curves[name] = followed(own, pictures, network, goal, whole)
            end = next((one for one in points if one.loss <= goal), points[-1])
            label = f"{size} pixels, {name}, {end.steps} steps to {end.loss:.4g}"
            yield Row(label, end.seconds, [end.seconds / whole], at_shares(points, whole, wanted))
        if _PICTURES.value:
            write_sheet(Path(_PICTURES.value) / f"quality-{size}.png", curves, whole, size)


def neural_style(size: int) -> config.Config:
    """The preset neural_style.py at a size, starting from the photograph."""
    c = config.load(NEURAL_STYLE)
    c.image_size, c.steps, c.log_every, c.save_every = size, MAX_STEPS, LOG_EVERY, 0
    c.content, c.style = _CONTENT.value or c.content, _STYLE.value or c.style
    c.init.picture, c.init.noise = "content", 0.0
    return c


def with_values(c: config.Config, *keys: Mapping[str, Any]) -> Experiment:
    """Parses a config with other values; later ones win."""
    return config.with_values(c, {key: value for one in keys for key, value in one.items()})


def reference(experiment: Experiment, pictures: Any, network: Any) -> list[Point]:
    """Steps PyTorch's L-BFGS. The loss is that of the picture clipped to [0, 1], as it is saved."""
    import jax
    from torch_reference import painter

    from nst_jax.losses.objective import objective
    from nst_jax.transfer.problem import problem_of

    score = jax.jit(objective)
    painter(experiment, pictures, channels_last=False).steps(1)  # warms PyTorch up
    image, take = painter(experiment, pictures, channels_last=False)
    problem = problem_of(experiment, pictures, network)
    points, seconds = [], 0.0
    for steps in range(LOG_EVERY, MAX_STEPS + 1, LOG_EVERY):
        start = time.perf_counter()
        take(LOG_EVERY)
        seconds += time.perf_counter() - start
        saved = image.detach().clamp(0, 1)[0].permute(1, 2, 0).cpu().numpy()
        with jax.default_matmul_precision(experiment.network.precision):
            loss = float(score(saved, network, problem))
        points.append(Point(seconds, steps, loss, np.array(saved)))
    return points


def followed(
    experiment: Experiment, pictures: Any, network: Any, goal: float, whole: float
) -> list[Point]:
    """Paints until the loss is at most `goal` and the last of `SHARES` of `whole` has passed."""
    from nst_jax.transfer.paint import Job, paint

    start, points = time.perf_counter(), []
    for progress in paint([Job(experiment, pictures)], network):
        is_full = progress.images.shape[1:3] == pictures.shape
        loss = float(progress.terms["total"][0]) if is_full else np.inf
        seconds = time.perf_counter() - start
        points.append(Point(seconds, progress.step, loss, progress.images[0]))
        if min(one.loss for one in points) <= goal and seconds >= whole * max(SHARES.values()):
            break
    return points


def write_sheet(path: Path, curves: Mapping[str, Sequence[Point]], whole: float, size: int):
    """Writes the pictures at `SHARES` of PyTorch's time, one way per row."""
    rows = [
        [after(points, share * whole).picture for share in SHARES.values()]
        for points in curves.values()
    ]
    columns = [f"{share * whole:.0f} s" for share in SHARES.values()]
    images.write(path, sheets.sheet(rows, list(curves), columns, height=size))


def after(points: Sequence[Point], seconds: float) -> Point:
    """The last point reached by then, or the first point if there is none."""
    return [points[0], *(one for one in points if one.seconds <= seconds)][-1]


def at_shares(points: Sequence[Point], whole: float, wanted: float) -> str:
    """The loss at each of `SHARES` of PyTorch's time, as a multiple of the loss to reach."""
    losses = {name: after(points, share * whole).loss / wanted for name, share in SHARES.items()}
    return ", ".join(f"{name}: {loss:.3f}" for name, loss in losses.items())
