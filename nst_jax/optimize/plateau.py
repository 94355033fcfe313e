"""Halves the learning rate on plateaus of the objective, as an optax transformation.

Unlike optax.contrib.reduce_on_plateau, it forgets the lowest objective so far whenever it halves
the rate. A low value reached by chance before the rate was reduced could otherwise stay out of
reach for long, and the rate would be halved again and again until nothing moves.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

# The objective must fall below this share of its lowest value to count as improved. With a learning
# rate that is too large the iterates oscillate, and the objective falls by less and less.
IMPROVEMENT_RATIO = 0.99


class PlateauState(NamedTuple):
    """The state of `halving`.

    Attributes:
      lowest: the lowest objective since the last halving; infinite before the first step.
      waited: steps since that objective.
      share: the factor on the learning rate, a power of 1/2.
    """

    lowest: Float[jax.Array, ""]
    waited: Int[jax.Array, ""]
    share: Float[jax.Array, ""]


def halving(patience: Any) -> optax.GradientTransformationExtraArgs:
    """Transformation that halves updates whenever the objective has reached a plateau.

    A plateau is `patience` steps without the objective falling by 1 % below its lowest value since
    the last halving. Chain it after the optimiser and pass the objective as `value` to `update`.

    Args:
      patience: steps, 1 or more; may be traced.

    Returns:
      An optax transformation; its `update` requires the keyword `value`.
    """

    def init(_: Any) -> PlateauState:
        return PlateauState(jnp.float32(jnp.inf), jnp.int32(0), jnp.float32(1))

    def update(
        updates: Any, state: PlateauState, image: Any = None, *, value: Any, **_: Any
    ) -> tuple[Any, PlateauState]:
        del image
        improved = value < IMPROVEMENT_RATIO * state.lowest
        lowest = jnp.where(improved, value, state.lowest)
        waited = jnp.where(improved, 0, state.waited + 1)
        plateau = waited >= patience
        new = PlateauState(
            jnp.where(plateau, jnp.inf, lowest),
            jnp.where(plateau, 0, waited),
            jnp.where(plateau, state.share / 2, state.share),
        )
        return jax.tree.map(lambda step: new.share * step, updates), new

    return optax.GradientTransformationExtraArgs(cast(Any, init), cast(Any, update))
