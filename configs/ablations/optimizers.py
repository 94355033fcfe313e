"""Adam at four rates, L-BFGS, and both in Fourier coordinates, all for the same number of steps.

  python -m nst_jax.sweep --config configs/ablations/optimizers.py

2 CPU cores: 4 minutes, reckoned. GPU, TPU: not measured.
Loss: 7.5e5, 6.0e5, 5.2e5 and 5.2e5 with Adam; the others are not measured.
"""

from pathlib import Path

from nst_jax import axes, config

STARRY = Path(__file__).parents[1] / "starry.py"


def get_config(arg: str = "") -> config.Config:
    """The portrait of starry.py at one scale of 256 pixels; 6 cells, 3 programs."""
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
