"""Draws how a painting changes with the style layers and with alpha/beta, as one labelled sheet.

python scripts/alpha_beta_grid.py --output grid.png

Redraws figure 3 of Gatys et al. 2015 (https://arxiv.org/abs/1508.06576): style layers are added
from top to bottom, and content weighs more from left to right. The middle of the bottom row has the
default weights. All paintings start from the same noise. As in the paper, pooling is average
pooling; a little total variation keeps noise down. Each row compiles once, because the weights are
traced.

2 CPU cores: 5.5 minutes.
"""

import figures
from absl import flags
from figures import CONTENT, OUTPUT, SIZE, SMOOTHNESS, STEPS, STYLE

from nst_jax import cli
from nst_jax.config import grammar
from nst_jax.errors import UserError
from nst_jax.pictures import images, sheets

_RATIOS = flags.DEFINE_list(
    "ratios", ["0.5", "5", "50", "500", "5000"], "Values of alpha/beta, one per column."
)
flags.adopt_module_key_flags(figures)
flags.set_default(SIZE, 128)
flags.set_default(STEPS, 50)
flags.set_default(SMOOTHNESS, 1e5)
flags.set_default(OUTPUT, "grid.png")


def main():
    """Draws the sheet; reads ratios and pictures first, so that a mistake is reported at once."""
    output = sheets.destination(OUTPUT.value)
    ratios = [grammar.number(ratio, "--ratios has") for ratio in _RATIOS.value]
    if not ratios or min(ratios) <= 0:
        raise UserError("--ratios: expected numbers above 0")
    content, style = (images.read(path, SIZE.value) for path in (CONTENT.value, STYLE.value))
    rows = [
        [
            figures.from_noise(content, style, style_layers=layers, alpha=1.0, beta=1 / ratio)
            for ratio in ratios
        ]
        for layers in figures.style_prefixes()
    ]
    labels = ["relu1_1", *(f"to relu{k}_1" for k in range(2, len(rows) + 1))]
    columns = [f"alpha/beta {ratio:g}" for ratio in ratios]
    images.write(output, sheets.sheet(rows, labels, columns, height=SIZE.value))
    print(output)


if __name__ == "__main__":
    cli.start(main)
