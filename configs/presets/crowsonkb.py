"""crowsonkb/style-transfer-pytorch with its defaults: W2 style loss, pyramid, averaged iterates.

  python -m nst_jax.run --config configs/presets/crowsonkb.py

Its loss weights are tuned for torchvision's network: convert that with
weights/convert_vgg19.py --source torchvision --output weights/torchvision.h5 and add
--config.weights=weights/torchvision.h5. It never enlarges the style picture; here the style picture
has the output's size. The gradient of its matrix root comes from 12 Lyapunov iterations; here it is
half the inverse root, nearer the converged one.

2 CPU cores: about 40 minutes, estimated from the time of one step. GPU, TPU: not measured.
Loss: 2.65e4 at the start of the first scale with the default weights; the end is not measured.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """0.015 x MSE of relu4_2 + W2 at five layers, 256:64:16:4:1 + 2 x nine-point TV."""
    options = config.parse_arg(arg, smoke=False)
    c = config.sample()
    c.image_size = 512
    c.resample = "bicubic"
    c.pyramid.min_size = 128
    c.pyramid.first_steps = 1000
    c.pyramid.steps = 500
    c.padding = "replicate_first"
    c.content_losses = "mse"
    c.style_losses = "w2_crowsonkb(relu1_1:256, relu2_1:64, relu3_1:16, relu4_1:4, relu5_1:1)"
    c.alpha = 0.015
    c.beta = 1 / 341  # the sum of the lambdas
    c.tv_loss = "nine_point"
    c.tv_weight = 2.0
    c.optimizer.learning_rate = 0.02
    c.optimizer.average = 0.99
    c.steps = 500
    return config.smoke(c) if options.smoke else c
