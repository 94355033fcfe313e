"""A film in the style of a starry night, without flicker.

  python -m nst_jax.film --config configs/film.py --config.content=clip.mp4
  python -m nst_jax.film --config configs/film.py --config.content=clip.mp4 \\
      --config.style=painting.jpg --config.image_size=512 --config.film.passes=2
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """The clip is yours: name it with --config.content."""
    options = config.parse_arg(arg, smoke=False)
    c = config.default()
    c.content = "clip.mp4"
    c.style = str(config.PICTURES / "starry.jpg")
    c.image_size = 256
    c.optimizer.name = "lbfgs"
    c.steps = 100
    return config.smoke(c) if options.smoke else c
