"""One step of the pixels, and one dispatch of many steps, for a batch of pictures.

Pictures always come as a batch [n, h, w, 3], a single one as a batch of one. The members share the
network and have everything else of their own. A picture of a batch is bit-exactly what it is alone,
except with the losses "cross_gram", "mmd_gaussian", "remd" and "w2": there XLA rounds matrix
products differently in a batch.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from nst_jax.losses.arguments import Image, Problem, Split
from nst_jax.losses.objective import breakdown, objective
from nst_jax.network.state import NetworkState
from nst_jax.optimize.optimizers import OPTIMIZERS, for_another_size
from nst_jax.optimize.options import OptimizerStatic, Rates
from nst_jax.optimize.parameterization import PARAMETERIZATIONS
from nst_jax.optimize.placement import ONE_DEVICE, Placement, shardings

Images = Float[Array, "n h w 3"]


class State(NamedTuple):
    """What one step leaves to the next; in a batch every array has a leading axis.

    Attributes:
      image: [h, w, 3] the iterate; for an optimiser that proposes points, the next one to evaluate.
      average: [h, w, 3] moving average of the accepted iterates: the picture that is shown.
      optimizer: the state of the optax transformation.
      step: steps taken at this size.
    """

    image: Array
    average: Array
    optimizer: Any
    step: Int[Array, "*n"]


def stack(members: Any) -> Any:
    """Stacks pytrees of single pictures into one of a batch."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


@functools.partial(jax.jit, static_argnames=("static", "split"))
def initial_state(static: OptimizerStatic, images: Images, split: Split | None = None) -> State:
    """The state before the first step, for a batch. It does not depend on the rates.

    Jitted so that every array has a buffer of its own, which donation requires.

    Args:
      static: which optimiser.
      images: the batch; a split picture's on its canvas.
      split: how a picture lies on several devices, as its state then does.
    """

    def one(image: Image) -> State:
        coordinates = PARAMETERIZATIONS[static.parameterization](image.shape[:2])
        optimizer = OPTIMIZERS[static.name].build(static, Rates(1.0), 1.0)
        return State(
            image, jnp.copy(image), optimizer.init(coordinates.encode(image)), jnp.int32(0)
        )

    state = jax.vmap(one)(images)
    if split:
        places = shardings(split.mesh, state, images.shape)
        state = jax.lax.with_sharding_constraint(state, places)
    return state


def begin(static: OptimizerStatic, images: Images, place: Placement) -> State:
    """The state before the first step, where the batch lies; no device has all of a split one."""
    return initial_state(static, place.put_pictures(images), place.split)


def restart(static: OptimizerStatic, state: State, split: Split | None = None) -> State:
    """The state of a batch whose objective has changed: what an optimiser knew of it is forgotten.

    One that proposes points compares values and gradients of several steps, so it begins anew at
    the pictures so far; others go on.
    """
    if not OPTIMIZERS[static.name].proposes:
        return state
    return initial_state(static, state.average, split)._replace(step=state.step)


def enlarge(
    static: OptimizerStatic,
    state: State,
    shape: tuple[int, int],
    before: Placement = ONE_DEVICE,
    place: Placement = ONE_DEVICE,
) -> State:
    """The state of a batch at another size: the average pictures, and the optimiser warm.

    As in crowsonkb/style-transfer-pytorch, pictures and Adam's mean gradient are resized
    bicubically, its mean squares bilinearly, which keeps them positive; Adam goes on counting
    steps, and the average restarts. Bicubic is Keys' with a = -1/2, where PyTorch has -3/4. An
    optimiser that proposes points starts afresh.

    Args:
      static: which optimiser.
      state: of a batch.
      shape: (height, width) of the result.
      before: where the batch lies.
      place: where the result shall lie. On the way, one device has all of the pictures and of
        Adam's means.
    """
    starts_afresh = OPTIMIZERS[static.name].proposes
    state = before.whole(state._replace(optimizer=()) if starts_afresh else state)

    def resized(average: Array) -> Array:
        return jnp.clip(jax.image.resize(average, (*shape, 3), "cubic"), 0, 1)

    # One after another: in a batch, the products that resize could be rounded in another way.
    images = jnp.stack([resized(average) for average in state.average])
    if starts_afresh:
        return begin(static, images, place)

    def carried(path: Any, leaf: Array) -> Array:
        if leaf.shape != state.image.shape:
            return leaf
        method = "cubic" if path[-1] == jax.tree_util.GetAttrKey("mu") else "linear"
        return jnp.stack([jax.image.resize(one, (*shape, 3), method) for one in leaf])

    optimizer = jax.tree_util.tree_map_with_path(carried, state.optimizer)
    fresh = initial_state(static, images)
    return place.put_state(fresh._replace(optimizer=for_another_size(static, optimizer)))


def current_rate(static: OptimizerStatic, rates: Rates, state: State) -> Array | float:
    """The learning rate of the next step."""
    rate = rates.learning_rate * rates.decay**state.step
    return rate * optax.tree.get(state.optimizer, "share") if static.backs_off else rate


def problem_at(static: OptimizerStatic, problem: Problem, step: Array) -> Problem:
    """The problem at a step, with random numbers of its own."""
    if OPTIMIZERS[static.name].proposes:
        return problem
    return problem._replace(key=jax.random.fold_in(problem.key, step))


def step(
    static: OptimizerStatic, state: State, network: NetworkState, problem: Problem, rates: Rates
) -> tuple[State, Float[Array, ""]]:
    """One step of one picture.

    The objective is evaluated on the picture clipped to [0, 1], as it can be saved. Without that,
    L-BFGS would lower the loss outside the range and lose it again in the file. Where a
    parameterization lets pixels leave the range, only a gradient that leads back counts.

    The average is bias-corrected as Adam's: the mean of the iterates x_0 .. x_t with the weights
    average^(t - i).

    Args:
      static: which optimiser.
      state: of one picture.
      network: the network.
      problem: the rest of the objective.
      rates: the optimiser's numbers.

    Returns:
      The new state, and the objective before the step; for an optimiser that proposes points, the
      objective at the accepted point.
    """
    problem = problem_at(static, problem, state.step)
    decode, encode, project = PARAMETERIZATIONS[static.parameterization](state.image.shape[:2])
    inside = jnp.clip(state.image, 0, 1)
    value, gradient = jax.value_and_grad(objective)(inside, network, problem)
    gradient = jnp.where((state.image - inside) * gradient < 0, 0, gradient)
    method = OPTIMIZERS[static.name]
    transformation = method.build(static, rates, rates.learning_rate * rates.decay**state.step)
    updates, optimizer = transformation.update(
        decode(gradient), state.optimizer, encode(state.image), value=value
    )
    accepted = image = project(state.image + decode(cast(Array, updates)))
    if method.proposes:
        newest: Any = optimizer
        accepted, value = decode(newest.image), newest.value
    accepted = jnp.clip(accepted, 0, 1)
    count = state.step + 1
    share = (1 - rates.average) / (1 - rates.average ** (count + 1))
    average = (1 - share) * state.average + share * accepted
    return State(image, average, optimizer, count), value


@functools.partial(
    jax.jit, static_argnames=("static", "room", "together", "mesh"), donate_argnames="state"
)
def chunk(
    static: OptimizerStatic,
    room: int,
    count: Array | int,
    state: State,
    network: NetworkState,
    problem: Problem,
    rates: Rates,
    *,
    shown: Array | bool = True,
    together: int = 0,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[State, dict[str, Float[Array, " n"]], Float[Array, "n room"]]:
    """Several steps of a batch in one dispatch.

    Args:
      static: which optimiser.
      room: the most steps that the program can take; static.
      count: steps to take, 0 to `room`; traced, so that a shorter chunk does not recompile.
      state: of a batch; donated.
      network: shared by the batch.
      problem: of a batch.
      rates: of a batch.
      shown: whether the terms are wanted, which take a forward pass; otherwise they are 0.
      together: members that are computed at once; 0 for all. Fewer take less memory.
      mesh: devices over which its axis "cells" spreads the batch.

    Returns:
      The state after the steps, the terms of its average pictures by name, and the objective before
      each step, 0 after the last.
    """

    def steps_of_one(count: Array, member: Any) -> Any:
        state, network, problem, rates = member

        def one(k: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
            state, value = step(static, carry[0], network, problem, rates)
            return state, carry[1].at[k].set(value)

        return jax.lax.fori_loop(0, count, one, (state, jnp.zeros(room)))

    def terms_of_one(member: Any) -> dict[str, Array]:
        state, network, problem, rates = member
        terms = breakdown(state.average, network, problem_at(static, problem, state.step))
        if static.backs_off:
            terms["learning_rate"] = jnp.asarray(current_rate(static, rates, state))
        return terms

    def over_batch(function: Callable[[Any], Any], network: NetworkState, *batch: Any) -> Any:
        def of_one(own: Any) -> Any:
            state, problem, rates = own
            return function((state, network, problem, rates))

        count = len(batch[0].image)
        if count == 1:  # vmap would give products of matrices an axis, and another rounding
            one = of_one(jax.tree.map(lambda leaf: leaf[0], batch))
            return jax.tree.map(lambda leaf: leaf[None], one)
        if together == 1:
            return jax.lax.map(of_one, batch)
        if 0 < together < count:
            return jax.lax.map(of_one, batch, batch_size=together)
        return jax.vmap(of_one)(batch)

    def steps(
        count: Array,
        shown: Array,
        state: State,
        network: NetworkState,
        problem: Problem,
        rates: Rates,
    ) -> Any:
        advance = functools.partial(steps_of_one, count)
        state, values = over_batch(advance, network, state, problem, rates)

        def nothing() -> Any:
            shapes = jax.eval_shape(describe)
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def describe() -> Any:
            return over_batch(terms_of_one, network, state, problem, rates)

        return state, jax.lax.cond(shown, describe, nothing), values

    if mesh is not None:
        cells = P("cells")
        steps = jax.shard_map(
            steps,
            mesh=mesh,
            in_specs=(P(), P(), cells, P(), cells, cells),
            out_specs=cells,
            check_vma=False,
        )
    with jax.default_matmul_precision(static.precision):
        results = steps(jnp.asarray(count), jnp.asarray(shown), state, network, problem, rates)
    if split := problem.static.split:
        places = shardings(split.mesh, results, state.image.shape)
        results = jax.lax.with_sharding_constraint(results, places)
    return results
