"""The schema of an experiment: every key once, with its unit or meaning, and what is allowed.

A config file is `default()` and a few assignments. `validate` checks it whole and freezes it; the
rest of the package trusts what it returns and reads no key with a fallback.
"""

import math
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

from nst_jax import architecture, images
from nst_jax.errors import UserError

# A ConfigDict, or a FrozenConfigDict once validated: its keys are `default`'s, which type checkers
# cannot see.
Config = Any

PICTURES = Path(__file__).parents[1] / "images"  # what the project's own configs paint with


def default() -> Config:
    """All keys with their default values; locked, so that a misspelt key is an error."""
    c = ConfigDict()
    c.content = ""  # content picture, a path; empty: none (texture synthesis)
    c.style = ""  # style picture, a path; empty: none (content reconstruction)
    c.image_size = 384  # longer side of the output in pixels; the style picture gets the same
    c.init = ConfigDict()
    c.init.picture = "content"  # where the pixels start: "content", "style" or a path
    c.init.noise = 0.0  # share of uniform noise blended into it, 0 to 1 (1: noise alone)

    c.arch = "vgg19"  # "vgg19" or "vgg16"
    c.weights = ""  # converted weights, a path; empty: the project's own, fetched once
    c.pooling = "max"  # "max" or "average"

    # J = alpha J_content + beta J_style + tv_weight TV
    c.content_layers = "relu4_2:1"  # "layer:lambda, ..."; a missing lambda is 1
    # These lambdas let each layer count about as much as the others, which no equal ones do.
    c.style_layers = "relu1_1:100, relu2_1:1, relu3_1:0.3, relu4_1:0.003, relu5_1:1"
    c.alpha = 1.0  # weight of content
    c.beta = 0.02  # weight of style
    c.tv_weight = 1e6  # weight of total variation

    c.optimizer = ConfigDict()
    c.optimizer.name = "adam"  # "adam" or "lbfgs"
    c.optimizer.learning_rate = 0.04  # adam: pixel units a step (L-BFGS searches its own)
    c.optimizer.memory = 10  # lbfgs: pairs of steps and gradients remembered
    c.steps = 200  # optimiser steps; one of L-BFGS evaluates the objective 1 to 20 times
    c.seed = 0  # of the noise
    c.precision = "highest"  # of matrix products: "highest" (float32), "tensorfloat32", "bfloat16"

    c.log_every = 10  # steps between two log lines; the device runs that many in one dispatch
    c.save_every = 50  # steps between two pictures in frames/, a multiple of log_every; 0: none
    c.output = "final.png"  # file name in the work directory; .png, .jpg, .webp or .tif
    return c.lock()


def smoke(c: Config) -> Config:
    """Shrinks an experiment to seconds: the whole path, but no picture worth a look."""
    c.image_size = 64
    c.steps = 4
    c.log_every = 2
    c.save_every = 2
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


def parse_layers(spec: str, arch: str) -> dict[str, float]:
    """Reads "relu1_1:0.2, relu2_1" as {"relu1_1": 0.2, "relu2_1": 1.0}.

    Raises:
      UserError: a layer that `arch` does not have, one named twice, or a lambda that is no number.
    """
    lambdas = {}
    for word in filter(None, (word.strip() for word in spec.split(","))):
        tap, colon, number = (part.strip() for part in word.partition(":"))
        if tap not in architecture.taps(arch):
            raise UserError(
                f"unknown layer {tap!r}; {arch} has {', '.join(architecture.taps(arch))}"
            )
        if tap in lambdas:
            raise UserError(f"layer {tap} is named twice")
        try:
            lambdas[tap] = float(number) if colon else 1.0
        except ValueError:
            raise UserError(f"layer {tap} has the lambda {number!r}; give a number") from None
        if not _not_negative(lambdas[tap]):
            raise UserError(f"layer {tap} has the lambda {number}; it must be 0 or more")
    return lambdas


def _not_negative(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _one_of(*allowed: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in allowed, " or ".join(allowed)


# key -> (is the value allowed?, what is)
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "image_size": (lambda v: 1 <= v <= 1 << 15, "1 to 32768 pixels"),
    "init.picture": (bool, '"content", "style" or a path'),
    "init.noise": (lambda v: 0 <= v <= 1, "0 to 1"),
    "arch": _one_of(*architecture.DEPTHS),
    "pooling": _one_of("max", "average"),
    "alpha": (_not_negative, "0 or more"),
    "beta": (_not_negative, "0 or more"),
    "tv_weight": (_not_negative, "0 or more"),
    "optimizer.name": _one_of("adam", "lbfgs"),
    "optimizer.learning_rate": (_positive, "above 0"),
    "optimizer.memory": (lambda v: v >= 1, "1 or more"),
    "steps": (lambda v: v >= 1, "1 or more"),
    "seed": (lambda v: 0 <= v < 1 << 32, "0 to 2^32 - 1"),
    "precision": _one_of("highest", "tensorfloat32", "bfloat16"),
    "log_every": (lambda v: v >= 1, "1 or more"),
    "save_every": (lambda v: v >= 0, "0 or more"),
    "output": (
        lambda v: Path(v).name == v and Path(v).suffix.lower() in images.WRITERS,
        f"a file name ending in {', '.join(images.WRITERS)}",
    ),
}


def validate(c: Config) -> Config:
    """Checks every value, and that they agree, and freezes the config.

    Raises:
      UserError: names the key, its value and what is allowed.
    """
    for key, (allows, allowed) in RULES.items():
        value = c
        for part in key.split("."):
            value = value[part]
        if not allows(value):
            raise UserError(f"config.{key} is {value!r}; it must be {allowed}")
    if not c.content and not c.style:
        raise UserError("config.content and config.style are both empty; name a picture")
    for part in ("content", "style"):
        try:
            lambdas = parse_layers(c[f"{part}_layers"], c.arch)
        except UserError as error:
            raise UserError(f"config.{part}_layers: {error}") from None
        if c[part] and not lambdas:
            raise UserError(
                f"config.{part}_layers is empty; name a layer such as relu4_2, "
                f"or leave the picture out with --config.{part}="
            )
        if not c[part] and c.init.picture == part and c.init.noise < 1:
            raise UserError(
                f"config.init.picture is {part}, but config.{part} is empty; "
                f"name a picture, or start from noise with --config.init.noise=1"
            )
    if c.save_every % c.log_every:
        raise UserError(
            f"config.save_every is {c.save_every}; "
            f"it must be a multiple of log_every, which is {c.log_every}"
        )
    return FrozenConfigDict(c)


def explain(error: Exception) -> str:
    """What went wrong while a config was loaded or overridden, as one line.

    ml_collections says of a bad key or value more than fits one, or packs one error into another;
    any other error is a mistake in the config file itself.
    """
    said: Any = error.__cause__ if isinstance(error, OSError) and error.__cause__ else error
    while isinstance(said, Exception):
        error, said = said, said.args[0] if said.args else ""
    text = " ".join(str(said).split())
    text = re.sub(r"Other fields present: .*?(?=Did you mean|$)", "", text).strip()
    if isinstance(error, AttributeError | KeyError):
        return f"unknown config key: {text}"
    if isinstance(error, UserError | OSError | TypeError | ValueError):
        return text
    return f"the config file does not load: {type(error).__name__}: {text}"
