"""Painting: jobs of one compiled program in, their progress out, through all scales."""

import dataclasses
import functools
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType

from nst_jax.config import rules
from nst_jax.config.experiment import Experiment, Objective
from nst_jax.errors import UserError
from nst_jax.losses.arguments import Problem
from nst_jax.network.state import NetworkState
from nst_jax.network.tiling import ROWS, Tiling, cut_of
from nst_jax.optimize.lbfgs import pairs_of
from nst_jax.optimize.loop import NonFiniteLossError, Progress, Snapshot, never, optimize
from nst_jax.optimize.options import OptimizerStatic
from nst_jax.optimize.placement import Placement
from nst_jax.optimize.step import State, begin, enlarge, stack
from nst_jax.transfer import estimate
from nst_jax.transfer.cache import drop_programs_if_crowded, drop_programs_if_large
from nst_jax.transfer.prepare import Pictures, at_scale, release, shape_at
from nst_jax.transfer.problem import problem_of, with_weights
from nst_jax.transfer.starts import start_image


class Job(NamedTuple):
    """One painting to make.

    Attributes:
      experiment: what is asked for.
      pictures: its pictures, from `prepare.load`.
    """

    experiment: Experiment
    pictures: Pictures


def paint(
    jobs: Sequence[Job],
    network: NetworkState,
    *,
    together: int = 0,
    mesh: jax.sharding.Mesh | None = None,
    resume: Progress | None = None,
    snapshot: Snapshot = never,
    revise: Callable[[], Objective | None] = lambda: None,
) -> Iterator[Progress]:
    """Paints a batch of jobs through all their scales.

    Yields the start, every step that `Output.is_shown`, and the last step of every scale. Steps are
    counted through all scales. A picture is the same in any batch (see `nst_jax.optimize.step`).

    Args:
      jobs: of one `problem.Static`, with the same layers (`problem.aligned`).
      network: of all of them.
      together: members that are computed at once; 0 for all. Fewer take less memory.
      mesh: devices over which its axis "cells" spreads the batch, whose size must be a multiple of
        them; or its axis "rows" the rows of a single picture. None for the default device.
      resume: a progress with a state. It is yielded first; what follows is bit-exactly what it
        would have been without the interruption.
      snapshot: see `nst_jax.optimize.loop.optimize`.
      revise: asked before every chunk for an objective with other weights, from there on for all
        jobs; None where nothing changes.

    Raises:
      NonFiniteLossError: every picture is lost.
      UserError: a region is too small for a layer.
    """
    drop_programs_if_crowded()
    first = jobs[0].experiment
    output = first.output
    shapes = [shape_at(jobs[0].pictures, scale) for scale in first.scales]
    check_split(first, shapes[-1], mesh)
    places = [placement(first, shape, mesh) for shape in shapes]
    place = places[0]
    _check_agreed(place, resume.step if resume else -1)
    network = place.put_everywhere(network)
    rates = place.put(stack([job.experiment.optimizer.rates for job in jobs]))
    state, done = None, 0

    def revised(problem: Problem) -> Problem | None:
        nonlocal jobs
        if (objective := revise()) is None:
            return None
        jobs = [
            job._replace(experiment=dataclasses.replace(job.experiment, objective=objective))
            for job in jobs
        ]
        return with_weights(problem, objective, list(jobs[0].pictures.regions))

    for number, scale in enumerate(first.scales):
        if resume and number < resume.scale:
            done += scale.steps
            continue
        static = _static_at(first, shapes[number])
        sized = [job._replace(pictures=at_scale(job.pictures, scale)) for job in jobs]
        place = places[number]
        # Before the state, which is as large as the memory that this takes.
        problem = place.put_problem(
            _batched([problem_of(job.experiment, job.pictures, network, place) for job in sized])
        )
        shows_start = state is None  # a later scale starts from what was just shown
        if resume and number == resume.scale:
            state = place.put_state(resume.state)
        elif state is None:
            state = begin(static, stack(_starts(sized, network)), place)
        else:
            state = enlarge(static, state, shapes[number], places[number - 1], place)
            drop_programs_if_large(math.prod(shapes[number]))
        del sized
        jax.block_until_ready((problem, state))  # until then, the pictures are still read
        for job in jobs:
            release(job.pictures)
        steps = optimize(
            static,
            state,
            network,
            problem,
            rates,
            until=scale.steps,
            room=output.log_every,
            is_shown=lambda step, done=done: output.is_shown(done + step),
            together=together,
            place=place,
            snapshot=snapshot,
            revise=revised,
        )
        state = yield from _counted(steps, number, done, shows_start)
        done += scale.steps


def _batched(problems: list[Problem]) -> Problem:
    """Problems of single pictures as one of a batch; a single one's arrays are not copied."""
    return stack(problems) if len(problems) > 1 else _with_axis(problems.pop())


@functools.partial(jax.jit, donate_argnums=0)
def _with_axis(problem: Problem) -> Problem:
    return jax.tree.map(lambda leaf: leaf[None], problem)


def _starts(jobs: Sequence[Job], network: NetworkState) -> list[Any]:
    mean = network.mean
    return [
        start_image(job.experiment.inputs.start, job.experiment.seed, job.pictures, mean)
        for job in jobs
    ]


def _check_agreed(place: Placement, step: int):
    """Checks that all processes resume after the same step, -1 for none.

    Raises:
      UserError: one has another checkpoint.
    """
    if place.anywhere(place.agreed(step) != step):
        raise UserError(
            "the processes do not find the same checkpoint; give all of them the same --workdir, a "
            "folder that they share"
        )


def _static_at(experiment: Experiment, shape: tuple[int, int]) -> OptimizerStatic:
    """The optimiser at one scale: how many pairs L-BFGS keeps does not depend on the canvas."""
    static = experiment.optimizer.static
    if static.name != "lbfgs":
        return static
    return dataclasses.replace(static, memory=pairs_of(static.memory, math.prod(shape)))


def placement(
    experiment: Experiment, shape: tuple[int, int], mesh: jax.sharding.Mesh | None
) -> Placement:
    """Where a batch lies at one scale: in rows only if every device has some.

    Args:
      experiment: of the first job.
      shape: (height, width) of the paintings at the scale.
      mesh: see `paint`.
    """
    if mesh is None or ROWS not in mesh.axis_names or _why_whole(experiment, shape, mesh):
        return Placement(mesh, shape[0])
    return Placement(mesh, shape[0], _cut_of(experiment, shape, mesh).rows)


def check_split(
    experiment: Experiment, shape: tuple[int, int], mesh: jax.sharding.Mesh | None = None
):
    """Checks that the devices can share the rows of the largest scale.

    Args:
      experiment: the experiment.
      shape: (height, width) of the painting.
      mesh: see `paint`.

    Raises:
      UserError: they cannot.
    """
    if mesh and ROWS in mesh.axis_names and (why := _why_whole(experiment, shape, mesh)):
        raise UserError(why)


def _cut_of(experiment: Experiment, shape: tuple[int, int], mesh: jax.sharding.Mesh) -> Tiling:
    most, deepest = estimate.tile(experiment, shape), estimate.deepest_block(experiment)
    return cut_of(shape, most, deepest, mesh)


def _why_whole(experiment: Experiment, shape: tuple[int, int], mesh: jax.sharding.Mesh) -> str:
    """Why the devices of a mesh cannot share a picture's rows; "" if they can."""
    cut = _cut_of(experiment, shape, mesh)
    size, share = f"{shape[1]}x{shape[0]} pixels", cut.local[0]
    if share * (cut.devices - 1) >= shape[0]:
        most = math.ceil(shape[0] / share)
        return (
            f"{cut.devices} devices cannot share {size}: with {share} rows each, {most} of them "
            "have all; choose a smaller config.split or a larger config.image_size"
        )
    if experiment.network.padding == "circular" and (cut.rows, cut.local[1]) != shape:
        return (
            f"config.split with config.padding=circular needs a size that divides evenly, such as "
            f"{cut.local[1]}x{cut.rows} for {cut.devices} devices, and this is {size}"
        )
    return ""


def rows_mesh(experiment: Experiment) -> jax.sharding.Mesh | None:
    """The devices that share a picture's rows; None for one device.

    Raises:
      UserError: there are fewer, or a process would have none of them.
    """
    if not rules.is_split(experiment):
        return None
    devices = jax.devices()
    count = estimate.devices(experiment)
    if count > len(devices):
        raise UserError(
            f"config.split={count}, but there {'is' if len(devices) == 1 else 'are'} only "
            f"{len(devices)} {devices[0].platform} device{'s' * (len(devices) > 1)}"
        )
    if count == 1:
        return None
    processes = {device.process_index for device in devices[:count]}
    if len(processes) < jax.process_count():
        raise UserError(
            f"config.split={count} is fewer devices than the {jax.process_count()} processes need; "
            "choose -1 for all devices"
        )
    return jax.make_mesh((count,), (ROWS,), (AxisType.Auto,), devices=devices[:count])


def _counted(
    steps: Generator[Progress, None, State], scale: int, done: int, shows_start: bool
) -> Generator[Progress, None, State]:
    """The progress of one scale, its steps counted from the start of the run."""
    if not shows_start:
        next(steps)
    while True:
        try:
            progress = next(steps)
        except StopIteration as finished:
            return finished.value
        except NonFiniteLossError as error:
            raise NonFiniteLossError(done + error.lost) from None
        lost = np.where(np.less(progress.lost, 0), -1, done + progress.lost)
        counted = progress._replace(step=done + progress.step, lost=lost, scale=scale)
        del progress
        yield counted
        del counted  # with its state, before the next chunk runs
