"""A film in the style of a starry night, without flicker.

  python -m nst_jax.film --config configs/film.py --config.content=clip.mp4
  python -m nst_jax.film --config configs/film.py --config.content=clip.mp4 \\
      --config.style=painting.jpg --config.image_size=512 --config.film.passes=2

2 CPU cores: 3.4 minutes for 60 frames of 256x109 pixels, so about 3 seconds a frame. GPU, TPU: not
measured. Loss: that depends on the clip; of a street scene in The Starry Night it is 1.1e5 in the
first frame, after 100 steps, and 1.5e5 in the others, after 20 each.
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
    if options.smoke:
        c.film.steps = 2
        return config.smoke(c)
    return c
