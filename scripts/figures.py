"""What the scripts that redraw Gatys' figures share: flags, and painting from noise."""

from typing import Any

from absl import flags

from nst_jax import config
from nst_jax.config import grammar, rules
from nst_jax.pictures.images import Picture

CONTENT = flags.DEFINE_string("content", config.sample_photograph(), "Photograph.")
STYLE = flags.DEFINE_string("style", str(config.PICTURES / "starry.jpg"), "Painting.")
SIZE = flags.DEFINE_integer("size", 128, "Longer side in pixels.", lower_bound=32)
STEPS = flags.DEFINE_integer("steps", 100, "L-BFGS steps per picture.", lower_bound=1)
BLOCKS = flags.DEFINE_integer(
    "blocks", 5, "Blocks of the network to draw, from the shallowest.", lower_bound=1, upper_bound=5
)
SMOOTHNESS = flags.DEFINE_float("smoothness", 1e5, "Weight of total variation.", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the noise.", lower_bound=0, upper_bound=2**32 - 1)
OUTPUT = flags.DEFINE_string("output", "figure.png", "Picture to write.")


def style_prefixes() -> list[str]:
    """The default style layers with their lambdas: the first, the first two, up to --blocks."""
    layers = grammar.words(rules.STYLE_LOSSES["gram"])
    return [", ".join(layers[: k + 1]) for k in range(BLOCKS.value)]


def from_noise(content: Picture | None, style: Picture | None, **settings: Any) -> Picture:
    """Paints from noise with L-BFGS and average pooling, as the flags say.

    Args:
      content, style: pictures; None leaves one out.
      **settings: other settings of `nst_jax.stylize`.
    """
    from nst_jax import stylize  # imports JAX

    return stylize(
        content,
        style,
        image_size=SIZE.value,
        init={"noise": 1.0},
        pooling="average",
        tv_weight=SMOOTHNESS.value,
        optimizer={"name": "lbfgs"},
        steps=STEPS.value,
        log_every=STEPS.value,
        save_every=0,
        seed=SEED.value,
        **settings,
    )
