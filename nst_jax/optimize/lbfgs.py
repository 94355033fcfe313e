"""L-BFGS that evaluates the objective once a step, as an optax transformation.

The two loops of Nocedal & Wright, "Numerical Optimization", 2006, algorithm 7.4, with a line search
spread over the steps: one proposes a point; the next, which has its value, accepts it if that did
not rise, or else proposes a part of the way, where the parabola through what is known is lowest. So
every step costs the same, and the members of a batch take theirs at once. Where no part of the way
helps, all that was learned is forgotten and the gradient followed.

PyTorch's L-BFGS, with which the first style transfers were painted, takes the whole way unseen.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Int

FIRST = 0.02  # of the range of pixels: the most that the first step moves one
PARTS = 1 / 64, 1 / 2  # of a way that was too far: the least and the most to try next
SHORTEST = 1e-3  # of the whole way
LEAST_CURVATURE = 1e-6  # of |s| |y|: below, their product is little more than rounding

Image = Float[Array, "*shape"]


class Pairs(NamedTuple):
    """Steps s between accepted points and the gradient's change y along them, in a ring.

    Attributes:
      steps, changes: [memory, *shape].
      weights: [memory] 1 / (s . y); 0: there is none yet.
      total: how many there were; the next one's place is total % memory.
      scale: s . y / y . y of the newest, the inverse curvature elsewhere; 0: there is none yet.
    """

    steps: Array
    changes: Array
    weights: Float[Array, " memory"]
    total: Int[Array, ""]
    scale: Float[Array, ""]


class State(NamedTuple):
    """The accepted point, its objective and gradient, what was learned, and the way's share."""

    image: Image
    value: Float[Array, ""]
    gradient: Image
    pairs: Pairs
    length: Float[Array, ""]


def lbfgs(memory: int) -> optax.GradientTransformationExtraArgs:
    """L-BFGS of one array, with >= 1 pairs; `update` takes the objective's `value` there."""

    def init(image: Image) -> State:
        none = jnp.zeros((memory, *image.shape), image.dtype)
        pairs = Pairs(none, none, jnp.zeros(memory), jnp.int32(0), jnp.float32(0))
        return State(image, jnp.float32(jnp.inf), jnp.zeros_like(image), pairs, jnp.float32(1))

    def update(
        gradient: Image, state: State, image: Image | None = None, *, value: Any, **_: Any
    ) -> tuple[Image, State]:
        assert image is not None
        accepted = value <= state.value
        stuck = ~accepted & (state.length < SHORTEST) & (state.pairs.scale > 0)
        pairs = _remember(state, image, gradient, accepted)
        pairs = pairs._replace(
            weights=jnp.where(stuck, 0, pairs.weights), scale=jnp.where(stuck, 0, pairs.scale)
        )
        new = State(
            jnp.where(accepted, image, state.image),
            jnp.where(accepted, value, state.value),
            jnp.where(accepted, gradient, state.gradient),
            pairs,
            jnp.where(accepted | stuck, 1, state.length * _part(state, image, value)),
        )
        return new.image + new.length * _direction(new.gradient, pairs) - image, new

    return optax.GradientTransformationExtraArgs(cast(Any, init), cast(Any, update))


def _part(state: State, image: Image, value: Any) -> Array:
    """Of the way to an image with that value: where the parabola is lowest (ibid., 3.57)."""
    slope = jnp.vdot(state.gradient, image - state.image)
    lowest = -slope / (2 * (value - state.value - slope))
    return jnp.clip(jnp.where(jnp.isfinite(lowest), lowest, 0), *PARTS)


def _remember(state: State, image: Image, gradient: Image, accepted: Array) -> Pairs:
    """The pairs with that of a step that was accepted, if the objective is convex along it."""
    pairs, (s, y) = state.pairs, (image - state.image, gradient - state.gradient)
    curvature, squared = jnp.vdot(s, y), jnp.vdot(y, y)
    new = accepted & (curvature > LEAST_CURVATURE * jnp.sqrt(jnp.vdot(s, s) * squared))
    place = pairs.total % len(pairs.weights)

    def put(ring: Array, entry: Array) -> Array:
        return ring.at[place].set(jnp.where(new, entry, ring[place]))

    return Pairs(
        put(pairs.steps, s),
        put(pairs.changes, y),
        put(pairs.weights, 1 / curvature),
        pairs.total + new,
        jnp.where(new, curvature / squared, pairs.scale),
    )


def _direction(gradient: Image, pairs: Pairs) -> Image:
    """Minus the inverse Hessian times the gradient, as far as the pairs know it."""
    memory = len(pairs.weights)
    newest_first = (pairs.total - 1 - jnp.arange(memory)) % memory

    def before(rest: Image, k: Array) -> tuple[Image, Array]:
        share = pairs.weights[k] * jnp.vdot(pairs.steps[k], rest)
        return rest - share * pairs.changes[k], share

    def after(way: Image, known: tuple[Array, Array]) -> tuple[Image, None]:
        k, share = known
        other = pairs.weights[k] * jnp.vdot(pairs.changes[k], way)
        return way + (share - other) * pairs.steps[k], None

    rest, shares = jax.lax.scan(before, gradient, newest_first)
    largest = jnp.maximum(jnp.abs(gradient).max(), jnp.finfo(gradient.dtype).tiny)
    scale = jnp.where(pairs.scale > 0, pairs.scale, FIRST / largest)
    way, _ = jax.lax.scan(after, scale * rest, (newest_first[::-1], shares[::-1]))
    return -way
