"""Parameterisations of the picture: the coordinates z that the optimiser steps, x = D z.

D is a linear map of pictures [h, w, 3], symmetric and invertible. By the chain rule the optimiser
sees the gradient D dJ/dx. It thus has another notion of which changes of the picture are small.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

# Takes fewer evaluations than pixels do, and than other exponents (docs/performance.md).
AMPLITUDE_EXPONENT = 0.5

Image = Float[Array, "h w 3"]
Shape = tuple[int, ...]  # (height, width)


class Coordinates(NamedTuple):
    """A parameterisation for pictures of one size.

    Attributes:
      decode: z -> x, both [h, w, 3].
      encode: x -> z.
      project: x after a step -> x for the next step. It clips pixels to [0, 1] where each
        coordinate is one pixel. Where a coordinate affects many pixels, clipping would undo part of
        its step, so pixels may leave the range.
    """

    decode: Callable[[Image], Image]
    encode: Callable[[Image], Image]
    project: Callable[[Image], Image]


def _pixels(shape: Shape) -> Coordinates:
    """The pixels themselves: D = 1."""
    del shape
    return Coordinates(lambda z: z, lambda x: x, lambda x: jnp.clip(x, 0, 1))


def _fourier(shape: Shape) -> Coordinates:
    """Fourier coefficients scaled by frequency^-1/2, which makes coarse changes cheaper than fine.

    Frequencies are in cycles per pixel; the constant counts as the lowest one. The scales are
    normalised so that their mean square over the coefficients of rfft2 is 1.

    References:
      Olah, Mordvintsev & Schubert 2017, "Feature Visualization", Distill.

    Departs from the article: it scales by frequency^-1.
    """
    height, width = shape
    lowest = 1 / max(shape)
    frequency = jnp.hypot(jnp.fft.fftfreq(height)[:, None], jnp.fft.rfftfreq(width))
    scale = jnp.maximum(frequency, lowest)[..., None] ** -AMPLITUDE_EXPONENT
    scale = scale / jnp.sqrt(jnp.square(scale).mean())

    def filtered(picture: Image, factor: Array) -> Image:
        coefficients = jnp.fft.rfft2(picture, axes=(0, 1)) * factor
        return jnp.fft.irfft2(coefficients, s=shape, axes=(0, 1))

    return Coordinates(lambda z: filtered(z, scale), lambda x: filtered(x, 1 / scale), lambda x: x)


# Name -> function of (height, width) that returns the coordinates.
PARAMETERIZATIONS = {"pixels": _pixels, "fourier": _fourier}
