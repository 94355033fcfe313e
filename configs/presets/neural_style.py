"""neural-style-pt with its defaults; with arguments its Adam, and jcjohnson/neural-style.

  python -m nst_jax.run --config configs/presets/neural_style.py
  python -m nst_jax.run --config configs/presets/neural_style.py:adam
  python -m nst_jax.run --config configs/presets/neural_style.py:jcjohnson,adam

"adam" has the learning rate that neural-style-pt advises, 1 level of 255, or the default of
jcjohnson's program, 10 levels of 256. Neither lowers it. L-BFGS takes every step there, here it
checks the loss first, and pixels are clipped to [0, 1] at every step.

jcjohnson's program scales pixels to 0 to 256, 0.4 % more contrast than here. Its total variation is
squared and only in the gradient; here it is that of neural-style-pt.

2 CPU cores: about 10 minutes, estimated from the time of one step. GPU, TPU: not measured.
Loss: 1.48e8 at the start with the default weights; the end is not measured.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """5 x MSE of relu4_2 + 100 x MSE of G / (n_C n_H n_W) at five layers + TV."""
    options = config.parse_arg(arg, smoke=False, adam=False, jcjohnson=False)
    levels = 256 if options.jcjohnson else 255
    c = config.sample()
    c.image_size = 512
    c.resample = "bilinear"
    c.init.picture = "mean"
    c.init.noise = 0.001 / levels
    c.init.noise_kind = "normal"
    c.content_losses = "mse"
    c.style_losses = "gram_johnson"
    c.style_layers = "relu1_1, relu2_1, relu3_1, relu4_1, relu5_1"
    c.alpha = 5.0
    c.beta = 100.0
    c.tv_loss = "absolute"
    c.tv_weight = 0.001 * levels
    c.optimizer.name = "lbfgs"
    c.optimizer.memory = 100
    if options.adam:
        c.optimizer.name = "adam"
        c.optimizer.learning_rate = 10 / 256 if options.jcjohnson else 1 / 255
        c.optimizer.b2 = 0.999
    if options.jcjohnson:
        c.pooling = "max_ceil"
    c.steps = 1000
    return config.smoke(c) if options.smoke else c
