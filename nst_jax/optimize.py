"""Stepping the pixels down the objective: optax transformations, one step, and the loop.

The loop runs in chunks, each one dispatch of many steps; the device never waits for the host inside
a chunk, and the host reads a chunk's numbers while the device computes the next.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import Array

from nst_jax.objective import Args, Image, breakdown, in_order, objective


class Settings(NamedTuple):
    """What of the optimiser is part of the compiled program: a change compiles anew.

    Attributes:
      name: a key of `OPTIMIZERS`.
      memory: pairs of steps and gradients that L-BFGS remembers; Adam has none.
      precision: of matrix products and convolutions, as `jax.default_matmul_precision` names it.
    """

    name: str
    memory: int
    precision: str


class Progress(NamedTuple):
    """Where the optimisation stands: the picture after `step` steps and its objective's terms."""

    step: int
    image: Image
    terms: dict[str, float]


class NonFiniteLossError(Exception):
    """The objective became NaN or infinite; the last `Progress` still holds a good picture."""

    def __init__(self, step: int, value: float):
        super().__init__(
            f"the loss is {value} at step {step}; "
            "try a smaller optimizer.learning_rate, or smaller alpha and beta"
        )
        self.step = step


class Optimizer(NamedTuple):
    """An optimiser of images behind the one step.

    Attributes:
      transformation: (settings, learning_rate) -> optax transformation.
      evaluate: (image, state, args) -> objective and its gradient at the image.
      project: where to put the image after a step.
    """

    transformation: Callable[[Settings, Any], optax.GradientTransformationExtraArgs]
    evaluate: Callable[[Image, Any, Args], tuple[Array, Image]]
    project: Callable[[Image], Image]


def _adam(settings: Settings, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    """Adam, Kingma & Ba 2015 (https://arxiv.org/abs/1412.6980).

    beta_2 = 0.99 instead of 0.999: the gradient of an image changes its scale within 100 steps.
    """
    del settings
    return optax.with_extra_args_support(optax.adam(learning_rate, b1=0.9, b2=0.99))


def _lbfgs(settings: Settings, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    """L-BFGS with optax's zoom line search, which chooses the step length by itself.

    Nocedal & Wright, "Numerical Optimization", 2006, algorithms 7.5, 3.5 and 3.6.
    """
    del learning_rate
    return optax.lbfgs(memory_size=settings.memory)


def _value_and_grad(image: Image, state: Any, args: Args) -> tuple[Array, Image]:
    del state
    return jax.value_and_grad(objective)(image, args)


def _value_and_grad_from_search(image: Image, state: Any, args: Args) -> tuple[Array, Image]:
    """The line search has evaluated the accepted image already; its state holds value and gradient.

    True only as long as nothing moves the image between steps: see `project` of "lbfgs".
    """
    return cast(Any, optax.value_and_grad_from_state(objective)(image, args=args, state=state))


OPTIMIZERS = {
    "adam": Optimizer(_adam, _value_and_grad, lambda image: jnp.clip(image, 0, 1)),
    "lbfgs": Optimizer(_lbfgs, _value_and_grad_from_search, lambda image: image),
}


@functools.partial(jax.jit, static_argnames="settings")
def initial_state(settings: Settings, image: Image) -> Any:
    """The optimiser's state before the first step. It does not depend on the learning rate.

    Compiled so that every array of it has a buffer of its own, as donating them demands.
    """
    return OPTIMIZERS[settings.name].transformation(settings, 1.0).init(image)


def step(
    settings: Settings, image: Image, state: Any, args: Args, learning_rate: Any
) -> tuple[Image, Any, Array]:
    """One step of any optimiser: the new image and state, and the objective before the step."""
    optimizer = OPTIMIZERS[settings.name]
    transformation = optimizer.transformation(settings, learning_rate)
    value, grad = optimizer.evaluate(image, state, args)
    updates, state = transformation.update(
        grad, state, image, value=value, grad=grad, value_fn=objective, args=args
    )
    image = optimizer.project(cast(Array, optax.apply_updates(image, updates)))
    return image, state, value


@functools.partial(jax.jit, static_argnames=("settings", "capacity"), donate_argnames="state")
def chunk(
    settings: Settings,
    capacity: int,
    count: Array | int,
    image: Image,
    state: Any,
    args: Args,
    learning_rate: Any,
) -> tuple[Image, Any, dict[str, Array], Array]:
    """`count` steps in one dispatch; any count up to `capacity` runs the same program.

    Returns:
      The image and state after them, the terms of that image, and the objective before each step
      ([capacity], 0 where there was no step).
    """

    def body(index, carry):
        image, state, values = carry
        image, state, value = step(settings, image, state, args, learning_rate)
        return image, state, values.at[index].set(value)

    start = (image, state, jnp.zeros(capacity))
    with jax.default_matmul_precision(settings.precision):
        image, state, values = jax.lax.fori_loop(0, count, body, start)
        return image, state, breakdown(image, args), values


def optimize(
    settings: Settings, image: Image, args: Args, learning_rate: float, steps: int, every: int
) -> Iterator[Progress]:
    """Minimises the objective over the image; yields at step 0, every `every` steps and the last.

    Args:
      settings: which optimiser.
      image: where to start, [h, w, 3].
      args: the rest of the objective.
      learning_rate: of Adam, in pixel units a step; L-BFGS searches its own.
      steps, every: >= 1.

    Raises:
      NonFiniteLossError: with everything yielded before still good.
    """
    run = functools.partial(chunk, settings, every, args=args, learning_rate=learning_rate)
    result = run(count=0, image=image, state=initial_state(settings, image))
    previous, done = 0, 0
    for stop in [*range(every, steps, every), steps, None]:
        image, state, terms, values = result
        if stop is not None:  # dispatched before the numbers of the chunk before are read
            result = run(count=stop - done, image=image, state=state)
        yield Progress(done, image, _checked(previous, done, terms, values))
        previous, done = done, stop or done


def _checked(previous: int, done: int, terms: dict[str, Array], values: Array) -> dict[str, float]:
    """Reads the numbers of the chunk between two steps; the wait for the device is here."""
    read_terms, read_values = jax.device_get((terms, values))
    numbers = in_order({name: float(value) for name, value in read_terms.items()})
    history = [*map(float, read_values[: done - previous]), numbers["total"]]
    for offset, value in enumerate(history):
        if not math.isfinite(value):
            raise NonFiniteLossError(previous + offset, value)
    return numbers
