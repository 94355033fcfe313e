"""Coarse to fine: the sizes to paint at, and how a state is carried from one to the next."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nst_jax import config
from nst_jax.optimize.loop import State, initial_state
from nst_jax.optimize.optimizers import OPTIMIZERS, Settings, at_another_size


class Scale(NamedTuple):
    """Paint with the longer side of `size` pixels for `steps` steps."""

    size: int
    steps: int


def scales(c: config.Config) -> list[Scale]:
    """The scales of a config, from coarse to fine; the last is `image_size`.

    size_k = image_size / factor^k, rounded, down to min_size (crowsonkb/style-transfer-pytorch,
    with the factor sqrt 2; Gatys et al. 2017 take two scales with the factor 2).
    """
    sizes, k = [c.image_size], 0
    while c.pyramid.min_size and (size := round(c.image_size / c.pyramid.factor ** (k := k + 1))):
        if size < c.pyramid.min_size:
            break
        sizes.append(size)
    between = [Scale(size, c.pyramid.steps) for size in sizes[-2:0:-1]]
    first = [Scale(sizes[-1], c.pyramid.first_steps)] if len(sizes) > 1 else []
    return [*first, *between, Scale(c.image_size, c.steps)]


def enlarge(settings: Settings, state: State, shape: tuple[int, int]) -> State:
    """The state at another size (height, width): the average picture, and the optimiser warm.

    The picture is enlarged bicubically, and everything of the optimiser that has the picture's
    shape bilinearly, which keeps Adam's mean squares positive. An optimiser that compares points
    starts afresh. Adam counts its steps on, the average starts anew,
    as in crowsonkb/style-transfer-pytorch. Of a batch, each state by itself.
    """
    if state.image.ndim == 4:
        return jax.vmap(lambda one: enlarge(settings, one, shape))(state)
    image = jnp.clip(jax.image.resize(state.average, (*shape, 3), "cubic"), 0, 1)
    fresh = initial_state(settings, image)
    if OPTIMIZERS[settings.name].tries:
        return fresh

    def carried(leaf: Any) -> Any:
        picture = leaf.shape == state.image.shape
        return jax.image.resize(leaf, image.shape, "linear") if picture else leaf

    optimizer = jax.tree.map(carried, state.optimizer)
    return fresh._replace(optimizer=at_another_size(settings, optimizer))
