"""The photograph's detail in the painting's light and colours, in NumPy on the host."""

import numpy as np
from scipy import fft

from nst_jax.pictures.images import Picture

MIDDLE = 1 / 64  # of the longer side: the size of what is kept by half


def keep_detail(painting: Picture, photo: Picture, share: float) -> Picture:
    """The photograph's edges and textures, with the light and colours of the painting.

    The picture u that minimises |u - P|^2 / L^2 + |grad u - grad C|^2, for the painting P and the
    photograph C. What is much smaller than L pixels comes from the photograph, what is much larger
    from the painting: at the frequency f the painting's share is 1 / (1 + L^2 f^2). Gradients are
    differences between neighbours, none across the border, so a cosine transform solves it exactly.

    Args:
      painting: [h, w, 3] sRGB in [0, 1].
      photo: the same.
      share: of the photograph, 0 to 1; L = share / (1 - share) / 64 of the longer side. 0 is the
        painting; 1 the photograph with the painting's mean colour.

    Returns:
      [h, w, 3] float32, clipped to [0, 1].

    References:
      Mechrez, Shechtman & Zelnik-Manor 2017, "Photorealistic Style Transfer with Screened Poisson
      Equation" (https://arxiv.org/abs/1709.09828).

    Departs from the paper: L grows with the picture, so that a share looks the same at every size.
    """
    if share == 0:
        return painting
    height, width, _ = painting.shape
    length = np.inf if share == 1 else share / (1 - share) * MIDDLE * max(height, width)
    ys, xs = (2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in (height, width))
    frequencies = (ys[:, None] + xs).astype(np.float32)
    frequencies[0, 0] = np.finfo(np.float32).tiny  # the mean is the painting's
    kept = 1 / (1 + np.square(np.float32(length)) * frequencies)
    kept[0, 0] = 1
    found = np.empty_like(painting)
    for channel in range(3):
        difference = np.float32(painting[..., channel] - photo[..., channel])
        spectrum = kept * fft.dctn(difference, norm="ortho")
        found[..., channel] = photo[..., channel] + fft.idctn(spectrum, norm="ortho")
    return np.clip(found, 0, 1)
