"""The frames of a film, each painted as a continuation of those before it.

A frame starts from the paintings before it, warped by the optical flow between the frames, and is
held to them by the temporal loss where the flow can be trusted. All frames run one compiled
program for each scale, and the style's targets are computed once.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax.config import rules
from nst_jax.config.experiment import Experiment
from nst_jax.errors import UserError
from nst_jax.losses.arguments import Problem, Temporal
from nst_jax.losses.targets import compute_targets
from nst_jax.network.state import NetworkState
from nst_jax.optimize.loop import Progress, optimize
from nst_jax.optimize.options import Rates
from nst_jax.optimize.step import State, chunk, enlarge, initial_state, stack
from nst_jax.pictures import color, flow, images, masks
from nst_jax.pictures.images import Picture
from nst_jax.transfer import failures, networks, prepare
from nst_jax.transfer.cache import Cache
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
      problems: of the first frame at every scale, with the style's targets.
    """

    experiment: Experiment
    pictures: Pictures
    network: NetworkState
    problems: tuple[Problem, ...]


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
    problems = []
    for scale in experiment.scales:
        problem = problem_of(experiment, prepare.at_scale(pictures, scale), network)
        knobs = problem.knobs._replace(temporal=experiment.film.temporal_weight)
        problems.append(problem._replace(knobs=knobs))
    return Film(experiment, pictures, network, tuple(problems))


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
    """Paints a frame, coarse to fine where the film has several scales.

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
    assert pictures.content is not None, "a film has content"
    before = np.where(found[..., None], warped, pictures.content if own is None else own)
    start = before if own is None else (before + own) / 2
    begins = nearest is None and own is None  # a scene
    if not begins:
        pictures = pictures._replace(styles=(), style_regions=())  # they are not resized in vain
    sized = [prepare.at_scale(pictures, scale) for scale in experiment.scales]
    problems = [
        _problem(film, problem, one, before, found)
        for problem, one in zip(film.problems, sized, strict=True)
    ]
    if begins:
        painting, terms = _begun(film, sized, problems)
    else:
        painting, terms = _continued(film, start, sized, problems)
    wanted = own.mean() if own is not None else nearest and _brightness(source, nearest)
    if experiment.film.holds_brightness and wanted is not None:
        painting = held(painting, float(wanted))
        terms = _terms(film, problems[-1], painting)
    shown = prepare.finished(painting, pictures, experiment.inputs.color)
    return Painted(rounded(shown), terms, float(found.mean()))


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


def _problem(
    film: Film, first: Problem, pictures: Pictures, before: Picture, found: np.ndarray
) -> Problem:
    """The problem of a frame at one scale.

    Args:
      film: what all frames have in common.
      first: the problem of the first frame at the scale, whose style targets are the film's.
      pictures: of the frame, at the scale.
      before: [h, w, 3] what is carried over; where nothing is known, any picture that smaller sizes
        may mix with it.
      found: see `carried_over`.
    """
    content, inputs = {}, {}
    if first.knobs.content and pictures.content is not None:
        with jax.default_matmul_precision(film.experiment.network.precision):
            made = compute_targets(
                film.network,
                jnp.asarray(pictures.content),
                (),
                first.knobs._replace(smoothness={}),
                jnp.zeros(0),
                (),
                first.key,
                static=first.static,
            )
        content, inputs = made.content, made.inputs
    temporal = Temporal(
        jnp.asarray(images.resize(before, pictures.shape, pictures.sizing.resample)),
        jnp.asarray(masks.resize(found.astype(np.float32), pictures.shape)),
    )
    targets = first.targets._replace(content=content, inputs=inputs, temporal=temporal)
    return first._replace(targets=targets)


def _begun(
    film: Film, sized: Sequence[Pictures], problems: Sequence[Problem]
) -> tuple[Picture, dict[str, float]]:
    """The first painting of a scene, as of a still picture, and its terms."""
    experiment, state, last = film.experiment, None, None
    static, rates = experiment.optimizer.static, experiment.optimizer.rates
    for number, pictures in enumerate(sized):
        if state is None:
            start = start_image(
                experiment.inputs.start, experiment.seed, pictures, film.network.mean
            )
            state = initial_state(static, start[None])
        else:
            state = enlarge(static, state, pictures.shape)
        steps = experiment.scales[number].steps
        state, last = _optimized(film, number, state, problems[number], rates, steps)
    assert last is not None, "there is a scale"
    return np.asarray(last.images[0]), _floats(last.terms)


def _continued(
    film: Film, start: Picture, sized: Sequence[Pictures], problems: Sequence[Problem]
) -> tuple[Picture, dict[str, float]]:
    """The painting of a frame that continues a scene, and its terms.

    Where pixels are not known, a scale starts from what the one before it made of them, enlarged.
    The others keep the strokes that are carried over.

    Args:
      film: what all frames have in common.
      start: [h, w, 3] where the pixels start, at the last scale.
      sized, problems: of the frame, at every scale.
    """
    experiment, settings, last = film.experiment, film.experiment.film, None
    static, rates = experiment.optimizer.static, experiment.optimizer.rates
    rates = rates._replace(learning_rate=settings.learning_rate)
    for number, (pictures, problem) in enumerate(zip(sized, problems, strict=True)):
        own = images.resize(start, pictures.shape, pictures.sizing.resample)
        assert problem.targets.temporal is not None
        unknown = 1 - problem.targets.temporal.weights[..., None]
        if last is not None:
            coarse = jax.image.resize(last.images[0], own.shape, "cubic")
            own = jnp.clip(own + unknown * (coarse - own), 0, 1)
        state = initial_state(static, jnp.asarray(own)[None])
        _, last = _optimized(film, number, state, problem, rates, settings.steps)
    assert last is not None, "there is a scale"
    return np.asarray(last.images[0]), _floats(last.terms)


def _room(film: Film, number: int) -> int:
    """The most steps of a dispatch at a scale, for all frames, so that they share a program."""
    experiment = film.experiment
    steps = experiment.scales[number].steps
    return min(experiment.output.log_every, experiment.film.steps, steps)


def _optimized(
    film: Film, number: int, state: State, problem: Problem, rates: Rates, until: int
) -> tuple[State, Progress]:
    """The last state at a scale, and its picture and terms."""
    steps: Generator[Progress, None, State] = optimize(
        film.experiment.optimizer.static,
        state,
        film.network,
        stack([problem]),
        stack([rates]),
        until=until,
        room=_room(film, number),
        is_shown=lambda step: False,
    )
    progress = next(steps)
    while True:
        try:
            progress = next(steps)
        except StopIteration as finished:
            return finished.value, progress


def _terms(film: Film, problem: Problem, picture: Picture) -> dict[str, float]:
    """The terms of a picture, from the program of the steps, which takes none."""
    static, rates = film.experiment.optimizer.static, stack([film.experiment.optimizer.rates])
    state = initial_state(static, jnp.asarray(picture)[None])
    given = jax.device_put((stack([problem]), rates))
    count, shown = jax.device_put((np.int32(0), np.bool(True)))
    room = _room(film, len(film.problems) - 1)
    _, terms, _ = chunk(static, room, count, state, film.network, *given, shown=shown)
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
        "matting_weight": experiment.objective.matting_weight,
        f"style_losses={', '.join(rules.MATCHED_LOSSES)}": rules.is_matched(experiment),
        "color.photorealism": inputs.color.photorealism,
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
