"""The schema of an experiment: every key once, with its unit or meaning, and what is allowed.

A config file is `default()` and a few assignments. `validate` checks it whole and freezes it; the
rest of the package trusts what it returns and reads no key with a fallback.
"""

import re
import runpy
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

from nst_jax.config import grammar as specs
from nst_jax.config import rules
from nst_jax.errors import UserError

# A ConfigDict, or a FrozenConfigDict once validated: its keys are `default`'s, which type checkers
# cannot see.
Config = Any

PICTURES = Path(__file__).parents[2] / "images"  # what the project's own configs paint with


def default() -> Config:
    """All keys with their default values; locked, so that a misspelt key is an error."""
    c = ConfigDict()
    c.content = ""  # content picture, a path; empty: none (texture synthesis)
    c.style = ""  # style pictures, "a.jpg" or "a.jpg:3, b.jpg:1"; empty: none (reconstruction)
    c.blend = "targets"  # several styles: mix their statistics ("targets") or "losses"
    c.interpolate = 0  # paintings from the first style to the second, all at once; 0: one painting

    # Sizes are longer sides, in pixels.
    c.image_size = 384  # of the output
    c.style_scale = 1.0  # of the style pictures, relative to the output, at every scale
    c.style_size = 0  # of the style pictures, whatever the output's; 0: by style_scale
    c.pyramid = ConfigDict()  # coarse to fine: paint small first, enlarge, go on
    c.pyramid.min_size = 0  # smallest scale, at least; 0: only image_size
    c.pyramid.factor = 2**0.5  # between two scales
    c.pyramid.first_steps = 200  # optimiser steps at the smallest scale
    c.pyramid.steps = 100  # at every scale between that and the last, which has `steps`

    c.init = ConfigDict()
    # Where the pixels start: "content", "style" (stretched), "gray" (0.5), "mean" (the network's
    # mean colour), "style_statistics" (noise of the styles' mean and deviation), or a path.
    c.init.picture = "content"
    c.init.noise = 0.0  # "uniform": share of it, 0 to 1 (1: noise alone); "normal": its deviation
    c.init.noise_kind = "uniform"  # "uniform" is blended into the picture, "normal" added to it

    c.arch = "vgg19"  # "vgg19" or "vgg16"
    c.weights = ""  # converted weights, a path; empty: the project's own, fetched once
    # Rescale the network to a mean activation of 1 in every channel (Gatys et al. 2015) over these
    # pictures: "content, style", paths, or both; empty: leave it as trained.
    c.normalize_network = ""
    c.pooling = "max"  # a key of rules.POOLINGS
    c.padding = "zero"  # beyond the edges: a key of rules.PADDINGS; "circular" for pictures to tile

    c.rematerialize = False  # half the activations' memory for a third more time
    c.convolution = "auto"  # "direct", "winograd" (2e-5 off), or by layer and device what is faster

    # J = alpha J_content + beta J_style + tv_weight TV
    c.content_losses = "squared"  # "loss:weight(layers), ..." of rules.CONTENT_LOSSES, summed
    c.content_layers = ""  # "layer:lambda, ..." for losses without layers; empty: their own
    c.style_losses = "gram"  # "loss:weight(layers), ..." of rules.STYLE_LOSSES, summed
    c.style_layers = ""  # "layer:lambda, ..." for losses without layers; empty: their own
    c.tv_loss = "squared"  # total variation: a key of rules.TV_LOSSES
    c.alpha = 1.0  # weight of content
    c.beta = 0.02  # weight of style
    c.tv_weight = 1e6  # weight of total variation
    c.normalize_gradients = False  # every layer's gradient to L1 norm 1, before its lambda

    # Regions: "sky=a.png, house=b.png" (grayscale masks) or one colour-coded picture.
    c.guides = ConfigDict()
    c.guides.content = ""  # where in the output
    c.guides.style = ""  # where in the style pictures; ";" between those of several
    c.guides.weights = ""  # "sky:2, house:0.5"; a region that is not named has 1
    c.guides.propagation = "simple"  # to the layers: "simple", "inside" or "all"
    c.guides.content_weight = ""  # grayscale picture: how much content counts where; empty: 1

    c.color = ConfigDict()
    c.color.mode = "style"  # a key of rules.COLOR_MODES
    c.color.space = "yuv"  # of "luminance" and "recombine": "yuv", "yiq" or "lab"
    c.color.guided = False  # recolour the style region by region of the guides

    c.optimizer = ConfigDict()
    c.optimizer.name = "adam"  # "adam", "sgd" or "lbfgs"
    c.optimizer.learning_rate = 0.04  # adam: pixel units a step; sgd: a factor; lbfgs has none
    # What the learning rate is multiplied with at every step; it starts anew at every scale.
    c.optimizer.decay = 1.0
    # adam, sgd: steps in which the loss does not fall by 1 % until the rate is halved; 0: never.
    c.optimizer.patience = 0
    c.optimizer.b1 = 0.9  # adam: decay of the mean gradient
    # adam: decay of the mean squared gradient. 0.99 instead of the usual 0.999: the gradient of an
    # image changes its scale within 100 steps.
    c.optimizer.b2 = 0.99
    c.optimizer.eps = 1e-8  # adam
    c.optimizer.memory = 20  # lbfgs: pairs of steps and gradients remembered
    c.optimizer.average = 0.0  # decay of a moving average of the iterates, 0 (none) to below 1
    c.parameterization = "pixels"  # what the optimiser steps: "pixels" or "fourier"
    c.steps = 200  # optimiser steps; each evaluates the objective and its gradient once
    c.seed = 0  # of the noise and of losses that draw
    # Of the network: "float32"; "tensorfloat32", products in that on NVIDIA GPUs, 3 passes of
    # bfloat16 on TPUs, no change on CPUs; or "bfloat16", activations and their gradients too, for
    # GPUs and TPUs (a CPU takes longer). The picture and the losses are float32 always.
    c.precision = "float32"

    c.axes = ()  # what varies in a sweep, made by nst_jax.axes; empty: a single experiment

    c.log_every = 10  # steps between two log lines; the device runs that many in one dispatch
    c.checkpoint_every = 60.0  # seconds between two checkpoints, from which a run goes on; 0: none
    c.save_every = 50  # steps between two pictures in frames/, a multiple of log_every; 0: none
    c.output = "final.png"  # file name in the work directory; .png, .jpg, .webp or .tif
    c.bits = 8  # of a channel of the output: 8, or 16 (.png, .tif)
    c.keep_alpha = False  # give the output the content picture's transparency
    c.metrics = False  # measure the painting at the end: LPIPS, SSIM, style distance (metrics.py)
    c.tensorboard = False  # write the terms and the painting as TensorBoard events, too
    c.animation = ""  # file name for the frames as a film; .gif, .webp or .png; empty: none
    return c.lock()


def sample() -> Config:
    """The defaults with pictures that are there: matplotlib's portrait, the painting in images/."""
    c = default()
    c.content = sample_photograph()
    c.style = str(PICTURES / "starry.jpg")
    return c


def smoke(c: Config) -> Config:
    """Shrinks an experiment to seconds: the whole path, but no picture worth a look."""
    c.image_size = 64
    c.steps = 4
    c.log_every = 2
    c.save_every = 2
    c.convolution = "direct"  # compiles sooner
    if c.pyramid.min_size:
        c.pyramid.min_size, c.pyramid.first_steps, c.pyramid.steps = 40, 2, 2
    return c


def sample_photograph() -> str:
    """Path of a photograph that matplotlib ships: Grace Hopper, official U.S. Navy portrait."""
    data = resources.files("matplotlib") / "mpl-data" / "sample_data"
    return str(data / "grace_hopper.jpg")


def parse_arg(arg: str, **defaults: Any) -> Config:
    """Reads a config file's argument: "smoke", "relu4_2,smoke", "layer=relu4_2,smoke=True".

    Args:
      arg: what follows the colon in --config=path.py:arg.
      **defaults: the names it may set, bool or str. A bare word turns a bool of that name on;
        any other bare word is the value of the first str.

    Raises:
      UserError: a word that fits nothing.
    """
    values = ConfigDict(defaults)
    texts = [name for name, value in defaults.items() if isinstance(value, str)]
    for word in filter(None, (word.strip() for word in arg.split(","))):
        name, equals, value = word.partition("=")
        if not equals and isinstance(defaults.get(name), bool):
            value = "True"
        elif not equals and texts:
            name, value = texts[0], word
        if name not in defaults or (isinstance(defaults[name], bool) and value not in _BOOLS):
            raise UserError(f"config argument {word!r}: expected {', '.join(defaults)}")
        values[name] = _BOOLS[value] if isinstance(defaults[name], bool) else value
    return values


_BOOLS = {"True": True, "False": False}


def _flat(c: Config, prefix: str = "") -> dict[str, Any]:
    """All values by their full key: {"optimizer.name": "adam", ...}."""
    values = {}
    for key, value in c.items():
        group = isinstance(value, ConfigDict)
        values |= _flat(value, f"{prefix}{key}.") if group else {prefix + key: value}
    return values


def validate(c: Config) -> Config:
    """Checks every value, and that they agree, and freezes the config.

    Raises:
      UserError: names the key, its value and what is allowed.
    """
    expected, actual = _flat(default()), _flat(c)
    for key in expected.keys() ^ actual.keys():
        raise UserError(
            f"config.{key} is {'missing' if key in expected else 'no key of the schema'}"
        )
    for key, value in actual.items():
        if type(value) is not type(expected[key]):
            kind = type(expected[key]).__name__
            raise UserError(f"config.{key} is {value!r}; it must be of type {kind}")
    for key, (allows, allowed) in rules.RULES.items():
        value = actual[key]
        if not allows(value):
            raise UserError(f"config.{key} is {value!r}; it must be {allowed}")
    for part, (excludes, text) in rules.CONFLICTS.items():
        if excludes(c):
            raise UserError(f"config.{part} {text}")
    _check_specs(c)
    return FrozenConfigDict(c)


def with_values(c: Config, values: dict[str, Any]) -> Config:
    """A config with other values, by their full keys; validated.

    Raises:
      UserError: an unknown key, or a value that does not fit.
    """
    changed = ConfigDict(c.to_dict()).lock()
    try:
        changed.update_from_flattened_dict(values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(explain(error)) from error
    return validate(changed)


def load(path: Path, arg: str = "") -> Config:
    """The config that a file describes, for another file to build upon."""
    return runpy.run_path(str(path))["get_config"](arg)


def losses(c: Config, part: str) -> dict[str, dict[str, float]]:
    """The "content" or "style" losses of a config: loss -> tap -> lambda.

    Raises:
      UserError: what they are called or weighed by makes no sense.
    """
    known = rules.KNOWN_LOSSES[part]
    return specs.parse_losses(c[f"{part}_losses"], c[f"{part}_layers"], known, c.arch)


def _check_specs(c: Config):
    """Checks the values that are written in the languages of `specs`."""
    checks: dict[str, Callable[[], Any]] = {
        "style": lambda: specs.parse_pictures(c.style),
        "content_layers": lambda: specs.parse_layers(c.content_layers, c.arch),
        "style_layers": lambda: specs.parse_layers(c.style_layers, c.arch),
        "content_losses": lambda: losses(c, "content"),
        "style_losses": lambda: losses(c, "style"),
        "guides.weights": lambda: specs.parse_regions(c.guides.weights),
    }
    for key, check in checks.items():
        try:
            parsed = check()
        except UserError as error:
            raise UserError(f"config.{key}: {error}") from None
        if key.endswith("losses") and c[part := key.partition("_")[0]] and not parsed:
            raise UserError(
                f"config.{key} is empty; name one of {', '.join(rules.KNOWN_LOSSES[part])}, "
                f"or leave the picture out with --config.{part}="
            )
    cross = losses(c, "style").get("cross_gram", {"": 0, " ": 0})
    if c.style and len(cross) < 2:
        raise UserError(
            "config.style_losses: cross_gram compares neighbouring layers; name two or more"
        )
    if c.interpolate and len(specs.parse_pictures(c.style)) < 2:
        raise UserError(
            "config.interpolate goes from the first style picture to the second; "
            "name two with --config.style=A.jpg,B.jpg"
        )
    for part in ("content", "style"):
        covered = c.init.noise == 1 and c.init.noise_kind == "uniform"
        if not c[part] and c.init.picture in (part, f"{part}_statistics") and not covered:
            raise UserError(
                f"config.init.picture is {c.init.picture}, but config.{part} is empty; "
                f"name a picture, or start from noise with --config.init.noise=1"
            )


def explain(error: Exception) -> str:
    """What went wrong while flags were parsed or a config was loaded, as one line.

    ml_collections says of a bad key or value more than fits one line, packs one error into another,
    or quotes a traceback. Any other error is a mistake in the config file itself.
    """
    said: Any = error.__cause__ if type(error) is OSError and error.__cause__ else error
    while isinstance(said, Exception):
        error = said
        said = said.args[0] if said.args and not isinstance(said, OSError) else str(said)
    text = str(said)
    if "Error whilst parsing config file" in text:
        text = text.strip().splitlines()[-1]
    text = " ".join(text.split())
    text = re.sub(r" Other fields present: .*?(?=Did you mean|$)", " ", text).strip()
    if group := re.match(r"flag --(\S+)=.* as a ConfigDict", text):
        return f"--{group[1]} is a group of keys; set one of them, as in --{group[1]}.KEY=VALUE"
    if missing := re.search(r"Attempted \[.*?\]: (\S+)", text):
        return f"cannot load the config file {missing[1]}; is the path right?"
    if isinstance(error, AttributeError | KeyError) and "has no attribute" not in text:
        return f"unknown config key: {text}"
    if isinstance(error, UserError | OSError | TypeError | ValueError):
        return text
    return f"the config file does not load: {type(error).__name__}: {text}"
