"""VGG-16 and VGG-19 as a frozen feature extractor: a picture in, named activations (taps) out.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015
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

PIECE = 2  # convolutions of a block that gradients compute anew at once


class VGG(nnx.Module):
    """A pretrained VGG up to the deepest tap, called with one picture.

    Used as `graphdef, params = nnx.split(VGG(...))` once, then `nnx.merge(graphdef, params)(image)`
    inside jitted functions, so that the 80 MB of weights are arguments, never constants.

    Args:
      layers: name -> (kernel [3, 3, in, out], bias [out]) float32, for RGB input, in order.
      mean, scale: [3] the input convention of the weights: the first kernel sees
        (image - mean) * scale.
      taps: names of the activations to return; `architecture.taps` lists them.
      pooling: a key of `POOLINGS`; "max" as trained.
      padding: a key of `PADDINGS`; "zero" as trained.
      method: of its convolutions: one of `convolution.METHODS`.
      rematerialize: whether gradients compute activations anew instead of keeping them, two
        convolutions at once, for half the memory.
      dtype: that activations and their gradients are computed in.
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
            # Winograd's sums cancel in bfloat16. Its tiles of the largest layers would take the
            # memory that computing anew spares.
            largest = rematerialize and block(name) < 3
            return "direct" if method == "auto" and (largest or dtype != jnp.float32) else method

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
        """Activations of an sRGB picture in [0, 1]: tap -> [h // 2^(b-1), w // 2^(b-1), c].

        They are float32, whatever `dtype` they were computed in.
        """
        features = ((image - self.mean[...]) * self.scale[...])[None].astype(self.dtype)
        seen = {}
        blocks = [[*names] for _, names in itertools.groupby(self.convs, block)]
        for names in blocks:
            for start in range(0, len(names), PIECE):
                pooled = names is not blocks[-1] and start + PIECE >= len(names)
                piece = functools.partial(self._piece, names[start : start + PIECE], pooled)
                features, own = (rematerialized(piece) if self.rematerialize else piece)(features)
                seen |= own
        return {tap: seen[tap][0].astype(jnp.float32) for tap in self.taps}

    def _piece(
        self, names: Sequence[str], pooled: bool, features: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Convolutions with ReLUs between them: what the next piece sees, and taps."""
        seen = {}
        for name in names:
            seen[name] = features = self.convs[name](features)
            seen[relu(name)] = features = jax.nn.relu(features)
        features = POOLINGS[self.pooling](features) if pooled else features
        return features, {tap: seen[tap] for tap in self.taps if tap in seen}


def rematerialized(function: Callable[[Array], tuple[Array, Any]]) -> Callable[[Array], Any]:
    """The function, with a gradient that keeps its argument alone and computes all else anew.

    `jax.checkpoint` does the same in vain on CPUs, where XLA finds both computations and keeps the
    first. Here the second is of another argument, to which it adds a zero that the gradient from
    above is needed for.
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


# Name -> what lies beyond the edge of the picture at the first convolution, and at all others.
PADDINGS = {
    "zero": ("zero", "zero"),
    "reflect": ("reflect", "reflect"),
    "replicate": ("edge", "edge"),
    "circular": ("wrap", "wrap"),  # a picture whose opposite edges meet: textures that tile
    "replicate_first": ("edge", "zero"),  # crowsonkb's: fewer artefacts at the edges
}


def _corners(features: Array) -> list[Array]:
    """The four members of every 2x2 window of stride 2; an odd last row or column is left out.

    Four strided views let XLA fuse the pooling and its gradient, which `reduce_window` does not.
    """
    height, width = (side // 2 * 2 for side in features.shape[1:3])
    return [features[:, y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)]


def _max_pool(features: Array) -> Array:
    """Maximum of each window, in pairs, whose members share the gradient where they are equal."""
    a, b, c, d = _corners(features)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _average_pool(features: Array) -> Array:
    a, b, c, d = _corners(features)
    return (a + b + c + d) / 4


def _l2_pool(features: Array) -> Array:
    """Root of the mean square; where all are 0 the gradient is 0."""
    mean = _average_pool(jnp.square(features))
    positive = mean > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, mean, 1)), 0)


POOLINGS: dict[str, Callable[[Array], Array]] = {
    "max": _max_pool,
    "average": _average_pool,  # Gatys et al. 2015: smoother pictures
    "l2": _l2_pool,
    # Rescaled so that activations keep about the size that they have with "max", as in
    # crowsonkb/style-transfer-pytorch (whose L2 pooling, before its 0.78, is the root of the sum).
    "average_rescaled": lambda features: 2 * _average_pool(features),
    "l2_rescaled": lambda features: 0.78 * 2 * _l2_pool(features),
}
