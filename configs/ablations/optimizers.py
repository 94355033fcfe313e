"""Adam at four learning rates, L-BFGS, and both in Fourier coordinates; equally many steps each.

  python -m nst_jax.sweep --config configs/ablations/optimizers.py

2 CPU cores: 3 minutes. GPU, TPU: not measured.
Loss: 7.5e5, 6.0e5, 5.2e5 and 5.1e5 with Adam, 4.9e5 with L-BFGS; in Fourier coordinates, 5.4e5 with
Adam and 4.5e5 with L-BFGS.
"""

from pathlib import Path

from nst_jax import config
from nst_jax.config import axes

STARRY = Path(__file__).parents[1] / "starry.py"


def get_config(arg: str = "") -> config.Config:
    """The portrait of starry.py at a single scale, 256 pixels; 7 cells, 4 programs."""
    c = config.load(STARRY, f"small,{arg}")
    c.pyramid.min_size = 0
    rates = {
        f"adam, {rate:g}": {"optimizer.learning_rate": rate} for rate in (0.01, 0.02, 0.04, 0.08)
    }
    others = {
        "adam, 0.04, fourier": {"parameterization": "fourier"},
        "lbfgs": {"optimizer.name": "lbfgs"},
        "lbfgs, fourier": {"optimizer.name": "lbfgs", "parameterization": "fourier"},
    }
    c.axes = (axes.named("optimizer", rates | others),)
    return c
