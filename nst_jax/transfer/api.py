"""The Python interface: pictures in, a painting out."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from PIL import Image as PillowImage

from nst_jax import config
from nst_jax.config import grammar
from nst_jax.config.experiment import Experiment, Pixels, Source
from nst_jax.errors import UserError
from nst_jax.pictures.arrays import as_array
from nst_jax.transfer import estimate, networks, prepare
from nst_jax.transfer.cache import SHARED
from nst_jax.transfer.paint import Job, paint

# A file, or pixels: [h, w, 3] or [h, w], uint8 or floats in [0, 1].
PictureLike = str | os.PathLike | np.ndarray | jax.Array | PillowImage.Image


def stylize(
    content: PictureLike | None,
    style: PictureLike | Sequence[PictureLike | tuple[PictureLike, float | int]] | None,
    **settings: Any,
) -> Float[np.ndarray, "*paintings _ _ 3"]:
    """Paints `content` in the style of `style`.

    What is expensive to make again (weights, the network, compiled programs) is kept between calls,
    within bounds; `nst_jax.clear_cache()` lets go of it.

    Examples:
      >>> from nst_jax import config, stylize
      >>> photograph, night = config.sample_photograph(), config.PICTURES / "starry.jpg"
      >>> painting = stylize(photograph, night, image_size=48, steps=2, style_layers="relu1_1")
      >>> painting.shape, painting.dtype
      ((48, 41, 3), dtype('float32'))

      Several styles with weights, and keys of a group:

      >>> day = config.PICTURES / "ember.jpg"
      >>> painting = stylize(
      ...     photograph,
      ...     [(night, 3), (day, 1)],
      ...     image_size=48,
      ...     steps=2,
      ...     style_layers="relu1_1",
      ...     optimizer={"name": "lbfgs"},
      ... )

    Args:
      content: a picture; None for a texture without content.
      style: a picture; None for a reconstruction of the content; or several, with or without
        weights, which are mixed. A file may have its weight in its name, as in "night.jpg:3".
      **settings: keys of `nst_jax.config.default()`; groups as dicts.

    Returns:
      [h, w, 3] float32, sRGB in [0, 1], the longer side `image_size`; with `interpolate`
      [paintings, h, w, 3].

    Raises:
      TypeError: a picture that is none of the above.
      UserError: an unknown key, a bad value, a picture or weights that cannot be used.
      nst_jax.NonFiniteLossError: the loss became NaN or infinite.
    """
    experiment = experiment_of(content, style, settings)
    pictures = prepare.load(experiment, SHARED)
    network = networks.load_network(experiment, pictures, SHARED)
    jobs = [Job(one, pictures) for one in experiment.paintings()]
    together = estimate.batch_size(estimate.work(experiment, pictures.shape))
    *_, last = paint(jobs, network, together=together)
    paintings = prepare.final_colours(last.images, pictures, experiment.inputs.color.space)
    paintings = np.array(paintings)  # JAX's own buffer cannot be written to
    return paintings if experiment.interpolate else paintings[0]


def experiment_of(content: Any, style: Any, settings: dict[str, Any]) -> Experiment:
    """The experiment that `stylize` is asked for.

    Raises:
      TypeError: a picture that is none.
      UserError: an unknown key or a bad value.
    """
    c = config.default()
    styles: list[tuple[Source, float]] = []
    if isinstance(style, str):
        c.style = style
    elif style is not None:
        several = style if isinstance(style, list | tuple) else [style]
        for number, (picture, weight) in enumerate(grammar.weighed_pictures(several), 1):
            name = f"style picture {number}" if len(several) > 1 else "the style picture"
            weight = grammar.number(str(weight), f"{name} has the weight")
            styles.append((as_source(picture, name), weight))
    source = None if content is None else as_source(content, "the content picture")
    try:
        c.update(settings)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(config.explain(error)) from error
    return config.parse(c, source, styles)


def as_source(picture: Any, name: str) -> Source:
    """A file's name, or pixels.

    Raises:
      TypeError: neither.
    """
    if isinstance(picture, str | os.PathLike):
        return os.fspath(picture)
    return Pixels(as_array(picture, name), name)
