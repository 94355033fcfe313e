"""The network on the device: a static structure, and arrays that are arguments of programs."""

from typing import Any, NamedTuple

import jax
from flax import nnx
from jax import Array
from jaxtyping import Float

from nst_jax.network.vgg import VGG


class NetworkState(NamedTuple):
    """A `VGG` as `nnx.split` leaves it.

    Attributes:
      graphdef: its structure; static.
      params: its arrays.
    """

    graphdef: nnx.GraphDef
    params: nnx.State

    @property
    def mean(self) -> Float[Array, "3"]:
        """The mean colour that the network subtracts, sRGB in [0, 1]."""
        return nnx.merge(*self).mean[...]


def split(vgg: VGG) -> NetworkState:
    """Splits a network into its structure and its arrays."""
    return NetworkState(*nnx.split(vgg))


def features(network: NetworkState, image: Float[Array, "h w 3"]) -> dict[str, Any]:
    """The taps of an image. Differentiable in the image only: the network is frozen.

    Args:
      network: the network.
      image: [h, w, 3] sRGB in [0, 1].

    Returns:
      tap -> [h // 2^(b-1), w // 2^(b-1), c] float32, b the block of the tap.
    """
    params = jax.lax.stop_gradient(network.params)
    return nnx.merge(network.graphdef, params)(image)
