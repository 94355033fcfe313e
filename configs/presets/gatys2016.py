"""The first stage of Gatys' 2016 notebook (leongatys/PytorchNeuralStyleTransfer).

  python -m nst_jax.run --config configs/presets/gatys2016.py

Both pictures' shorter sides are 512. A second stage, which is not here, repeats it at 800. Its
L-BFGS takes every step without checking the loss, in 26 rounds of 20.
Pixels are clipped to [0, 1] at every step; there they are not.

2 CPU cores: about 18 minutes, estimated from the time of one step. GPU, TPU: not measured.
Loss: 8.43e8 at the start with the default weights; the end is not measured.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """MSE of relu4_2 + 1000 / n_C^2 x MSE of G / (n_H n_W) at five layers."""
    options = config.parse_arg(arg, smoke=False)
    c = config.sample()
    c.image_size = 512
    c.side = "short"
    c.resample = "bilinear"
    c.content_losses = "mse"
    c.style_losses = "gram_johnson"  # divides by n_C^2
    c.style_layers = "relu1_1, relu2_1, relu3_1, relu4_1, relu5_1"
    c.beta = 1000.0
    c.tv_weight = 0.0
    c.optimizer.name = "lbfgs"
    c.optimizer.memory = 100
    c.steps = 520
    return config.smoke(c) if options.smoke else c
