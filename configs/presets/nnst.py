"""Neural Neighbor Style Transfer (Kolkin et al. 2022): each position takes a place of the painting.

  python -m nst_jax.run --config configs/presets/nnst.py --config.content=photograph.jpg \\
      --config.style=painting.jpg

"Neural Neighbor Style Transfer" (https://arxiv.org/abs/2203.13215) and its program,
nkolkin13/NeuralNeighborStyleTransfer. It has two phases: first features of all layers together, at
four sizes, then at the last size each layer by itself ("feature splitting"). Here they are two
losses of one objective, at all sizes. There is no content loss: the photograph says only which
features of the painting a position is matched with. The program takes VGG-16, adds the painting in
four rotations, mixes a quarter of the painting so far into what is matched, optimises the
coefficients of a Laplacian pyramid with a step of 0.002, and corrects the colours at the end.

2 CPU cores: 13 minutes. GPU, TPU: not measured.
Loss: 2.51e7 with the sample pictures.
"""

from nst_jax import config


def get_config(arg: str = "") -> config.Config:
    """1e8 x cosine distance of matched hypercolumns + half of `nnst`, 64 to 512 pixels."""
    options = config.parse_arg(arg, smoke=False)
    c = config.sample()
    c.image_size = 512
    c.resample = "bilinear"
    c.pyramid.min_size = 64
    c.pyramid.factor = 2.0
    c.pyramid.first_steps = 200
    c.pyramid.steps = 200
    c.style_losses = "hypercolumns, nnst:0.5"
    c.alpha = 0.0
    c.beta = 1.0
    c.tv_weight = 0.0
    c.optimizer.learning_rate = 0.01
    c.steps = 200
    return config.smoke(c) if options.smoke else c
