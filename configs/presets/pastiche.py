"""pastiche 1.6 with its defaults.

  python -m nst_jax.run --config configs/presets/pastiche.py

Pixels are clipped to [0, 1] at every step; there they are not. Its
L-BFGS takes every step, here it checks the loss first.

2 CPU cores: about 29 minutes, estimated from the time of one step. GPU, TPU: not measured.
Loss: 9.10e6 at the start with the default weights; the end is not measured.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """0.01 x MSE + 10 / n_C^2 x MSE of G / (n_H n_W): one hundredth of gatys2016.py."""
    options = config.parse_arg(arg, smoke=False)
    c = config.sample()
    c.image_size = 500
    c.side = "area"
    c.resample = "bilinear"
    c.content_losses = "mse"
    c.style_losses = "gram_johnson"  # divides by n_C^2
    c.style_layers = "relu1_1, relu2_1, relu3_1, relu4_1, relu5_1"
    c.alpha = 0.01
    c.beta = 10.0
    c.tv_weight = 0.0
    c.optimizer.name = "lbfgs"
    c.optimizer.memory = 100
    c.steps = 1000
    return config.smoke(c) if options.smoke else c
