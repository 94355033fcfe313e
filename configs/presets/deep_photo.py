"""Deep Photo Style Transfer (Luan et al. 2017): the light of one photograph in another.

  python -m nst_jax.run --config configs/presets/deep_photo.py --config.content=day.jpg \\
      --config.style=night.jpg --config.guides.content="sky=day_sky.png, ground=day_ground.png" \\
      --config.guides.style="sky=night_sky.png, ground=night_ground.png"

"Deep Photo Style Transfer" (https://arxiv.org/abs/1703.07511) and its program,
luanfujun/deep-photo-styletransfer. Without guides it runs as well, but a sky may get the colours of
a street. The program paints twice, first without the matting loss, and filters the result; here the
photograph is where it starts. It sums total variation and matting loss over the pixels of its 700
pixel pictures; here both are means, multiplied accordingly. It weighs regions by their area, here
they count the same (guides.weights).

2 CPU cores: about 40 minutes, estimated from the time of one step. GPU, TPU: not measured.
Loss: 8.56e7 at the start with the sample pictures; the end is not measured.
"""

from nst_jax import config

PIXELS = 700 * 466


def get_config(arg: str = "") -> config.Config:
    """5 x MSE of relu4_2 + 100 x MSE of G / (n_C n_H n_W) + TV + 1e4 x matting."""
    options = config.parse_arg(arg, smoke=False)
    c = config.sample()
    c.image_size = 700
    c.resample = "bilinear"
    c.content_losses = "mse"
    c.style_losses = "gram_johnson"
    c.style_layers = "relu1_1, relu2_1, relu3_1, relu4_1, relu5_1"
    c.alpha = 5.0
    c.beta = 100.0
    c.tv_weight = 0.001 / 2 * 256**2 * 3 * PIXELS
    c.matting_weight = 1e4 * PIXELS
    c.optimizer.name = "lbfgs"
    c.optimizer.memory = 100
    c.steps = 1000
    return config.smoke(c) if options.smoke else c
