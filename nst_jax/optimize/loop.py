"""The loop: chunks of steps, dispatched ahead of what the host reads and writes.

A chunk is one dispatch of many steps, as many as take about two seconds. The device never waits for
the host inside a chunk, and the host reads the numbers of one chunk while the device computes the
next.
"""

import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from nst_jax.losses.arguments import Problem
from nst_jax.losses.objective import in_order
from nst_jax.network.state import NetworkState
from nst_jax.optimize.options import OptimizerStatic, Rates
from nst_jax.optimize.placement import ONE_DEVICE, Placement
from nst_jax.optimize.step import State, chunk, restart

Revision = Callable[[Problem], Problem | None]  # asked before every chunk; None: nothing changes
Snapshot = Callable[[bool], bool]  # whether it is the last chunk -> whether to fetch the state

MAX_DISPATCH_SECONDS = 2.0  # a signal or a checkpoint waits for a dispatch
STEP_COST_IN_FORWARDS = 3  # the time of a step, about, in forward passes


def never(last: bool) -> bool:
    """A `Snapshot` that fetches no state."""
    del last
    return False


def unchanged(problem: Problem) -> None:
    """A `Revision` that changes nothing."""
    del problem


class Progress(NamedTuple):
    """Where an optimisation stands.

    Attributes:
      step: steps taken.
      images: [n, h, w, 3] the pictures after them, sRGB in [0, 1].
      terms: term -> [n], of the pictures; {} in a `Progress` that is there for its state alone.
      lost: [n] the step at which the objective was not finite for the first time; -1 for a good
        picture. The last `Progress` before it has a good picture.
      scale: number of the pyramid's scale, from 0.
      state: what it takes to resume, on the host; None unless a snapshot was asked for.
    """

    step: int
    images: Any
    terms: dict[str, Any]
    lost: Any = -1
    scale: int = 0
    state: State | None = None


class NonFiniteLossError(Exception):
    """The objective became NaN or infinite. The last `Progress` has a good picture.

    Attributes:
      lost: [n] the step at which it did, for every picture of the batch.
      step: the first of them.
      painting: the last good painting, where `stylize` raises this; None if there is none.
    """

    painting: np.ndarray | None = None

    def __init__(self, lost: Any):
        self.lost = np.asarray(lost)
        self.step = int(self.lost.min())
        advice = "divide config.alpha, config.beta and config.tv_weight by the same number"
        if self.step:
            advice = "try a smaller config.optimizer.learning_rate"
        super().__init__(f"the loss is not finite at step {self.step}; {advice}")


def optimize(
    static: OptimizerStatic,
    state: State,
    network: NetworkState,
    problem: Problem,
    rates: Rates,
    *,
    until: int,
    room: int,
    is_shown: Callable[[int], bool] | None = None,
    together: int = 0,
    place: Placement = ONE_DEVICE,
    snapshot: Snapshot = never,
    revise: Revision = unchanged,
) -> Generator[Progress, None, State]:
    """Minimises the objective over a batch of pictures.

    Yields a `Progress` at the start, at every step that is to be shown, and at the last. Where
    `snapshot` asks for a state in between, the `Progress` has no terms; neither has a start that is
    not to be shown.

    Args:
      static: which optimiser.
      state: of a batch, with the steps that it has behind it; donated.
      network: shared by the batch.
      problem: of a batch.
      rates: of a batch.
      until: the last step, >= 1, counted with those that the state has behind it.
      room: the most steps in one dispatch, >= 1; static.
      is_shown: whether to show a step; None for every `room` steps.
      together: see `chunk`.
      place: where the batch lies.
      snapshot: asked after every chunk whether its `Progress` shall have the state. The device then
        waits for the host to fetch it.
      revise: asked before every chunk for a problem with other knobs, of the same shapes and types,
        so that nothing recompiles.

    Returns:
      The last state.

    Raises:
      NonFiniteLossError: every picture of the batch is lost.
    """
    if place.mesh is None:
        problem, rates = jax.device_put((problem, rates))  # once, not at every chunk
    room = min(room, until)
    previous = start = done = int(np.max(jax.device_get(state.step)))
    lost: Any = -1

    def shows(step: int) -> bool:
        return step == until or (step % room == 0 if is_shown is None else is_shown(step))

    def next_stop(seconds: float) -> int:
        """The end of the next chunk: a step to show, or what fits into a dispatch."""
        most = max(1, min(room, int(MAX_DISPATCH_SECONDS / max(seconds, 1e-6))))
        most = place.agreed(most)
        return next((s for s in range(done + 1, done + most) if shows(s)), done + most)

    def dispatch(state: State, stop: int, shows_terms: bool) -> Any:
        nonlocal problem
        if (revised := revise(problem)) is not None:
            problem, state = revised, restart(static, state, place.split)
        numbers = np.int32(stop - done), np.bool(shows_terms)
        count, shown = place.put_everywhere(numbers)
        return chunk(
            static,
            room,
            count,
            state,
            network,
            problem,
            rates,
            shown=shown,
            together=together,
            mesh=place.cells,
        )

    result = dispatch(state, start, True)
    since = time.monotonic()
    jax.block_until_ready(result)  # a forward pass, from which the time of a step is estimated
    seconds = STEP_COST_IN_FORWARDS * (time.monotonic() - since)
    while True:
        state, terms, values = result
        last = done == until
        fetches = place.anywhere(snapshot(last))
        stop = done if last else next_stop(seconds)
        shown = shows(done)
        images = None
        if shown or fetches or done == start:  # the next chunk donates the state
            images = state.average if last else jnp.copy(state.average)
        if not (last or fetches):  # dispatch the next chunk before the numbers of this one are read
            result = dispatch(state, stop, shows(stop))
        progress = _read(previous, done, terms, values)
        fetched = place.fetch(state) if fetches else None
        if fetched is not None and not _worth_resuming(fetched):
            fetched = None
        lost = np.where(np.less(lost, 0), progress.lost, lost)
        if np.min(lost) >= 0:
            raise NonFiniteLossError(lost)
        if done > previous:
            seconds = min(seconds, (time.monotonic() - since) / (done - previous))
        since = time.monotonic()
        if images is not None and (shown or fetched is not None or done == start):
            yield progress._replace(
                images=place.shown(images),
                terms=progress.terms if shown else {},
                lost=lost,
                state=fetched,
            )
        # A large state, or its picture, must not stay on the host while the next chunk runs.
        fetched = progress = images = None
        if last:
            return state
        if fetches:
            result = dispatch(state, stop, shows(stop))
        previous, done = done, stop


def _worth_resuming(state: State) -> bool:
    """Whether a picture of the batch is still finite."""
    return bool(np.isfinite(state.average).all(axis=(1, 2, 3)).any())


def _read(start: int, stop: int, terms: dict[str, Array], values: Array) -> Progress:
    """The progress after a chunk from step `start` to `stop`, yet without pictures; waits."""
    numbers, before = jax.device_get((terms, values))
    objectives = np.concatenate([before[:, : stop - start], numbers["total"][:, None]], axis=1)
    bad = ~np.isfinite(objectives)
    lost = np.where(bad.any(1), start + bad.argmax(1), -1)
    return Progress(stop, None, in_order(numbers), lost)
