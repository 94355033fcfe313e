"""Compares presets with the programs that they are of, as a package index has them.

  pip install torch torchvision pastiche neural-style
  python scripts/originals.py --content photograph.jpg --style painting.jpg --size 128

Both get the same weights and pixels. The first table has the loss of a half-noisy picture, there
and here, and the cosine between the gradients with respect to its pixels. The second has the loss
after some steps of L-BFGS from the content picture, here divided by there. The package neural-style
is of February 2020, when neural-style-pt still had 256 levels; its losses get 255 here, as since
December.

2 CPU cores: 3 minutes at 128 pixels.
"""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

import nst_jax
from nst_jax import cli, config
from nst_jax.config import rules
from nst_jax.errors import UserError
from nst_jax.losses.objective import objective
from nst_jax.network import fetch
from nst_jax.network.weights import load
from nst_jax.pictures import images
from nst_jax.transfer import networks, prepare, problem
from nst_jax.transfer.cache import SHARED

_CONTENT = flags.DEFINE_string("content", config.sample_photograph(), "Content picture.")
_STYLE = flags.DEFINE_string("style", str(config.PICTURES / "starry.jpg"), "Style picture.")
_SIZE = flags.DEFINE_integer("size", 128, "Longer side of both in pixels.", lower_bound=32)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise in the picture that is compared.")

PRESETS = Path(__file__).parents[1] / "configs" / "presets"
STEPS = (1, 10, 30, 99)


class Original(NamedTuple):
    """A program at work.

    Attributes:
      image: the tensor [1, 3, h, w] that it optimises: BGR, 255 levels, the mean taken off.
      loss: computes the loss of `image`.
      step: one step of its L-BFGS; returns the loss before it.
    """

    image: Any
    loss: Callable[[], Any]
    step: Callable[[], float]


def main():
    """Prints both tables, a row for each program."""
    rows = [(name, *compared(name)) for name in ORIGINALS]
    print("| preset | the program's loss | the preset's | ratio | cosine of gradients |")
    print("|---|---|---|---|---|")
    for name, theirs, ours, cosine, _ in rows:
        print(f"| `{name}` | {theirs:.7g} | {ours:.7g} | {ours / theirs:.7f} | {cosine:.8f} |")
    print()
    print("| preset |", *(f"step {step} |" for step in STEPS))
    print("|---|" + "---|" * len(STEPS))
    for name, *_, ratios in rows:
        print(f"| `{name}` |", *(f"{ratio:.3f} |" for ratio in ratios))


def compared(name: str) -> tuple[float, float, float, list[float]]:
    """The losses of one picture there and here, the cosine, and the ratios along the path."""
    with TemporaryDirectory() as folder:
        # In files, because programs read files; in 8 bits, because programs read those.
        paths = Path(folder, "content.png"), Path(folder, "style.png")
        for given, path in zip((_CONTENT.value, _STYLE.value), paths, strict=True):
            images.write(path, images.read(given, _SIZE.value))
        original = ORIGINALS[name](*paths)
        content = images.read(paths[0])
        noise = np.random.default_rng(_SEED.value).random(content.shape, np.float32)
        theirs, gradient = there(original, (content + noise) / 2)
        ours, own_gradient = here(name, paths, (content + noise) / 2)
        cosine = np.vdot(gradient, own_gradient) / np.sqrt(
            np.vdot(gradient, gradient) * np.vdot(own_gradient, own_gradient)
        )
        ratios = [
            b / a
            for a, b in zip(path_there(original, content), path_here(name, paths), strict=True)
        ]
    return theirs, ours, float(cosine), ratios


def there(original: Original, image: np.ndarray) -> tuple[float, np.ndarray]:
    """The program's loss, and its gradient as [h, w, 3] RGB, in float64."""
    put(original, image)
    loss = original.loss()
    (gradient,) = torch().autograd.grad(loss, original.image)
    return loss.item(), gradient[0].numpy().transpose(1, 2, 0)[..., ::-1].astype(np.float64)


def here(name: str, paths: tuple[Path, Path], image: np.ndarray) -> tuple[float, np.ndarray]:
    """The preset's loss, and its gradient as [h, w, 3] RGB, in float64."""
    experiment = config.parse(preset(name, paths))
    pictures = prepare.load(experiment, SHARED)
    network = networks.load_network(experiment, pictures, SHARED)
    asked = problem.problem_of(experiment, pictures, network)
    loss, gradient = jax.jit(jax.value_and_grad(objective))(image, network, asked)
    return float(loss), np.asarray(gradient, np.float64)


def path_there(original: Original, content: np.ndarray) -> list[float]:
    """The program's losses at `STEPS`, from the content picture."""
    put(original, content)
    losses = [original.step() for _ in range(STEPS[-1] + 1)]
    return [losses[step] for step in STEPS]


def path_here(name: str, paths: tuple[Path, Path]) -> list[float]:
    """The preset's losses at `STEPS`, from the content picture."""
    c = preset(name, paths)
    c.init.picture, c.init.noise = "content", 0.0
    c.steps, c.log_every, c.save_every = STEPS[-1], 1, 0
    settings = {k: v for k, v in config.flat(c).items() if k not in rules.COMMAND_KEYS}
    del settings["content"], settings["style"]
    stages = {stage.step: stage for stage in nst_jax.paint_steps(*paths, **settings)}
    totals = (stages[step].terms["total"] for step in STEPS)
    return np.ravel([*totals]).tolist()


def preset(name: str, paths: tuple[Path, Path]) -> config.Config:
    """The preset's config for two files, at their own size."""
    c = config.load(PRESETS / f"{name}.py")
    c.content, c.style = map(str, paths)
    c.image_size = 0
    return c


def torch() -> Any:
    """PyTorch, and other packages that a comparison needs: one line if one is missing."""
    return needed("torch")


def needed(module: str) -> Any:
    """Imports a module of a package that is not a dependency.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed: pip install torch torchvision pastiche neural-style"
        ) from None


def weights() -> dict[str, tuple[Any, Any]]:
    """Convolution -> its kernel and bias as Caffe has them: BGR, [out, in, 3, 3]."""
    loaded = load(fetch.find("", "vgg19"), "vgg19")
    tensors = {}
    for name, (kernel, bias) in loaded.layers.items():
        kernel = kernel[:, :, ::-1] if name == "conv1_1" else kernel
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        tensors[name] = torch().from_numpy(kernel), torch().from_numpy(bias.copy())
    return tensors


def caffe(image: np.ndarray) -> Any:
    """[h, w, 3] in [0, 1] -> [1, 3, h, w], BGR, 255 levels, the mean taken off."""
    bgr = 255 * image[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
    return torch().from_numpy(np.ascontiguousarray(bgr.transpose(2, 0, 1)))[None]


def put(original: Original, image: np.ndarray):
    """Makes it the picture that the program optimises."""
    original.image.data = caffe(image)


@contextlib.contextmanager
def arguments(*given: str) -> Iterator[None]:
    """For modules that read the command line when they are imported."""
    kept, sys.argv = sys.argv, ["program", *given]
    try:
        yield
    finally:
        sys.argv = kept


def pastiche(content: Path, style: Path) -> Original:
    """pastiche's own artist, with other weights in its network."""
    program: Any = needed("pastiche.pastiche")
    network = program.VGG19
    fields = {f"block{name[4]}_conv{name[6]}": pair for name, pair in weights().items()}
    network.from_quantized_bin = staticmethod(
        lambda path, pooling: network(network.Weights(**fields), pooling)
    )
    size = images.read(style).shape[:2]  # or it gets as many pixels as the content picture
    artist = program.PasticheArtist(str(content), [str(style)], device="cpu", style_size=size)

    def step() -> float:
        artist.draw()
        return float(artist.loss)

    return Original(artist.pastiche, artist._calc_loss, step)


def neural_style(content: Path, style: Path) -> Original:
    """neural-style-pt's network and loss modules, put together and run as its main() does."""
    with arguments():
        program: Any = needed("neural_style.neural_style")
    loader: Any = needed("neural_style.loader.CaffeLoader")
    nn, params = torch().nn, program.params
    network, losses = nn.Sequential(program.TVLoss(params.tv_weight)), []
    losses.append(network[0])
    blocks = loader.buildSequential(loader.channel_list["VGG-19"], params.pooling)
    names = iter(weights().items())
    name = ""
    for layer in blocks:
        if isinstance(layer, nn.Conv2d):
            name, (layer.weight.data, layer.bias.data) = next(names)
        network.append(layer)
        if not isinstance(layer, nn.ReLU):
            continue
        for taps, kind, weight in (
            (params.content_layers, program.ContentLoss, params.content_weight),
            (params.style_layers, program.StyleLoss, params.style_weight),
        ):
            if name.replace("conv", "relu") in taps.split(","):
                losses.append(kind(weight))
                network.append(losses[-1])
    network.requires_grad_(False)
    for path, kind in ((content, program.ContentLoss), (style, program.StyleLoss)):
        for module in losses[1:]:
            module.mode = "capture" if isinstance(module, kind) else "None"
        network(caffe(images.read(path)))
    for module in losses[1:]:
        module.mode = "loss"
    image = nn.Parameter(caffe(images.read(content)))

    def loss() -> Any:
        network(image)
        return sum(module.loss for module in losses)

    optimizer = torch().optim.LBFGS([image], max_iter=1, tolerance_change=-1, tolerance_grad=-1)

    def evaluate() -> Any:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return Original(image, loss, lambda: optimizer.step(evaluate).item())


# Preset -> its program, for a content and a style picture.
ORIGINALS: dict[str, Callable[[Path, Path], Original]] = {
    "pastiche": pastiche,
    "neural_style": neural_style,
}


if __name__ == "__main__":
    cli.start(main)
