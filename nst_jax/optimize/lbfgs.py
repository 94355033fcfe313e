"""L-BFGS with one evaluation of the objective per step, as an optax transformation.

The search direction comes from the two-loop recursion. The line search is spread over the steps.
Each step proposes a point; the next step has the objective's value there and accepts the point if
the objective did not rise. Otherwise it backtracks along the same direction, to the minimum of the
parabola through what is known. Every step thus costs one evaluation, and the members of a batch
step together. If backtracking does not help, the curvature pairs are discarded and the next step
follows the gradient.

References:
  Nocedal & Wright 2006, "Numerical Optimization", algorithm 7.4.

PyTorch's L-BFGS, with which the first style transfers were painted, has no line search: it takes
the full step without checking the objective.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Int

# Largest change of any coordinate by a step without curvature pairs; pixels range over [0, 1].
MAX_FIRST_CHANGE = 0.02
# Backtracking shortens a step that was too long to between these shares of its length.
MIN_BACKTRACK_RATIO = 1 / 64
MAX_BACKTRACK_RATIO = 1 / 2
MIN_STEP_RATIO = 1e-3  # share of the full step below which the curvature pairs are discarded
# Pairs with s . y below this times |s| |y| are dropped: their s . y is mostly rounding error.
MIN_CURVATURE_COSINE = 1e-6

# Curvature pairs where nobody says how many. A pair takes 24 bytes a pixel, and 5 instead of 20 end
# with a loss that is 1 % higher.
USUAL_PAIRS, FEW_PAIRS = 20, 5
MAX_USUAL_PIXELS = 4_000_000

Image = Float[Array, "*shape"]


class Pairs(NamedTuple):
    """Curvature pairs in a ring buffer: steps s between accepted points, gradient changes y.

    Attributes:
      steps: [memory, *shape], the s.
      changes: [memory, *shape], the y.
      weights: [memory], 1 / (s . y); 0 for an empty slot.
      total: number of pairs so far; the next one goes to slot total % memory.
      scale: s . y / y . y of the newest pair, the initial inverse Hessian; 0 if there is no pair.
    """

    steps: Array
    changes: Array
    weights: Float[Array, " memory"]
    total: Int[Array, ""]
    scale: Float[Array, ""]


class LBFGSState(NamedTuple):
    """The state of `lbfgs`.

    Attributes:
      image: the accepted point, [*shape].
      value: the objective there.
      gradient: the gradient there, [*shape].
      pairs: the curvature pairs.
      length: the proposed point is this share of the full step away, in (0, 1].
    """

    image: Image
    value: Float[Array, ""]
    gradient: Image
    pairs: Pairs
    length: Float[Array, ""]


def pairs_of(memory: int, pixels: int) -> int:
    """How many curvature pairs L-BFGS keeps: `memory`, or where that is 0 what suits the size."""
    return memory or (USUAL_PAIRS if pixels <= MAX_USUAL_PIXELS else FEW_PAIRS)


def lbfgs(memory: int) -> optax.GradientTransformationExtraArgs:
    """L-BFGS on a single array.

    Args:
      memory: number of curvature pairs to keep; 0 for what suits the array's size; static.

    Returns:
      An optax transformation. Its `update` requires the parameters and, as keyword `value`, the
      objective there. A NaN or infinite value counts as a step that was too long.
    """

    def init(image: Image) -> LBFGSState:
        kept = pairs_of(memory, image.size // 3)
        empty = jnp.zeros((kept, *image.shape), image.dtype)
        pairs = Pairs(empty, empty, jnp.zeros(kept), jnp.int32(0), jnp.float32(0))
        return LBFGSState(image, jnp.float32(jnp.inf), jnp.zeros_like(image), pairs, jnp.float32(1))

    def update(
        gradient: Image, state: LBFGSState, image: Image | None = None, *, value: Any, **_: Any
    ) -> tuple[Image, LBFGSState]:
        assert image is not None
        accepted = value <= state.value
        stuck = ~accepted & (state.length < MIN_STEP_RATIO) & (state.pairs.scale > 0)
        pairs = _remember(state, image, gradient, accepted)
        pairs = pairs._replace(
            weights=jnp.where(stuck, 0, pairs.weights), scale=jnp.where(stuck, 0, pairs.scale)
        )
        shortened = state.length * _backtrack_ratio(state, image, value)
        new = LBFGSState(
            image=jnp.where(accepted, image, state.image),
            value=jnp.where(accepted, value, state.value),
            gradient=jnp.where(accepted, gradient, state.gradient),
            pairs=pairs,
            length=jnp.where(accepted | stuck, 1, shortened),
        )
        return new.image + new.length * _direction(new.gradient, pairs) - image, new

    return optax.GradientTransformationExtraArgs(cast(Any, init), cast(Any, update))


def _backtrack_ratio(state: LBFGSState, image: Image, value: Any) -> Array:
    """Share of the step to `image` at which the interpolating parabola is lowest (ibid., 3.57)."""
    slope = jnp.vdot(state.gradient, image - state.image)
    lowest = -slope / (2 * (value - state.value - slope))
    lowest = jnp.where(jnp.isfinite(lowest), lowest, 0)
    return jnp.clip(lowest, MIN_BACKTRACK_RATIO, MAX_BACKTRACK_RATIO)


def _remember(state: LBFGSState, image: Image, gradient: Image, accepted: Array) -> Pairs:
    """The pairs, with a new one if the step was accepted and the objective is convex along it."""
    pairs = state.pairs
    s, y = image - state.image, gradient - state.gradient
    curvature, squared = jnp.vdot(s, y), jnp.vdot(y, y)
    new = accepted & (curvature > MIN_CURVATURE_COSINE * jnp.sqrt(jnp.vdot(s, s) * squared))
    slot = pairs.total % len(pairs.weights)

    def put(ring: Array, entry: Array) -> Array:
        return ring.at[slot].set(jnp.where(new, entry, ring[slot]))

    return Pairs(
        steps=put(pairs.steps, s),
        changes=put(pairs.changes, y),
        weights=put(pairs.weights, 1 / curvature),
        total=pairs.total + new,
        scale=jnp.where(new, curvature / squared, pairs.scale),
    )


def _direction(gradient: Image, pairs: Pairs) -> Image:
    """Search direction by the two-loop recursion: minus the inverse Hessian times the gradient."""
    memory = len(pairs.weights)
    newest_first = (pairs.total - 1 - jnp.arange(memory)) % memory

    def first_loop(rest: Image, k: Array) -> tuple[Image, Array]:
        alpha = pairs.weights[k] * jnp.vdot(pairs.steps[k], rest)
        return rest - alpha * pairs.changes[k], alpha

    def second_loop(product: Image, pair: tuple[Array, Array]) -> tuple[Image, None]:
        k, alpha = pair
        beta = pairs.weights[k] * jnp.vdot(pairs.changes[k], product)
        return product + (alpha - beta) * pairs.steps[k], None

    rest, alphas = jax.lax.scan(first_loop, gradient, newest_first)
    largest = jnp.maximum(jnp.abs(gradient).max(), jnp.finfo(gradient.dtype).tiny)
    scale = jnp.where(pairs.scale > 0, pairs.scale, MAX_FIRST_CHANGE / largest)
    product, _ = jax.lax.scan(second_loop, scale * rest, (newest_first[::-1], alphas[::-1]))
    return -product
