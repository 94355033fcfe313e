"""Where the pixels start: a picture and noise, seeded."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from nst_jax import config
from nst_jax.pictures import images
from nst_jax.transfer.prepare import Pictures


def _style_statistics(pictures: Pictures, mean: np.ndarray, key: Array) -> Array:
    """Noise with the mean and deviation of the style pictures' colours, cut off at 0 and 1."""
    del mean
    pixels = np.concatenate([style.reshape(-1, 3) for style in pictures.styles])
    noise = jax.random.normal(key, (*pictures.shape, 3))
    return jnp.clip(pixels.mean(0) + pixels.std(0) * noise, 0, 1)


def _content(pictures: Pictures, mean: np.ndarray, key: Array) -> np.ndarray:
    """The photograph; black where there is none, below noise that covers it."""
    del mean, key
    return np.zeros((*pictures.shape, 3)) if pictures.content is None else pictures.content


# init.picture -> (pictures, the network's mean colour, key) -> what broadcasts to the output.
STARTS: dict[str, Callable[[Pictures, np.ndarray, Array], Any]] = {
    "content": _content,
    "style": lambda pictures, mean, key: images.resize(pictures.styles[0], pictures.shape),
    "gray": lambda pictures, mean, key: 0.5,
    "mean": lambda pictures, mean, key: mean,
    "style_statistics": _style_statistics,
}


def start_image(c: config.Config, pictures: Pictures, mean: np.ndarray) -> Array:
    """Where the pixels start: (1 - noise) * picture + noise * u, or picture + noise * n, clipped.

    u is uniform in [0, 1), n standard normal, both seeded.

    Args:
      c: a validated config.
      pictures: at the size to start with.
      mean: [3] the network's mean colour.
    """
    key = jax.random.key(c.seed)
    if pictures.start is None:
        picture = STARTS[c.init.picture](pictures, mean, jax.random.fold_in(key, 1))
    else:
        picture = pictures.start
    shape = (*pictures.shape, 3)
    picture = jnp.broadcast_to(jnp.asarray(picture, jnp.float32), shape)
    if c.init.noise_kind == "uniform":
        noise = jax.random.uniform(key, shape, jnp.float32)
        return (1 - c.init.noise) * picture + c.init.noise * noise
    return jnp.clip(picture + c.init.noise * jax.random.normal(key, shape), 0, 1)
