"""A portrait in the style of a starry night: the first command of the README.

  python -m nst_jax.run --config configs/starry.py
  python -m nst_jax.run --config configs/starry.py --config.content=me.jpg \\
      --config.style=painting.jpg --config.image_size=512

2 CPU cores: 30 seconds, 35 the first time, with compilation. GPU, TPU: not measured.
Loss: 2.2e7 at the start, at 160 pixels; 3.3e5 after 140 steps, four fifths of which is content.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """Coarse to fine, with a photograph that matplotlib ships and the painting in images/.

    small: 256 pixels, for sweeps, with Adam: losses that draw then draw new samples at every step.
    """
    options = config.parse_arg(arg, small=False, smoke=False)
    c = config.sample()
    c.image_size = 320
    c.alpha = 1.5
    c.pyramid.min_size = 160  # 160, 226, 320: larger strokes than at a single scale
    c.pyramid.first_steps = 60
    c.pyramid.steps = 40
    c.steps = 40
    c.optimizer.name = "lbfgs"
    if options.small:  # 128, 181, 256
        c.image_size, c.pyramid.min_size = 256, 128
        c.alpha, c.optimizer.name = 2.0, "adam"
        c.pyramid.first_steps, c.pyramid.steps, c.steps = 80, 50, 60
    return config.smoke(c) if options.smoke else c
