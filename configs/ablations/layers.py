"""Which layers carry style? Each layer alone, then all up to each, from the shallowest.

  python -m nst_jax.sweep --config configs/ablations/layers.py

2 CPU cores: 12 minutes, measured on a busy machine. GPU, TPU: not measured.
Loss: 3.3e4 with relu1_1 alone, 5.5e5 with all five.
"""

from pathlib import Path

from nst_jax import config
from nst_jax.config import axes, rules

STARRY = Path(__file__).parents[1] / "starry.py"


def get_config(arg: str = "") -> config.Config:
    """The portrait of starry.py, 256 pixels; 9 cells, one program: layers that are off weigh 0."""
    c = config.load(STARRY, f"small,{arg}")
    layers = rules.STYLE_LOSSES["gram"].split(", ")
    alone = {layer.partition(":")[0]: layer for layer in layers}
    growing = {f"up to {tap}": ", ".join(layers[: k + 1]) for k, tap in enumerate(alone) if k}
    c.axes = (
        axes.named(
            "style layers",
            {name: {"style_layers": spec} for name, spec in (alone | growing).items()},
        ),
    )
    return c
