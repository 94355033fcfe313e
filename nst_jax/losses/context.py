"""`Context`, what a loss is told besides activations, and the reductions the losses share.

A loss may see a picture whole, or one tile of it at a time. In a tile, `weighed` gives positions
beyond the picture the weight 0, and `gather` returns zeros for positions of other tiles. So what a
loss sums over all tiles is what it computes from the whole.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.network.windows import MARGIN

Features = Float[Array, "h w c"]


class Context(NamedTuple):
    """What a loss is told about one tap besides its activations.

    Attributes:
      weights: [h, w], the weight of each position, from a guide; None weights all positions
        equally. A style loss needs weights that sum to 1.
      key: PRNG key for the losses that draw positions or directions; a new one at every step.
      pixels: height times width of the picture itself, in pixels.
      shape: (height, width) of the whole layer, in positions; None where the activations are whole.
      origin: (row, column) of the layer at which the activations of a tile begin, traced; None
        where they are whole.
      first: row of the layer at which a content target begins, which may be a device's part; None
        where the target is that of the tile.
      following: (height, width) of the whole next layer, where the loss sees that as well.
    """

    weights: Float[Array, "h w"] | None = None
    key: Any = None
    pixels: int = 0
    shape: tuple[int, int] | None = None
    origin: tuple[Any, Any] | None = None
    first: Any = 0
    following: tuple[int, int] | None = None


def layer_shape(features: Features, context: Context) -> tuple[int, int]:
    """(height, width) of the whole layer that the activations are, or are a tile of."""
    return context.shape or (features.shape[0], features.shape[1])


def _places(features: Features, context: Context) -> tuple[Array, Array]:
    """The rows and columns of the layer that a tile's activations are at."""
    assert context.origin is not None
    top, left = context.origin
    return top + jnp.arange(features.shape[0]), left + jnp.arange(features.shape[1])


def weighed(features: Features, context: Context) -> Float[Array, "h w"] | None:
    """The weights of the activations' positions; they sum to 1 over the whole layer.

    None where the activations are whole and all alike. In a tile, what lies beyond the layer has
    the weight 0.
    """
    if context.origin is None:
        return context.weights
    height, width = layer_shape(features, context)
    inside = _inside(features, context)
    if context.weights is None:
        return inside / (height * width)
    return jnp.where(inside, own_part(context.weights, features, context), 0)


def _inside(features: Features, context: Context) -> Array:
    """Which positions of a tile lie within the layer."""
    height, width = layer_shape(features, context)
    ys, xs = _places(features, context)
    return (ys < height)[:, None] & (xs < width)[None]


def own_part(whole: Array, features: Features, context: Context, first: Any = 0) -> Array:
    """The part of an array [h, w, ...] of the whole layer that belongs to the activations.

    In a tile, positions beyond the layer repeat its edge.

    Args:
      whole: of the layer, or of its rows from `first` on; the part itself where that is None.
      features: whole, or of a tile.
      context: says which tile.
      first: a row of the layer.
    """
    if context.origin is None or first is None:
        return whole
    ys, xs = _places(features, context)
    return whole.at[ys - first].get(mode="clip").at[:, xs].get(mode="clip")


def masked(features: Features, context: Context) -> Features:
    """The activations, zero beyond the layer."""
    if context.origin is None:
        return features
    return jnp.where(_inside(features, context)[..., None], features, 0)


def gather(features: Features, ys: Array, xs: Array, context: Context) -> Float[Array, "k c"]:
    """The activations at positions of the layer; in a tile, zeros for positions of other tiles.

    Args:
      features: whole, or of a tile.
      ys, xs: [k] rows and columns of the layer.
      context: says which tile.
    """
    if context.origin is None:
        return features[ys, xs]
    top, left = context.origin
    ys, xs = ys - top, xs - left
    height, width, _ = features.shape
    owned = (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
    found = features.at[ys, xs].get(mode="clip")
    return jnp.where(owned[:, None], found, 0)


def enlarged(
    coarse: Float[Array, "h2 w2 d"], fine: Features, context: Context
) -> Float[Array, "h w d"]:
    """The next layer's activations, resized bilinearly to a layer's positions.

    Edges are replicated, as by `jax.image.resize`. Positions are counted in integers, so that tiles
    see the same weights as the whole.

    Args:
      coarse: [h2, w2, d], the next layer's; of a tile with `MARGIN` positions around it.
      fine: [h, w, c], the layer's.
      context: of the fine layer.
    """
    sides = layer_shape(fine, context), context.following or (coarse.shape[0], coarse.shape[1])
    margin = 0 if context.origin is None else MARGIN
    matrices = []
    for axis, (side, coarse_side) in enumerate(zip(*sides, strict=True)):
        count, coarse_count = fine.shape[axis], coarse.shape[axis]
        start, coarse_start = 0, 0
        if context.origin is not None:
            start = context.origin[axis]
            coarse_start = start // (count // (coarse_count - 2 * margin)) - margin
        at = (2 * (start + jnp.arange(count)) + 1) * coarse_side - side  # in 1 / (2 side)
        at = jnp.clip(at, 0, 2 * side * (coarse_side - 1))
        others = 2 * side * (coarse_start + jnp.arange(coarse_count))
        distance = jnp.abs(at[:, None] - others) / (2 * side)
        matrices.append(jnp.maximum(1 - distance, 0))
    return jnp.einsum("ih,hwd,jw->ijd", matrices[0], coarse, matrices[1], precision="highest")


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


def itself(summary: Array, target: Any, context: Context) -> Array:
    """The distance of a loss whose summary is the distance already."""
    del target, context
    return summary


def average(targets: list[Any], shares: list[Array]) -> Any:
    """Weighted sum of pytrees, leaf by leaf: sum_s share_s target_s."""

    def weighted_sum(*values: Array) -> Array:
        total = shares[0] * values[0]
        for share, value in zip(shares[1:], values[1:], strict=True):
            total = total + share * value
        return total

    return jax.tree.map(weighted_sum, *targets)


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
