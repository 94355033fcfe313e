"""An experiment's network: weights found and read, normalised if asked for, put on the device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from nst_jax.config.experiment import Experiment, Network
from nst_jax.network import architecture, fetch, weights
from nst_jax.network.state import NetworkState, features, split
from nst_jax.network.vgg import VGG
from nst_jax.pictures import images
from nst_jax.transfer.cache import Cache, file_state
from nst_jax.transfer.prepare import Pictures


def load_weights(network: Network, cache: Cache) -> weights.Weights:
    """Reads the weights that an experiment names, fetched if need be.

    Raises:
      UserError: they cannot be found, fetched or used.
    """
    path = fetch.find(network.weights, network.arch)
    return cache.get(
        "weights", (file_state(path), network.arch), lambda: weights.load(path, network.arch)
    )


def load_network(experiment: Experiment, pictures: Pictures, cache: Cache) -> NetworkState:
    """Puts the network of an experiment on the device, with the taps of its losses.

    Args:
      experiment: the experiment.
      pictures: its pictures, for networks that are normalised over them.
      cache: keeps networks that are not normalised.

    Raises:
      UserError: the weights, or a picture to normalise over, cannot be used.
    """
    wanted, taps = experiment.network, experiment.objective.taps
    loaded = load_weights(wanted, cache)
    if wanted.normalize:
        return build(normalized(loaded, wanted, pictures, experiment.size), taps, wanted)
    key = (loaded.sha256, wanted, taps)
    return cache.get("network", key, lambda: build(loaded, taps, wanted))


def build(loaded: weights.Weights, taps: tuple[str, ...], network: Network) -> NetworkState:
    """A network with these weights and taps."""
    dtype: Any = jnp.bfloat16 if network.precision == "bfloat16" else jnp.float32
    vgg = VGG(
        loaded.layers,
        loaded.mean,
        loaded.scale,
        taps,
        network.pooling,
        network.padding,
        network.convolution,
        network.rematerialize,
        dtype,
    )
    return split(vgg)


def normalized(
    loaded: weights.Weights, network: Network, pictures: Pictures, size: int
) -> weights.Weights:
    """The weights rescaled to a mean activation of 1 in every channel.

    Args:
      loaded: the weights as trained.
      network: says over which pictures.
      pictures: those of the experiment, at the size of the output.
      size: of pictures that are files, in pixels.

    Raises:
      UserError: a file is not a picture.
    """
    own: dict[str, list[np.ndarray]] = {
        "content": [] if pictures.content is None else [pictures.content],
        "style": [*pictures.styles],
    }
    seen = [
        picture
        for name in network.normalize
        for picture in (
            own[name] if name in own else [images.read(name, size, sizing=pictures.sizing)]
        )
    ]
    if not seen:
        return loaded
    rectified = tuple(tap for tap in architecture.taps(network.arch) if tap.startswith("relu"))
    plain = split(
        VGG(
            loaded.layers,
            loaded.mean,
            loaded.scale,
            rectified,
            network.pooling,
            network.padding,
        )
    )
    with jax.default_matmul_precision(network.precision):
        means = [_means(plain, jnp.asarray(picture)) for picture in seen]
    return weights.normalized(loaded, means)


@jax.jit
def _means(network: NetworkState, image: Array) -> dict[str, Array]:
    """The mean activation of every channel, by tap."""
    taps = features(network, image)
    return {tap: activations.mean((0, 1)) for tap, activations in taps.items()}
