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
from jaxtyping import Float

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


# name -> (settings, learning_rate) -> optax transformation of the image.
OPTIMIZERS: dict[str, Callable[[Settings, Any], optax.GradientTransformationExtraArgs]] = {
    "adam": _adam,
    "lbfgs": _lbfgs,
}


@functools.partial(jax.jit, static_argnames="settings")
def initial_state(settings: Settings, image: Image) -> Any:
    """The optimiser's state before the first step. It does not depend on the learning rate.

    Compiled so that every array of it has a buffer of its own, as donating them demands.
    """
    return OPTIMIZERS[settings.name](settings, 1.0).init(image)


def step(
    settings: Settings, image: Image, state: Any, args: Args, learning_rate: Any
) -> tuple[Image, Any, Array]:
    """One step of any optimiser: the new image and state, and the objective before the step.

    The image is clipped to [0, 1] after every step, so that the loss is that of a picture which can
    be saved; left free, L-BFGS lowers the loss outside the range and loses it when saving. The
    value and gradient that L-BFGS's line search remembers are of the image before clipping, so
    they are computed afresh.
    """
    value, grad = jax.value_and_grad(objective)(image, args)
    updates, state = OPTIMIZERS[settings.name](settings, learning_rate).update(
        grad, state, image, value=value, grad=grad, value_fn=objective, args=args
    )
    image = cast(Array, optax.apply_updates(image, updates))
    return jnp.clip(image, 0, 1), state, value


@functools.partial(jax.jit, static_argnames=("settings", "count"), donate_argnames="state")
def chunk(
    settings: Settings, count: int, image: Image, state: Any, args: Args, learning_rate: Any
) -> tuple[Image, Any, dict[str, Array], Float[Array, " count"]]:
    """`count` steps in one dispatch.

    Returns:
      The image and state after them, the terms of that image, and the objective before each step.
    """

    def body(carry, _):
        image, state = carry
        image, state, value = step(settings, image, state, args, learning_rate)
        return (image, state), value

    with jax.default_matmul_precision(settings.precision):
        (image, state), values = jax.lax.scan(body, (image, state), length=count)
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
    image, args, learning_rate = jax.device_put((image, args, learning_rate))  # once, not a chunk
    result = chunk(settings, 0, image, initial_state(settings, image), args, learning_rate)
    previous, done = 0, 0
    for stop in [*range(every, steps, every), steps, None]:
        image, state, terms, values = result
        if stop is not None:  # dispatched before the numbers of the chunk before are read
            result = chunk(settings, stop - done, image, state, args, learning_rate)
        yield Progress(done, image, _checked(previous, terms, values))
        previous, done = done, stop or done


def _checked(start: int, terms: dict[str, Array], values: Array) -> dict[str, float]:
    """Reads the numbers of a chunk that began after `start` steps; waits for the device."""
    read_terms, read_values = jax.device_get((terms, values))
    numbers = in_order({name: float(value) for name, value in read_terms.items()})
    for offset, value in enumerate([*map(float, read_values), numbers["total"]]):
        if not math.isfinite(value):
            raise NonFiniteLossError(start + offset, value)
    return numbers
