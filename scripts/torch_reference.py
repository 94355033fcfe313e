"""A plain, well-written PyTorch step of the same objective, to measure against; needs PyTorch.

torch.autograd through VGG-19 up to relu5_1, Gram losses at five layers, content at relu4_2, squared
total variation, torch.optim.Adam: what a user would write who knows PyTorch. Float32.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from nst_jax import architecture, config, weights
from nst_jax.errors import UserError
from nst_jax.images import Picture


def stepper(
    c: config.Config,
    loaded: weights.Weights,
    content: Picture,
    style: Picture,
    channels_last: bool,
) -> Callable[[int], None]:
    """Makes a function that takes so many steps from the content picture.

    Args:
      c: a validated config with the losses "squared" and "gram" and Adam.
      loaded: of `c.arch`.
      content, style: [h, w, 3].
      channels_last: how PyTorch keeps activations and kernels in memory.

    Raises:
      UserError: PyTorch is not installed.
    """
    try:
        torch: Any = importlib.import_module("torch")
    except ModuleNotFoundError:
        raise UserError('PyTorch is not installed: pip install -e ".[bench]"') from None
    functional = torch.nn.functional
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def tensor(image: np.ndarray) -> Any:
        batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        return batch.contiguous(memory_format=layout)

    content_lambdas = config.losses(c, "content")["squared"]
    style_lambdas = config.losses(c, "style")["gram"]
    taps = {*content_lambdas, *style_lambdas}
    deepest = max(map(architecture.conv, taps))
    layers = {
        name: (
            torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))).contiguous(
                memory_format=layout
            ),
            torch.from_numpy(bias.copy()),
        )
        for name, (kernel, bias) in loaded.layers.items()
        if name <= deepest
    }
    mean, scale = (
        torch.from_numpy(vector.copy()).view(1, 3, 1, 1) for vector in (loaded.mean, loaded.scale)
    )

    def features(image: Any) -> dict[str, Any]:
        x, seen = (image - mean) * scale, {}
        for name, (kernel, bias) in layers.items():
            if name.endswith("_1") and architecture.block(name) > 1:
                x = functional.max_pool2d(x, 2)
            x = functional.relu_(functional.conv2d(x, kernel, bias, padding=1))
            seen[architecture.relu(name)] = x
        return {tap: seen[tap] for tap in taps}

    def gram(activations: Any) -> Any:
        rows = activations.flatten(2)[0]
        return rows @ rows.T / rows.shape[1]

    with torch.no_grad():
        contents = {tap: features(tensor(content))[tap] for tap in content_lambdas}
        styles = {tap: gram(features(tensor(style))[tap]) for tap in style_lambdas}
    image = tensor(content).clone().requires_grad_(True)
    o = c.optimizer
    adam = torch.optim.Adam([image], lr=o.learning_rate, betas=(o.b1, o.b2), eps=o.eps)

    def loss() -> Any:
        seen = features(image)
        total = 0
        for tap, weight in content_lambdas.items():
            total = total + c.alpha * weight * functional.mse_loss(seen[tap], contents[tap]) / 4
        for tap, weight in style_lambdas.items():
            distance = (gram(seen[tap]) - styles[tap]).square().sum() / (4 * styles[tap].numel())
            total = total + c.beta * weight * distance
        below = (image[:, :, 1:] - image[:, :, :-1]).square().mean()
        beside = (image[..., 1:] - image[..., :-1]).square().mean()
        return total + c.tv_weight * (below + beside)

    def steps(count: int):
        for _ in range(count):
            adam.zero_grad(set_to_none=True)
            loss().backward()
            adam.step()
            with torch.no_grad():
                image.clamp_(0, 1)

    return steps
