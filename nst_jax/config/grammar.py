"""The grammar of config values: layers, losses, pictures and regions.

    layers    relu1_1:0.2, relu2_1                   tap:lambda
    losses    gram, sliced:0.5(relu1_1:2, relu2_1)   loss:weight(layers of its own)
    pictures  night.jpg:3, day.jpg                   file:weight
    masks     sky=sky.png, ground=                   region=file; ground is the whole picture
    weights   sky:2, ground:0.5                      region:weight

A number that is left out is 1. A file name that holds a comma, colon, equals sign or parenthesis is
quoted, "Impression, soleil levant.jpg":2. Where a file of the unquoted name exists, no quotes are
needed: the longest run of words that names an existing file is taken for its name.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nst_jax import files
from nst_jax.errors import UserError
from nst_jax.network import architecture

MAX_WEIGHT = 3e38  # about the largest float32

_QUOTES = "\"'"


def words(
    text: str, separator: str = ",", is_name: Callable[[str], bool] | None = None
) -> list[str]:
    """Splits a value at separators outside parentheses and quotes.

    Args:
      text: e.g. "gram, sliced:0.5(relu1_1, relu2_1)".
      separator: one character.
      is_name: whether a text is a word although it holds separators, as an existing file's name
        may. The longest such run of pieces is one word.

    Returns:
      The words, stripped; empty ones are left out.
    """
    pieces = _split(text, separator)
    if is_name is not None and text.count("(") != text.count(")"):
        pieces = _split(text, separator, nests=False)  # a parenthesis of a file's name
    found: list[str] = []
    start = 0
    while start < len(pieces):
        stop = start + 1
        if is_name is not None:
            for end in range(len(pieces), start + 1, -1):
                if is_name(separator.join(pieces[start:end]).strip()):
                    stop = end
                    break
        found.append(separator.join(pieces[start:stop]).strip())
        start = stop
    return [word for word in found if word]


def _split(text: str, separator: str, nests: bool = True) -> list[str]:
    """The pieces between separators outside quotes, and parentheses if these nest; not stripped."""
    pieces, piece, depth, quote = [], "", 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES and _opens_quote(piece):
            quote = character
        elif character == separator and depth <= 0:
            pieces.append(piece)
            piece = ""
            continue
        elif nests:
            depth += (character == "(") - (character == ")")
        piece += character
    return [*pieces, piece]


def _opens_quote(before: str) -> bool:
    """Whether a quote after this text opens a quoted name: at the start of a word, or after "="."""
    return before.strip() == "" or before.rstrip().endswith(("=", "("))


def unquoted(word: str) -> str:
    """A word without the quotes around it."""
    word = word.strip()
    if len(word) > 1 and word[0] in _QUOTES and word[-1] == word[0]:
        return word[1:-1]
    return word


def quoted(name: str) -> str:
    """A file name as the grammar reads it back, in quotes where it needs them.

    >>> quoted("a.jpg"), quoted("a, b.jpg")
    ('a.jpg', '"a, b.jpg"')
    """
    if not re.search(r"[,:;=()\"']|^\s|\s$", name):
        return name
    quote = "'" if '"' in name else '"'
    return f"{quote}{name}{quote}"


def is_file(name: str) -> bool:
    """Whether a file of this name exists."""
    try:
        return files.named(name).is_file()
    except (OSError, ValueError):
        return False


def number(text: str, subject: str) -> float:
    """A weight, from 0 to `MAX_WEIGHT`.

    Args:
      text: the number.
      subject: whose it is, for the message, as in "layer relu1_1 has the lambda".

    Raises:
      UserError: not a number, or out of range.
    """
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{subject} {text!r}; give a number") from None
    if not 0 <= value <= MAX_WEIGHT:
        raise UserError(f"{subject} {text}; it must be 0 or more")
    return value


def parse_layers(text: str, arch: str) -> dict[str, float]:
    """Reads layers with their lambdas.

    >>> parse_layers("relu1_1:0.2, relu2_1", "vgg19")
    {'relu1_1': 0.2, 'relu2_1': 1.0}

    Raises:
      UserError: a layer that `arch` does not have, one named twice, or a lambda that is not a
        number.
    """
    lambdas = {}
    for word in words(text):
        tap, colon, value = (part.strip() for part in word.partition(":"))
        if tap not in architecture.taps(arch):
            known = ", ".join(architecture.taps(arch))
            raise UserError(f"unknown layer {tap!r}; {arch} has {known}")
        if tap in lambdas:
            raise UserError(f"layer {tap} is named twice")
        lambdas[tap] = number(value, f"layer {tap} has the lambda") if colon else 1.0
    return lambdas


def parse_losses(
    text: str,
    layers: str,
    defaults: Mapping[str, str],
    arch: str,
    joint: Mapping[str, slice] = MappingProxyType({}),
) -> dict[str, dict[str, float]]:
    """Reads losses with their weights and layers.

    >>> parse_losses("gram, w2:0.5(relu1_1:2)", "", {"gram": "relu2_1", "w2": "relu1_1"}, "vgg19")
    {'gram': {'relu2_1': 1.0}, 'w2': {'relu1_1': 1.0}}

    The weight of a loss is multiplied into its lambdas. A loss without layers of its own takes
    those of `layers`, and where that is empty its own defaults.

    Args:
      text: the losses.
      layers: layers of losses that name none.
      defaults: loss -> its layers where neither names any.
      arch: whose layers they are.
      joint: losses that see several layers together -> which of them, by depth, have no lambda.

    Raises:
      UserError: a loss that is not in `defaults`, one named twice, no layer, a bad weight, or one
        that is not used.
    """
    losses = {}
    for word in words(text):
        match = re.fullmatch(r"([^:()]*)(?::([^()]*))?(?:\((.*)\))?", word)
        name = match[1].strip() if match else word
        if match is None or name not in defaults:
            raise UserError(f"unknown loss {name!r}; there are {', '.join(defaults)}")
        if name in losses:
            raise UserError(f"loss {name} is named twice")
        weight = 1.0
        if match[2] is not None:
            weight = number(match[2].strip(), f"loss {name} has the weight")
        own = match[3]
        if own is None:
            own = layers or defaults[name]
        lambdas = parse_layers(own, arch)
        if not lambdas:
            raise UserError(f"loss {name} has no layer; name one such as relu4_2")
        if name in joint:
            _check_joint(name, own, lambdas, joint[name])
        losses[name] = {
            tap: _product(weight, value, f"loss {name} at {tap} has the weight")
            for tap, value in lambdas.items()
        }
    return losses


def _product(weight: float, value: float, subject: str) -> float:
    if weight * value > MAX_WEIGHT:
        raise UserError(f"{subject} {weight:g} x {value:g}; it must be {MAX_WEIGHT:g} at most")
    return weight * value


def _check_joint(name: str, text: str, lambdas: Mapping[str, float], unweighed: slice):
    """Checks the layers of a loss that sees several together."""
    if len(lambdas) < 2:
        raise UserError(f"{name} compares several layers together; name two or more")
    for tap in sorted(lambdas, key=architecture.depth)[unweighed]:
        if re.search(rf"\b{tap}\s*:", text):
            raise UserError(
                f"{name} weighs {tap} together with the layers before it, so that it has no lambda "
                f"of its own; leave it out, or give {name} layers of its own, as in "
                f"{name}(relu1_1:6, relu2_1)"
            )


def parse_pictures(value: str | Sequence[Any]) -> dict[str, float]:
    """Reads pictures with their weights.

    >>> parse_pictures("night.jpg:3, 'day, late.jpg'")
    {'night.jpg': 0.75, 'day, late.jpg': 0.25}
    >>> parse_pictures(("night.jpg", ("day, late.jpg", 3)))
    {'night.jpg': 0.25, 'day, late.jpg': 0.75}

    Args:
      value: files with weights in one text; or a sequence, each member a file with or without a
        weight, which may hold commas, or a pair (file, weight) that is taken as it is.

    Returns:
      file -> share; the shares sum to 1.

    Raises:
      UserError: a file named twice, a bad weight, or weights that are all 0.
    """
    return shares(list(itertools.starmap(_weighed, weighed_pictures(value))), value)


def weighed_pictures(value: str | Sequence[Any]) -> list[tuple[Any, Any]]:
    """Pairs (picture, weight) of a value as `parse_pictures` takes it; weights are not checked."""
    if isinstance(value, str):
        if is_file(value):  # also with spaces around it
            return [(value, 1.0)]
        return [_picture(word) for word in words(value, is_name=_is_weighed_file)]
    pairs: list[tuple[Any, Any]] = []
    for member in value:
        if isinstance(member, str):
            pairs.append(_picture(member))
        elif isinstance(member, tuple | list) and len(member) == 2:
            pairs.append((member[0], member[1]))
        else:
            pairs.append((member, 1.0))
    return pairs


def _weighed(picture: Any, weight: Any) -> tuple[Any, float]:
    return picture, number(str(weight), f"picture {picture} has the weight")


def shares(pairs: Sequence[tuple[Any, float]], value: Any = None) -> dict[Any, float]:
    """Scales weights of pictures to sum to 1.

    Raises:
      UserError: a picture named twice, or weights that are all 0 or too large to add.
    """
    weights: dict[Any, float] = {}
    for picture, weight in pairs:
        if picture in weights:
            raise UserError(f"picture {picture} is named twice")
        weights[picture] = weight
    total = math.fsum(weights.values())
    if weights and not 0 < total <= MAX_WEIGHT:
        given = [*weights.values()] if value is None else value
        raise UserError(f"the weights of the pictures are {given!r}; one must be above 0")
    return {picture: weight / total for picture, weight in weights.items()}


def _picture(word: str) -> tuple[str, float | str]:
    """A file and the text of its weight, or 1."""
    if is_file(word):
        return word, 1.0
    name, colon, text = word.rpartition(":")
    if colon and _is_number(text):
        return unquoted(name), text
    return unquoted(word), 1.0


def _is_weighed_file(word: str) -> bool:
    """Whether a word is an existing file's name, with or without a weight."""
    name, colon, text = word.rpartition(":")
    return is_file(word) or bool(colon and _is_number(text) and is_file(name))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def parse_files(text: str) -> list[str]:
    """Reads file names.

    >>> parse_files("content, 'a, b.jpg'")
    ['content', 'a, b.jpg']
    """
    if is_file(text):  # also with spaces around it
        return [text]
    return [unquoted(word) for word in words(text, is_name=is_file)]


def parse_range(text: str) -> tuple[int, int | None]:
    """Reads the first and the last of several numbers; None for no end.

    >>> parse_range("40:99"), parse_range("40:"), parse_range("")
    ((40, 99), (40, None), (1, None))

    Raises:
      UserError: not two positive numbers in ascending order.
    """
    first, _, last = (part.strip() for part in text.partition(":"))
    if not text.strip():
        return 1, None
    try:
        begin, end = int(first or 1), int(last) if last else None
    except ValueError:
        begin, end = 0, None
    if ":" not in text or begin < 1 or (end is not None and end < begin):
        raise UserError(f"{text!r} is not FIRST:LAST, two numbers from 1 on, such as 40:99")
    return begin, end


def parse_numbers(text: str) -> tuple[int, ...]:
    """Reads positive whole numbers, and returns them in ascending order.

    >>> parse_numbers("1, 4, 2")
    (1, 2, 4)

    Raises:
      UserError: none, or one that is no positive whole number.
    """
    try:
        numbers = sorted({int(word) for word in words(text)})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1:
        raise UserError(f"{text!r} is not a list of whole numbers from 1 on, such as '1, 2, 4'")
    return tuple(numbers)


def parse_region_weights(text: str) -> dict[str, float]:
    """Reads weights of regions.

    >>> parse_region_weights("sky:2, house:0.5")
    {'sky': 2.0, 'house': 0.5}

    Raises:
      UserError: a region that is named twice or has no number.
    """
    weights = {}
    for word in words(text):
        name, colon, value = (part.strip() for part in word.rpartition(":"))
        if not colon:
            name, value = value, ""
        if name in weights:
            raise UserError(f"region {name!r} is named twice")
        weights[name] = number(value, f"region {name!r} has the weight")
    return weights


def parse_masks(text: str) -> dict[str, str] | str:
    """Reads the masks of a picture.

    >>> parse_masks("sky=sky.png, ground=")
    {'sky': 'sky.png', 'ground': ''}
    >>> parse_masks("guide.png")
    'guide.png'

    Returns:
      region -> mask file, "" for the whole picture; or the name of one colour-coded picture, which
      is a text without "=" or an existing file; {} for no guides.

    Raises:
      UserError: a file without a region beside others with one, or a region named twice.
    """
    if is_file(text):  # also with spaces around it
        return text
    text = text.strip()
    if text and ("=" not in text or unquoted(text) != text):
        return unquoted(text)
    masks = {}
    for word in words(text, is_name=lambda word: is_file(word.partition("=")[2].strip())):
        name, equals, path = (part.strip() for part in word.partition("="))
        if not (name and equals):
            raise UserError(f"{word!r} names no region; write it as NAME=PATH")
        if name in masks:
            raise UserError(f"region {name!r} is named twice")
        masks[name] = unquoted(path)
    return masks


def parse_style_masks(text: str, count: int) -> list[dict[str, str] | str]:
    """Reads the masks of several style pictures, separated by semicolons.

    >>> parse_style_masks("sky=a.png; ; codes.png", 4)
    [{'sky': 'a.png'}, {}, 'codes.png', {}]

    Part k is for picture k. An empty part, or one missing at the end, is {}.

    Raises:
      UserError: more parts than pictures, or a part that `parse_masks` rejects.
    """
    parts = [text] if is_file(text) else _split(text, ";")
    if len(parts) > count:
        raise UserError(
            f"guides for {len(parts)} style pictures, and there are {count}; leave some out"
        )
    return [parse_masks(part) for part in parts] + [{}] * (count - len(parts))
