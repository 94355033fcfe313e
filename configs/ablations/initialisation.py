"""Where to start: the photograph, gray, the style's colours or noise; three seeds each.

  python -m nst_jax.sweep --config configs/ablations/initialisation.py

2 CPU cores: 14 minutes, measured on a busy machine. GPU, TPU: not measured.
Loss: 5.2e5 from the photograph, 5.4e5 from gray and the style's colours, 5.8e5 from noise.
"""

from pathlib import Path

from nst_jax import config
from nst_jax.config import axes

STARRY = Path(__file__).parents[1] / "starry.py"


def get_config(arg: str = "") -> config.Config:
    """The portrait of starry.py at 256 pixels; 12 cells, one program."""
    c = config.load(STARRY, f"small,{arg}")
    c.metrics = True
    c.axes = (
        axes.named(
            "start",
            {
                "photograph": {"init.noise": 0.1},
                "gray": {"init.picture": "gray", "init.noise": 0.1},
                "style's colours": {"init.picture": "style_statistics"},
                "noise": {"init.noise": 1.0},
            },
        ),
        axes.each("seed", 0, 1, 2),
    )
    return c
