"""Gatys et al. 2017 (leongatys/NeuralImageSynthesis): 512 pixels, then 1024.

  python -m nst_jax.run --config configs/presets/gatys2017.py

"Controlling Perceptual Factors in Neural Style Transfer" (https://arxiv.org/abs/1611.07865). It
shrinks pictures by a Gaussian blur and linear interpolation (scikit-image's pyramid_reduce), and
enlarges none.
Pixels are clipped to [0, 1] at every step; there they are not.

2 CPU cores: about 38 minutes, estimated from the time of one step. GPU, TPU: not measured.
Loss: 7.75e8 at the start of the first scale with the default weights; the end is not measured.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """The objective of the 2016 notebook, at two scales."""
    options = config.parse_arg(arg, smoke=False)
    c = config.sample()
    c.image_size = 1024
    c.side = "area"
    c.resample = "bilinear"
    c.pyramid.min_size = 512
    c.pyramid.factor = 2.0
    c.pyramid.first_steps = 500
    c.pooling = "max_ceil"
    c.content_losses = "mse"
    c.style_losses = "gram_johnson"  # divides by n_C^2
    c.style_layers = "relu1_1, relu2_1, relu3_1, relu4_1, relu5_1"
    c.beta = 1000.0
    c.tv_weight = 0.0
    c.optimizer.name = "lbfgs"
    c.optimizer.memory = 100
    c.steps = 200
    return config.smoke(c) if options.smoke else c
