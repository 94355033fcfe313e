"""Photorealistic regularisation: in every small window, all colours change in the same way."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from nst_jax.losses.arguments import Image

EPSILON = 1e-5  # added to the sums of squares of a window, as of a noise of 0.001
WINDOW = 3  # pixels across

Basis = Float[Array, "9 h2 w2 3"]


def colour_basis(photo: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "9 h2 w2 3"]:
    """An orthonormal basis of the photograph's colours in every 3x3 window.

    The colours of a window, centred and whitened by the Cholesky factor of their covariance. In
    float64: of a nearly flat window, the inverse in float32 would be noise.

    Args:
      photo: sRGB in [0, 1].

    Returns:
      float32; the pixels of the window come first. 108 bytes a pixel.
    """
    height, width, _ = photo.shape
    windows = np.stack(
        [
            photo[y : height - 2 + y, x : width - 2 + x].astype(np.float64)
            for y in range(WINDOW)
            for x in range(WINDOW)
        ]
    )
    windows -= windows.mean(0)
    covariance = np.einsum("khwa,khwb->hwab", windows, windows) + EPSILON * np.eye(3)
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    return np.einsum("hwab,khwb->khwa", whitening, windows).astype(np.float32)


def matting_distance(image: Image, basis: Basis) -> Float[Array, ""]:
    """Matting loss: mean over 3x3 windows of sum_c V_c^T L V_c, in squared pixel units.

    V_c [9] are the painting's values of the channel c in the window, and L is the matting Laplacian
    of the photograph there: what is left of V_c after the best affine function of the photograph's
    colours, |V_c - mean|^2 - |Q^T (V_c - mean)|^2 with the orthonormal basis Q. It is 0 where every
    window is an affine recolouring of the photograph's. That keeps the photograph's edges and rules
    out strokes that it does not have.

    Args:
      image: the painting.
      basis: Q, from `colour_basis`.

    References:
      Luan et al. 2017, "Deep Photo Style Transfer" (https://arxiv.org/abs/1703.07511), equation 2.
      Levin, Lischinski & Weiss 2008, "A Closed-Form Solution to Natural Image Matting", eq. 12.

    Departs from the papers: it takes the mean over windows where they sum, and adds 1e-5 to the
    sums of squares of a window where their programs add 1e-7, which float32 does not resolve.
    """
    height, width = (side - 2 for side in image.shape[:2])
    views = [image[y : height + y, x : width + x] for y in range(WINDOW) for x in range(WINDOW)]
    centre = sum(views[1:], views[0]) / len(views)
    squares, projected = jnp.float32(0), jnp.zeros((height, width, 3, 3))
    for view, q in zip(views, basis, strict=True):
        centred = view - centre
        squares = squares + jnp.sum(jnp.square(centred))
        projected = projected + q[..., None] * centred[..., None, :]
    return (squares - jnp.sum(jnp.square(projected))) / (height * width)
