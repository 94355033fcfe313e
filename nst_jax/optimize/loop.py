"""Stepping the pixels down the objective: one step, a chunk of them, and the loop.

One image [h, w, 3], or a batch [n, h, w, 3] whose members share the network and have everything
else of their own. The loop runs in chunks, each one dispatch of many steps, as many as take some
seconds; the device never waits for the host inside a chunk, and the host reads a chunk's numbers
while the device computes the next.
"""

import functools
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import PartitionSpec as P
from jaxtyping import Float

from nst_jax.losses.objective import Args, Image, breakdown, in_order, objective
from nst_jax.optimize.optimizers import OPTIMIZERS, Rates, Settings
from nst_jax.optimize.parameterization import PARAMETERIZATIONS

Images = Float[Array, "*paintings h w 3"]
Keep = Callable[[bool], bool]  # whether these are the last steps -> whether to keep the state

LONGEST = 2.0  # seconds that a chunk should take at most: what a signal or a checkpoint waits for
FORWARDS = 3  # that a step takes as long as, about


def never(last: bool) -> bool:
    """Keeps no state."""
    del last
    return False


class State(NamedTuple):
    """All that one step leaves to the next.

    Attributes:
      image: the iterate; of an optimiser that tries points the one to try next.
      average: moving average of the iterates that it took: the picture that people see.
      optimizer: of optax.
      step: steps taken at this size.
    """

    image: Image
    average: Image
    optimizer: Any
    step: Array


class Progress(NamedTuple):
    """Where the optimisation stands.

    Attributes:
      step: steps taken.
      image: the picture after them, or a batch of pictures.
      terms: its objective's; of a batch an array of n each; none where it is there for its state.
      lost: step at which the objective was not finite for the first time, -1 for a good picture; of
        a batch an array of n. The last `Progress` before it holds a good picture.
      scale: of a pyramid, from 0.
      state: everything to go on from, on the host, where it was asked for; else None.
    """

    step: int
    image: Array
    terms: dict[str, Any]
    lost: Any = -1
    scale: int = 0
    state: State | None = None


class NonFiniteLossError(Exception):
    """The objective became NaN or infinite; the last `Progress` still holds a good picture."""

    def __init__(self, lost: Any):
        self.lost = np.asarray(lost)  # the step, or those of a batch
        self.step = int(self.lost.min())
        advice = (
            "try a smaller config.optimizer.learning_rate"
            if self.step
            else "divide config.alpha, config.beta and config.tv_weight by the same number"
        )
        super().__init__(f"the loss is not finite at step {self.step}; {advice}")


def stack(members: Sequence[Any]) -> Any:
    """Pytrees of single images as one of a batch."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


@functools.partial(jax.jit, static_argnames="settings")
def initial_state(settings: Settings, image: Images) -> State:
    """The state before the first step, of one image or of each of a batch. Rates do not matter.

    Compiled so that every array of it has a buffer of its own, as donating them demands.
    """
    if image.ndim == 4:
        return jax.vmap(functools.partial(initial_state, settings))(image)
    coordinates = PARAMETERIZATIONS[settings.parameterization](image.shape[:2])
    optimizer = OPTIMIZERS[settings.name].build(settings, Rates(1.0), 1.0)
    optimizer = optimizer.init(coordinates.encode(image))
    return State(image, jnp.copy(image), optimizer, jnp.int32(0))


def rate_at(settings: Settings, rates: Rates, state: State) -> Array | float:
    """The learning rate of the next step."""
    share = optax.tree.get(state.optimizer, "share") if settings.backs_off else 1.0
    return rates.learning_rate * rates.decay**state.step * share


def args_at(settings: Settings, args: Args, step: Array) -> Args:
    """The objective's arguments at a step: its own random numbers."""
    if OPTIMIZERS[settings.name].tries:
        return args
    return args._replace(key=jax.random.fold_in(args.key, step))


def step(settings: Settings, state: State, args: Args, rates: Rates) -> tuple[State, Array]:
    """One step of any optimiser: the new state, and the objective before the step.

    Of an optimiser that tries points the objective is that of the point where it then stands.

    The loss is that of the picture clipped to [0, 1], as it can be saved; left free, L-BFGS lowers
    it outside the range and loses that when saving. Where a parameterization lets pixels leave the
    range, only the gradient that leads them back counts.

    The average is Adam's: bias-corrected, the mean of the iterates x_0 .. x_t with weights
    average^(t - i).
    """
    args = args_at(settings, args, state.step)
    decode, encode, project = PARAMETERIZATIONS[settings.parameterization](state.image.shape[:2])
    inside = jnp.clip(state.image, 0, 1)
    value, grad = jax.value_and_grad(objective)(inside, args)
    grad = jnp.where((state.image - inside) * grad < 0, 0, grad)
    method = OPTIMIZERS[settings.name]
    updates, optimizer = method.build(
        settings, rates, rates.learning_rate * rates.decay**state.step
    ).update(decode(grad), state.optimizer, encode(state.image), value=value)
    taken = image = project(state.image + decode(cast(Array, updates)))
    if method.tries:
        accepted = cast(Any, optimizer)
        taken, value = decode(accepted.image), accepted.value
    taken = jnp.clip(taken, 0, 1)
    count = state.step + 1
    newest = (1 - rates.average) / (1 - rates.average ** (count + 1))
    average = (1 - newest) * state.average + newest * taken
    return State(image, average, optimizer, count), value


@functools.partial(jax.jit, static_argnames=("settings", "most", "mesh"), donate_argnames="state")
def chunk(
    settings: Settings,
    most: int,
    count: Array | int,
    state: State,
    args: Args,
    rates: Rates,
    mesh: jax.sharding.Mesh | None = None,
    shown: Array | bool = True,
) -> tuple[State, Images, dict[str, Array], Float[Array, "most ..."]]:
    """Some steps in one dispatch, of one image or of a batch, which a mesh spreads over devices.

    Args:
      settings: which optimiser.
      most: steps that the program has room for.
      count: steps to take, 0 to `most`; traced, so that a last, shorter chunk compiles nothing.
      state: donated.
      args, rates: the rest.
      mesh: of a batch.
      shown: whether the terms are wanted, which take a forward pass; else they are 0.

    Returns:
      The state after them, its picture and the terms of that, and the objective before each step,
      0 where there was none.
    """

    def stepped(state: State, args: Args, rates: Rates) -> tuple[State, Array]:
        return step(settings, state, args, rates)

    def broken_down(state: State, args: Args, rates: Rates) -> dict[str, Any]:
        terms = breakdown(state.average, args_at(settings, args, state.step))
        rate = {"learning_rate": rate_at(settings, rates, state)} if settings.backs_off else {}
        return terms | rate

    def batched(function: Callable[[State, Args, Rates], Any]) -> Any:
        def over_all(state: State, args: Args, rates: Rates) -> Any:
            def of_one(one: tuple[State, Args, Rates]) -> Any:
                return function(one[0], one[1]._replace(network=args.network), one[2])

            own = args._replace(network=None)  # pyright: ignore[reportArgumentType]
            return jax.vmap(of_one)((state, own, rates))

        return over_all

    if state.image.ndim == 4:
        stepped, broken_down = batched(stepped), batched(broken_down)

    def nothing(*given: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, jax.eval_shape(broken_down, *given))

    def steps(count: Array, shown: Array, state: State, args: Args, rates: Rates) -> Any:
        def one(k: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
            state, value = stepped(carry[0], args, rates)
            return state, carry[1].at[k].set(value)

        values = jnp.zeros((most, *state.image.shape[:-3]))
        state, values = jax.lax.fori_loop(0, count, one, (state, values))
        terms = jax.lax.cond(shown, broken_down, nothing, state, args, rates)
        return state, state.average, terms, values

    if mesh is not None:
        cells = P("cells")
        own = Args(P(), cells, cells, cells, cells, cells)  # pyright: ignore[reportArgumentType]
        steps = jax.shard_map(
            steps,
            mesh=mesh,
            in_specs=(P(), P(), cells, own, cells),
            out_specs=(cells, cells, cells, P(None, "cells")),
            check_vma=False,
        )
    with jax.default_matmul_precision(settings.precision):
        return steps(jnp.asarray(count), jnp.asarray(shown), state, args, rates)


def optimize(
    settings: Settings,
    state: State,
    args: Args,
    rates: Rates,
    steps: int,
    every: int,
    mesh: jax.sharding.Mesh | None = None,
    keep: Keep = never,
) -> Generator[Progress, None, State]:
    """Minimises the objective over the image; yields the start, every `every` steps and the last.

    In between it yields a `Progress` without terms where `keep` asks for one. So does a start
    between two multiples of `every`.

    Args:
      settings: which optimiser.
      state: where to start, with the steps it has behind it; donated.
      args: the rest of the objective.
      rates: the optimiser's numbers.
      steps, every: >= 1; `steps` counts those behind.
      mesh: devices that a batch is spread over.
      keep: asked after each chunk, of no steps, of some or the last: whether its `Progress` shall
        have the state. The device then waits for the host to fetch it.

    Returns:
      The last state.

    Raises:
      NonFiniteLossError: the picture is lost, or every one of a batch is; everything yielded before
        is still good.
    """
    forget_programs()
    args, rates = jax.device_put((args, rates))  # once, not a chunk
    most = min(every, steps)
    previous = start = done = int(np.max(jax.device_get(state.step)))
    lost: Any = -1

    def dispatch(state: State, stop: int, shown: bool) -> Any:
        count, shown = jax.device_put((np.int32(stop - done), np.bool(shown)))
        return chunk(settings, most, count, state, args, rates, mesh, shown)

    result = dispatch(state, start, True)
    since = time.monotonic()
    jax.block_until_ready(result)  # a forward pass, which says how long a step will take
    seconds = FORWARDS * (time.monotonic() - since)
    while True:
        state, image, terms, values = result
        last, shown = done == steps, done == steps or done % every == 0
        kept = jax.device_get(state) if keep(last) else None
        if kept and kept.average.ndim == 3 and not np.isfinite(kept.average).all():
            kept = None  # nothing to go on from; the next step's objective says so
        stop = min(
            done + max(1, int(LONGEST / max(seconds, 1e-6))), done - done % every + every, steps
        )
        if not last:  # dispatched before the numbers of the chunk before are read
            result = dispatch(state, stop, stop == steps or stop % every == 0)
        progress = _read(previous, done, image, terms, values)
        lost = np.where(np.less(lost, 0), progress.lost, lost)  # chunks between are not yielded
        if np.min(lost) >= 0:
            raise NonFiniteLossError(lost)
        if done > previous:
            seconds = min(seconds, (time.monotonic() - since) / (done - previous))
        since = time.monotonic()
        if shown or kept or done == start:
            yield progress._replace(terms=progress.terms if shown else {}, lost=lost, state=kept)
        if last:
            return state
        previous, done = done, stop


def forget_programs(share: float = 0.5):
    """Lets go of compiled programs if they fill more than a share of what Linux lets a process map.

    XLA:CPU maps every kernel by itself, over a thousand pieces of memory a program; at the system's
    65530 the process would die, after some twenty paintings of different sizes.
    """
    try:
        mapped = Path("/proc/self/maps").read_bytes().count(b"\n")
        most = int(Path("/proc/sys/vm/max_map_count").read_text())
    except OSError:  # another system, without such a limit
        return
    if mapped > share * most:
        jax.clear_caches()


def _read(start: int, stop: int, image: Array, terms: dict[str, Array], values: Array) -> Progress:
    """What a chunk from `start` to `stop` came to; waits for the device."""
    numbers, before = jax.device_get((terms, values))
    objectives = np.concatenate([before[: stop - start], numbers["total"][None]])
    bad = ~np.isfinite(objectives)
    lost = np.where(bad.any(0), start + bad.argmax(0), -1)
    return Progress(stop, image, in_order(numbers), lost)
