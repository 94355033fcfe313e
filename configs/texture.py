"""A texture: style without content, from noise (Gatys et al. 2015, arXiv:1505.07376).

  python -m nst_jax.run --config configs/texture.py
  python -m nst_jax.run --config configs/texture.py --config.style=painting.jpg

2 CPU cores: about 30 seconds, estimated from 46 on a busy machine. GPU, TPU: not measured.
Loss: 3.1e7 at the start, 6.4e4 after 100 steps.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """The brushwork of the painting in images/, without its scene."""
    options = config.parse_arg(arg, smoke=False)
    c = config.default()
    c.style = str(config.PICTURES / "starry.jpg")
    c.image_size = 256
    c.init.noise = 1.0
    c.optimizer.name = "lbfgs"
    c.steps = 100
    return config.smoke(c) if options.smoke else c
