"""Where a batch of pictures lies: on one device, whole pictures on several, or rows on several."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from nst_jax.losses.arguments import Problem, Split, spread
from nst_jax.network.tiling import ROWS

CELLS = "cells"  # axis of a mesh over which whole pictures are spread


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a batch lies.

    With a mesh over "rows", the batch is one picture, whose arrays lie on a canvas: as many rows on
    every device, 0 below the picture. One too small for that is whole on every device, and each
    computes all of it.

    Attributes:
      mesh: the devices, along "cells" or "rows"; None for the default device.
      height: of the picture.
      rows: of the canvas; 0 where the picture is whole.
    """

    mesh: jax.sharding.Mesh | None = None
    height: int = 0
    rows: int = 0

    @property
    def cells(self) -> jax.sharding.Mesh | None:
        """The mesh, where it spreads whole pictures."""
        return self.mesh if self.mesh and CELLS in self.mesh.axis_names else None

    @property
    def shares_picture(self) -> bool:
        """Whether all devices work on one picture."""
        return self.mesh is not None and not self.cells

    @property
    def split(self) -> Split | None:
        """How the picture's rows lie, where they are on several devices."""
        return Split(self.mesh, self.height) if self.mesh and self.rows else None

    @property
    def everywhere(self) -> Sharding | None:
        """The sharding of what every device has whole."""
        return NamedSharding(self.mesh, P()) if self.mesh else None

    def put(self, batch: Any) -> Any:
        """Puts arrays with a leading axis for the batch on the devices; none has pictures' rows."""
        if self.mesh is None:
            return jax.device_put(batch)
        sharding = NamedSharding(self.mesh, P(CELLS) if self.cells else P())
        return jax.tree.map(lambda leaf: _put(leaf, sharding), batch)

    def put_everywhere(self, tree: Any) -> Any:
        """Puts what the pictures share, such as the network, on every device."""
        if self.everywhere is None:
            return jax.device_put(tree)
        return jax.tree.map(lambda leaf: _put(leaf, self.everywhere), tree)

    def put_picture(self, picture: np.ndarray) -> jax.Array:
        """Puts a picture [h, w, 3] on the devices."""
        if self.split is None:
            return jnp.asarray(picture)
        below = self.rows - len(picture)
        canvas = np.pad(np.asarray(picture, np.float32), ((0, below), (0, 0), (0, 0)))
        return _put(canvas, NamedSharding(self.split.mesh, P(ROWS)))

    def put_pictures(self, pictures: jax.Array) -> jax.Array:
        """Puts a batch of pictures [n, h, w, 3] on the devices."""
        if self.split is None:
            return self.put(pictures)
        (picture,) = pictures
        return self.put_picture(np.asarray(picture))[None]

    def put_problem(self, problem: Problem, axes: int = 1) -> Problem:
        """Puts a problem on the devices.

        Args:
          problem: of a batch.
          axes: of a batch; 0 for a single problem.
        """
        if self.split is None:
            return self.put(problem)
        mesh = self.split.mesh
        return jax.tree.map(
            lambda leaf, spec: _put(leaf, NamedSharding(mesh, P(*(None,) * axes, *spec))),
            problem,
            spread(problem, axes),
        )

    def put_state(self, state: Any) -> Any:
        """Puts a state with the picture's own height on the devices."""
        if self.split is None:
            return self.put(state)
        below = self.rows - self.height

        def on_canvas(leaf: Any) -> np.ndarray:
            leaf = np.asarray(leaf)
            if not _is_picture(leaf, state.image.shape):
                return leaf
            return np.pad(leaf, ((0, 0),) * (leaf.ndim - 3) + ((0, below), (0, 0), (0, 0)))

        canvas = jax.tree.map(on_canvas, state)
        return jax.tree.map(_put, canvas, shardings(self.split.mesh, canvas, canvas.image.shape))

    def fetch(self, state: Any) -> Any:
        """A state on the host, with the picture's own height."""
        if self.split is None:
            return jax.device_get(state)
        shape = state.image.shape

        def own(leaf: jax.Array) -> Any:
            whole = jax.device_get(leaf) if jax.process_count() == 1 else _from_processes(leaf)
            return whole[..., : self.height, :, :] if _is_picture(whole, shape) else whole

        return jax.tree.map(own, state)

    def whole(self, state: Any) -> Any:
        """A state with the picture's own height, where one device can work on it."""
        if not self.shares_picture:
            return state
        return jax.tree.map(jnp.asarray, self.fetch(state))

    def shown(self, images: jax.Array) -> jax.Array:
        """Pictures [n, h, w, 3] without what is below them; every process has them whole."""
        if self.split is None:
            return images
        if jax.process_count() == 1:
            return jax.device_put(images, self.split.mesh.devices.flat[0])[:, : self.height]
        return _laid_out(self.everywhere)(images)[:, : self.height]

    def agreed(self, number: int) -> int:
        """A number of process 0, in all processes that share a picture."""
        if not self.shares_picture or jax.process_count() == 1:
            return number
        return int(multihost_utils.broadcast_one_to_all(np.int32(number)))

    def anywhere(self, is_so: bool) -> bool:
        """Whether something is so in any of the processes that share a picture."""
        if not self.shares_picture or jax.process_count() == 1:
            return is_so
        return bool(np.any(multihost_utils.process_allgather(np.bool(is_so))))


ONE_DEVICE = Placement()


def _put(leaf: Any, sharding: Any) -> jax.Array:
    """An array on the devices, of which other processes may have some."""
    if jax.process_count() == 1:
        return jax.device_put(leaf, sharding)
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return _laid_out(sharding)(leaf)
    if jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding))
    whole = np.asarray(jnp.asarray(leaf))  # every process has it, and keeps its share
    return jax.make_array_from_callback(whole.shape, sharding, lambda place: whole[place])


def _from_processes(leaf: jax.Array) -> np.ndarray:
    """An array of which every process has a share, on the host: one picture of it at a time."""
    if leaf.ndim <= 4:  # [n, h, w, 3], or smaller
        return multihost_utils.process_allgather(leaf, tiled=True)
    pictures = (leaf[:, k] for k in range(leaf.shape[1]))
    return np.stack([multihost_utils.process_allgather(one, tiled=True) for one in pictures], 1)


@functools.cache
def _laid_out(sharding: Sharding) -> Any:
    """A function that lays out an array as `sharding` says; all processes must call it."""
    return jax.jit(lambda leaf: leaf, out_shardings=sharding)


def _is_picture(leaf: Any, shape: tuple[int, ...]) -> bool:
    """Whether a leaf of a state holds pictures of the image's shape [..., h, w, 3]."""
    return leaf.shape[-3:] == shape[-3:]


def shardings(mesh: jax.sharding.Mesh, tree: Any, shape: tuple[int, ...]) -> Any:
    """The shardings of a state's leaves: pictures by rows, everything else everywhere.

    Args:
      mesh: along "rows".
      tree: of arrays.
      shape: of the state's image, [..., h, w, 3].
    """

    def of(leaf: Any) -> NamedSharding:
        if not _is_picture(leaf, shape):
            return NamedSharding(mesh, P())
        return NamedSharding(mesh, P(*(None,) * (leaf.ndim - 3), ROWS))

    return jax.tree.map(of, tree)
