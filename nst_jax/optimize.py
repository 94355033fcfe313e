"""Stepping the pixels down the objective: optax transformations, one step, and the loop.

The loop runs in chunks, each one dispatch of many steps; the device never waits for the host inside
a chunk, and the host reads a chunk's numbers while the device computes the next.
"""

import functools
import math
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float

from nst_jax.objective import Args, Image, Targets, breakdown, in_order, objective

Images = Float[Array, "*paintings h w 3"]


class Settings(NamedTuple):
    """What of the optimiser is part of the compiled program: a change compiles anew.

    Attributes:
      name: a key of `OPTIMIZERS`.
      memory: pairs of steps and gradients that L-BFGS remembers.
      line_search: whether L-BFGS searches its step length.
      precision: of matrix products and convolutions, as `jax.default_matmul_precision` names it.
    """

    name: str
    memory: int = 10
    line_search: bool = True
    precision: str = "highest"


class Rates(NamedTuple):
    """Numbers of the optimiser; traced, so that a change compiles nothing.

    Attributes:
      learning_rate: pixel units a step (Adam), or a factor (SGD, L-BFGS without line search).
      decay: what the learning rate is multiplied with at every step, 0 to 1.
      b1, b2, eps: of Adam.
      average: decay of the moving average of the iterates, 0 (none) to below 1.
    """

    learning_rate: float
    decay: float = 1.0
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    average: float = 0.0


class State(NamedTuple):
    """All that one step leaves to the next.

    Attributes:
      image: the iterate.
      average: moving average of the iterates: the picture that people see.
      optimizer: of optax.
      step: steps taken at this size.
    """

    image: Image
    average: Image
    optimizer: Any
    step: Array


class Progress(NamedTuple):
    """Where the optimisation stands: the picture after `step` steps and its objective's terms."""

    step: int
    image: Array
    terms: dict[str, float]


class NonFiniteLossError(Exception):
    """The objective became NaN or infinite; the last `Progress` still holds a good picture."""

    def __init__(self, step: int, value: float):
        super().__init__(
            f"the loss is {value} at step {step}; "
            "try a smaller optimizer.learning_rate, or smaller alpha and beta"
        )
        self.step = step


Transformation = optax.GradientTransformationExtraArgs


class Optimizer(NamedTuple):
    """An optimiser.

    Attributes:
      build: (settings, rates, learning rate now) -> optax transformation of the image.
      compares: whether it compares gradients of different steps. Then it starts afresh at another
        size, and every step draws the same random numbers.
    """

    build: Callable[[Settings, Rates, Any], Transformation]
    compares: bool = False


def _adam(settings: Settings, rates: Rates, learning_rate: Any) -> Transformation:
    """Adam, Kingma & Ba 2015 (https://arxiv.org/abs/1412.6980)."""
    del settings
    adam = optax.adam(learning_rate, b1=rates.b1, b2=rates.b2, eps=rates.eps)
    return optax.with_extra_args_support(adam)


def _sgd(settings: Settings, rates: Rates, learning_rate: Any) -> Transformation:
    """Plain gradient descent, as in the Keras example."""
    del settings, rates
    return optax.with_extra_args_support(optax.sgd(learning_rate))


def _lbfgs(settings: Settings, rates: Rates, learning_rate: Any) -> Transformation:
    """L-BFGS; optax's zoom line search chooses the step length by itself, unless it is off.

    Nocedal & Wright, "Numerical Optimization", 2006, algorithms 7.5, 3.5 and 3.6. Without line
    search it is PyTorch's default: one evaluation a step, times the learning rate.
    """
    del rates
    if settings.line_search:
        return optax.lbfgs(memory_size=settings.memory)
    return optax.lbfgs(learning_rate, memory_size=settings.memory, linesearch=None)


OPTIMIZERS = {
    "adam": Optimizer(_adam),
    "sgd": Optimizer(_sgd),
    "lbfgs": Optimizer(_lbfgs, compares=True),
}


@functools.partial(jax.jit, static_argnames="settings")
def initial_state(settings: Settings, image: Image) -> State:
    """The state before the first step. It does not depend on the rates.

    Compiled so that every array of it has a buffer of its own, as donating them demands.
    """
    optimizer = OPTIMIZERS[settings.name].build(settings, Rates(1.0), 1.0).init(image)
    return State(image, jnp.copy(image), optimizer, jnp.int32(0))


def args_at(settings: Settings, args: Args, step: Array) -> Args:
    """The objective's arguments at a step: its own random numbers."""
    if OPTIMIZERS[settings.name].compares:
        return args
    return args._replace(key=jax.random.fold_in(args.key, step))


def step(settings: Settings, state: State, args: Args, rates: Rates) -> tuple[State, Array]:
    """One step of any optimiser: the new state, and the objective before the step.

    The image is clipped to [0, 1] after every step, so that the loss is that of a picture which can
    be saved; left free, L-BFGS lowers the loss outside the range and loses it when saving. The
    value and gradient that L-BFGS's line search remembers are of the image before clipping, so
    they are computed afresh.

    The average is Adam's: bias-corrected, the mean of the iterates x_0 .. x_t with weights
    average^(t - i).
    """
    args = args_at(settings, args, state.step)
    value, grad = jax.value_and_grad(objective)(state.image, args)
    learning_rate = rates.learning_rate * rates.decay**state.step
    updates, optimizer = (
        OPTIMIZERS[settings.name]
        .build(settings, rates, learning_rate)
        .update(
            grad,
            state.optimizer,
            state.image,
            value=value,
            grad=grad,
            value_fn=objective,
            args=args,
        )
    )
    image = jnp.clip(cast(Array, optax.apply_updates(state.image, updates)), 0, 1)
    count = state.step + 1
    newest = (1 - rates.average) / (1 - rates.average ** (count + 1))
    average = (1 - newest) * state.average + newest * image
    return State(image, average, optimizer, count), value


@functools.partial(jax.jit, static_argnames=("settings", "count"), donate_argnames="state")
def chunk(
    settings: Settings, count: int, state: State, args: Args, rates: Rates
) -> tuple[State, Images, dict[str, Array], Float[Array, "count ..."]]:
    """`count` steps in one dispatch; of images [n, h, w, 3], each with targets of its own, at once.

    Returns:
      The state after them, its picture and the terms of that, and the objective before each step.
    """

    def stepped(state: State, targets: Targets) -> tuple[State, Array]:
        return step(settings, state, args._replace(targets=targets), rates)

    def broken_down(state: State, targets: Targets) -> dict[str, Array]:
        now = args_at(settings, args._replace(targets=targets), state.step)
        return breakdown(state.average, now)

    if state.image.ndim == 4:
        stepped, broken_down = jax.vmap(stepped), jax.vmap(broken_down)
    with jax.default_matmul_precision(settings.precision):
        state, values = jax.lax.scan(
            lambda state, _: stepped(state, args.targets), state, length=count
        )
        return state, state.average, broken_down(state, args.targets), values


def optimize(
    settings: Settings, state: State, args: Args, rates: Rates, steps: int, every: int
) -> Generator[Progress, None, State]:
    """Minimises the objective over the image; yields at step 0, every `every` steps and the last.

    Args:
      settings: which optimiser.
      state: where to start; donated.
      args: the rest of the objective.
      rates: the optimiser's numbers.
      steps, every: >= 1.

    Returns:
      The last state.

    Raises:
      NonFiniteLossError: with everything yielded before still good.
    """
    args, rates = jax.device_put((args, rates))  # once, not a chunk
    result = chunk(settings, 0, state, args, rates)
    previous, done = 0, 0
    for stop in [*range(every, steps, every), steps, None]:
        state, image, terms, values = result
        if stop is not None:  # dispatched before the numbers of the chunk before are read
            result = chunk(settings, stop - done, state, args, rates)
        yield Progress(done, image, _checked(previous, terms, values))
        previous, done = done, stop or done
    return state


def _checked(start: int, terms: dict[str, Array], values: Array) -> dict[str, float]:
    """Reads the numbers of a chunk that began after `start` steps; waits for the device.

    Of a batch, the terms are the means over its images.
    """
    read_terms, read_values = jax.device_get((terms, values))
    numbers = in_order({name: float(value.mean()) for name, value in read_terms.items()})
    sums = [float(value.sum()) for value in read_values]
    for offset, value in enumerate([*sums, numbers["total"]]):
        if not math.isfinite(value):
            raise NonFiniteLossError(start + offset, value)
    return numbers
