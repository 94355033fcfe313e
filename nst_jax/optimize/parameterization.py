"""Coordinates to step the pixels in: another measure of which change of a picture is a small one.

Each is a linear map of pictures [h, w, 3], symmetric and invertible, x = D z, and its inverse: the
optimiser steps z, and by the chain rule sees the gradient D dJ/dx.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

EXPONENT = 0.5  # fewer evaluations than pixels, and than with others (docs/performance.md)

Image = Float[Array, "h w 3"]
Shape = tuple[int, ...]  # (height, width)


class Coordinates(NamedTuple):
    """A parameterization at one size.

    Attributes:
      decode, encode: z -> x, and x -> z.
      project: x after a step -> x to go on from. Pixels stay in [0, 1]. Where a coordinate spreads
        over many pixels, clipping them would spoil its way, so there they may leave the range.
    """

    decode: Callable[[Image], Image]
    encode: Callable[[Image], Image]
    project: Callable[[Image], Image]


def _pixels(shape: Shape) -> Coordinates:
    """The pixels themselves."""
    del shape
    return Coordinates(lambda z: z, lambda x: x, lambda x: jnp.clip(x, 0, 1))


def _fourier(shape: Shape) -> Coordinates:
    """Waves with amplitudes of frequency^-1/2: coarse changes cost less than fine ones.

    Frequencies count in cycles a pixel, the constant one like the lowest; the squared factors of
    rfft's waves have the mean 1. After "Feature visualization" (Olah et al. 2017), which takes
    frequency^-1.
    """
    height, width = shape
    lowest = 1 / max(shape)
    frequency = jnp.hypot(jnp.fft.fftfreq(height)[:, None], jnp.fft.rfftfreq(width))
    scale = jnp.maximum(frequency, lowest)[..., None] ** -EXPONENT
    scale = scale / jnp.sqrt(jnp.square(scale).mean())

    def filtered(picture: Image, factor: Array) -> Image:
        waves = jnp.fft.rfft2(picture, axes=(0, 1)) * factor
        return jnp.fft.irfft2(waves, s=shape, axes=(0, 1))

    return Coordinates(lambda z: filtered(z, scale), lambda x: filtered(x, 1 / scale), lambda x: x)


# config.parameterization -> (height, width) -> coordinates.
PARAMETERIZATIONS = {"pixels": _pixels, "fourier": _fourier}
