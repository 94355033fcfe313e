"""Style: which features occur together, wherever in the painting they do."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def gram(features: Float[Array, "h w c"]) -> Float[Array, "c c"]:
    """Gram matrix G = A^T A / (n_H n_W), with A [n_H n_W, n_C] the activations, one row a position.

    Gatys et al. 2015 (https://arxiv.org/abs/1508.06576), equation 3, sums over positions; here it
    is their mean, so that a style picture may have another size than the output. The sum is taken
    in float32 whatever the activations' type.
    """
    height, width, _ = features.shape
    total = jnp.einsum("hwc,hwd->cd", features, features, preferred_element_type=jnp.float32)
    return total / (height * width)


def describe(features: Float[Array, "h w c"]) -> Float[Array, "c c"]:
    """The target is the style picture's Gram matrix."""
    return gram(features)


def distance(features: Float[Array, "h w c"], target: Float[Array, "c c"]) -> Float[Array, ""]:
    """J_style = 1 / (4 n_C^2) * sum (G_S - G_G)^2, in fourth-power units of the activations.

    Gatys et al. 2015, equation 4. With both pictures of one size this is the paper's
    1 / (4 n_C^2 (n_H n_W)^2) * sum (G_S - G_G)^2: `gram` has divided by n_H n_W already.
    """
    channels = features.shape[-1]
    return jnp.sum(jnp.square(gram(features) - target)) / (4 * channels**2)
