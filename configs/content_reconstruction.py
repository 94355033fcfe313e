"""What a layer keeps of a photograph: content without style, from noise.

  python -m nst_jax.run --config configs/content_reconstruction.py:relu4_2
  python -m nst_jax.run --config configs/content_reconstruction.py:relu1_1

The argument is the layer. Shallow layers reproduce the photograph; deep layers keep what is where,
but not how it looked (Gatys et al. 2015, arXiv:1508.06576, figure 1, lower rows).

2 CPU cores: about 25 seconds, estimated from 35 on a busy machine. GPU, TPU: not measured.
Loss: with relu4_2, 3.0e5 at the start and 6.0e3 after 100 steps; with relu2_2, 6.0e4 and 11.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """The photograph that matplotlib ships, as one layer sees it."""
    options = config.parse_arg(arg, layer="relu4_2", smoke=False)
    c = config.default()
    c.content = config.sample_photograph()
    c.content_layers = options.layer
    c.image_size = 256
    c.init.noise = 1.0
    c.tv_weight = 0.0
    c.optimizer.name = "lbfgs"
    c.steps = 100
    return config.smoke(c) if options.smoke else c
