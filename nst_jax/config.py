"""The schema of an experiment: every key once, with its unit or meaning, and what is allowed.

A config file is `default()` and a few assignments. `validate` checks it whole and freezes it; the
rest of the package trusts what it returns and reads no key with a fallback.
"""

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

LARGEST = 3e38  # of a weight: about what float32 holds
PICTURES = Path(__file__).parents[1] / "images"  # what the project's own configs paint with


def default() -> Config:
    """All keys with their default values; locked, so that a misspelt key is an error."""
    c = ConfigDict()
    c.content = ""  # content picture, a path; empty: none (texture synthesis)
    c.style = ""  # style picture, a path; empty: none (content reconstruction)
    c.image_size = 384  # longer side of the output in pixels; the style picture gets the same
    c.init = ConfigDict()
    c.init.picture = "content"  # where the pixels start: "content", "style" or a path; stretched
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
    # Of products in the network: "highest" (float32), "high" or "default", which are TF32 on NVIDIA
    # GPUs and 3 or 1 passes in bfloat16 on TPUs. CPUs compute in float32 whatever it says.
    c.precision = "highest"

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
    return 0 <= value <= LARGEST


def _positive(value: float) -> bool:
    return 0 < value <= LARGEST


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
    "optimizer.memory": (lambda v: 1 <= v <= 1000, "1 to 1000"),
    "steps": (lambda v: 1 <= v <= 10**7, "1 to 10 million"),
    "seed": (lambda v: 0 <= v < 1 << 32, "0 to 2^32 - 1"),
    "precision": _one_of("highest", "high", "default"),
    "log_every": (lambda v: 1 <= v <= 10**7, "1 to 10 million"),
    "save_every": (lambda v: v >= 0, "0 or more"),
    "output": (
        lambda v: v == Path(v).name != "losses.png" and Path(v).suffix.lower() in images.WRITERS,
        f"a file name, but not losses.png, ending in {', '.join(images.WRITERS)}",
    ),
}


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
    for key, (allows, allowed) in RULES.items():
        value = actual[key]
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
