"""Backing off: a learning rate that is halved where the objective does not fall, for optax.

optax.contrib.reduce_on_plateau does the same but for one thing: here the lowest objective so far is
forgotten when the rate is halved. What was reached by chance on a way that led nowhere would
otherwise not be met again for long, and the rate be halved until nothing moves.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

FALLEN = 0.99  # of the lowest: a rate too large goes to and fro, and falls by less and less


class State(NamedTuple):
    """The lowest objective since the last halving, the steps since then, and what is left.

    Attributes:
      lowest: infinite: there is none yet.
      waited: steps since the lowest.
      share: of the learning rate.
    """

    lowest: Float[jax.Array, ""]
    waited: Int[jax.Array, ""]
    share: Float[jax.Array, ""]


def halving(patience: Any) -> optax.GradientTransformationExtraArgs:
    """Halves updates each time that `value` has not fallen by a hundredth for `patience` steps."""

    def init(_: Any) -> State:
        return State(jnp.float32(jnp.inf), jnp.int32(0), jnp.float32(1))

    def update(
        updates: Any, state: State, image: Any = None, *, value: Any, **_: Any
    ) -> tuple[Any, State]:
        del image
        fell = value < FALLEN * state.lowest
        waited = jnp.where(fell, 0, state.waited + 1)
        over = waited >= patience
        new = State(
            jnp.where(over, jnp.inf, jnp.where(fell, value, state.lowest)),
            jnp.where(over, 0, waited),
            jnp.where(over, state.share / 2, state.share),
        )
        return jax.tree.map(lambda step: new.share * step, updates), new

    return optax.GradientTransformationExtraArgs(cast(Any, init), cast(Any, update))
