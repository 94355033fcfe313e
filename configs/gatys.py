"""The founding recipe: from noise, L-BFGS, five style layers of equal weight, 512 pixels.

  python -m nst_jax.run --config configs/gatys.py

2 CPU cores: under 5 minutes, measured on a busy machine. GPU, TPU: not measured.
Loss: 3.4e6 at the start, 2.2e4 after 150 steps. Without total variation, some of the initial noise
remains as fine grain.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """Gatys, Ecker & Bethge 2015 (https://arxiv.org/abs/1508.06576), section "Methods".

    Their equal layer weights suit a network rescaled to a mean activation of 1; the default lambdas
    have the same effect on the plain network.
    """
    options = config.parse_arg(arg, smoke=False)
    c = config.sample()
    c.image_size = 512
    c.init.noise = 1.0
    c.pooling = "average"
    c.tv_weight = 0.0
    c.optimizer.name = "lbfgs"
    c.steps = 150
    return config.smoke(c) if options.smoke else c
