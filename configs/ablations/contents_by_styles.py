"""Every content picture in every style.

  python -m nst_jax.sweep --config configs/ablations/contents_by_styles.py
  python -m nst_jax.sweep --config configs/starry.py --axis "content=a.jpg, b.jpg" \\
      --axis "style=night.jpg, day.jpg" --workdir runs/mine

2 CPU cores: 6 minutes, measured on a busy machine. GPU, TPU: not measured.
Loss: 5.5e5 and 4.3e5 for the portrait, 4.0e4 and 2.2e5 for the landscape.
"""

from pathlib import Path

from nst_jax import config
from nst_jax.config import axes

STARRY = Path(__file__).parents[1] / "starry.py"


def get_config(arg: str = "") -> config.Config:
    """A portrait and a landscape, each in the styles of two paintings; 4 cells, 2 programs."""
    c = config.load(STARRY, f"small,{arg}")
    night, ember = (str(config.PICTURES / name) for name in ("starry.jpg", "ember.jpg"))
    c.axes = (
        axes.each("content", config.sample_photograph(), night),
        axes.each("style", night, ember),
    )
    return c
