"""ConfigDict -> Experiment: every key is checked and consumed here, once.

The only caller of the grammar. Every mistake in a setting is raised here, before JAX is imported.
"""

import contextlib
import difflib
import functools
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nst_jax.config import grammar, rules
from nst_jax.config.experiment import (
    Color,
    Experiment,
    Film,
    Guide,
    Guides,
    Inputs,
    LossTerm,
    Network,
    Objective,
    Optimizer,
    Output,
    Pixels,
    Region,
    Scale,
    Source,
    Start,
    Style,
)
from nst_jax.config.schema import Config, default, flat, nested
from nst_jax.errors import UserError
from nst_jax.optimize.options import OptimizerStatic, Rates
from nst_jax.pictures import decoding
from nst_jax.pictures.sizes import Sizing

Take = Callable[[str], Any]  # returns the value of a key; each key is taken once


def parse(
    c: Config, content: Source | None = None, styles: Sequence[tuple[Source, float]] = ()
) -> Experiment:
    """Checks a config and parses it.

    Args:
      c: `default()` with other values.
      content: a picture in place of `c.content`.
      styles: pictures with weights in place of `c.style`.

    Raises:
      UserError: names the key, its value and what is allowed.
    """
    return parse_values(flat(c), content, styles)


def with_values(c: Config, values: Mapping[str, Any]) -> Experiment:
    """Parses a config with other values, by their full keys.

    Raises:
      UserError: as `parse`.
    """
    return parse_values({**flat(c), **values})


def parse_values(
    values: Mapping[str, Any],
    content: Source | None = None,
    styles: Sequence[tuple[Source, float]] = (),
) -> Experiment:
    """As `parse`, of values by their full keys.

    Raises:
      UserError: as `parse`; also an unknown or missing key.
    """
    checked = _checked(values)
    left = dict(checked)
    if left.pop("axes"):
        raise UserError(
            "config.axes describes a sweep; paint all of it with python -m nst_jax.sweep, or one "
            'of its experiments with --config.axes="()"'
        )
    experiment = _experiment(left.pop, content, styles, nested(checked))
    assert not left, f"keys that nothing reads: {', '.join(left)}"
    for key, (excludes, text) in rules.CONFLICTS.items():
        if excludes(experiment):
            raise UserError(f"config.{key} {text}")
    _check_pictures(experiment)
    return experiment


def check_still(experiment: Experiment):
    """Checks that an experiment sets no key which only films have a use for.

    Raises:
      UserError: it does.
    """
    given = flat(experiment.raw)
    for key, standard in _defaults().items():
        if key.startswith("film.") and given[key] != standard:
            raise UserError(f"config.{key} is for films, which python -m nst_jax.film paints")


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with their types right, each within its range."""
    expected = _defaults()
    for key in values:
        if key not in expected:
            raise UserError(f"config.{key} is not a key{_suggestion(key, expected)}")
    checked = {}
    for key, standard in expected.items():
        if key not in values:
            raise UserError(f"config.{key} is missing")
        checked[key] = _typed(key, values[key], standard)
    for key, (allows, allowed) in rules.RULES.items():
        if not allows(checked[key]):
            raise UserError(f"config.{key} is {reprlib.repr(checked[key])}; it must be {allowed}")
    return checked


@functools.cache
def _defaults() -> Mapping[str, Any]:
    return flat(default())


def _suggestion(key: str, known: Mapping[str, Any]) -> str:
    if alias := rules.ALIASES.get(key.rpartition(".")[2]):
        return f"; here it is config.{alias}"
    groups = {name.rpartition(".")[0] for name in known} - {""}
    if key in groups:
        return f": it is a group; set one of its keys, such as {_first_of(key, known)}"
    near = difflib.get_close_matches(key, known, 1)
    return f". Did you mean {near[0]}?" if near else "; nst_jax/config/schema.py lists them all"


def _first_of(group: str, known: Mapping[str, Any]) -> str:
    return next(key for key in known if key.startswith(f"{group}."))


def _typed(key: str, value: Any, standard: Any) -> Any:
    """A value with the type of its default. An integer may stand for a float."""
    if type(standard) is float and type(value) is int:
        return float(value)
    if key == "style":
        if isinstance(value, list):
            return tuple(value)
        if isinstance(value, tuple | str):
            return value
        raise UserError(
            f"config.style is {reprlib.repr(value)}; it must be file names. Quote a name that "
            "looks like a number: --config.style=\"'1.5'\""
        )
    if type(value) is not type(standard):
        kind = type(standard).__name__
        raise UserError(f"config.{key} is {reprlib.repr(value)}; it must be of type {kind}")
    return value


@contextlib.contextmanager
def _about(key: str) -> Iterator[None]:
    """Names the key in errors of the grammar."""
    try:
        yield
    except UserError as error:
        raise UserError(f"config.{key}: {error}") from None


def _experiment(
    take: Take,
    content: Source | None,
    styles: Sequence[tuple[Source, float]],
    raw: Mapping[str, Any],
) -> Experiment:
    size, side = take("image_size"), take("side")
    # A picture's own size is given exactly by its longer side alone.
    sizing = Sizing(side if size else "long", take("resample"))
    inputs = _inputs(take, content, styles, sizing)
    network = _network(take)
    return Experiment(
        inputs=inputs,
        network=network,
        objective=_objective(take, network.arch, inputs),
        optimizer=_optimizer(take, network.precision),
        scales=_scales(take, size or _longer_side(inputs)),
        seed=take("seed"),
        interpolate=take("interpolate"),
        output=_output(take),
        film=_film(take),
        raw=raw,
    )


def _inputs(
    take: Take,
    content: Source | None,
    styles: Sequence[tuple[Source, float]],
    sizing: Sizing,
) -> Inputs:
    named, listed = take("content"), take("style")
    with _about("style"):
        shares = grammar.shares(styles) if styles else grammar.parse_pictures(listed)
    return Inputs(
        content=content or named or None,
        styles=tuple(Style(picture, share) for picture, share in shares.items()),
        start=_start(take),
        guides=_guides(take, len(shares)),
        content_weight=take("guides.content_weight"),
        color=Color(
            mode=take("color.mode"),
            space=take("color.space"),
            guided=take("color.guided"),
            photorealism=take("color.photorealism"),
        ),
        sizing=sizing,
    )


def _start(take: Take) -> Start:
    picture = take("init.picture")
    named = picture in rules.STARTS
    return Start(
        kind=picture if named else "file",
        file="" if named else picture,
        noise=take("init.noise"),
        noise_kind=take("init.noise_kind"),
    )


def _guides(take: Take, styles: int) -> Guides:
    content, style = take("guides.content"), take("guides.style")
    with _about("guides.content"):
        regions = _guide(grammar.parse_masks(content))
    with _about("guides.style"):
        parsed = grammar.parse_style_masks(style, max(styles, 1))
    return Guides(
        content=regions,
        styles=tuple(map(_guide, parsed)),
        propagation=take("guides.propagation"),
    )


def _guide(masks: dict[str, str] | str) -> Guide:
    if isinstance(masks, str):
        return masks
    return tuple(Region(name, mask) for name, mask in masks.items())


def _network(take: Take) -> Network:
    return Network(
        arch=take("arch"),
        weights=take("weights"),
        pooling=take("pooling"),
        padding=take("padding"),
        convolution=take("convolution"),
        rematerialize=take("rematerialize"),
        tile=take("tile"),
        split=take("split"),
        precision=take("precision"),
        normalize=tuple(grammar.parse_files(take("normalize_network"))),
    )


def _objective(take: Take, arch: str, inputs: Inputs) -> Objective:
    content = _losses(take, "content", arch, inputs.content is not None)
    style = _losses(take, "style", arch, bool(inputs.styles))
    with _about("guides.weights"):
        region_weights = grammar.parse_region_weights(take("guides.weights"))
    return Objective(
        content=content,
        style=style,
        tv_loss=take("tv_loss"),
        alpha=take("alpha"),
        beta=take("beta"),
        tv_weight=take("tv_weight"),
        matting_weight=take("matting_weight"),
        spectrum_weight=take("spectrum_weight"),
        blend=take("blend"),
        normalize_gradients=take("normalize_gradients"),
        region_weights=region_weights,
    )


def _losses(take: Take, part: str, arch: str, wanted: bool) -> tuple[LossTerm, ...]:
    """The losses on content or style; () without such a picture, though they are checked."""
    known, layers, text = rules.LOSSES[part], take(f"{part}_layers"), take(f"{part}_losses")
    with _about(f"{part}_layers"):
        grammar.parse_layers(layers, arch)
    with _about(f"{part}_losses"):
        losses = grammar.parse_losses(text, layers, known, arch, rules.JOINT_LOSSES)
    if not wanted:
        return ()
    if not losses:
        raise UserError(
            f"config.{part}_losses is empty; name one of {', '.join(known)}, or leave the picture "
            f"out with --config.{part}="
        )
    return tuple(LossTerm(name, lambdas) for name, lambdas in losses.items())


def _optimizer(take: Take, precision: str) -> Optimizer:
    patience = take("optimizer.patience")
    static = OptimizerStatic(
        name=take("optimizer.name"),
        memory=take("optimizer.memory"),
        parameterization=take("parameterization"),
        precision=precision,
        backs_off=patience > 0,
    )
    rates = Rates(
        learning_rate=take("optimizer.learning_rate"),
        decay=take("optimizer.decay"),
        b1=take("optimizer.b1"),
        b2=take("optimizer.b2"),
        eps=take("optimizer.eps"),
        average=take("optimizer.average"),
        patience=patience,
    )
    return Optimizer(static, rates)


def _longer_side(inputs: Inputs) -> int:
    """Of the content picture in pixels, or of the first style picture where there is no content.

    Raises:
      UserError: it cannot be read, or there is no picture.
    """
    source = inputs.content or (inputs.styles[0].picture if inputs.styles else None)
    if source is None:
        raise UserError("config.image_size is 0, the picture's own size, but there is no picture")
    if isinstance(source, Pixels):
        return max(source.array.shape[:2])
    with decoding.opening(source) as opened:
        return max(opened.shape)


def _scales(take: Take, size: int) -> tuple[Scale, ...]:
    """The pyramid, coarse to fine.

    size_k = image_size / factor^k, rounded, down to min_size. crowsonkb/style-transfer-pytorch has
    the factor sqrt 2; Gatys et al. 2017 have two scales with the factor 2.
    """
    factor, smallest = take("pyramid.factor"), take("pyramid.min_size")
    style_scale, style_size = take("style_scale"), take("style_size")
    first_steps, steps = take("pyramid.first_steps"), take("pyramid.steps")
    sizes = [size]
    while smallest:
        smaller = round(size / factor ** len(sizes))
        if smaller < max(smallest, 1):
            break
        sizes.insert(0, smaller)
    counts = [first_steps, *[steps] * (len(sizes) - 2)] if len(sizes) > 1 else []
    counts.append(take("steps"))
    return tuple(
        Scale(side, style_size or max(1, round(style_scale * side)), count)
        for side, count in zip(sizes, counts, strict=True)
    )


def _film(take: Take) -> Film:
    with _about("film.frames"):
        first, last = grammar.parse_range(take("film.frames"))
    with _about("film.long_term"):
        long_term = grammar.parse_numbers(take("film.long_term"))
    return Film(
        first=first,
        last=last,
        steps=take("film.steps"),
        learning_rate=take("film.learning_rate"),
        temporal_weight=take("film.temporal_weight"),
        long_term=long_term,
        passes=take("film.passes"),
        holds_brightness=take("film.hold_brightness"),
        fps=take("film.fps"),
        output=take("film.output"),
    )


def _output(take: Take) -> Output:
    return Output(
        painting=take("output"),
        bits=take("bits"),
        keep_alpha=take("keep_alpha"),
        animation=take("animation"),
        metrics=take("metrics"),
        tensorboard=take("tensorboard"),
        log_every=take("log_every"),
        save_every=take("save_every"),
        checkpoint_seconds=take("checkpoint_every"),
    )


def _check_pictures(experiment: Experiment):
    """Checks that the pictures which other settings need are there."""
    inputs = experiment.inputs
    if experiment.interpolate and len(inputs.styles) < 2:
        raise UserError(
            "config.interpolate goes from the first style picture to the second; "
            "name two with --config.style=A.jpg,B.jpg"
        )
    start = inputs.start
    if start.noise == 1 and start.noise_kind != "normal":  # covers whatever is below it
        return
    there = {"content": inputs.content is not None, "style": bool(inputs.styles)}
    needed = start.kind.removesuffix("_statistics")
    if not there.get(needed, True):
        raise UserError(
            f"config.init.picture is {start.kind}, but config.{needed} is empty; "
            "name a picture, or start from noise with --config.init.noise=1"
        )
