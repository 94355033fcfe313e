"""Style transfer, whole: a config and two pictures in, a painting out.

`stylize` is the Python API; `paint` is the engine behind it and behind the commands.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from nst_jax import architecture, config, images, weights
from nst_jax.errors import UserError
from nst_jax.objective import Args, Knobs, Network, targets_from
from nst_jax.optimize import Progress, Settings, optimize
from nst_jax.vgg import VGG


class Pictures(NamedTuple):
    """What a run starts from, [h, w, 3] each; `start` has the size of the output.

    `content` and `style` are None where the config names none.
    """

    content: images.Picture | None
    style: images.Picture | None
    start: images.Picture


def knobs_of(c: config.Config) -> Knobs:
    """The objective's weights; a picture that is left out has no layers."""
    return Knobs(
        c.alpha,
        c.beta,
        c.tv_weight,
        config.parse_layers(c.content_layers, c.arch) if c.content else {},
        config.parse_layers(c.style_layers, c.arch) if c.style else {},
    )


def taps_of(c: config.Config) -> tuple[str, ...]:
    """The taps that the objective needs."""
    knobs = knobs_of(c)
    return tuple(dict.fromkeys([*knobs.content_lambdas, *knobs.style_lambdas]))


def read_pictures(c: config.Config, **given: np.ndarray) -> Pictures:
    """Reads the pictures that a config names, resized for it.

    Args:
      c: a validated config.
      **given: "content" and "style", where an array takes the place of the file.

    Raises:
      UserError: a file that is no picture, or a picture too small for the deepest layer.
    """
    smallest = architecture.smallest_size(taps_of(c))

    def picture(part: str) -> images.Picture | None:
        if part in given:
            return images.prepare(given[part], c.image_size, smallest, part)
        return images.read(c[part], c.image_size, smallest) if c[part] else None

    content, style = picture("content"), picture("style")
    reference = style if content is None else content
    assert reference is not None, "validate asks for one of them"
    named = {"content": content, "style": style}
    start = named[c.init.picture] if c.init.picture in named else images.read(c.init.picture)
    start = reference if start is None else start  # only below noise that covers it
    return Pictures(content, style, images.resize(start, reference.shape[:2]))


def load_weights(c: config.Config) -> weights.Weights:
    """The weights that a config names, fetched if need be; an unchanged file is read once.

    Raises:
      UserError: they cannot be found, fetched or used.
    """
    path = weights.find(c.weights, c.arch)
    return _load(path, c.arch, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _load(path: Path, arch: str, modified: int) -> weights.Weights:
    del modified
    return weights.load(path, arch)


@functools.lru_cache(maxsize=2)
def network_of(loaded: weights.Weights, taps: tuple[str, ...], pooling: str) -> Network:
    """The network on the device; kept, likewise."""
    return Network(*nnx.split(VGG(loaded.layers, loaded.mean, loaded.scale, taps, pooling)))


def start_image(picture: Array | np.ndarray, noise: float, seed: int) -> Array:
    """(1 - noise) * picture + noise * u, with u uniform in [0, 1), seeded; float32."""
    uniform = jax.random.uniform(jax.random.key(seed), picture.shape, jnp.float32)
    return (1 - noise) * jnp.asarray(picture) + noise * uniform


def paint(c: config.Config, pictures: Pictures, loaded: weights.Weights) -> Iterator[Progress]:
    """Paints: yields the picture and its losses every `log_every` steps, first the start itself.

    Args:
      c: a validated config.
      pictures: as `read_pictures` gives them.
      loaded: weights of `c.arch`.

    Raises:
      nst_jax.optimize.NonFiniteLossError: the last picture yielded is good.
    """
    network = network_of(loaded, taps_of(c), c.pooling)
    knobs = knobs_of(c)
    with jax.default_matmul_precision(c.precision):
        targets = targets_from(network, pictures.content, pictures.style, knobs)
    return optimize(
        Settings(c.optimizer.name, c.optimizer.memory, c.precision),
        start_image(pictures.start, c.init.noise, c.seed),
        Args(network, targets, knobs),
        c.optimizer.learning_rate,
        c.steps,
        c.log_every,
    )


def stylize(
    content: str | Path | np.ndarray | None,
    style: str | Path | np.ndarray | None,
    **overrides: Any,
) -> images.Picture:
    """Paints `content` in the style of `style`.

    >>> picture = stylize("me.jpg", "painting.jpg", image_size=256, beta=2.0)
    >>> picture = stylize(photograph, painting, optimizer={"name": "lbfgs"}, steps=100)

    Args:
      content, style: paths, or arrays [h, w, 3] with floats in [0, 1] or uint8. None leaves one
        out: a texture without content, a reconstruction without style.
      **overrides: keys of `nst_jax.config.default()`.

    Returns:
      [h, w, 3] float32, sRGB in [0, 1], the longer side `image_size`.

    Raises:
      UserError: an unknown key, a bad value, a picture or weights that cannot be used.
      nst_jax.optimize.NonFiniteLossError: the loss became NaN or infinite.
    """
    c = config.default()
    given = {}
    for part, picture in (("content", content), ("style", style)):
        if isinstance(picture, str | Path):
            c[part] = str(picture)
        elif picture is not None:
            c[part] = "an array"
            given[part] = np.asarray(picture)
    try:
        c.update(overrides)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(config.explain(error)) from error
    frozen = config.validate(c)
    pictures = read_pictures(frozen, **given)
    *_, last = paint(frozen, pictures, load_weights(frozen))
    return np.asarray(last.image)
