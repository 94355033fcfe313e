"""The founding description: J = 10 J_content + 40 J_style, average pooling, five equal layers.

  python -m nst_jax.run --config configs/presets/founding.py

Equal lambdas suit a network rescaled to a mean activation of 1, as by
--config.normalize_network="content, style". In the plain network, relu4_1 outweighs the other
layers a hundredfold or more.

2 CPU cores: about 13 minutes, estimated from the time of one step. GPU, TPU: not measured.
Loss: 2.51e10 at the start with the default weights; the end is not measured.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """J_content and J_style as in the README; starts from 60 % noise near the mean colour."""
    options = config.parse_arg(arg, smoke=False)
    c = config.sample()
    c.image_size = 512
    c.init.noise = 0.6
    c.init.noise_kind = "near_mean"
    c.pooling = "average"
    c.style_layers = "relu1_1:0.2, relu2_1:0.2, relu3_1:0.2, relu4_1:0.2, relu5_1:0.2"
    c.alpha = 10.0
    c.beta = 40.0
    c.tv_weight = 0.0
    c.optimizer.learning_rate = 2 / 255
    c.optimizer.b2 = 0.999
    c.steps = 500
    return config.smoke(c) if options.smoke else c
