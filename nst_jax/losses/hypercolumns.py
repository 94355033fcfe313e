"""A style loss on hypercolumns: the features of all layers at one position, taken together.

Before the first step of a scale, each position of the photograph is matched once with the style's
nearest hypercolumn. The painting's hypercolumns are then pulled towards these matches. So the
photograph's layout stays without a content loss.

In the formulas i is a position of a grid, a_i the painting's hypercolumn, c_i the photograph's, s_j
the style's, and t_i the match of position i. A function's `layers` are the activations of all
layers of the loss, [h, w, c] each and the first the largest.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses.context import Context, rows, unit
from nst_jax.losses.samples import Points, draw

GRID = 4  # positions of the first layer, along a side, for one of the grid
MAX_CANDIDATES = 16384  # hypercolumns of the style among which the nearest is looked for
TOGETHER = 256  # positions that are matched at once

Layers = Sequence[Float[Array, "_ _ _"]]  # [h, w, c], of one picture
Columns = tuple[Float[Array, "rows across _"], ...]  # on the grid, layer by layer


def _weights(count: int, grid: int) -> Float[Array, "grid count"]:
    """Matrix that interpolates `count` values linearly at `grid` places from the first to the last.

    Distances are integers until the division, so that no place is off by a rounding error.
    """
    step = max(grid - 1, 1)
    distance = jnp.arange(grid)[:, None] * (count - 1) - jnp.arange(count) * step
    return jnp.maximum(1 - jnp.abs(distance) / step, 0)


def _on_grid(layer: Float[Array, "h w c"], first: Array) -> Float[Array, "rows across c"]:
    """A layer's activations on the grid, [h // 4, w // 4, c] for a first layer of [h, w, ...]."""
    down, across = (
        _weights(layer.shape[axis], max(first.shape[axis] // GRID, 1)) for axis in (0, 1)
    )
    return jnp.einsum("ih,hwc,jw->ijc", down, layer, across, preferred_element_type=jnp.float32)


def columns(layers: Layers) -> Columns:
    """The hypercolumns on the grid, layer by layer; each layer is divided by its channels."""
    return tuple(_on_grid(layer, layers[0]) / layer.shape[-1] for layer in layers)


def _guide(layers: Layers, context: Context) -> Float[Array, "rows across"] | None:
    """The weights of the grid's positions, which sum to 1; None: all alike."""
    if context.weights is None:
        return None
    weights = _on_grid(context.weights[..., None], layers[0])[..., 0]
    # A region that lies between the grid's positions has those around it.
    around = jax.image.resize(context.weights, weights.shape, "linear")
    weights = jnp.where(jnp.sum(weights) > 0, weights, around)
    return weights / jnp.maximum(jnp.sum(weights), 1e-12)


def points(layers: Layers, context: Context) -> Points:
    """All hypercolumns of a picture, with the guide's weights."""
    weights = _guide(layers, context)
    vectors = rows(jnp.concatenate(columns(layers), -1))
    return Points(vectors, None if weights is None else weights.reshape(-1))


def match(target: Points, layers: Layers, context: Context) -> Columns:
    """The match of each position: t_i = s_j / |s_j|, j = argmax_j cos(c_i - mean c, s_j - mean s).

    Args:
      target: the style's hypercolumns, by `points`.
      layers: the photograph's activations.
      context: its key draws the style's hypercolumns, where there are more than 16384.

    Returns:
      On the grid, layer by layer.
    """
    content = columns(layers)
    own = rows(jnp.concatenate(content, -1))
    style = draw(target, MAX_CANDIDATES, context.key)
    candidates = unit(style - style.mean(0))
    nearest = jax.lax.map(
        lambda column: jnp.argmax(candidates @ column),
        unit(own - own.mean(0)),
        batch_size=TOGETHER,
    )
    length = jnp.linalg.norm(style, axis=1, keepdims=True)
    found = (style / jnp.maximum(length, 1e-8))[nearest]
    sizes = [layer.shape[-1] for layer in content]
    ends = [sum(sizes[:number]) for number in range(1, len(sizes))]
    return tuple(
        part.reshape(layer.shape)
        for part, layer in zip(jnp.split(found, ends, -1), content, strict=True)
    )


def matched_distance(layers: Layers, target: Columns, context: Context) -> Float[Array, ""]:
    """Distance from the matches: sum_i w_i (1 - cos(a_i, t_i)), dimensionless, 0 to 2.

    Args:
      layers: the painting's activations.
      target: of `match`.
      context: its weights are those of the first layer.

    References:
      Kolkin et al. 2022, "Neural Neighbor Style Transfer" (https://arxiv.org/abs/2203.13215): the
      phase before the last.

    Departs from the paper: positions are matched by the photograph alone, where they mix in a
    quarter of the painting so far, with 16384 places of the style at most; the style picture is not
    added in other rotations; and pixels are optimised by default, where they optimise the
    coefficients of a Laplacian pyramid.
    """
    found = columns(layers)
    along = sum(jnp.sum(a * t, -1) for a, t in zip(found, target, strict=True))
    squares = sum(jnp.sum(jnp.square(a), -1) for a in found)
    each = 1 - along / jnp.sqrt(jnp.maximum(squares, 1e-8))
    weights = _guide(layers, context)
    return jnp.mean(each) if weights is None else jnp.sum(weights * each)
