"""The frames of a film, each painted as a continuation of those before it.

A frame starts from the paintings before it, warped by the optical flow between the frames, and is
held to them by the temporal loss where the flow can be trusted. All frames run one compiled
program, and the style's targets are computed once.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax.config.experiment import Experiment
from nst_jax.errors import UserError
from nst_jax.losses.arguments import Knobs, Problem, Temporal
from nst_jax.losses.targets import compute_targets
from nst_jax.network.state import NetworkState
from nst_jax.optimize.loop import optimize
from nst_jax.optimize.step import chunk, initial_state, stack
from nst_jax.pictures import color, flow, images
from nst_jax.pictures.images import Picture
from nst_jax.transfer import failures, networks, prepare
from nst_jax.transfer.cache import Cache
from nst_jax.transfer.paint import Job, paint
from nst_jax.transfer.prepare import Pictures
from nst_jax.transfer.problem import problem_of
from nst_jax.transfer.starts import start_image

# Of a frame's pixels, the share found in another below which it is of another scene. In a film with
# five cuts, it was 0.24 at most at the cuts and 0.49 at least elsewhere.
MIN_FOUND_SHARE = 0.35
HOLDING_ROUNDS = 4  # clipping takes some of the brightness away again


class Film(NamedTuple):
    """What all frames of a film have in common.

    Attributes:
      experiment: whose content is the first frame.
      pictures: of the first frame, at the last scale.
      network: the network.
      problem: of the first frame, with the style's targets.
    """

    experiment: Experiment
    pictures: Pictures
    network: NetworkState
    problem: Problem


class Frame(NamedTuple):
    """A frame of the source, and its painting.

    Attributes:
      source: [h, w, 3], of the painting's size.
      painting: [h, w, 3].
    """

    source: Picture
    painting: Picture


class Painted(NamedTuple):
    """A painted frame.

    Attributes:
      painting: [h, w, 3] sRGB in [0, 1].
      terms: the objective ("total") and its terms.
      known: the share of the pixels that were found in frames before; 0 of a frame that began anew.
    """

    painting: Picture
    terms: dict[str, float]
    known: float


def prepared(experiment: Experiment, cache: Cache) -> Film:
    """What the frames of an experiment have in common.

    Args:
      experiment: whose content is the first frame.
      cache: keeps what is read.

    Raises:
      UserError: a picture or the weights cannot be used, or the device has too little memory.
    """
    pictures = prepare.load(experiment, cache)
    failures.check_memory(experiment, pictures.shape)
    network = networks.load_network(experiment, pictures, cache)
    problem = problem_of(experiment, pictures, network)
    knobs = problem.knobs._replace(temporal=experiment.film.temporal_weight)
    return Film(experiment, pictures, network, problem._replace(knobs=knobs))


def fitted(film: Film, frame: Picture) -> Picture:
    """A frame of the clip at the painting's size, as 8 bits hold it."""
    resized = images.resize(frame, film.pictures.shape, film.experiment.inputs.sizing.resample)
    return rounded(resized)


def rounded(picture: Picture) -> Picture:
    """A picture as it is read again from a file of 8 bits."""
    return images.quantized(picture, 8).astype(np.float32) / 255


def paint_frame(
    film: Film, source: Picture, known: Sequence[Frame] = (), own: Picture | None = None
) -> Painted:
    """Paints a frame.

    Args:
      film: what all frames have in common.
      source: [h, w, 3] the frame, from `fitted`.
      known: frames that are painted already, the most trusted first: pixels that are not found in
        one are looked for in the next.
      own: the frame's painting of a pass before; None in the first pass.

    Raises:
      NonFiniteLossError: the loss became NaN or infinite.
    """
    experiment = film.experiment
    pictures = prepare.with_content(film.pictures, source, experiment.inputs.color)
    space = experiment.inputs.color.space
    if experiment.inputs.color.mode == "luminance":
        known = [Frame(one.source, color.gray(one.painting, space)) for one in known]
        own = None if own is None else color.gray(own, space)
    warped, found, nearest = carried_over(source, known)
    continues = nearest is not None or own is not None  # otherwise a scene begins
    if own is None:
        start = np.where(found[..., None], warped, _fresh_start(film, pictures, continues))
    else:
        start = np.where(found[..., None], (warped + own) / 2, own)
    temporal = Temporal(jnp.asarray(warped), jnp.asarray(found, jnp.float32))
    problem = _problem(film, pictures, temporal)
    painting, terms = _optimized(film, problem, start, continues)
    wanted = own.mean() if own is not None else nearest and _brightness(source, nearest)
    if experiment.film.holds_brightness and wanted is not None:
        painting = held(painting, float(wanted))
        terms = _terms(film, problem, painting)
    shown = prepare.final_colours(painting, pictures, space)
    return Painted(rounded(shown), terms, float(found.mean()))


def _fresh_start(film: Film, pictures: Pictures, continues: bool) -> Picture:
    """The picture in which a frame starts where nothing is known.

    Where nothing is known at all, that is the start of a still picture, or what its smaller scales
    lead to; where some of it is, the content.
    """
    experiment = film.experiment
    if continues and pictures.content is not None:
        return pictures.content
    if len(experiment.scales) == 1:
        start = start_image(experiment.inputs.start, experiment.seed, pictures, film.network.mean)
        return np.asarray(start)
    smaller = dataclasses.replace(experiment, scales=experiment.scales[:-1])
    small = None
    for progress in paint([Job(smaller, pictures)], film.network):
        small = progress.images
    assert small is not None, "a painting has a start"
    enlarged = jax.image.resize(small[0], (*pictures.shape, 3), "cubic")
    return np.clip(np.asarray(enlarged), 0, 1)


def carried_over(
    source: Picture, known: Sequence[Frame]
) -> tuple[Picture, np.ndarray, Frame | None]:
    """Paintings of other frames, warped to a frame, and where they are known.

    Args:
      source: the frame.
      known: the most trusted first; each fills in the pixels that those before it lack. Frames of
        another scene are left out.

    Returns:
      [h, w, 3], and [h, w] bool; 0 and False where no frame has the pixel. And the first of the
      frames that is of the same scene, if there is one.
    """
    warped, found, nearest = np.zeros_like(source), np.zeros(source.shape[:2], bool), None
    for other in known:
        there, back = flow.flow(source, other.source), flow.flow(other.source, source)
        reliable = flow.reliable(there, back)
        if reliable.mean() < MIN_FOUND_SHARE:
            continue
        nearest = nearest or other
        new = reliable & ~found
        # Bilinearly, strokes would be blurred a little more in every frame.
        warped[new] = np.clip(flow.warp(other.painting, there, sharply=True)[new], 0, 1)
        found |= new
    return warped, found, nearest


def _problem(film: Film, pictures: Pictures, temporal: Temporal) -> Problem:
    """The problem of a frame: its own content targets, the film's style targets."""
    problem, experiment = film.problem, film.experiment
    knobs: Knobs = problem.knobs._replace(style={}, smoothness={})
    content = {}
    if knobs.content and pictures.content is not None:
        with jax.default_matmul_precision(experiment.network.precision):
            content = compute_targets(
                film.network,
                jnp.asarray(pictures.content),
                (),
                knobs,
                jnp.zeros(0),
                (),
                problem.key,
                static=problem.static,
            ).content
    targets = problem.targets._replace(content=content, temporal=temporal)
    return problem._replace(targets=targets)


def _room(film: Film) -> int:
    """The most steps of a dispatch, the same for all frames, so that they share a program."""
    experiment = film.experiment
    return min(experiment.output.log_every, experiment.film.steps, experiment.scales[-1].steps)


def _optimized(
    film: Film, problem: Problem, start: Picture, continues: bool
) -> tuple[Picture, dict[str, float]]:
    """A frame's painting, and its terms.

    Args:
      film: what all frames have in common.
      problem: of the frame.
      start: where the pixels start.
      continues: whether that comes from other frames.
    """
    optimizer, settings = film.experiment.optimizer, film.experiment.film
    static, rates = optimizer.static, optimizer.rates
    steps = settings.steps if continues else film.experiment.scales[-1].steps
    if continues:
        rates = rates._replace(learning_rate=settings.learning_rate)
    state = initial_state(static, jnp.asarray(start, jnp.float32)[None])
    *_, last = optimize(
        static,
        state,
        film.network,
        stack([problem]),
        stack([rates]),
        until=steps,
        room=_room(film),
        is_shown=lambda step: False,
    )
    return np.asarray(last.images[0]), _floats(last.terms)


def _terms(film: Film, problem: Problem, picture: Picture) -> dict[str, float]:
    """The terms of a picture, from the program of the steps, which takes none."""
    static, rates = film.experiment.optimizer.static, stack([film.experiment.optimizer.rates])
    state = initial_state(static, jnp.asarray(picture)[None])
    given = jax.device_put((stack([problem]), rates))
    count, shown = jax.device_put((np.int32(0), np.bool(True)))
    _, terms, _ = chunk(static, _room(film), count, state, film.network, *given, shown=shown)
    return _floats(terms)


def _floats(terms: Any) -> dict[str, float]:
    return {name: float(value[0]) for name, value in jax.device_get(terms).items()}


def _brightness(source: Picture, before: Frame) -> float:
    """The mean brightness of a frame's painting: as far from the one before as the source's."""
    return float(before.painting.mean() * source.mean() / max(before.source.mean(), 1e-6))


def held(painting: Picture, wanted: float) -> Picture:
    """A painting multiplied so that its mean is what is wanted, as a longer exposure would be."""
    for _ in range(HOLDING_ROUNDS):
        painting = np.clip(painting * (wanted / max(float(painting.mean()), 1e-6)), 0, 1)
    return painting


def flicker(before: Frame, now: Frame) -> tuple[float, float]:
    """How much two consecutive frames differ after warping, where the flow is reliable.

    It cannot tell strokes that stand still from strokes that are not there: a blank film has none.

    Returns:
      Root mean square of the painting's differences and of the source's, in pixel units; NaN where
      next to nothing is reliable, as at a cut.
    """
    there, back = flow.flow(now.source, before.source), flow.flow(before.source, now.source)
    reliable = flow.reliable(there, back)
    if reliable.mean() < MIN_FOUND_SHARE:
        return float("nan"), float("nan")

    def rms(earlier: Picture, later: Picture) -> float:
        difference = flow.warp(earlier, there)[reliable] - later[reliable]
        return float(np.sqrt(np.mean(np.square(difference, dtype=np.float64))))

    return rms(before.painting, now.painting), rms(before.source, now.source)


def warp_error(pairs: Iterable[tuple[float, float]]) -> float:
    """The film's flicker relative to its source's: a ratio of means over frames, cuts left out."""
    kept = np.array([pair for pair in pairs if np.isfinite(pair).all()]).reshape(-1, 2)
    own, source = kept.mean(0) if len(kept) else (np.nan, np.nan)
    return float(own / source) if source else float("nan")


def painted_in_order(film: Film, frames: Iterable[Picture]) -> Iterator[Painted]:
    """Paints frames in order, as they come; keeps only those that are looked back to."""
    offsets = film.experiment.film.long_term
    past: list[Frame] = []
    for frame in frames:
        source = fitted(film, frame)
        known = [past[-back] for back in offsets if back <= len(past)]
        painted = paint_frame(film, source, known)
        yield painted
        past = [*past, Frame(source, painted.painting)][-offsets[-1] :]


def check(experiment: Experiment):
    """Checks that an experiment can be a film.

    Raises:
      UserError: names the key that a film has no use for.
    """
    inputs, output = experiment.inputs, experiment.output
    excluded = {
        "guides.content": inputs.guides.content,
        "guides.content_weight": inputs.content_weight,
        "interpolate": experiment.interpolate,
        "split": experiment.network.split not in (0, 1),
        "normalize_network": "content" in experiment.network.normalize,
        "keep_alpha": output.keep_alpha,
        "animation": output.animation,
        "metrics": output.metrics,
        "tensorboard": output.tensorboard,
    }
    for key, given in excluded.items():
        if given:
            raise UserError(f"config.{key} is for still pictures; a film has no use for it")
    if not inputs.styles:
        raise UserError("a film needs a style picture; name it with --config.style")
