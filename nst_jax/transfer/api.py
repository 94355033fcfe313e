"""The Python interface: pictures in, a painting out."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from nst_jax import config, files
from nst_jax.config import grammar, rules
from nst_jax.config.experiment import Experiment, Objective, Pixels, Source
from nst_jax.errors import UserError, no_device
from nst_jax.optimize.loop import NonFiniteLossError, Progress
from nst_jax.pictures import images
from nst_jax.pictures.arrays import as_array
from nst_jax.transfer import estimate, failures, networks, prepare, problem
from nst_jax.transfer import frames as film_frames
from nst_jax.transfer.cache import SHARED
from nst_jax.transfer.paint import Job, paint, rows_mesh
from nst_jax.transfer.settings import each_with_own_settings

# A file, or anything that `nst_jax.pictures.arrays.as_array` takes.
PictureLike = Any
# Keys that may change while a picture is painted; of layers and losses only the weights.
WEIGHTS = (
    "alpha",
    "beta",
    "tv_weight",
    "content_layers",
    "style_layers",
    "content_losses",
    "style_losses",
    "guides.weights",
    "matting_weight",
    "spectrum_weight",
)


class Stage(NamedTuple):
    """A painting on its way.

    Attributes:
      step: optimiser steps taken.
      steps: those of the whole painting.
      painting: [h, w, 3] float32, sRGB in [0, 1], at the size of the scale under way; with
        `interpolate` [paintings, h, w, 3].
      terms: the objective ("total") and its terms; with `interpolate` [paintings] each.
    """

    step: int
    steps: int
    painting: np.ndarray
    terms: Mapping[str, Any]


def stylize(
    content: PictureLike | None,
    style: PictureLike | Sequence[PictureLike | tuple[PictureLike, float | int]] | None,
    *,
    callback: Callable[[Stage], bool | Mapping[str, Any] | None] | None = None,
    **settings: Any,
) -> Float[np.ndarray, "*paintings _ _ 3"]:
    """Paints `content` in the style of `style`.

    What is expensive to make again (weights, the network, compiled programs) is kept between calls,
    within bounds; `nst_jax.clear_cache()` lets go of it. Every new size compiles anew, which
    `nst_jax.keep_programs()` saves for the next process.

    Examples:
      >>> from nst_jax import config, stylize
      >>> photograph, night = config.sample_photograph(), config.PICTURES / "starry.jpg"
      >>> painting = stylize(photograph, night, image_size=48, steps=2, style_layers="relu1_1")
      >>> painting.shape, painting.dtype
      ((48, 41, 3), dtype('float32'))

      Several styles with weights, and keys of a group:

      >>> day = config.PICTURES / "ember.jpg"
      >>> painting = stylize(
      ...     photograph,
      ...     [(night, 3), (day, 1)],
      ...     image_size=48,
      ...     steps=2,
      ...     style_layers="relu1_1",
      ...     optimizer="lbfgs",
      ...     **{"color.mode": "luminance"},
      ... )

    Args:
      content: a picture: a file's name, its bytes, an open file, a PIL image, an array or tensor
        [h, w, 3] or [h, w] of uint8 or floats in [0, 1], or nested lists. None for a texture.
      style: a picture; None for a reconstruction of the content; or several, with or without
        weights, which are mixed. A file may have its weight in its name, as in "night.jpg:3".
      callback: called with a `Stage` at the start, every `log_every` steps and at the end of every
        scale. If it returns True, the painting ends there. If it returns a dict, these weights
        (`WEIGHTS`) change: {"beta": 0.1}. Nothing recompiles. One chunk of steps, which takes about
        two seconds, is under way already.
      **settings: keys of `nst_jax.config.default()`. Keys of a group as a dict, or by their full
        names; a value given to `optimizer`, `color` or `init` is its name, mode or picture. Keys
        that only the commands use, such as `output`, are refused.

    Returns:
      [h, w, 3] float32, sRGB in [0, 1], the longer side `image_size`; with `interpolate`
      [paintings, h, w, 3]. `nst_jax.save` writes it.

    Raises:
      TypeError: a picture that is none of the above.
      UserError: an unknown key, a bad value, a picture or weights that cannot be used, or too
        little memory.
      nst_jax.NonFiniteLossError: the loss became NaN or infinite; its `painting` is the last good
        one.
    """
    changes: list[Objective] = []
    experiment, pictures, progresses = _begun(content, style, settings, changes)
    last = None
    for last in progresses:
        answer = None if callback is None else callback(_stage(experiment, pictures, last))
        if isinstance(answer, Mapping):
            settings |= answer
            after = experiment_of(content, style, settings)
            changes.append(_reweighed(experiment, after, pictures))
        elif answer:
            break
    assert last is not None, "a painting has a start"
    return _stage(experiment, pictures, last).painting


def paint_steps(
    content: PictureLike | None,
    style: PictureLike | Sequence[PictureLike | tuple[PictureLike, float | int]] | None,
    **settings: Any,
) -> Iterator[Stage]:
    """Paints as `stylize` does, and yields the painting on its way.

    Examples:
      >>> from nst_jax import config, paint_steps
      >>> photograph, night = config.sample_photograph(), config.PICTURES / "starry.jpg"
      >>> quick = {"image_size": 48, "style_layers": "relu1_1", "steps": 4, "log_every": 2}
      >>> [stage.step for stage in paint_steps(photograph, night, **quick)]
      [0, 2, 4]

    Args:
      content, style, **settings: as of `stylize`.

    Yields:
      A `Stage` at the start, every `log_every` steps, and at the end of every scale.

    Raises:
      UserError: as `stylize`, from the first step on; so its other errors.
    """
    experiment, pictures, progresses = _begun(content, style, settings)
    for progress in progresses:
        yield _stage(experiment, pictures, progress)


def stylize_film(
    frames: Iterable[PictureLike],
    style: PictureLike | Sequence[PictureLike | tuple[PictureLike, float | int]],
    **settings: Any,
) -> Iterator[Float[np.ndarray, "_ _ 3"]]:
    """Paints the frames of a film as they come, each as a continuation of those before it.

    Needs the extra `film`. The command `python -m nst_jax.film` reads and writes films, goes over
    them several times, and resumes.

    Examples:
      >>> import numpy as np
      >>> from nst_jax import config, stylize_film
      >>> clip = np.random.default_rng(0).random((3, 32, 48, 3))
      >>> quick = {"image_size": 48, "style_layers": "relu1_1", "steps": 2, "film.steps": 2}
      >>> [one.shape for one in stylize_film(clip, config.PICTURES / "starry.jpg", **quick)]
      [(32, 48, 3), (32, 48, 3), (32, 48, 3)]

    Args:
      frames: pictures of one size, as of `stylize`.
      style: as of `stylize`.
      **settings: as of `stylize`, with the group `film`. `steps` are those of the first frame of a
        scene, `film.steps` those of the others.

    Yields:
      [h, w, 3] float32, sRGB in [0, 1], for every frame, as 8 bits hold it.

    Raises:
      UserError, TypeError, nst_jax.NonFiniteLossError: as `stylize`, from the first frame on.
    """
    pictures = (as_array(frame, f"frame {number}") for number, frame in enumerate(frames, 1))
    first = next(pictures, None)
    if first is None:
        raise UserError("there are no frames")
    experiment = experiment_of(first, style, settings)
    if experiment.film.passes > 1:
        raise UserError("config.film.passes goes over a whole film; python -m nst_jax.film does")
    film_frames.check(experiment)

    def painted() -> Iterator[Any]:
        film = film_frames.prepared(experiment, SHARED)
        whole = itertools.chain([first], pictures)
        checked = (images.prepare(one, None, 1, "a frame") for one in whole)
        return film_frames.painted_in_order(film, checked)

    for one in each_with_own_settings(painted):
        yield one.painting


def save(
    painting: PictureLike,
    path: str | os.PathLike,
    *,
    bits: int = 8,
    alpha: np.ndarray | None = None,
    note: str = "",
):
    """Writes a painting as the commands do: sRGB with its profile, replaced atomically.

    Args:
      painting: what `stylize` returns, or another picture.
      path: its suffix is the format: .png, .jpg, .webp or .tif. Its folder is made.
      bits: of a channel: 8, or 16 for .png and .tif.
      alpha: [h, w] opacity in [0, 1], for .png, .webp and .tif.
      note: text for the file's metadata.

    Raises:
      TypeError: `painting` is not one picture.
      UserError: the format cannot hold it, or the file cannot be written.
    """
    picture = images.prepare(as_array(painting, "the painting"), None, 1, "the painting")
    if alpha is not None and np.shape(alpha) != picture.shape[:2]:
        raise UserError(f"alpha has the shape {np.shape(alpha)}, not {picture.shape[:2]}")
    opacity = None if alpha is None else np.asarray(alpha, np.float32)
    images.write(files.named(os.fspath(path)), picture, note, bits, opacity)


def _begun(
    content: Any, style: Any, settings: Mapping[str, Any], changes: list[Objective] | None = None
) -> tuple[Experiment, prepare.Pictures, Iterator[Progress]]:
    """The experiment, its pictures, and the painting, which is computed as it is iterated.

    An objective that is added to `changes` in the meantime is taken from there, and painted on
    with.
    """
    experiment = experiment_of(content, style, settings)
    config.check_still(experiment)
    pictures = prepare.load(experiment, SHARED)
    failures.check_memory(experiment, pictures.shape)
    SHARED.admit_program(problem.static_of(experiment, pictures))

    def progresses() -> Iterator[Progress]:
        network = networks.load_network(experiment, pictures, SHARED)
        jobs = [Job(one, pictures) for one in experiment.paintings()]
        together = estimate.batch_size(estimate.work(experiment, pictures.shape))
        return paint(
            jobs,
            network,
            together=together,
            mesh=rows_mesh(experiment),
            revise=lambda: changes.pop() if changes else None,
        )

    return experiment, pictures, _explained(experiment, pictures, progresses)


def _reweighed(before: Experiment, after: Experiment, pictures: prepare.Pictures) -> Objective:
    """The objective of an experiment that differs from another in weights only.

    Raises:
      UserError: it differs in more.
    """
    old = config.flat(before.raw)
    for key, value in config.flat(after.raw).items():
        if key not in WEIGHTS and value != old[key]:
            raise UserError(f"config.{key} cannot change on the way; {', '.join(WEIGHTS)} can")

    def shape(one: Experiment) -> Any:
        knobs = problem.knobs_of(one.objective)
        return problem.static_of(one, pictures), jax.tree.structure(knobs)

    if shape(after) != shape(before):
        raise UserError("losses and layers cannot change on the way, only their weights")
    return after.objective


def _explained(
    experiment: Experiment, pictures: prepare.Pictures, make: Callable[[], Iterator[Progress]]
) -> Iterator[Progress]:
    """Iterates; errors say what went wrong, and have the last good painting."""
    last = None
    try:
        for last in each_with_own_settings(make):
            yield last
    except NonFiniteLossError as error:
        if last is not None:
            error.painting = _stage(experiment, pictures, last).painting
        raise
    except (RuntimeError, ValueError) as error:
        if failures.is_out_of_memory(error):
            raise failures.out_of_memory(experiment) from None
        if line := no_device(error):
            raise line from None
        raise


def _stage(experiment: Experiment, pictures: prepare.Pictures, progress: Progress) -> Stage:
    paintings = prepare.finished(progress.images, pictures, experiment.inputs.color)
    paintings = np.array(paintings)  # JAX's own buffer cannot be written to
    several = bool(experiment.interpolate)
    terms = {
        name: value if several else float(np.ravel(value)[0])
        for name, value in progress.terms.items()
    }
    return Stage(progress.step, experiment.steps, paintings if several else paintings[0], terms)


def experiment_of(content: Any, style: Any, settings: Mapping[str, Any]) -> Experiment:
    """The experiment that `stylize` is asked for.

    Raises:
      TypeError: a picture that is none.
      UserError: an unknown key or a bad value.
    """
    values = _flat(settings)
    styles: list[tuple[Source, float]] = []
    if isinstance(style, str):
        values["style"] = style
    elif style is not None:
        several = style if isinstance(style, list | tuple) and not _is_pixels(style) else [style]
        if not several:
            raise UserError("the list of style pictures is empty; give None for no style")
        for number, (picture, weight) in enumerate(grammar.weighed_pictures(several), 1):
            name = f"style picture {number}" if len(several) > 1 else "the style picture"
            weight = grammar.number(str(weight), f"{name} has the weight")
            styles.append((as_source(picture, name), weight))
    source = None if content is None else as_source(content, "the content picture")
    standard = config.flat(config.default())
    for key in rules.COMMAND_KEYS:
        if key in values and repr(values[key]) not in (repr(standard[key]), "0", "False"):
            raise UserError(
                f"config.{key} is for the commands; nst_jax.save writes what stylize returns"
            )
        values.pop(key, None)
    return config.parse_values(standard | {"save_every": 0} | values, source, styles)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their full keys, with plain values."""
    known, values = config.flat(config.default()), {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        is_group = any(other.startswith(f"{key}.") for other in known)
        if is_group and isinstance(value, Mapping):
            values |= _flat(value, f"{key}.")
            continue
        if is_group and key not in rules.GROUP_KEYS:
            raise UserError(f"config.{key} is a group of keys; give a dict of them")
        values[rules.GROUP_KEYS.get(key, key)] = _plain(value, key in rules.FILE_LISTS)
    return values


def _plain(value: Any, names_files: bool) -> Any:
    """A value as a config file would have it: NumPy's numbers, paths, and tables of names."""
    if isinstance(value, os.PathLike):
        name = os.fspath(value)
        return grammar.quoted(name) if names_files else name
    if isinstance(value, Mapping):
        sign = "=" if names_files else ":"
        return ", ".join(f"{key}{sign}{_plain(own, names_files)}" for key, own in value.items())
    if isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value):
        return ", ".join(grammar.quoted(word) if names_files else word for word in value)
    if isinstance(value, np.generic | np.ndarray | jax.Array) and not value.shape:
        return value.item()
    return value


def _is_pixels(value: Sequence[Any]) -> bool:
    """Whether a list holds numbers in rows, and not pictures."""
    first = value[0] if value else None
    return isinstance(first, list) and bool(first) and isinstance(first[0], list | int | float)


def as_source(picture: Any, name: str) -> Source:
    """A file's name, or pixels.

    Raises:
      TypeError: neither.
    """
    if isinstance(picture, str | os.PathLike):
        return os.fspath(picture)
    return Pixels(as_array(picture, name), name)
