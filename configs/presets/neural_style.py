"""neural-style-pt with its defaults (and jcjohnson/neural-style, except for total variation).

  python -m nst_jax.run --config configs/presets/neural_style.py

jcjohnson's original has squared total variation, in its gradient only. Both scale pixels to 0 to
256, 0.4 % more contrast than here, and resize bilinearly. Their L-BFGS takes every step without
checking the loss. Their Adam corresponds to --config.optimizer.learning_rate=0.0039 (1 / 256).

2 CPU cores: about 10 minutes, estimated from the time of one step. GPU, TPU: not measured.
Loss: 2.14e8 at the start with the default weights; the end is not measured.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """5 x MSE of relu4_2 + 100 x MSE of G / (n_C n_H n_W) at five layers + TV."""
    options = config.parse_arg(arg, smoke=False)
    c = config.sample()
    c.image_size = 512
    c.init.picture = "mean"
    c.init.noise = 0.001 / 256
    c.init.noise_kind = "normal"
    c.content_losses = "mse"
    c.style_losses = "gram_johnson"
    c.style_layers = "relu1_1, relu2_1, relu3_1, relu4_1, relu5_1"
    c.alpha = 5.0
    c.beta = 100.0
    c.tv_loss = "absolute"
    c.tv_weight = 0.001 * 256
    c.optimizer.name = "lbfgs"
    c.optimizer.memory = 100
    c.steps = 1000
    return config.smoke(c) if options.smoke else c
