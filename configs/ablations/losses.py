"""Every style loss on one pair of pictures, each with its own default layers.

  python -m nst_jax.sweep --config configs/ablations/losses.py

2 CPU cores: 27 minutes beside other jobs. GPU, TPU: not measured.
Loss: each style loss has a scale of its own; compare metrics instead.
"""

from pathlib import Path

from nst_jax import config
from nst_jax.config import axes, rules

STARRY = Path(__file__).parents[1] / "starry.py"


def get_config(arg: str = "") -> config.Config:
    """The portrait of starry.py at 256 pixels; 15 cells, 15 programs."""
    c = config.load(STARRY, f"small,{arg}")
    c.metrics = True
    c.axes = (axes.each("style_losses", *rules.STYLE_LOSSES),)
    return c
