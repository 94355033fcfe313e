"""VGG-16 and VGG-19 as frozen feature extractors: a picture in, named activations (taps) out.

References:
  Simonyan & Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
  (https://arxiv.org/abs/1409.1556).
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from nst_jax.network.architecture import block, conv, relu
from nst_jax.network.convolution import Convolution, Frozen

CONVS_PER_SEGMENT = 2  # convolutions between two activations that rematerialisation keeps


class VGG(nnx.Module):
    """A pretrained VGG, cut off after the deepest tap, for one picture at a time.

    Call `graphdef, params = nnx.split(VGG(...))` once, and `nnx.merge(graphdef, params)(image)`
    inside jitted functions. The 80 MB of weights are then traced arguments and never constants of
    the compiled program.

    Args:
      layers: name -> (kernel [3, 3, in, out], bias [out]) in float32, for RGB input, in network
        order.
      mean: [3], of the input normalisation: the first kernel sees (image - mean) * scale.
      scale: [3], of the input normalisation.
      taps: names of the activations to return, out of `architecture.taps`.
      pooling: a key of `POOLINGS`; the weights were trained with "max".
      padding: a key of `PADDINGS`; the weights were trained with "zero".
      method: how to convolve, one of `convolution.METHODS`.
      rematerialize: whether the backward pass recomputes activations, two convolutions at a time,
        instead of keeping them; this halves the memory.
      dtype: of the activations and their gradients.
    """

    def __init__(
        self,
        layers: Mapping[str, tuple[np.ndarray, np.ndarray]],
        mean: np.ndarray,
        scale: np.ndarray,
        taps: Sequence[str],
        pooling: str = "max",
        padding: str = "zero",
        method: str = "direct",
        rematerialize: bool = False,
        dtype: Any = jnp.float32,
    ):
        def method_of(name: str) -> str:
            if method != "auto":
                return method
            # In bfloat16 Winograd's sums lose their digits to cancellation. With rematerialisation
            # its tiles in the largest layers would take up the memory that is being saved.
            too_large = rematerialize and block(name) < 3
            return "direct" if too_large or dtype != jnp.float32 else "auto"

        names = list(layers)
        deepest = max(names.index(conv(tap)) for tap in taps)
        first, rest = PADDINGS[padding]
        self.convs = nnx.Dict(
            {
                name: Convolution(
                    *layers[name], first if name == names[0] else rest, method_of(name), dtype
                )
                for name in names[: deepest + 1]
            }
        )
        self.mean = Frozen(jnp.asarray(mean))
        self.scale = Frozen(jnp.asarray(scale))
        self.taps = tuple(taps)
        self.pooling = pooling
        self.rematerialize = rematerialize
        self.dtype = dtype

    def __call__(self, image: Float[Array, "h w 3"]) -> dict[str, Float[Array, "_ _ _"]]:
        """Activations at all taps.

        Args:
          image: [h, w, 3], sRGB in [0, 1].

        Returns:
          tap -> [h // 2^(b - 1), w // 2^(b - 1), c] for a tap in block b, in float32 whatever
          `dtype` they were computed in.
        """
        features = ((image - self.mean[...]) * self.scale[...])[None].astype(self.dtype)
        activations = {}
        blocks = [list(names) for _, names in itertools.groupby(self.convs, block)]
        for names in blocks:
            for start in range(0, len(names), CONVS_PER_SEGMENT):
                stop = start + CONVS_PER_SEGMENT
                pooled = names is not blocks[-1] and stop >= len(names)
                segment = functools.partial(self._segment, names[start:stop], pooled)
                if self.rematerialize:
                    segment = rematerialized(segment)
                features, own = segment(features)
                activations |= own
        return {tap: activations[tap][0].astype(jnp.float32) for tap in self.taps}

    def _segment(
        self, names: Sequence[str], pooled: bool, features: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Consecutive layers of one block: (input of the next segment, tap -> activations)."""
        activations = {}
        for name in names:
            features = self.convs[name](features)
            activations[name] = features
            features = jax.nn.relu(features)
            activations[relu(name)] = features
        if pooled:
            features = POOLINGS[self.pooling](features)
        return features, {tap: activations[tap] for tap in self.taps if tap in activations}


def rematerialized(function: Callable[[Array], tuple[Array, Any]]) -> Callable[[Array], Any]:
    """A function whose VJP keeps only the argument and recomputes everything else, on CPUs too.

    `jax.checkpoint` saves nothing on CPUs: XLA merges the recomputation with the forward pass and
    keeps the activations. Here the recomputation adds a zero to the argument that depends on the
    incoming cotangent, so XLA cannot merge the two.

    Args:
      function: features -> (features, pytree); differentiable in its argument.
    """

    @jax.custom_vjp
    def call(features: Array) -> Any:
        return function(features)

    def forward(features: Array) -> tuple[Any, Array]:
        return function(features), features

    def backward(features: Array, cotangents: tuple[Array, Any]) -> Any:
        zero = 0 * cotangents[0].ravel()[0]
        _, pull = jax.vjp(function, features + zero)
        return pull(cotangents)

    call.defvjp(forward, backward)
    return call


# Name -> what lies beyond the edge, at the first convolution and at all others.
PADDINGS = {
    "zero": ("zero", "zero"),
    "reflect": ("reflect", "reflect"),
    "replicate": ("edge", "edge"),
    "circular": ("wrap", "wrap"),  # opposite edges meet, so that textures tile
    "replicate_first": ("edge", "zero"),  # as crowsonkb's: fewer artefacts at the edges
}


def _corners(features: Array) -> list[Array]:
    """The four elements of each 2x2 window of stride 2; an odd last row or column is dropped.

    XLA fuses the pooling and its gradient over four strided views, but not over `reduce_window`.
    """
    height, width = (side // 2 * 2 for side in features.shape[1:3])
    return [features[:, y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)]


def _first_larger(a: Array, b: Array) -> Array:
    """The maximum; `a` alone has the gradient where both are equal."""
    return jnp.where(b > a, b, a)


def _max_pool(features: Array) -> Array:
    """Maximum of each window; of equal elements the first, by rows, has the gradient.

    So have PyTorch and TensorFlow. `jnp.maximum` would share it among them.
    """
    a, b, c, d = _corners(features)
    return _first_larger(_first_larger(a, b), _first_larger(c, d))


def _max_pool_of_all(features: Array) -> Array:
    """Maximum of each window; an odd last row or column makes windows of its own."""
    height, width = features.shape[1:3]
    # The maximum over half a window is that over its elements twice.
    whole = jnp.pad(features, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge")
    return _max_pool(whole)


def _average_pool(features: Array) -> Array:
    """Mean of each window."""
    a, b, c, d = _corners(features)
    return (a + b + c + d) / 4


def _l2_pool(features: Array) -> Array:
    """Root mean square of each window; the gradient is 0 where the whole window is 0."""
    mean = _average_pool(jnp.square(features))
    positive = mean > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, mean, 1)), 0)


# Name -> 2x2 pooling of stride 2, [1, h, w, c] -> [1, h // 2, w // 2, c]; "max_ceil" rounds up.
POOLINGS: dict[str, Callable[[Array], Array]] = {
    "max": _max_pool,
    "max_ceil": _max_pool_of_all,  # as Torch and Caffe: sides are halved, rounding up
    "average": _average_pool,  # Gatys et al. 2015: smoother pictures
    "l2": _l2_pool,
    # Rescaled so that activations stay about as large as with "max", as in
    # crowsonkb/style-transfer-pytorch, where L2 pooling is 0.78 times the root of the sum of
    # squares.
    "average_rescaled": lambda features: 2 * _average_pool(features),
    "l2_rescaled": lambda features: 0.78 * 2 * _l2_pool(features),
}
