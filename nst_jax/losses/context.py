"""`Context`, what a loss is told besides activations, and the reductions the losses share."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

Features = Float[Array, "h w c"]


class Context(NamedTuple):
    """What a loss is told about one tap besides its activations.

    Attributes:
      weights: [h, w], the weight of each position, from a guide; None weights all positions
        equally. A style loss needs weights that sum to 1.
      key: PRNG key for the losses that draw positions or directions; a new one at every step.
      pixels: height times width of the picture itself, in pixels.
    """

    weights: Float[Array, "h w"] | None = None
    key: Any = None
    pixels: int = 0


def rows(features: Features) -> Float[Array, "n c"]:
    """Activations as a matrix with one row per position, n = h * w."""
    return features.reshape(-1, features.shape[-1])


def mean(vectors: Float[Array, "n c"], weights: Float[Array, "h w"] | None) -> Float[Array, " c"]:
    """Weighted mean over positions: sum_i w_i v_i, or sum_i v_i / n without weights."""
    if weights is None:
        return vectors.mean(0)
    return jnp.tensordot(weights.reshape(-1), vectors, 1)


def correlation(
    a: Float[Array, "n a"], b: Float[Array, "n b"], weights: Float[Array, "h w"] | None
) -> Float[Array, "a b"]:
    """Weighted uncentred correlation: sum_i w_i a_i b_i^T, or sum_i a_i b_i^T / n without weights.

    It accumulates in float32 whatever the dtype of the activations.
    """
    if weights is not None:
        a = a * weights.reshape(-1, 1)
    total = jnp.einsum("na,nb->ab", a, b, preferred_element_type=jnp.float32)
    return total / len(a) if weights is None else total


@jax.custom_vjp
def second_moment(
    vectors: Float[Array, "n c"], weights: Float[Array, "h w"] | None
) -> Float[Array, "c c"]:
    """Second raw moment: sum_i w_i v_i v_i^T, or sum_i v_i v_i^T / n without weights.

    This is `correlation(vectors, vectors, weights)`, differentiable in the vectors only. Its VJP,
    W V (D + D^T) for the cotangent D and W = diag(w), takes one matrix product; autodiff takes two.
    """
    return correlation(vectors, vectors, weights)


def _second_moment_forward(vectors: Array, weights: Array | None):
    """`second_moment` and the residuals of its VJP."""
    return second_moment(vectors, weights), (vectors, weights)


def _second_moment_backward(residuals: tuple[Array, Array | None], cotangent: Array):
    """The VJP: W V (D + D^T) for the vectors, nothing for the weights."""
    vectors, weights = residuals
    symmetric = (cotangent + cotangent.T).astype(vectors.dtype)
    gradient = vectors @ symmetric
    scaled = gradient / len(vectors) if weights is None else gradient * weights.reshape(-1, 1)
    return scaled, None


second_moment.defvjp(_second_moment_forward, _second_moment_backward)


def unit(vectors: Float[Array, "n c"]) -> Float[Array, "n c+1"]:
    """Vectors scaled to length 1, so that their dot products are cosines.

    An extra last channel is 1 for a zero vector and 0 otherwise. Two zero vectors thus have cosine
    1 with each other and cosine 0 with every other vector.
    """
    squares = jnp.sum(jnp.square(vectors), -1, keepdims=True)
    zero = squares == 0
    return jnp.concatenate([vectors * jax.lax.rsqrt(jnp.where(zero, 1, squares)), zero], -1)


def magnitude(differences: Array) -> Array:
    """Absolute value |x|; value and gradient are 0 where |x| <= 1e-5.

    Differences that small are rounding error, whose sign must not drive an update.
    """
    return jnp.where(jnp.abs(differences) > 1e-5, jnp.abs(differences), 0)
