"""Draws how paintings change with the style's layers and with alpha/beta, as one labelled sheet.

python scripts/alpha_beta_grid.py --output grid.png

Gatys et al. 2015 (https://arxiv.org/abs/1508.06576), figure 3: downwards more and more style
layers, to the right more weight on content. The middle of the bottom row has the default weights.
All start from the same random pixels. As there, pooling is average pooling; a little total
variation keeps noise down. A row compiles once: weights are no part of the program.

2 CPU cores: 5.5 minutes.
"""

from absl import flags

from nst_jax import cli
from nst_jax import config
from nst_jax.config import grammar
from nst_jax.config import rules
from nst_jax.errors import UserError
from nst_jax.pictures import images, sheets

_CONTENT = flags.DEFINE_string("content", config.sample_photograph(), "Photograph.")
_STYLE = flags.DEFINE_string("style", str(config.PICTURES / "starry.jpg"), "Painting.")
_RATIOS = flags.DEFINE_list("ratios", ["0.5", "5", "50", "500", "5000"], "alpha/beta, by columns.")
_SIZE = flags.DEFINE_integer("size", 128, "Longer side in pixels.", lower_bound=32)
_STEPS = flags.DEFINE_integer("steps", 50, "Of L-BFGS, for each picture.", lower_bound=1)
_BLOCKS = flags.DEFINE_integer(
    "blocks", 5, "Blocks of the network, a row each.", lower_bound=1, upper_bound=5
)
_SMOOTHNESS = flags.DEFINE_float("smoothness", 1e5, "Weight of total variation.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise.", lower_bound=0, upper_bound=2**32 - 1)
_OUTPUT = flags.DEFINE_string("output", "grid.png", "Picture to write.")


def main():
    """Reads ratios and pictures first, so that a mistake is told at once."""
    output = sheets.destination(_OUTPUT.value)
    ratios = [grammar.number(ratio, "--ratios has") for ratio in _RATIOS.value]
    if not ratios or min(ratios) <= 0:
        raise UserError("--ratios: expected numbers above 0")
    content, style = (images.read(path, _SIZE.value) for path in (_CONTENT.value, _STYLE.value))
    layers = grammar.words(rules.STYLE_LOSSES["gram"])[: _BLOCKS.value]
    rows = []
    for k in range(len(layers)):
        prefix = ", ".join(layers[: k + 1])
        rows.append([painting(content, style, prefix, ratio) for ratio in ratios])
    labels = ["relu1_1", *(f"to relu{k}_1" for k in range(2, len(layers) + 1))]
    columns = [f"alpha/beta {ratio:g}" for ratio in ratios]
    images.write(output, sheets.sheet(rows, labels, columns, height=_SIZE.value))
    print(output)


def painting(
    content: images.Picture, style: images.Picture, layers: str, ratio: float
) -> images.Picture:
    """From noise, with the style at the layers and alpha 1."""
    from nst_jax import stylize

    return stylize(
        content,
        style,
        image_size=_SIZE.value,
        style_layers=layers,
        alpha=1.0,
        beta=1 / ratio,
        pooling="average",
        tv_weight=_SMOOTHNESS.value,
        init={"noise": 1.0},
        optimizer={"name": "lbfgs"},
        steps=_STEPS.value,
        log_every=_STEPS.value,
        save_every=0,
        seed=_SEED.value,
    )


if __name__ == "__main__":
    cli.start(main)
