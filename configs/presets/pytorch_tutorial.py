"""The PyTorch tutorial (pytorch/tutorials, neural_style_tutorial.py).

  python -m nst_jax.run --config configs/presets/pytorch_tutorial.py

Its loss weights are tuned for torchvision's network: convert that with
weights/convert_vgg19.py --source torchvision --output weights/torchvision.h5 and add
--config.weights=weights/torchvision.h5. Its pictures have 512 pixels with a GPU, 128
without one. It asks for two pictures of the same size.

2 CPU cores: about 7 minutes, estimated from the time of one step. GPU, TPU: not measured.
Loss: 5.65e11 at the start with the default weights; the end is not measured.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """MSE of conv2_2 + 1e6 x MSE of G / (n_C n_H n_W), before the ReLU."""
    options = config.parse_arg(arg, smoke=False)
    c = config.sample()
    c.image_size = 512
    c.side = "short"
    c.resample = "bilinear"
    c.content_losses = "mse(conv2_2)"
    c.style_losses = "gram_johnson(conv1_1, conv1_2, conv2_1, conv2_2, conv3_1)"
    c.beta = 1e6
    c.tv_weight = 0.0
    c.optimizer.name = "lbfgs"
    c.optimizer.memory = 100
    c.steps = 320
    return config.smoke(c) if options.smoke else c
