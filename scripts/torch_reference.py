"""A plain, well-written PyTorch step of the same objective, to measure against; needs PyTorch.

torch.autograd through VGG-19 up to relu5_1, Gram losses at five layers, content at relu4_2, total
variation, torch.optim's Adam or L-BFGS: what a user would write who knows PyTorch. It runs
on the kind of device that JAX runs on, in the config's precision.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import config
from nst_jax.errors import UserError
from nst_jax.network import architecture, weights
from nst_jax.pictures.images import Picture

# The losses that there are here: of sums of squares over so many entries or channels, or of
# differences.
CONTENT = {"squared": 1 / 4, "mse": 1.0}
STYLE = {"gram": lambda channels: 1 / (4 * channels**2), "gram_johnson": lambda n: 1 / n**4}
SMOOTHNESS = {
    "squared": lambda differences: differences.square().mean(),
    "absolute": lambda differences: differences.abs().sum(),
}


class Painter(NamedTuple):
    """A picture that is stepped down its loss: the tensor, and what takes so many steps."""

    image: Any
    steps: Callable[[int], None]


def painter(
    c: config.Config,
    loaded: weights.Weights,
    content: Picture,
    style: Picture,
    channels_last: bool,
    compiled: bool = False,
) -> Painter:
    """Starts from the content picture, with Adam or L-BFGS.

    L-BFGS is neural-style-pt's: no line search, and the picture is clipped only when it is saved. A
    step of it is an evaluation, after a first one.

    Args:
      c: a validated config with losses that there are here.
      loaded: of `c.arch`.
      content, style: [h, w, 3].
      channels_last: how PyTorch keeps activations and kernels in memory.
      compiled: whether `torch.compile` makes one program of the loss and its gradient.

    Raises:
      UserError: PyTorch is not installed.
    """
    try:
        torch: Any = importlib.import_module("torch")
    except ModuleNotFoundError:
        raise UserError('PyTorch is not installed: pip install -e ".[bench]"') from None
    functional = torch.nn.functional
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = c.precision != "float32"
    torch.backends.cudnn.allow_tf32 = c.precision != "float32"
    torch.backends.cudnn.benchmark = True  # picks kernels by measurement, as XLA does
    dtype = torch.bfloat16 if c.precision == "bfloat16" else torch.float32
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def tensor(image: np.ndarray) -> Any:
        batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        return batch.to(device).contiguous(memory_format=layout)

    [(content_loss, content_lambdas)] = config.losses(c, "content").items()
    [(style_loss, style_lambdas)] = config.losses(c, "style").items()
    smoothness = SMOOTHNESS[c.tv_loss]
    taps = {*content_lambdas, *style_lambdas}
    deepest = max(map(architecture.conv, taps))
    layers = {
        name: (
            torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
            .to(device, dtype)
            .contiguous(memory_format=layout),
            torch.from_numpy(bias.copy()).to(device, dtype),
        )
        for name, (kernel, bias) in loaded.layers.items()
        if name <= deepest
    }
    mean, scale = (
        torch.from_numpy(vector.copy()).to(device).view(1, 3, 1, 1)
        for vector in (loaded.mean, loaded.scale)
    )

    def features(image: Any) -> dict[str, Any]:
        x, seen = ((image - mean) * scale).to(dtype), {}
        for name, (kernel, bias) in layers.items():
            if name.endswith("_1") and architecture.block(name) > 1:
                x = functional.max_pool2d(x, 2)
            x = functional.relu_(functional.conv2d(x, kernel, bias, padding=1))
            seen[architecture.relu(name)] = x
        return {tap: seen[tap].float() for tap in taps}

    def gram(activations: Any) -> Any:
        rows = activations.flatten(2)[0]
        return rows @ rows.T / rows.shape[1]

    with torch.no_grad():
        contents = {tap: features(tensor(content))[tap] for tap in content_lambdas}
        styles = {tap: gram(features(tensor(style))[tap]) for tap in style_lambdas}
    image = tensor(content).clone().requires_grad_(True)
    o, alpha, beta, tv_weight = c.optimizer, c.alpha, c.beta, c.tv_weight

    def loss() -> Any:
        seen = features(image)
        total = 0
        for tap, weight in content_lambdas.items():
            distance = functional.mse_loss(seen[tap], contents[tap])
            total = total + alpha * weight * CONTENT[content_loss] * distance
        for tap, weight in style_lambdas.items():
            distance = (gram(seen[tap]) - styles[tap]).square().sum()
            total = total + beta * weight * STYLE[style_loss](len(styles[tap])) * distance
        below = smoothness(image[:, :, 1:] - image[:, :, :-1])
        beside = smoothness(image[..., 1:] - image[..., :-1])
        return total + tv_weight * (below + beside)

    if compiled:
        loss = torch.compile(loss, fullgraph=True, dynamic=False)

    def finish():
        if device == "cuda":
            torch.cuda.synchronize()

    if o.name == "lbfgs":
        lbfgs = torch.optim.LBFGS(
            [image], max_iter=1, history_size=o.memory, tolerance_change=-1, tolerance_grad=0
        )

        def evaluate() -> Any:
            lbfgs.zero_grad(set_to_none=True)
            value = loss()
            value.backward()
            return value

        def follow(count: int):
            for _ in range(count):
                lbfgs.step(evaluate)
            finish()

        return Painter(image, follow)

    adam = torch.optim.Adam([image], lr=o.learning_rate, betas=(o.b1, o.b2), eps=o.eps)

    def steps(count: int):
        for _ in range(count):
            adam.zero_grad(set_to_none=True)
            loss().backward()
            adam.step()
            with torch.no_grad():
                image.clamp_(0, 1)
        finish()

    return Painter(image, steps)
