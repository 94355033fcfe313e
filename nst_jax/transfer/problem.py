"""Experiment -> the arguments of the objective; and which experiments share a compiled program."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax.config.experiment import Experiment, Inputs, LossTerm, Network, Objective, Scale
from nst_jax.errors import UserError
from nst_jax.losses.arguments import NO_GUIDES, ByTap, GuideWeights, Knobs, ObjectiveStatic, Problem
from nst_jax.losses.matting import colour_basis
from nst_jax.losses.spectrum import spectrum
from nst_jax.losses.style import STYLE
from nst_jax.losses.targets import compute_targets
from nst_jax.network.receptive import propagate
from nst_jax.network.state import NetworkState
from nst_jax.optimize.options import OptimizerStatic
from nst_jax.optimize.placement import ONE_DEVICE, Placement
from nst_jax.pictures.masks import Mask
from nst_jax.transfer import estimate
from nst_jax.transfer.prepare import Pictures


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Static:
    """All that two experiments must have in common to share their compiled programs.

    They may differ in pictures, seeds, weights, learning rates and layers: `aligned` gives them the
    same layers, where a layer that is off has the lambda 0.

    Attributes:
      network: with its weights.
      normalized_over: the pictures that the network is normalised over; None if it is not.
      objective: normalize_gradients, and the tiles.
      content_losses: names.
      style_losses: names, with the layers of losses between neighbouring layers; those of others
        are no part of it.
      tv_loss: name.
      of_pixels: names of the losses of pixels that there are.
      blend: how several styles are mixed; "" for one.
      regions: names of the output's regions, and of every style picture's.
      has_content_weight: whether a map weighs the content.
      optimizer: static options.
      scales: sizes and steps.
      room: the most steps of a dispatch.
      shapes: of the output and of every style picture, at the last scale.
    """

    network: Network
    normalized_over: Inputs | None
    objective: ObjectiveStatic
    content_losses: tuple[str, ...]
    style_losses: tuple[tuple[str, tuple[str, ...]], ...]
    tv_loss: str
    of_pixels: tuple[str, ...]
    blend: str
    regions: tuple[tuple[str, ...], ...]
    has_content_weight: bool
    optimizer: OptimizerStatic
    scales: tuple[Scale, ...]
    room: int
    shapes: tuple[tuple[int, ...], ...]


def static_of(experiment: Experiment, pictures: Pictures) -> Static:
    """The static part of an experiment."""
    inputs, objective = experiment.inputs, experiment.objective
    return Static(
        network=experiment.network,
        normalized_over=inputs if experiment.network.normalize else None,
        objective=objective_static(experiment, pictures.shape),
        content_losses=tuple(sorted(term.name for term in objective.content)),
        style_losses=tuple(
            (term.name, tuple(term.layers) if STYLE[term.name].neighbours != 1 else ())
            for term in sorted(objective.style, key=lambda term: term.name)
        ),
        tv_loss=objective.tv_loss,
        of_pixels=tuple(
            name for name in ("matting", "spectrum") if getattr(objective, f"{name}_weight")
        ),
        blend=objective.blend if len(pictures.styles) > 1 else "",
        regions=tuple(
            tuple(sorted(regions)) for regions in (pictures.regions, *pictures.style_regions)
        ),
        has_content_weight=pictures.content_weight is not None,
        optimizer=experiment.optimizer.static,
        scales=experiment.scales,
        room=experiment.output.log_every,
        shapes=(pictures.shape, *(style.shape for style in pictures.styles)),
    )


def objective_static(
    experiment: Experiment, shape: tuple[int, int], available: float = 0.0
) -> ObjectiveStatic:
    """The static options of the objective.

    Args:
      experiment: the experiment.
      shape: (height, width) of the painting.
      available: memory of a device in bytes; 0 for this machine's.
    """
    tile = estimate.tile(experiment, shape, available)
    return ObjectiveStatic(
        experiment.objective.normalize_gradients,
        max(tile, experiment.network.tile),  # a style picture may be larger than the painting
        recomputes=estimate.recomputes_content(experiment, shape, tile, available),
    )


def aligned(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Experiments of one `Static`, each with the layers of all; layers that it lacks weigh 0."""
    content = _aligned([experiment.objective.content for experiment in experiments])
    style = _aligned([experiment.objective.style for experiment in experiments])
    return [
        dataclasses.replace(
            experiment,
            objective=dataclasses.replace(experiment.objective, content=one, style=other),
        )
        for experiment, one, other in zip(experiments, content, style, strict=True)
    ]


def _aligned(losses: Sequence[tuple[LossTerm, ...]]) -> list[tuple[LossTerm, ...]]:
    """The losses of several experiments, which have the same names, with the same layers."""
    layers: dict[str, dict[str, float]] = {}
    for terms in losses:
        for term in terms:
            layers.setdefault(term.name, {}).update(dict.fromkeys(term.layers, 0.0))
    return [
        tuple(LossTerm(term.name, layers[term.name] | dict(term.layers)) for term in terms)
        for terms in losses
    ]


def own_terms(objective: Objective, names: Iterable[str]) -> list[str]:
    """Of the names of terms, those of an experiment's own layers, without what `aligned` added."""
    own = {
        f"{part}/{term.name}/{tap}"
        for part, terms in (("content", objective.content), ("style", objective.style))
        for term in terms
        for tap in term.layers
    }
    return [name for name in names if "/" not in name or "/".join(name.split("/")[:3]) in own]


def knobs_of(objective: Objective, regions: Sequence[str] = ()) -> Knobs:
    """The weights of the objective's terms.

    Args:
      objective: the objective.
      regions: names of the regions; () without guides.
    """
    return Knobs(
        alpha=objective.alpha,
        beta=objective.beta,
        content={term.name: dict(term.layers) for term in objective.content},
        style={term.name: dict(term.layers) for term in objective.style},
        smoothness={objective.tv_loss: objective.tv_weight},
        regions={name: objective.region_weights.get(name, 1.0) for name in regions or [""]},
        matting=objective.matting_weight,
        spectrum=objective.spectrum_weight,
    )


def _taps(terms: Iterable[LossTerm]) -> list[str]:
    return list(dict.fromkeys(tap for term in terms for tap in term.layers))


def guide_weights(
    experiment: Experiment, pictures: Pictures
) -> tuple[GuideWeights, tuple[dict[str, ByTap], ...]]:
    """The weights of the regions at every tap, of the output and of each style picture.

    Raises:
      UserError: a region that is too small for a layer.
    """
    network, weight = experiment.network, pictures.content_weight
    content: ByTap = {}
    if weight is not None:
        for tap in _taps(experiment.objective.content):
            propagated = propagate(weight, tap, network.arch, "simple", rounds_up=network.rounds_up)
            content[tap] = jnp.asarray(propagated)
    if not pictures.regions:
        return GuideWeights(content, NO_GUIDES.regions), (NO_GUIDES.regions,) * len(pictures.styles)
    output, *styles = (
        {name: _at_taps(experiment, mask, name) for name, mask in regions.items()}
        for regions in (pictures.regions, *pictures.style_regions)
    )
    return GuideWeights(content, output), tuple(styles)


def _at_taps(experiment: Experiment, mask: Mask, name: str) -> dict[str, np.ndarray]:
    """A region's weights at every style tap: the squared mask, scaled to sum to 1.

    Gatys et al. 2017, section 4.1: features are multiplied by the guide, so that their products are
    multiplied by its square.

    Raises:
      UserError: nothing of it is left at a tap.
    """
    how, network, weights = experiment.inputs.guides.propagation, experiment.network, {}
    for tap in _taps(experiment.objective.style):
        propagated = propagate(mask, tap, network.arch, how, rounds_up=network.rounds_up)
        squares = np.square(propagated.astype(np.float64))
        if not squares.any():
            advice = ""
            if how == "inside":
                advice = ": no position sees only it; choose config.guides.propagation=simple"
            height, width = mask.shape
            raise UserError(
                f"region {name!r} is too small for {tap} at {width}x{height} pixels{advice}"
            )
        weights[tap] = np.float32(squares / squares.sum())
    return weights


def problem_of(
    experiment: Experiment,
    pictures: Pictures,
    network: NetworkState,
    place: Placement = ONE_DEVICE,
    available: float = 0.0,
) -> Problem:
    """The arguments of the objective at one scale.

    Args:
      experiment: the experiment.
      pictures: at the scale.
      network: with the taps of the experiment's losses.
      place: where the painting lies.
      available: memory of a device in bytes; 0 for this machine's.

    Raises:
      UserError: a region is too small for a layer.
    """
    guides, style_regions = guide_weights(experiment, pictures)
    knobs = knobs_of(experiment.objective, list(pictures.regions))
    key = jax.random.fold_in(jax.random.key(experiment.seed), 2)
    content = None if pictures.content is None else place.put_picture(pictures.content)
    shares = [style.share for style in experiment.inputs.styles]
    static = objective_static(experiment, pictures.shape, available)
    static = dataclasses.replace(static, split=place.split)
    with jax.default_matmul_precision(experiment.network.precision):
        targets = compute_targets(
            network,
            content,
            *place.put_everywhere(
                (pictures.styles, knobs, np.array(shares, np.float32), style_regions, key)
            ),
            experiment.objective.blend,
            static,
        )
    targets = targets._replace(**_of_pixels(experiment.objective, pictures))
    return Problem(targets, knobs, guides, key, static)


def with_weights(problem: Problem, objective: Objective, regions: Sequence[str] = ()) -> Problem:
    """A batch's problem with the weights of another objective, all members alike.

    Args:
      problem: of a batch.
      objective: of the same losses and layers.
      regions: names of the regions; () without guides.
    """
    knobs = knobs_of(objective, regions)
    return problem._replace(knobs=jax.tree.map(jnp.full_like, problem.knobs, knobs))


def _of_pixels(objective: Objective, pictures: Pictures) -> dict[str, Any]:
    """The targets of `OF_PIXELS`, where their losses are asked for."""
    targets = {}
    if objective.matting_weight and pictures.content is not None:
        targets["matting"] = jnp.asarray(colour_basis(pictures.content))
    if objective.spectrum_weight:
        (texture,) = pictures.styles
        targets["spectrum"] = spectrum(jnp.asarray(texture))
    return targets
