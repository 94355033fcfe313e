"""Where the pixels start: a picture and seeded noise. The table `STARTS` has every kind."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from nst_jax.config.experiment import Start
from nst_jax.pictures import images
from nst_jax.transfer.prepare import Pictures


def _style_statistics(pictures: Pictures, mean: Any, key: Array) -> Array:
    """Noise with the mean and deviation of the style pictures' colours, clipped to [0, 1]."""
    del mean
    pixels = np.concatenate([style.reshape(-1, 3) for style in pictures.styles])
    noise = jax.random.normal(key, (*pictures.shape, 3))
    return jnp.clip(pixels.mean(0) + pixels.std(0) * noise, 0, 1)


def _content(pictures: Pictures, mean: Any, key: Array) -> np.ndarray:
    """The content picture; without one black, which is then covered by noise."""
    del mean, key
    return np.zeros((*pictures.shape, 3)) if pictures.content is None else pictures.content


# Kind -> (pictures, mean colour of the network, key) -> what broadcasts to the output. The names,
# but for "file", are `config.rules.STARTS`.
STARTS: dict[str, Callable[[Pictures, Any, Array], Any]] = {
    "content": _content,
    "style": lambda pictures, mean, key: images.resize(
        pictures.styles[0], pictures.shape, pictures.sizing.resample
    ),
    "gray": lambda pictures, mean, key: 0.5,
    "mean": lambda pictures, mean, key: mean,
    "style_statistics": _style_statistics,
    "file": lambda pictures, mean, key: pictures.start,
}


def _near_mean(mean: Any, key: Array, shape: tuple[int, ...]) -> Array:
    """Uniform within 20 levels of 255 of the mean colour."""
    return mean + jax.random.uniform(key, shape, jnp.float32, -20 / 255, 20 / 255)


# Kind -> (mean colour of the network, key, shape) -> noise. The names are `config.rules.NOISES`.
NOISES: dict[str, Callable[[Any, Array, tuple[int, ...]], Array]] = {
    "uniform": lambda mean, key, shape: jax.random.uniform(key, shape, jnp.float32),
    "near_mean": _near_mean,
    "normal": lambda mean, key, shape: jax.random.normal(key, shape),
}


def start_image(
    start: Start, seed: int, pictures: Pictures, mean: Float[Array, "3"] | np.ndarray
) -> Float[Array, "h w 3"]:
    """The start: (1 - noise) * picture + noise * u, or picture + noise * n, clipped to [0, 1].

    u is uniform in [0, 1), or near the mean colour; n is standard normal. All are seeded.

    Args:
      start: which picture and which noise.
      seed: of the noise.
      pictures: at the first scale.
      mean: [3] mean colour of the network.
    """
    key, shape = jax.random.key(seed), (*pictures.shape, 3)
    picture = STARTS[start.kind](pictures, mean, jax.random.fold_in(key, 1))
    picture = jnp.broadcast_to(jnp.asarray(picture, jnp.float32), shape)
    noise = NOISES[start.noise_kind](mean, key, shape)
    if start.noise_kind == "normal":
        return jnp.clip(picture + start.noise * noise, 0, 1)
    return (1 - start.noise) * picture + start.noise * noise
