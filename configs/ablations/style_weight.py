"""How much style? beta over three decades, with three seeds of the initial noise.

  python -m nst_jax.sweep --config configs/ablations/style_weight.py

2 CPU cores: 9 to 12 minutes. GPU, TPU: not measured.
Loss: 1.5e5, 3.4e5, 6.6e5 and 1.7e6, from beta 0.0005 to 0.5.
"""

from pathlib import Path

from nst_jax import config
from nst_jax.config import axes

STARRY = Path(__file__).parents[1] / "starry.py"


def get_config(arg: str = "") -> config.Config:
    """The portrait of starry.py at 256 pixels; 12 cells, one program."""
    c = config.load(STARRY, f"small,{arg}")
    c.init.noise = 0.3
    c.metrics = True
    c.axes = (
        axes.each("beta", 0.0005, 0.005, 0.05, 0.5),
        axes.each("seed", 0, 1, 2),
    )
    return c
