"""VGG-16 and VGG-19 as a frozen feature extractor: a picture in, named activations (taps) out.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015
(https://arxiv.org/abs/1409.1556).
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from nst_jax.architecture import block, conv, relu


class Frozen(nnx.Variable):
    """An array of a pretrained network. It is no `nnx.Param`: only the image is ever learned."""


class VGG(nnx.Module):
    """A pretrained VGG up to the deepest tap, called with one picture.

    Used as `graphdef, params = nnx.split(VGG(...))` once, then `nnx.merge(graphdef, params)(image)`
    inside jitted functions, so that the 80 MB of weights are arguments, never constants.

    Args:
      layers: name -> (kernel [3, 3, in, out], bias [out]) float32, for RGB input, in order.
      mean, scale: [3] the input convention of the weights: the first kernel sees
        (image - mean) * scale.
      taps: names of the activations to return; `architecture.taps` lists them.
      pooling: "max" (as trained) or "average" (Gatys et al. 2015: smoother pictures).
    """

    def __init__(
        self,
        layers: Mapping[str, tuple[np.ndarray, np.ndarray]],
        mean: np.ndarray,
        scale: np.ndarray,
        taps: Sequence[str],
        pooling: str = "max",
    ):
        names = list(layers)
        deepest = max(names.index(conv(tap)) for tap in taps)
        self.convs = nnx.Dict({name: Convolution(*layers[name]) for name in names[: deepest + 1]})
        self.mean = Frozen(jnp.asarray(mean))
        self.scale = Frozen(jnp.asarray(scale))
        self.taps = tuple(taps)
        self.pooling = pooling

    def __call__(self, image: Float[Array, "h w 3"]) -> dict[str, Float[Array, "_ _ _"]]:
        """Activations of an sRGB picture in [0, 1]: tap -> [h // 2^(b-1), w // 2^(b-1), channels].

        Values outside [0, 1] are allowed: L-BFGS's line search looks there.
        """
        features = ((image - self.mean[...]) * self.scale[...])[None]
        seen = {}
        for name, convolution in self.convs.items():
            if name.endswith("_1") and block(name) > 1:
                features = POOLINGS[self.pooling](features)
            seen[name] = features = convolution(features)
            seen[relu(name)] = features = jax.nn.relu(features)
        return {tap: seen[tap][0] for tap in self.taps}


class Convolution(nnx.Module):
    """A frozen 3x3 convolution with zero padding and stride 1, and its bias."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray):
        self.kernel = Frozen(jnp.asarray(kernel))
        self.backward_kernel = Frozen(jnp.asarray(kernel[::-1, ::-1].transpose(0, 1, 3, 2)))
        self.bias = Frozen(jnp.asarray(bias))

    def __call__(self, features: Float[Array, "1 h w i"]) -> Float[Array, "1 h w o"]:
        """features * kernel + bias."""
        return _convolve(features, self.kernel[...], self.backward_kernel[...]) + self.bias[...]


@jax.custom_vjp
def _convolve(features: Array, kernel: Array, backward_kernel: Array) -> Array:
    """Convolution that is differentiable in its features only.

    The gradient of a convolution is a convolution with the kernel reversed in space and transposed
    in channels. Autodiff reverses it at every call, which XLA does not fold inside a loop on CPU
    (a step takes 4 to 6 times as long); here the caller brings the reversed kernel along. It costs
    the forward-mode derivatives (jvp, Hessian-vector products).
    """
    del backward_kernel
    return jax.lax.conv_general_dilated(
        features, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _convolve_forward(features: Array, kernel: Array, backward_kernel: Array):
    return _convolve(features, kernel, backward_kernel), (kernel, backward_kernel)


def _convolve_backward(kernels: tuple[Array, Array], cotangent: Array):
    kernel, backward_kernel = kernels
    return _convolve(cotangent, backward_kernel, kernel), None, None


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _corners(features: Array) -> list[Array]:
    """The four members of every 2x2 window of stride 2; an odd last row or column is left out.

    Four strided views let XLA fuse the pooling and its gradient, which `reduce_window` does not.
    """
    height, width = (side // 2 * 2 for side in features.shape[1:3])
    return [features[:, y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)]


def _max_pool(features: Array) -> Array:
    """Maximum of each window; in pairs, so that equal members share the gradient equally."""
    a, b, c, d = _corners(features)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _average_pool(features: Array) -> Array:
    a, b, c, d = _corners(features)
    return (a + b + c + d) / 4


POOLINGS = {"max": _max_pool, "average": _average_pool}
