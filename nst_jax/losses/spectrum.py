"""The spectrum of a texture: which periods it has, across the whole picture."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Complex, Float

from nst_jax.losses.arguments import Image

Spectrum = Complex[Array, "h w2 3"]


def spectrum(texture: Image) -> Spectrum:
    """The Fourier transform of a texture's channels: the half that determines a real picture's."""
    return jnp.fft.rfft2(texture, axes=(0, 1))


def spectrum_distance(image: Image, target: Spectrum) -> Float[Array, ""]:
    """Spectrum loss: mean |x - p(x)|^2, in squared pixel units.

    p(x) is the nearest picture to x whose Fourier transform is the target's times a phase at every
    frequency, the same for all channels: the target's spectrum, with the phases of x. The loss sees
    periods of any length; Gram matrices see none that is longer than what one activation sees.

    Args:
      image: the painting, of the texture's size.
      target: from `spectrum`.

    References:
      Liu, Gousseau & Xia 2016, "Texture Synthesis Through Convolutional Neural Networks and
      Spectrum Constraints" (https://arxiv.org/abs/1605.01141).
      Gonthier, Gousseau & Ladjal 2022, "High-Resolution Neural Texture Synthesis with Long-Range
      Constraints" (https://arxiv.org/abs/2008.01808).

    Departs from the papers: the mean over pixels and channels, where they sum.
    """
    height, width, _ = image.shape
    own = spectrum(image)
    # |F - P|^2 with the best phase is |F|^2 + |T|^2 - 2 |sum_c F_c conj(T_c)|, by Parseval.
    common = jnp.abs(jnp.sum(own * jnp.conj(target), -1) + 1e-12)
    squares = jnp.sum(jnp.square(jnp.abs(own)) + jnp.square(jnp.abs(target)), -1)
    return jnp.sum(_twice(width) * (squares - 2 * common)) / (3.0 * (height * width) ** 2)


def _twice(width: int) -> Float[Array, " w2"]:
    """For how many columns of the whole transform each one of a real transform stands."""
    columns = jnp.arange(width // 2 + 1)
    alone = (columns == 0) | (2 * columns == width)
    return jnp.where(alone, 1.0, 2.0)
