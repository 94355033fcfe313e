"""Draws what the layers know of a photograph and of a painting, as one labelled sheet.

python scripts/reconstructions.py --output reconstructions.png

Gatys et al. 2015 (https://arxiv.org/abs/1508.06576), figure 1: from random pixels, the upper row
gives the photograph back from the activations of one layer, the lower row the painting's style from
the Gram matrices of more and more layers. The originals are in the first column. As there, pooling
is average pooling; a little total variation keeps the deep layers' noise down.

2 CPU cores: 4.5 minutes; 1.4 with --size 96 --steps 30.
"""

from absl import flags

from nst_jax import cli
from nst_jax import config
from nst_jax.config import grammar
from nst_jax.config import rules
from nst_jax.network import architecture
from nst_jax.pictures import images, sheets

CONTENT_TAPS = tuple(f"relu{block}_2" for block in range(1, 6))

_CONTENT = flags.DEFINE_string("content", config.sample_photograph(), "Photograph.")
_STYLE = flags.DEFINE_string("style", str(config.PICTURES / "starry.jpg"), "Painting.")
_SIZE = flags.DEFINE_integer("size", 160, "Longer side in pixels.", lower_bound=32)
_STEPS = flags.DEFINE_integer("steps", 100, "Of L-BFGS, for each picture.", lower_bound=1)
_BLOCKS = flags.DEFINE_integer(
    "blocks", 5, "Blocks of the network, a column each.", lower_bound=1, upper_bound=5
)
_SMOOTHNESS = flags.DEFINE_float("smoothness", 1e4, "Weight of total variation.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise.", lower_bound=0, upper_bound=2**32 - 1)
_OUTPUT = flags.DEFINE_string("output", "reconstructions.png", "Picture to write.")


def main():
    """Reads the pictures first, so that a wrong path is told at once."""
    output = sheets.destination(_OUTPUT.value)
    originals = [images.read(path, _SIZE.value) for path in (_CONTENT.value, _STYLE.value)]
    taps = CONTENT_TAPS[: _BLOCKS.value]
    prefixes = style_prefixes()[: _BLOCKS.value]
    upper = [reconstruction(originals[0], None, content_layers=tap) for tap in taps]
    lower = [reconstruction(None, originals[1], style_layers=layers) for layers in prefixes]
    columns = ["original"] + [f"block {architecture.block(tap)}" for tap in taps]
    labels = ["content\nof reluN_2", "style of relu1_1\nto reluN_1"]
    rows = [[originals[0], *upper], [originals[1], *lower]]
    images.write(output, sheets.sheet(rows, labels, columns, height=_SIZE.value))
    print(output)


def style_prefixes() -> list[str]:
    """The default style layers with their lambdas: the first, the first two, and so on."""
    layers = grammar.words(rules.STYLE_LOSSES["gram"])
    return [", ".join(layers[: k + 1]) for k in range(len(layers))]


def reconstruction(
    content: images.Picture | None, style: images.Picture | None, **layers: str
) -> images.Picture:
    """From noise, with nothing but the one picture's loss at the layers."""
    from nst_jax import stylize

    return stylize(
        content,
        style,
        image_size=_SIZE.value,
        init={"noise": 1.0},
        pooling="average",
        tv_weight=_SMOOTHNESS.value,
        optimizer={"name": "lbfgs"},
        steps=_STEPS.value,
        log_every=_STEPS.value,
        save_every=0,
        seed=_SEED.value,
        **layers,
    )


if __name__ == "__main__":
    cli.start(main)
