"""The TensorFlow tutorial (tensorflow/docs, style_transfer.ipynb), with total variation.

  python -m nst_jax.run --config configs/presets/tensorflow_tutorial.py

Its Adam adds epsilon before the bias correction, ours after it: our first steps are larger. Its
bilinear resampling is not antialiased, ours is.

2 CPU cores: about 25 minutes, estimated from the time of one step. GPU, TPU: not measured.
Loss: 4.74e8 at the start with the default weights; the end is not measured.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """1e4 x MSE of relu5_2 + 0.01 / 5 x MSE of G / (n_H n_W) at five layers + 30 x TV."""
    options = config.parse_arg(arg, smoke=False)
    c = config.sample()
    c.image_size = 512
    c.resample = "bilinear"
    c.content_losses = "mse(relu5_2)"
    c.style_losses = "gram_mse"
    c.style_layers = "relu1_1, relu2_1, relu3_1, relu4_1, relu5_1"
    c.alpha = 1e4
    c.beta = 0.01 / 5
    c.tv_loss = "absolute"
    c.tv_weight = 30.0
    c.optimizer.learning_rate = 0.02
    c.optimizer.b1 = 0.99
    c.optimizer.b2 = 0.999
    c.optimizer.eps = 0.1
    c.steps = 1000
    return config.smoke(c) if options.smoke else c
