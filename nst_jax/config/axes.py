"""The axes of a sweep: what varies between its experiments, and the cells that they make.

    each("beta", 0.002, 0.02, 0.2)                              one key, value by value
    zipped({"image_size": (128, 256), "steps": (100, 200)})     keys that change together
    named("layers", {"all": {}, "one": {"style_layers": "relu1_1"}})    a list of settings

`config.axes` is a tuple of axes. A sweep is their product, the last one fastest, and every member
of the product is a cell: an experiment with the settings of one place on every axis.
"""

import contextlib
import glob
import itertools
import math
import re
from ast import literal_eval
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from nst_jax import files
from nst_jax.config import grammar
from nst_jax.config.experiment import Experiment
from nst_jax.config.parsing import parse_values
from nst_jax.config.schema import Config, flat
from nst_jax.errors import UserError
from nst_jax.pictures.kinds import picture_files

MAX_CELLS = 10_000
_MAX_NAME_LETTERS = 80  # of a cell's folder

# What an axis sets at one place: pairs (key, value). Tuples, because a config may hold them.
Settings = tuple[tuple[str, Any], ...]


class Axis(NamedTuple):
    """A direction in which a sweep varies.

    Attributes:
      name: its name in tables and reports.
      places: (label, settings) of every place on it.
    """

    name: str
    places: tuple[tuple[str, Settings], ...]


class Cell(NamedTuple):
    """One experiment of a sweep.

    Attributes:
      name: of its folder; begins with its number.
      labels: axis -> label of its place there.
      settings: key -> value, as its axes set them.
      experiment: with these settings.
    """

    name: str
    labels: dict[str, str]
    settings: dict[str, Any]
    experiment: Experiment


def each(key: str, *values: Any) -> Axis:
    """An axis along the values of one key, written as in `--config.KEY`."""
    labels = [_label(key, value) for value in values]
    if len({*labels}) < len(labels):
        labels = [str(value) for value in values]
    settings = [((key, value),) for value in values]
    return Axis(key, tuple(zip(labels, settings, strict=True)))


def pictures(key: str, pattern: str) -> Axis | None:
    """An axis along the pictures that a folder holds or a pattern names.

    Args:
      key: "content" or "style".
      pattern: a folder, of which every file whose name ends like a picture's is taken; or a
        pattern, such as "photos/*.jpg". Names are in order.

    Returns:
      None if it is neither, or if a file has this very name.

    Raises:
      UserError: a folder without pictures, or a pattern that no file fits.
    """
    path = files.named(pattern)
    is_folder = False
    with contextlib.suppress(OSError, ValueError):  # no name of a file
        is_folder = path.is_dir()
    if grammar.is_file(pattern) or not (is_folder or glob.has_magic(pattern)):
        return None
    names = sorted(picture_files(path))
    if not names:
        raise UserError(f"config.{key}: there are no pictures in {pattern}")
    return each(key, *(grammar.quoted(name) if key == "style" else name for name in names))


def zipped(values: dict[str, Sequence[Any]]) -> Axis:
    """An axis along which several keys change together: key -> its values.

    Raises:
      UserError: the keys have different numbers of values.
    """
    if len({len(column) for column in values.values()}) > 1:
        counts = ", ".join(f"{key} has {len(column)}" for key, column in values.items())
        raise UserError(f"keys that change together need equally many values, but {counts}")
    rows = [tuple(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    labels = [", ".join(_label(key, value) for key, value in row) for row in rows]
    return Axis(", ".join(values), tuple(zip(labels, rows, strict=True)))


def named(name: str, settings: dict[str, dict[str, Any]]) -> Axis:
    """An axis of settings listed one by one: label -> {key: value, ...}."""
    return Axis(name, tuple((str(label), (*keys.items(),)) for label, keys in settings.items()))


def parse(text: str) -> Axis:
    """Reads an axis from a flag: "beta=0.02, 0.2", "seed=0, 1", "style_layers=['relu1_1', ...]".

    The values are Python literals. A word that is not one stands for itself; true and false stand
    for True and False.

    Raises:
      UserError: no key, no "=", or an empty value between commas.
    """
    key, equals, values = (part.strip() for part in text.partition("="))
    if not (key and equals):
        raise UserError(f"--axis {_shortened(text)}; write it as KEY=VALUE, VALUE, ...")
    try:
        read = literal_eval(values)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if re.search(r",\s*,|^\s*,", values):
            raise UserError(f"--axis {_shortened(text)} has an empty value") from None
        if key in ("content", "style") and (found := pictures(key, values)):
            return found
        read = [literal(word) for word in grammar.words(values)]
    return each(key, *(read if isinstance(read, list | tuple) else [read]))


def literal(word: str) -> Any:
    """A word as the value that it stands for; absl's flags read booleans in lower case, too.

    >>> literal("0.5"), literal("true"), literal("relu4_2")
    (0.5, True, 'relu4_2')
    """
    try:
        return literal_eval({"true": "True", "false": "False"}.get(word, word))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return word


def _shortened(text: str) -> str:
    """A user's text quoted in an error, which is one line."""
    return repr(text if len(text) <= _MAX_NAME_LETTERS else f"{text[:_MAX_NAME_LETTERS]}...")


def _label(key: str, value: Any) -> str:
    """A value in a table: short numbers, pictures without folder and suffix."""
    if isinstance(value, float):
        return f"{value:g}"
    if key == "content" and isinstance(value, str) and value:
        return Path(value).stem
    if key == "style" and isinstance(value, str | list | tuple) and value:
        return " + ".join(Path(picture).stem for picture in grammar.parse_pictures(value))
    return str(value) if value != "" else "none"


def of(c: Config) -> list[Axis]:
    """The axes of a config; a single axis need not be in a tuple.

    Raises:
      UserError: something else is among them.
    """
    given: Any = (c.axes,) if isinstance(c.axes, Axis) else c.axes
    try:
        found = [Axis(*axis) for axis in given]
        for axis in found:
            _ = [(str(label), dict(settings)) for label, settings in axis.places]
    except (TypeError, ValueError):
        raise UserError(
            "config.axes must be a tuple of what axes.each, axes.zipped and axes.named make"
        ) from None
    return found


def cells(c: Config) -> list[Cell]:
    """The cells of a config, in order; a config without axes has one.

    Raises:
      UserError: an axis with no place, two axes that set one key, two places with one label, an
        unknown key, or a value that `config.parse` refuses.
    """
    axes = of(c)
    _check(axes, {key for key, value in c.items() if isinstance(value, ConfigDict)})
    base = flat(c) | {"axes": ()}
    count = math.prod(len(axis.places) for axis in axes)
    digits = len(str(count - 1))
    return [
        _cell(base, f"{number:0{digits}d}", axes, places)
        for number, places in enumerate(itertools.product(*(axis.places for axis in axes)))
    ]


def _check(axes: list[Axis], groups: Collection[str]):
    count = math.prod(len(axis.places) for axis in axes)
    if count > MAX_CELLS:
        raise UserError(f"the axes make {count:,} cells; a sweep has {MAX_CELLS:,} at most")
    owners: dict[str, str] = {}
    for axis in axes:
        labels = [label for label, _ in axis.places]
        if not labels:
            raise UserError(f"axis {axis.name!r} is empty; give it a value")
        for label in labels:
            if labels.count(label) > 1:
                raise UserError(f"axis {axis.name!r} has {label!r} twice")
        for key in dict.fromkeys(_keys(axis)):
            if key in groups:
                raise UserError(f"axis {axis.name!r} sets the group config.{key}; name its keys")
            if key in owners:
                raise UserError(f"axes {owners[key]!r} and {axis.name!r} both set config.{key}")
            owners[key] = axis.name
        if [other.name for other in axes].count(axis.name) > 1:
            raise UserError(f"two axes are named {axis.name!r}")


def _keys(axis: Axis) -> Iterator[str]:
    return (key for _, settings in axis.places for key, _ in settings)


def keys_of(c: Config) -> set[str]:
    """All keys that the axes of a config set."""
    return {key for axis in of(c) for key in _keys(axis)}


def _cell(base: dict[str, Any], number: str, axes: list[Axis], places: Any) -> Cell:
    labels = {axis.name: label for axis, (label, _) in zip(axes, places, strict=True)}
    settings = {key: value for _, pairs in places for key, value in pairs}
    described = ", ".join(f"{name}={label}" for name, label in labels.items())
    try:
        experiment = parse_values(base | settings)
    except UserError as error:
        raise UserError(f"cell {number} ({described}): {error}") from error
    words = re.sub(r"[^\w.+=-]+", "_", "-".join([number, *map("=".join, labels.items())]))
    return Cell(words[:_MAX_NAME_LETTERS].rstrip("_"), labels, settings, experiment)
