"""The Keras example (keras-io, neural_style_transfer.py).

  python -m nst_jax.run --config configs/presets/keras_example.py

There the style picture is stretched to the painting's size; here it keeps its aspect ratio.
Pixels are clipped to [0, 1] at every step; there they are not.

2 CPU cores: about 70 minutes, estimated from the time of one step. GPU, TPU: not measured.
Loss: 1.29e5 at the start with the default weights, 8.25e3 after 25 steps; the end is not measured.
Gradients depend on the size: scale the learning rate with the number of pixels.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """Sums instead of means; Gram terms are divided by 4 x 3^2 x (pixels of the picture)^2."""
    options = config.parse_arg(arg, smoke=False)
    c = config.sample()
    c.image_size = 400
    c.side = "height"
    c.resample = "nearest"
    c.content_losses = "sum(relu5_2)"
    c.style_losses = "gram_keras"
    c.style_layers = "relu1_1, relu2_1, relu3_1, relu4_1, relu5_1"
    c.alpha = 2.5e-8
    c.beta = 1e-6 / 5
    c.tv_loss = "power"
    c.tv_weight = 1e-6 * 255**2.5  # theirs is for pixels in 0 to 255
    c.optimizer.name = "sgd"
    c.optimizer.learning_rate = 100 / 255**2  # also for pixels in 0 to 255
    c.optimizer.decay = 0.96**0.01
    c.steps = 4000
    return config.smoke(c) if options.smoke else c
