"""How a loss looks at the activations of one tap."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

Features = Float[Array, "h w c"]


class Context(NamedTuple):
    """What a loss is told besides activations.

    Attributes:
      weights: [h, w] how much each position counts, from a guide; None: all alike. For style they
        sum to 1.
      key: for the losses that draw positions or directions; another one at every step.
      pixels: positions of the picture itself, height times width.
    """

    weights: Float[Array, "h w"] | None = None
    key: Any = None
    pixels: int = 0


def rows(features: Features) -> Float[Array, "n c"]:
    """Activations as a matrix, a row for each position."""
    return features.reshape(-1, features.shape[-1])


def mean(vectors: Float[Array, "n c"], weights: Float[Array, "h w"] | None) -> Float[Array, " c"]:
    """sum_i w_i v_i over positions; their plain mean without weights."""
    if weights is None:
        return vectors.mean(0)
    return jnp.tensordot(weights.reshape(-1), vectors, 1)


def correlation(
    a: Float[Array, "n a"], b: Float[Array, "n b"], weights: Float[Array, "h w"] | None
) -> Float[Array, "a b"]:
    """sum_i w_i a_i b_i^T, summed in float32 whatever the activations' type."""
    if weights is not None:
        a = a * weights.reshape(-1, 1)
    total = jnp.einsum("na,nb->ab", a, b, preferred_element_type=jnp.float32)
    return total / len(a) if weights is None else total


@jax.custom_vjp
def second_moment(
    vectors: Float[Array, "n c"], weights: Float[Array, "h w"] | None
) -> Float[Array, "c c"]:
    """sum_i w_i v_i v_i^T: `correlation` of vectors with themselves, differentiable in them alone.

    Its gradient, W V (D + D^T), is one product of matrices where autodiff takes two.
    """
    return correlation(vectors, vectors, weights)


def _second_moment_forward(vectors: Array, weights: Array | None):
    return second_moment(vectors, weights), (vectors, weights)


def _second_moment_backward(kept: tuple[Array, Array | None], cotangent: Array):
    vectors, weights = kept
    both = (cotangent + cotangent.T).astype(vectors.dtype)
    gradient = vectors @ both
    scaled = gradient / len(vectors) if weights is None else gradient * weights.reshape(-1, 1)
    return scaled, None


second_moment.defvjp(_second_moment_forward, _second_moment_backward)


def unit(vectors: Float[Array, "n c"]) -> Float[Array, "n c+1"]:
    """Vectors at length 1, so that their products are cosines.

    One number more says whether a vector was 0: two such ones are alike, and unlike all others.
    """
    squares = jnp.sum(jnp.square(vectors), -1, keepdims=True)
    zero = squares == 0
    return jnp.concatenate([vectors * jax.lax.rsqrt(jnp.where(zero, 1, squares)), zero], -1)


def magnitude(differences: Array) -> Array:
    """|x|, with the gradient 0 at 0 and for what rounding leaves of it, 1e-5 and less."""
    return jnp.where(jnp.abs(differences) > 1e-5, jnp.abs(differences), 0)
