"""The optimisers, in optax's form: from the gradient of the objective to a step of the pixels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from nst_jax.optimize.lbfgs import lbfgs
from nst_jax.optimize.options import OptimizerStatic, Rates
from nst_jax.optimize.plateau import halving

Transformation = optax.GradientTransformationExtraArgs


class Optimizer(NamedTuple):
    """An optimiser.

    Attributes:
      build: (static options, rates, current learning rate) -> optax transformation of the image.
      proposes: whether each step proposes a point, which the next step accepts or not. The state
        then has `image` and `value` of the accepted point, starts afresh at another size, and every
        step draws the same random numbers.
    """

    build: Callable[[OptimizerStatic, Rates, Any], Transformation]
    proposes: bool = False


def _adam(static: OptimizerStatic, rates: Rates, learning_rate: Any) -> Transformation:
    """Adam, Kingma & Ba 2015 (https://arxiv.org/abs/1412.6980)."""
    adam = optax.adam(learning_rate, b1=rates.b1, b2=rates.b2, eps=rates.eps)
    return _with_plateau(static, rates, adam)


def _sgd(static: OptimizerStatic, rates: Rates, learning_rate: Any) -> Transformation:
    """Plain gradient descent, as in the Keras example."""
    return _with_plateau(static, rates, optax.sgd(learning_rate))


def _with_plateau(
    static: OptimizerStatic, rates: Rates, steps: optax.GradientTransformation
) -> Transformation:
    """The same steps; with `backs_off` they are halved on a plateau of the objective."""
    if not static.backs_off:
        return optax.with_extra_args_support(steps)
    return optax.chain(steps, halving(rates.patience))


def _lbfgs(static: OptimizerStatic, rates: Rates, learning_rate: Any) -> Transformation:
    """L-BFGS with one evaluation a step (`nst_jax.optimize.lbfgs`); it has no learning rate."""
    del rates, learning_rate
    return lbfgs(static.memory)


OPTIMIZERS = {
    "adam": Optimizer(_adam),
    "sgd": Optimizer(_sgd),
    "lbfgs": Optimizer(_lbfgs, proposes=True),
}


def for_another_size(static: OptimizerStatic, optimizer_state: Any) -> Any:
    """The state for another objective: the lowest value so far no longer counts."""
    if not static.backs_off:
        return optimizer_state
    return optax.tree.set(optimizer_state, lowest=jnp.float32(jnp.inf))
