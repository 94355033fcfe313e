"""Seconds to a picture as good as neural-style-pt's: ways of ours against its own in PyTorch."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from measuring import Row, sizes

from nst_jax import config
from nst_jax.pictures import images, sheets
from nst_jax.transfer import prepare

_CONTENT = flags.DEFINE_string("content", "", "Photograph of `quality`; the sample's if empty.")
_STYLE = flags.DEFINE_string("style", "", "Painting of `quality`; the one in images/ if empty.")
_PICTURES = flags.DEFINE_string("pictures", "", "Folder for the sheets of `quality`; empty: none.")

NEURAL_STYLE = Path(__file__).parents[1] / "configs" / "presets" / "neural_style.py"
WITHIN = 1.05  # of the loss to reach
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
MOST_STEPS = 500
SHARES = {"1/12": 1 / 12, "1/6": 1 / 6, "1/4": 1 / 4}  # of PyTorch's time, to compare pictures at


class Point(NamedTuple):
    """Where a way has come to: its time, its loss (infinite below full size) and its picture."""

    seconds: float
    steps: int
    loss: float
    picture: Any


def quality() -> Iterator[Row]:
    """Ways to the loss that neural-style-pt's own way comes to, and its time for that."""
    import jax
    from torch_reference import painter

    from nst_jax.losses.objective import objective
    from nst_jax.transfer import paint as transfer

    for size in sizes(256):
        c = config.load(NEURAL_STYLE)
        c.image_size, c.steps, c.log_every, c.save_every = size, MOST_STEPS, 10, 0
        c.content, c.style = _CONTENT.value or c.content, _STYLE.value or c.style
        c.init.picture, c.init.noise = "content", 0.0
        c = config.validate(c)
        pictures, loaded = prepare.read(c), transfer.load_weights(c)
        assert pictures.content is not None
        score = jax.jit(objective)
        painter(c, loaded, pictures.content, pictures.styles[0], channels_last=False).steps(1)
        reference = painter(c, loaded, pictures.content, pictures.styles[0], channels_last=False)
        args = transfer.problem(c, pictures, transfer.network_for(c, loaded))
        points, seconds = [], 0.0
        for steps in range(c.log_every, MOST_STEPS + 1, c.log_every):
            start = time.perf_counter()
            reference.steps(c.log_every)
            seconds += time.perf_counter() - start
            saved = reference.image.detach().clamp(0, 1)[0].permute(1, 2, 0).cpu().numpy()
            with jax.default_matmul_precision(c.precision):
                loss = float(score(saved, args))
            points.append(Point(seconds, steps, loss, np.array(saved)))
        whole, _, wanted, _ = points[-1]
        curves = {"PyTorch, L-BFGS": points}
        label = f"{size} pixels, PyTorch, L-BFGS, {MOST_STEPS} steps to {wanted:.4g}"
        yield Row(label, whole, [1.0], at_shares(points, whole, wanted))
        for name, keys in WAYS.items():
            half = {"pyramid.min_size": size // 2} if "pyramid.factor" in keys else {}
            own = config.with_values(c, keys | half)
            warm = config.with_values(own, {"steps": 10, "pyramid.first_steps": 10})
            followed(warm, pictures, loaded, 0, 0)
            points = curves[name] = followed(own, pictures, loaded, WITHIN * wanted, whole)
            end = next((one for one in points if one.loss <= WITHIN * wanted), points[-1])
            label = f"{size} pixels, {name}, {end.steps} steps to {end.loss:.4g}"
            yield Row(label, end.seconds, [end.seconds / whole], at_shares(points, whole, wanted))
        if _PICTURES.value:
            rows = [
                [after(points, s * whole).picture for s in SHARES.values()]
                for points in curves.values()
            ]
            columns = [f"{s * whole:.0f} s" for s in SHARES.values()]
            sheet = sheets.sheet(rows, list(curves), columns, height=size)
            images.write(Path(_PICTURES.value) / f"quality-{size}.png", sheet)


def followed(
    c: config.Config, pictures: Any, loaded: Any, wanted: float, whole: float
) -> list[Point]:
    """Paints until the loss is low enough and the last of `SHARES` of a time is over."""
    from nst_jax.transfer import paint as transfer

    start, points = time.perf_counter(), []
    for progress in transfer.paint(c, pictures, loaded):
        full = progress.image.shape[:2] == pictures.shape
        loss = progress.terms["total"] if full else np.inf
        seconds = time.perf_counter() - start
        points.append(Point(seconds, progress.step, loss, progress.image))
        if min(one.loss for one in points) <= wanted and seconds >= whole * max(SHARES.values()):
            break
    return points


def after(points: Sequence[Point], seconds: float) -> Point:
    """The last point that is reached by then; the first, if there is none."""
    return [points[0], *(one for one in points if one.seconds <= seconds)][-1]


def at_shares(points: Sequence[Point], whole: float, wanted: float) -> str:
    """The loss at each of `SHARES` of a time, as a multiple of the one that is wanted."""
    losses = {name: after(points, share * whole).loss / wanted for name, share in SHARES.items()}
    return ", ".join(f"{name}: {loss:.3f}" for name, loss in losses.items())
