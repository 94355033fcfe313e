"""Every style loss on one pair of pictures, each with its own default layers.

  python -m nst_jax.sweep --config configs/ablations/losses.py

2 CPU cores: 27 minutes, measured on a busy machine. GPU, TPU: not measured.
Loss: not comparable between style losses, which differ in scale; compare the metrics instead.
"""

from pathlib import Path

from nst_jax import config
from nst_jax.config import axes, rules

STARRY = Path(__file__).parents[1] / "starry.py"


def get_config(arg: str = "") -> config.Config:
    """The portrait of starry.py at 256 pixels; 21 cells, 21 programs."""
    c = config.load(STARRY, f"small,{arg}")
    c.metrics = True
    c.axes = (axes.each("style_losses", *rules.STYLE_LOSSES),)
    return c
