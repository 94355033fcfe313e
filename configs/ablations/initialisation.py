"""Where to start: the photograph, gray, the style's colours or noise, with three seeds each.

  python -m nst_jax.sweep --config configs/ablations/initialisation.py

2 CPU cores: TIME minutes. GPU, TPU: not measured.
Loss: LOSS
"""

from pathlib import Path

from nst_jax import axes, config

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
