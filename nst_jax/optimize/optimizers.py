"""The optimisers: what makes a step of the pixels of the objective's gradient, in optax's form."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from nst_jax.optimize.lbfgs import lbfgs
from nst_jax.optimize.plateau import halving

Transformation = optax.GradientTransformationExtraArgs


class Settings(NamedTuple):
    """What of the optimiser is part of the compiled program: a change compiles anew.

    Attributes:
      name: a key of `OPTIMIZERS`.
      memory: pairs of steps and gradients that L-BFGS remembers.
      parameterization: a key of `PARAMETERIZATIONS`, what the optimiser steps.
      precision: of products: a name that `jax.default_matmul_precision` knows.
      backs_off: whether the learning rate is halved where the objective does not fall.
    """

    name: str
    memory: int = 10
    parameterization: str = "pixels"
    precision: str = "float32"
    backs_off: bool = False


class Rates(NamedTuple):
    """Numbers of the optimiser; traced, so that a change compiles nothing.

    Attributes:
      learning_rate: pixel units a step (Adam), or a factor (SGD); L-BFGS has none.
      decay: what the learning rate is multiplied with at every step, 0 to 1.
      b1, b2, eps: of Adam.
      average: decay of the moving average of the iterates, 0 (none) to below 1.
      patience: steps without a lower objective until the learning rate is halved, if it is.
    """

    learning_rate: float
    decay: float = 1.0
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    average: float = 0.0
    patience: int = 0


class Optimizer(NamedTuple):
    """An optimiser.

    Attributes:
      build: (settings, rates, learning rate now) -> optax transformation of the image.
      tries: whether it compares points and takes the better: `image` and `value` of its state.
        Then it starts afresh at another size, and every step draws the same random numbers.
    """

    build: Callable[[Settings, Rates, Any], Transformation]
    tries: bool = False


def _adam(settings: Settings, rates: Rates, learning_rate: Any) -> Transformation:
    """Adam, Kingma & Ba 2015 (https://arxiv.org/abs/1412.6980)."""
    adam = optax.adam(learning_rate, b1=rates.b1, b2=rates.b2, eps=rates.eps)
    return _backing_off(settings, rates, adam)


def _sgd(settings: Settings, rates: Rates, learning_rate: Any) -> Transformation:
    """Plain gradient descent, as in the Keras example."""
    return _backing_off(settings, rates, optax.sgd(learning_rate))


def _backing_off(
    settings: Settings, rates: Rates, steps: optax.GradientTransformation
) -> Transformation:
    """The same; if asked for, its steps are halved where the objective has not fallen for long."""
    if not settings.backs_off:
        return optax.with_extra_args_support(steps)
    return optax.chain(steps, halving(rates.patience))


def _lbfgs(settings: Settings, rates: Rates, learning_rate: Any) -> Transformation:
    """L-BFGS, one evaluation a step (`nst_jax.lbfgs`); it finds its step lengths by itself."""
    del rates, learning_rate
    return lbfgs(settings.memory)


OPTIMIZERS = {
    "adam": Optimizer(_adam),
    "sgd": Optimizer(_sgd),
    "lbfgs": Optimizer(_lbfgs, tries=True),
}


def at_another_size(settings: Settings, optimizer: Any) -> Any:
    """An optimiser's state where the objective is another: the lowest so far does not count."""
    return (
        optax.tree.set(optimizer, lowest=jnp.float32(jnp.inf)) if settings.backs_off else optimizer
    )
