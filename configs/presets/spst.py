"""Scaling Painting Style Transfer (Galerne et al. 2024): from 512 to 2048 pixels, by factors of 2.

  python -m nst_jax.run --config configs/presets/spst.py
  python -m nst_jax.run --config configs/presets/spst.py:fast --config.image_size=4096

"Scaling Painting Style Transfer" (https://arxiv.org/abs/2212.13459) and its program,
bgalerne/scaling_painting_style_transfer: Gatys' Gram matrices with means and deviations. "fast"
takes fewer steps at the larger scales: 600, 200 and 66. The program paints at the content picture's
own size, whatever that is; here it is 2048. Its L-BFGS keeps 100 pairs at the first scale and 10 at
the others; here it keeps 10 at all. Pixels are clipped to [0, 1] at every step; there they are not.

2 CPU cores: about 170 minutes, 60 with "fast", estimated from the time of one step. GPU, TPU: not
measured. Loss: 5.24e9 at the start of the first scale; the end is not measured.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """MSE of relu4_2 + 1000 / n_C^2 x MSE of Grams + 1e4 x MSE of means and deviations."""
    options = config.parse_arg(arg, smoke=False, fast=False)
    c = config.sample()
    c.image_size = 2048
    c.side = "short"
    c.resample = "bicubic"
    c.pyramid.min_size = 512
    c.pyramid.factor = 2.0
    c.pyramid.first_steps = 600
    c.pyramid.steps = 200 if options.fast else 300
    c.content_losses = "mse"
    c.style_losses = "gram_johnson, mean_variance:10"
    c.style_layers = "relu1_1, relu2_1, relu3_1, relu4_1, relu5_1"
    c.beta = 1000.0
    c.tv_weight = 0.0
    c.optimizer.name = "lbfgs"
    c.optimizer.memory = 10
    c.steps = 66 if options.fast else 300
    return config.smoke(c) if options.smoke else c
