"""Frozen 3x3 convolutions of stride 1, differentiable in their input: direct or Winograd.

Winograd's F(4x4, 3x3) computes each tile of 4x4 outputs from 6x6 inputs with a quarter of the
multiplications of the direct convolution: Y = A^T [(G g G^T) * (B^T d B)] A. Its results differ
from the direct ones by about 2e-5 of the largest output. On CPUs it is faster for layers with
many channels.

References:
  Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks"
  (https://arxiv.org/abs/1509.09308), section 4.3.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

OUTPUT_TILE_SIDE = 4  # outputs along each side of a tile; a tile's input has 6
# Both measured on 2 CPU cores: Winograd pays off from this many input or output channels, and
# transformed tiles of up to this many bytes stay in the cache.
MIN_WINOGRAD_CHANNELS = 128
MAX_STRIP_BYTES = 20 << 20

# B^T, G and A^T of the paper.
_BT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_G = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float32,
)
_AT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    np.float32,
)
# Kronecker products apply both sides of a transform at once: vec(B^T d B) = kron(B^T, B^T) vec(d).
_INPUT_TRANSFORM, _OUTPUT_TRANSFORM = np.kron(_BT, _BT), np.kron(_AT, _AT)

METHODS = ("auto", "direct", "winograd")


class Frozen(nnx.Variable):
    """An array of a pretrained network. It is not an `nnx.Param`: only the image is optimised."""


class Convolution(nnx.Module):
    """A frozen 3x3 convolution of stride 1 with a bias; it keeps height and width.

    Args:
      kernel: [3, 3, in, out].
      bias: [out].
      padding: what lies beyond the edge: "zero", or a mode of `jnp.pad`.
      method: one of `METHODS`; "auto" is "winograd" for layers of at least `MIN_WINOGRAD_CHANNELS`
        on CPUs and "direct" otherwise.
      dtype: of kernel and bias; the activations passed in must have the same dtype.
    """

    def __init__(
        self,
        kernel: np.ndarray,
        bias: np.ndarray,
        padding: str = "zero",
        method: str = "direct",
        dtype: Any = jnp.float32,
    ):
        form = transformed if _uses_winograd(kernel, method) else jnp.asarray
        self.kernel = Frozen(form(kernel).astype(dtype))
        backward = form(kernel[::-1, ::-1].transpose(0, 1, 3, 2))
        self.backward_kernel = Frozen(backward.astype(dtype))
        self.bias = Frozen(jnp.asarray(bias, dtype))
        self.padding = padding

    def __call__(self, features: Float[Array, "1 h w i"]) -> Float[Array, "1 h w o"]:
        """Activations after the layer: features * kernel + bias.

        Args:
          features: [1, h, w, in].

        Returns:
          [1, h, w, out].
        """
        if self.padding == "zero":
            return self._convolved(features, zeros=1)
        return self.inner(jnp.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)), self.padding))

    def inner(self, features: Float[Array, "1 h w i"]) -> Float[Array, "1 _ _ o"]:
        """Activations where the kernel lies within the features: [1, h - 2, w - 2, out]."""
        return self._convolved(features, zeros=0)

    def _convolved(self, features: Array, zeros: int) -> Array:
        kernels = self.kernel[...], self.backward_kernel[...]
        return cast(Array, convolve(features, *kernels, zeros)) + self.bias[...]


def _uses_winograd(kernel: np.ndarray, method: str) -> bool:
    """Whether `method` means Winograd for this kernel on this backend."""
    if method != "auto":
        return method == "winograd"
    return jax.default_backend() == "cpu" and max(kernel.shape[2:]) >= MIN_WINOGRAD_CHANNELS


def transformed(kernel: np.ndarray) -> Float[Array, "36 i o"]:
    """Winograd transform of a kernel: G g G^T, one matrix for each of a tile's 36 elements.

    Args:
      kernel: [3, 3, in, out].

    Returns:
      [36, in, out].
    """
    both = np.kron(_G, _G) @ kernel.reshape(9, -1)
    return jnp.asarray(both.reshape(36, *kernel.shape[2:]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def convolve(features: Array, kernel: Array, backward_kernel: Array, zeros: int) -> Array:
    """Convolution of stride 1 with zero padding, differentiable in its features only.

    The VJP of a convolution is a convolution with the kernel reversed in space and transposed in
    channels. Autodiff reverses the kernel at every call, and on CPU XLA does not fold that inside a
    loop: a step takes 4 to 6 times as long. Here the caller passes the reversed kernel along. The
    price is that forward-mode derivatives (jvp, Hessian-vector products) are not available.

    Args:
      features: [1, h, w, in].
      kernel: [3, 3, in, out] for the direct convolution, [36, in, out] as `transformed` returns it
        for Winograd's.
      backward_kernel: the reversed kernel, in the same form.
      zeros: width of the zero padding on every side, 0 to 2; static.

    Returns:
      [1, h + 2 zeros - 2, w + 2 zeros - 2, out].
    """
    del backward_kernel
    if kernel.ndim == 3:
        # A batch runs one picture at a time. Each picture's sums are then bit-exact with those of
        # the picture alone, and its tiles fit the cache.
        tiled = jax.custom_batching.sequential_vmap(functools.partial(winograd, zeros=zeros))
        return tiled(features, kernel)
    # On CPUs, XLA takes 3 times as long without padding as with a row that is dropped.
    pads = max(zeros, 1)
    result = jax.lax.conv_general_dilated(
        features, kernel, (1, 1), [(pads, pads)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return result if zeros else result[:, 1:-1, 1:-1]


def _forward(features: Array, kernel: Array, backward_kernel: Array, zeros: int):
    """`convolve` and the residuals of its VJP."""
    return convolve(features, kernel, backward_kernel, zeros), (kernel, backward_kernel)


def _backward(zeros: int, kernels: tuple[Array, Array], cotangent: Array):
    """The VJP: `convolve` with the two kernels swapped; the kernels themselves get no gradient."""
    kernel, backward_kernel = kernels
    return convolve(cotangent, backward_kernel, kernel, 2 - zeros), None, None


convolve.defvjp(_forward, _backward)


def winograd(
    features: Float[Array, "1 h w i"], kernel: Float[Array, "36 i o"], zeros: int
) -> Float[Array, "1 _ _ o"]:
    """Winograd convolution in horizontal strips, each small enough for its tiles to stay in cache.

    Args:
      features: [1, h, w, in].
      kernel: [36, in, out], from `transformed`.
      zeros: width of the zero padding on every side.

    Returns:
      [1, h + 2 zeros - 2, w + 2 zeros - 2, out].
    """
    side = OUTPUT_TILE_SIDE
    _, height, width, channels = features.shape
    height, width = height + 2 * zeros - 2, width + 2 * zeros - 2  # of the result
    tiles_down, tiles_across = -(-height // side), -(-width // side)
    tile_row_bytes = 36 * 4 * tiles_across * max(channels, kernel.shape[2])
    strip_tile_rows = min(tiles_down, max(1, MAX_STRIP_BYTES // tile_row_bytes))
    strips = -(-tiles_down // strip_tile_rows)
    strip_tile_rows = -(-tiles_down // strips)  # strips of equal height
    below = side * strip_tile_rows * strips - height
    beside = side * tiles_across - width
    padded = jnp.pad(features[0], ((zeros, zeros + below + 2), (zeros, zeros + beside + 2), (0, 0)))

    if strips == 1:
        return _tiles(padded, kernel)[None, :height, :width]

    def add_strip(k: Array, result: Array) -> Array:
        first = side * strip_tile_rows * k
        rows = jax.lax.dynamic_slice_in_dim(padded, first, side * (strip_tile_rows + 1), 0)
        return jax.lax.dynamic_update_slice_in_dim(result, _tiles(rows, kernel), first, 0)

    shape = (side * strip_tile_rows * strips, side * tiles_across, kernel.shape[2])
    # XLA would hoist constant zeros out of the step loop and keep that buffer alive throughout, so
    # make them depend on the input.
    empty = jnp.full(shape, 0 * features[0, 0, 0, 0])
    return jax.lax.fori_loop(0, strips, add_strip, empty)[None, :height, :width]


def _tiles(padded: Array, kernel: Array) -> Array:
    """Winograd on whole tiles: [4 (down + 1), 4 (across + 1), in] -> [4 down, 4 across, out].

    Of the last 4 input rows and columns only the first 2 are used.
    """
    side = OUTPUT_TILE_SIDE
    down, across = (length // side - 1 for length in padded.shape[:2])
    inputs = padded.reshape(down + 1, side, across + 1, side, -1).transpose(1, 3, 0, 2, 4)
    # Tiles overlap: the last 2 rows and columns of a tile's 6x6 inputs are the next tile's first.
    inputs = jnp.concatenate([inputs[:, :, :-1], inputs[:2, :, 1:]], 0)
    inputs = jnp.concatenate([inputs[..., :-1, :], inputs[:, :2, :, 1:]], 1)
    into = jnp.matmul(_INPUT_TRANSFORM, inputs.reshape(36, -1)).reshape(36, down * across, -1)
    products = jax.lax.dot_general(into, kernel, (((2,), (1,)), ((0,), (0,))))
    tiles = jnp.matmul(_OUTPUT_TRANSFORM, products.reshape(36, -1))
    tiles = tiles.reshape(side, side, down, across, -1)
    return tiles.transpose(2, 0, 3, 1, 4).reshape(side * down, side * across, -1)
