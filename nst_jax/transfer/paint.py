"""Painting: jobs of one compiled program in, their progress out, through all scales."""

from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from nst_jax.config.experiment import Experiment
from nst_jax.network.state import NetworkState
from nst_jax.optimize.loop import NonFiniteLossError, Progress, Snapshot, never, optimize
from nst_jax.optimize.step import State, enlarge, initial_state, stack
from nst_jax.transfer.cache import drop_programs_if_crowded
from nst_jax.transfer.prepare import Pictures, at_scale
from nst_jax.transfer.problem import problem_of
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
) -> Iterator[Progress]:
    """Paints a batch of jobs through all their scales.

    Yields the start, every step that `Output.is_shown`, and the last step of every scale. Steps are
    counted through all scales. A picture is the same in any batch (see `nst_jax.optimize.step`).

    Args:
      jobs: of one `problem.Static`, with the same layers (`problem.aligned`).
      network: of all of them.
      together: members that are computed at once; 0 for all. Fewer take less memory.
      mesh: devices over which its axis "cells" spreads the batch, whose size must be a multiple of
        them; None for the default device.
      resume: a progress with a state. It is yielded first; what follows is bit-exactly what it
        would have been without the interruption.
      snapshot: see `nst_jax.optimize.loop.optimize`.

    Raises:
      NonFiniteLossError: every picture is lost.
      UserError: a region is too small for a layer.
    """
    drop_programs_if_crowded()
    first = jobs[0].experiment
    replicated = mesh and NamedSharding(mesh, P())
    spread = mesh and NamedSharding(mesh, P("cells"))
    static, output = first.optimizer.static, first.output
    network = jax.device_put(network, replicated)
    rates = _on_devices([job.experiment.optimizer.rates for job in jobs], spread)
    state, done = None, 0
    for number, scale in enumerate(first.scales):
        if resume and number < resume.scale:
            done += scale.steps
            continue
        sized = [job._replace(pictures=at_scale(job.pictures, scale)) for job in jobs]
        shows_start = state is None  # a later scale starts from what was just shown
        if resume and number == resume.scale:
            state = jax.device_put(resume.state, spread)
        elif state is None:
            state = initial_state(static, _on_devices(_starts(sized, network), spread))
        else:
            state = enlarge(static, state, sized[0].pictures.shape)
        problems = [problem_of(job.experiment, job.pictures, network) for job in sized]
        steps = optimize(
            static,
            state,
            network,
            _on_devices(problems, spread),
            rates,
            until=scale.steps,
            room=output.log_every,
            is_shown=lambda step, done=done: output.is_shown(done + step),
            together=together,
            mesh=mesh,
            snapshot=snapshot,
        )
        state = yield from _counted(steps, number, done, shows_start)
        done += scale.steps


def _starts(jobs: Sequence[Job], network: NetworkState) -> list[Any]:
    mean = network.mean
    return [
        start_image(job.experiment.inputs.start, job.experiment.seed, job.pictures, mean)
        for job in jobs
    ]


def _on_devices(members: Sequence[Any], sharding: NamedSharding | None) -> Any:
    """The members as one batch on the devices."""
    return jax.device_put(stack(members), sharding)


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
        yield progress._replace(step=done + progress.step, lost=lost, scale=scale)
