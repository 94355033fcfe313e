"""Frozen 3x3 convolutions of stride 1, differentiable in what they see: direct, or Winograd's.

Winograd's F(4x4, 3x3) computes tiles of 4x4 outputs from 6x6 inputs with a quarter of the direct
multiplications: Y = A^T [(G g G^T) * (B^T d B)] A, Lavin & Gray 2016, "Fast Algorithms for
Convolutional Neural Networks" (https://arxiv.org/abs/1509.09308), section 4.3. Its results differ
from the direct ones by about 2e-5 of the largest. On CPUs it is faster where channels are many.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

TILE = 4  # outputs along each side of a tile; it takes in 6
# Measured on 2 CPU cores: from so many channels, in or out, Winograd's pays; and a strip of so many
# bytes of transformed tiles still fits the cache.
WIDE = 128
STRIP_BYTES = 20 << 20

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
# B^T, G and A^T. Both sides of a transform as one product: vec(B^T d B) = kron(B^T, B^T) vec(d).
_INTO, _OUT_OF = np.kron(_BT, _BT), np.kron(_AT, _AT)

METHODS = ("auto", "direct", "winograd")


class Frozen(nnx.Variable):
    """An array of a pretrained network. It is no `nnx.Param`: only the image is ever learned."""


class Convolution(nnx.Module):
    """A frozen 3x3 convolution of stride 1 that keeps the size, and its bias.

    Args:
      kernel, bias: [3, 3, in, out] and [out].
      padding: what lies beyond the edge: "zero", or a mode of `jnp.pad`.
      method: one of `METHODS`; "auto" is "winograd" for wide layers on CPUs, else "direct".
      dtype: of the kernel and the bias; features must have the same.
    """

    def __init__(
        self,
        kernel: np.ndarray,
        bias: np.ndarray,
        padding: str = "zero",
        method: str = "direct",
        dtype: Any = jnp.float32,
    ):
        form = transformed if _winograd(kernel, method) else jnp.asarray
        self.kernel = Frozen(form(kernel).astype(dtype))
        backward = form(kernel[::-1, ::-1].transpose(0, 1, 3, 2))
        self.backward_kernel = Frozen(backward.astype(dtype))
        self.bias = Frozen(jnp.asarray(bias, dtype))
        self.padding = padding

    def __call__(self, features: Float[Array, "1 h w i"]) -> Float[Array, "1 h w o"]:
        """features * kernel + bias."""
        zeros = 1
        if self.padding != "zero":
            features = jnp.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)), self.padding)
            zeros = 0
        kernels = self.kernel[...], self.backward_kernel[...]
        return cast(Array, convolve(features, *kernels, zeros)) + self.bias[...]


def _winograd(kernel: np.ndarray, method: str) -> bool:
    if method != "auto":
        return method == "winograd"
    return jax.default_backend() == "cpu" and max(kernel.shape[2:]) >= WIDE


def transformed(kernel: np.ndarray) -> Float[Array, "36 i o"]:
    """G g G^T of a kernel [3, 3, in, out]: one matrix for each place in a tile."""
    both = np.kron(_G, _G) @ kernel.reshape(9, -1)
    return jnp.asarray(both.reshape(36, *kernel.shape[2:]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def convolve(features: Array, kernel: Array, backward_kernel: Array, zeros: int) -> Array:
    """Convolution with `zeros` zeros around, differentiable in its features only.

    The gradient of a convolution is a convolution with the kernel reversed in space and transposed
    in channels. Autodiff reverses it at every call, which XLA does not fold inside a loop on CPU
    (a step takes 4 to 6 times as long); here the caller brings the reversed kernel along. It costs
    the forward-mode derivatives (jvp, Hessian-vector products).

    Args:
      features: [1, h, w, in].
      kernel: [3, 3, in, out], or as `transformed` makes it; its form says which way is taken.
      backward_kernel: the reversed kernel, likewise.
    """
    del backward_kernel
    if kernel.ndim == 3:
        # One picture of a batch after another: its sums are then those that it has alone, to the
        # bit, and its tiles fit the cache.
        tiled = jax.custom_batching.sequential_vmap(functools.partial(winograd, zeros=zeros))
        return tiled(features, kernel)
    return jax.lax.conv_general_dilated(
        features, kernel, (1, 1), [(zeros, zeros)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _forward(features: Array, kernel: Array, backward_kernel: Array, zeros: int):
    return convolve(features, kernel, backward_kernel, zeros), (kernel, backward_kernel)


def _backward(zeros: int, kernels: tuple[Array, Array], cotangent: Array):
    kernel, backward_kernel = kernels
    return convolve(cotangent, backward_kernel, kernel, 2 - zeros), None, None


convolve.defvjp(_forward, _backward)


def winograd(
    features: Float[Array, "1 h w i"], kernel: Float[Array, "36 i o"], zeros: int
) -> Float[Array, "1 _ _ o"]:
    """The convolution by Winograd's tiles, in strips of rows whose tiles fit the cache."""
    _, height, width, channels = features.shape
    height, width = height + 2 * zeros - 2, width + 2 * zeros - 2  # of the result
    down, across = -(-height // TILE), -(-width // TILE)  # tiles
    row_bytes = 36 * 4 * across * max(channels, kernel.shape[2])  # of a row of tiles
    deep = min(down, max(1, STRIP_BYTES // row_bytes))  # rows of tiles in a strip
    strips = -(-down // deep)
    deep = -(-down // strips)
    below = TILE * deep * strips - height
    beside = TILE * across - width
    padded = jnp.pad(features[0], ((zeros, zeros + below + 2), (zeros, zeros + beside + 2), (0, 0)))

    if strips == 1:
        return _tiles(padded, kernel)[None, :height, :width]

    def strip(k: Array, result: Array) -> Array:
        first = TILE * deep * k
        rows = jax.lax.dynamic_slice_in_dim(padded, first, TILE * (deep + 1), 0)
        return jax.lax.dynamic_update_slice_in_dim(result, _tiles(rows, kernel), first, 0)

    shape = (TILE * deep * strips, TILE * across, kernel.shape[2])
    # Plain zeros XLA would compute once, before the steps, and keep beside all else.
    empty = jnp.full(shape, 0 * features[0, 0, 0, 0])
    return jax.lax.fori_loop(0, strips, strip, empty)[None, :height, :width]


def _tiles(padded: Array, kernel: Array) -> Array:
    """[4 down, 4 across, out] of as many tiles of [4 (down + 1), 4 (across + 1), in].

    Of the last 4 rows and columns 2 are seen.
    """
    down, across = (side // TILE - 1 for side in padded.shape[:2])
    inputs = padded.reshape(down + 1, TILE, across + 1, TILE, -1).transpose(1, 3, 0, 2, 4)
    inputs = jnp.concatenate([inputs[:, :, :-1], inputs[:2, :, 1:]], 0)  # a tile's last 2 rows are
    inputs = jnp.concatenate([inputs[..., :-1, :], inputs[:, :2, :, 1:]], 1)  # the next one's first
    into = jnp.matmul(_INTO, inputs.reshape(36, -1)).reshape(36, down * across, -1)
    products = jax.lax.dot_general(into, kernel, (((2,), (1,)), ((0,), (0,))))
    tiles = jnp.matmul(_OUT_OF, products.reshape(36, -1)).reshape(TILE, TILE, down, across, -1)
    return tiles.transpose(2, 0, 3, 1, 4).reshape(TILE * down, TILE * across, -1)
