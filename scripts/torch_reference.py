"""A plain, well-written PyTorch step of the same objective, to measure against. Needs PyTorch.

What a PyTorch user would write: autograd through VGG-19 up to relu5_1, Gram losses at five layers,
content at relu4_2, total variation, and torch.optim's Adam or L-BFGS. It runs on the kind of device
that JAX runs on, in the experiment's precision.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax.config.experiment import Experiment, Objective
from nst_jax.errors import UserError
from nst_jax.network import architecture
from nst_jax.network.weights import Weights
from nst_jax.transfer import networks
from nst_jax.transfer.cache import SHARED
from nst_jax.transfer.prepare import Pictures

# The losses implemented here. Content: factor of the mean squared difference. Style: factor of the
# sum of squared differences of Gram matrices, by their number of channels. Smoothness: from the
# differences of neighbouring pixels.
CONTENT = {"squared": 1 / 4, "mse": 1.0}
STYLE = {"gram": lambda channels: 1 / (4 * channels**2), "gram_johnson": lambda n: 1 / n**4}
SMOOTHNESS = {
    "squared": lambda differences: differences.square().mean(),
    "absolute": lambda differences: differences.abs().sum(),
}


class Painter(NamedTuple):
    """A picture and the function that steps it.

    Attributes:
      image: the tensor [1, 3, h, w].
      steps: takes a number of steps and waits for them.
    """

    image: Any
    steps: Callable[[int], None]


class _Place(NamedTuple):
    """Where PyTorch keeps tensors, and how.

    Attributes:
      torch: the package.
      device: "cuda" or "cpu".
      dtype: of activations and kernels.
      layout: the memory format of activations and kernels.
    """

    torch: Any
    device: str
    dtype: Any
    layout: Any

    def tensor(self, image: np.ndarray) -> Any:
        """A picture [h, w, 3] as a tensor [1, 3, h, w] in float32."""
        batch = self.torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        return batch.to(self.device).contiguous(memory_format=self.layout)

    def finish(self):
        """Waits for the device."""
        if self.device == "cuda":
            self.torch.cuda.synchronize()


def painter(
    experiment: Experiment, pictures: Pictures, channels_last: bool, compiled: bool = False
) -> Painter:
    """Starts from the content picture, with Adam or L-BFGS.

    L-BFGS is neural-style-pt's: no line search, and the picture is clipped only when it is saved.
    Each of its steps is one evaluation, after a first one.

    Args:
      experiment: with one content and one style loss, both implemented here.
      pictures: a content and a style picture.
      channels_last: PyTorch's memory format of activations and kernels.
      compiled: run the loss and its gradient through `torch.compile`.

    Raises:
      UserError: PyTorch is not installed.
    """
    place = _place(experiment.network.precision, channels_last)
    assert pictures.content is not None, "it is where the picture starts"
    weights = networks.load_weights(experiment.network, SHARED)
    features = _features(place, weights, experiment.objective.taps)
    image = place.tensor(pictures.content).clone().requires_grad_(True)
    loss = _loss(place, experiment.objective, pictures, features, image)
    if compiled:
        loss = place.torch.compile(loss, fullgraph=True, dynamic=False)
    start = _lbfgs if experiment.optimizer.static.name == "lbfgs" else _adam
    return Painter(image, start(place, experiment, image, loss))


def _place(precision: str, channels_last: bool) -> _Place:
    """Imports PyTorch and sets its precision.

    Raises:
      UserError: PyTorch is not installed.
    """
    try:
        torch: Any = importlib.import_module("torch")
    except ModuleNotFoundError:
        raise UserError('PyTorch is not installed: pip install -e ".[bench]"') from None
    torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    torch.backends.cudnn.benchmark = True  # picks kernels by measuring them, as XLA does
    return _Place(
        torch,
        "cuda" if jax.default_backend() == "gpu" else "cpu",
        torch.bfloat16 if precision == "bfloat16" else torch.float32,
        torch.channels_last if channels_last else torch.contiguous_format,
    )


def _features(
    place: _Place, weights: Weights, taps: tuple[str, ...]
) -> Callable[[Any], Mapping[str, Any]]:
    """The network: image -> tap -> activations."""
    torch, device, dtype, layout = place
    functional = torch.nn.functional
    deepest = max(map(architecture.conv, taps))
    layers = {
        name: (
            torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
            .to(device, dtype)
            .contiguous(memory_format=layout),
            torch.from_numpy(bias.copy()).to(device, dtype),
        )
        for name, (kernel, bias) in weights.layers.items()
        if name <= deepest
    }
    mean, scale = (
        torch.from_numpy(vector.copy()).to(device).view(1, 3, 1, 1)
        for vector in (weights.mean, weights.scale)
    )

    def features(image: Any) -> dict[str, Any]:
        x, seen = ((image - mean) * scale).to(dtype), {}
        for name, (kernel, bias) in layers.items():
            if name.endswith("_1") and architecture.block(name) > 1:
                x = functional.max_pool2d(x, 2)
            x = functional.relu_(functional.conv2d(x, kernel, bias, padding=1))
            seen[architecture.relu(name)] = x
        return {tap: seen[tap].float() for tap in taps}

    return features


def _loss(
    place: _Place,
    objective: Objective,
    pictures: Pictures,
    features: Callable[[Any], Mapping[str, Any]],
    image: Any,
) -> Callable[[], Any]:
    """The objective of the image, as a function without arguments."""
    torch, functional = place.torch, place.torch.nn.functional
    [(content_loss, content_lambdas)] = [(term.name, term.layers) for term in objective.content]
    [(style_loss, style_lambdas)] = [(term.name, term.layers) for term in objective.style]
    content_factor, style_factor = CONTENT[content_loss], STYLE[style_loss]
    smoothness = SMOOTHNESS[objective.tv_loss]
    alpha, beta, tv_weight = objective.alpha, objective.beta, objective.tv_weight

    def gram(activations: Any) -> Any:
        rows = activations.flatten(2)[0]
        return rows @ rows.T / rows.shape[1]

    with torch.no_grad():
        seen = features(place.tensor(np.asarray(pictures.content)))
        contents = {tap: seen[tap] for tap in content_lambdas}
        seen = features(place.tensor(pictures.styles[0]))
        styles = {tap: gram(seen[tap]) for tap in style_lambdas}

    def loss() -> Any:
        seen = features(image)
        total = 0
        for tap, weight in content_lambdas.items():
            distance = functional.mse_loss(seen[tap], contents[tap])
            total = total + alpha * weight * content_factor * distance
        for tap, weight in style_lambdas.items():
            distance = (gram(seen[tap]) - styles[tap]).square().sum()
            total = total + beta * weight * style_factor(len(styles[tap])) * distance
        below = smoothness(image[:, :, 1:] - image[:, :, :-1])
        beside = smoothness(image[..., 1:] - image[..., :-1])
        return total + tv_weight * (below + beside)

    return loss


def _lbfgs(
    place: _Place, experiment: Experiment, image: Any, loss: Callable[[], Any]
) -> Callable[[int], None]:
    """PyTorch's L-BFGS, one evaluation per step."""
    from nst_jax.optimize.lbfgs import pairs_of

    lbfgs = place.torch.optim.LBFGS(
        [image],
        max_iter=1,
        history_size=pairs_of(experiment.optimizer.static.memory, 0),
        tolerance_change=-1,
        tolerance_grad=0,
    )

    def evaluate() -> Any:
        lbfgs.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        return value

    def steps(count: int):
        for _ in range(count):
            lbfgs.step(evaluate)
        place.finish()

    return steps


def _adam(
    place: _Place, experiment: Experiment, image: Any, loss: Callable[[], Any]
) -> Callable[[int], None]:
    """PyTorch's Adam; pixels are clipped to [0, 1] after every step."""
    torch, rates = place.torch, experiment.optimizer.rates
    adam = torch.optim.Adam(
        [image], lr=rates.learning_rate, betas=(rates.b1, rates.b2), eps=rates.eps
    )

    def steps(count: int):
        for _ in range(count):
            adam.zero_grad(set_to_none=True)
            loss().backward()
            adam.step()
            with torch.no_grad():
                image.clamp_(0, 1)
        place.finish()

    return steps
