"""What config files build on: sample pictures, a smoke test, arguments, other config files."""

import re
import runpy
from importlib import resources
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from nst_jax.config import rules
from nst_jax.config.schema import Config, default, flat
from nst_jax.errors import UserError

_PACKAGE = Path(__file__).parents[1]


def _shipped(name: str) -> Path:
    """A folder that is inside the package where it is installed, and beside it in a checkout."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


CONFIGS = _shipped("configs")
PICTURES = _shipped("images")  # what the project's own configs paint with

_BOOLS = {"True": True, "False": False}


def sample() -> Config:
    """The defaults with pictures that are there: matplotlib's portrait, the painting in images/."""
    c = default()
    c.content = sample_photograph()
    c.style = str(PICTURES / "starry.jpg")
    return c


def sample_photograph() -> str:
    """Path of a photograph that matplotlib ships: Grace Hopper, official U.S. Navy portrait."""
    data = resources.files("matplotlib") / "mpl-data" / "sample_data"
    return str(data / "grace_hopper.jpg")


def smoke(c: Config) -> Config:
    """Shrinks an experiment to seconds: it runs all the code, but paints nothing worth a look."""
    c.image_size = 64
    c.steps = 4
    c.log_every = 2
    c.save_every = 2
    c.convolution = "direct"  # compiles sooner
    if c.pyramid.min_size:
        c.pyramid.min_size, c.pyramid.first_steps, c.pyramid.steps = 40, 2, 2
    return c


def names() -> list[str]:
    """The shipped configs: "starry", "presets/crowsonkb", ..."""
    files = sorted(CONFIGS.rglob("*.py"), key=lambda path: (len(path.parts), path))
    return [path.relative_to(CONFIGS).with_suffix("").as_posix() for path in files]


def find(name: str) -> Path:
    """The file of a config: the path itself, or a shipped config of that name."""
    path, shipped = Path(name), CONFIGS / f"{name}.py"
    return shipped if not path.exists() and name in names() else path


def load(path: Path | str, *arg: str) -> Config:
    """The config that a file describes, for another file to build on.

    Args:
      path: the file; a shipped config may be named, as in "presets/founding".
      *arg: its argument, if it has one.
    """
    return runpy.run_path(str(find(str(path))))["get_config"](*arg)


def parse_arg(arg: str, **defaults: bool | str) -> Config:
    """Reads a config file's argument: "smoke", "relu4_2,smoke", "layer=relu4_2,smoke=True".

    Args:
      arg: what follows the colon in --config=path.py:arg.
      **defaults: the names that it may set, bool or str. A bare word turns on the bool of that
        name; any other bare word is the value of the first str.

    Raises:
      UserError: a word that fits none of them.
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


def explain(error: Exception) -> str:
    """One line on why flags cannot be parsed or a config file does not load.

    ml_collections says more about a bad key or value than fits one line, nests errors, or quotes a
    traceback. Any other error is a mistake in the config file itself.
    """
    error, text = _innermost(error)
    if "Error whilst parsing config file" in text:
        text = text.strip().splitlines()[-1]
    text = " ".join(text.split())
    text = re.sub(r" Other fields present: .*?(?=Did you mean|$)", " ", text).strip()
    if group := re.match(r"flag --(\S+)=.* as a ConfigDict", text):
        return f"--{group[1]} is a group of keys; set one of them, as in --{group[1]}.KEY=VALUE"
    if missing := re.search(r"Attempted \[.*?\]: (\S+)", text):
        shipped = ", ".join(name for name in names() if "/" not in name)
        return f"no config file {missing[1]}; is the path right? Shipped are {shipped} and more"
    if isinstance(error, AttributeError | KeyError) and "has no attribute" not in text:
        unknown = re.match(r"['\"]?(\w+)", text)
        alias = rules.ALIASES.get(unknown[1]) if unknown else None
        if unknown and alias:
            return f"unknown config key: {unknown[1]!r}; here it is config.{alias}"
        return f"unknown config key: {text}"
    if unknown := re.fullmatch(r"Unknown command line flag '(\w+)'.*", text):
        key = rules.ALIASES.get(unknown[1], unknown[1])
        if key != unknown[1] or key in flat(default()):
            return f"unknown flag --{unknown[1]}; give --config.{key}"
    if isinstance(error, UserError | OSError | TypeError | ValueError):
        return text
    return f"the config file does not load: {type(error).__name__}: {text}"


def _innermost(error: Exception) -> tuple[Exception, str]:
    """The error that others are wrapped around, and its text."""
    inner: Any = error
    if type(error) is OSError and error.__cause__ is not None:
        inner = error.__cause__
    while isinstance(inner, Exception):
        error = inner
        inner = inner.args[0] if inner.args and not isinstance(inner, OSError) else str(inner)
    return error, str(inner)
