"""What is minimised: J(image) = alpha J_content + beta J_style + tv_weight TV.

J_content = sum over layers of lambda_l * content.distance, J_style = likewise with style.distance
(Gatys et al. 2015, https://arxiv.org/abs/1508.06576, equations 5 and 7).

Everything the objective needs comes through `Args`: the network's weights are arguments of the
compiled program, never constants in it, and changing a knob compiles nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from nst_jax.losses import content, smoothness, style

Image = Float[Array, "h w 3"]


class Network(NamedTuple):
    """A `VGG` as `nnx.split` leaves it: its structure, and its arrays."""

    graphdef: nnx.GraphDef
    params: nnx.State


class Targets(NamedTuple):
    """What the pictures ask for, by tap; computed once for a run."""

    content: dict[str, Array]
    style: dict[str, Array]


class Knobs(NamedTuple):
    """Scalars that weigh the terms; traced, so that a change compiles nothing.

    Attributes:
      alpha, beta, tv_weight: weights of content, style and total variation, >= 0.
      content_lambdas, style_lambdas: weight of each layer by tap, >= 0; 0 switches a layer off.
    """

    alpha: float
    beta: float
    tv_weight: float
    content_lambdas: dict[str, float]
    style_lambdas: dict[str, float]


class Args(NamedTuple):
    """All that the objective depends on besides the image."""

    network: Network
    targets: Targets
    knobs: Knobs


def features(network: Network, image: Image) -> dict[str, Array]:
    """The network's taps for an image. Differentiable in the image only: the network is frozen."""
    params = jax.lax.stop_gradient(network.params)
    return nnx.merge(network.graphdef, params)(image)


@jax.jit
def targets_from(
    network: Network,
    content_image: Image | None,
    style_image: Float[Array, "style_h style_w 3"] | None,
    knobs: Knobs,
) -> Targets:
    """The targets of a content and a style image, at the layers that `knobs` names.

    Args:
      network: must have all those layers among its taps.
      content_image, style_image: sRGB in [0, 1], of any two sizes; None where no layer needs it.
    """
    content_taps = {} if content_image is None else features(network, content_image)
    style_taps = {} if style_image is None else features(network, style_image)
    return Targets(
        {tap: content.describe(content_taps[tap]) for tap in knobs.content_lambdas},
        {tap: style.describe(style_taps[tap]) for tap in knobs.style_lambdas},
    )


def breakdown(image: Image, args: Args) -> dict[str, Float[Array, ""]]:
    """Every term by name, and J as "total".

    "content", "style" and "tv" are J_content, J_style and TV, before alpha, beta and tv_weight;
    "content/relu4_2" and the like are single layers before their lambda. So terms can be compared
    between runs with different weights.
    """
    knobs, targets = args.knobs, args.targets
    taps = features(args.network, image)
    contents = {t: content.distance(taps[t], target) for t, target in targets.content.items()}
    styles = {t: style.distance(taps[t], target) for t, target in targets.style.items()}
    zero = jnp.float32(0)
    terms = {
        "content": sum((knobs.content_lambdas[tap] * term for tap, term in contents.items()), zero),
        "style": sum((knobs.style_lambdas[tap] * term for tap, term in styles.items()), zero),
        "tv": smoothness.total_variation(image),
    }
    total = (
        knobs.alpha * terms["content"] + knobs.beta * terms["style"] + knobs.tv_weight * terms["tv"]
    )
    layers = {f"content/{tap}": term for tap, term in contents.items()}
    layers |= {f"style/{tap}": term for tap, term in styles.items()}
    return {"total": total} | terms | layers


def in_order(terms: dict[str, float]) -> dict[str, float]:
    """Terms as people read them: the total, its three parts, the layers. Compilation sorts them."""
    first = ("total", "content", "style", "tv")
    return {name: terms[name] for name in (*first, *sorted(terms.keys() - {*first}))}


def objective(image: Image, args: Args) -> Float[Array, ""]:
    """J(image): the scalar that the optimiser steps down."""
    return breakdown(image, args)["total"]
