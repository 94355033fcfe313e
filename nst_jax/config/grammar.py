"""The little languages of config values: layers, losses, weighted pictures.

  layers    relu1_1:0.2, relu2_1                   layer:lambda
  losses    gram, sliced:0.5(relu1_1:2, relu2_1)   loss:weight(layers of its own)
  pictures  night.jpg:3, day.jpg                   path:weight

A number that is left out is 1.
"""

import math
import re

from nst_jax.errors import UserError
from nst_jax.network import architecture

LARGEST = 3e38  # of a weight: about what float32 holds


def words(spec: str) -> list[str]:
    """What stands between commas, outside of parentheses; empty words are left out."""
    parts, depth, word = [], 0, ""
    for character in spec + ",":
        depth += (character == "(") - (character == ")")
        if character == "," and depth <= 0:
            parts.append(word.strip())
            word = ""
        else:
            word += character
    return [part for part in [*parts, word.strip(" ,")] if part]


def number(text: str, subject: str) -> float:
    """A weight: a number from 0 to `LARGEST`.

    Raises:
      UserError: it is none; `subject` says whose it is, as in "layer relu1_1 has the lambda".
    """
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{subject} {text!r}; give a number") from None
    if not 0 <= value <= LARGEST:
        raise UserError(f"{subject} {text}; it must be 0 or more")
    return value


def parse_layers(spec: str, arch: str) -> dict[str, float]:
    """Reads "relu1_1:0.2, relu2_1" as {"relu1_1": 0.2, "relu2_1": 1.0}.

    Raises:
      UserError: a layer that `arch` does not have, one named twice, or a lambda that is no number.
    """
    lambdas = {}
    for word in words(spec):
        tap, colon, text = (part.strip() for part in word.partition(":"))
        if tap not in architecture.taps(arch):
            raise UserError(
                f"unknown layer {tap!r}; {arch} has {', '.join(architecture.taps(arch))}"
            )
        if tap in lambdas:
            raise UserError(f"layer {tap} is named twice")
        lambdas[tap] = number(text, f"layer {tap} has the lambda") if colon else 1.0
    return lambdas


def parse_losses(
    spec: str, layers: str, defaults: dict[str, str], arch: str
) -> dict[str, dict[str, float]]:
    """Reads "gram, sliced:0.5(relu1_1:2)" as {"gram": {...}, "sliced": {"relu1_1": 1.0}}.

    The weight of a loss is multiplied into its lambdas. A loss without layers of its own gets those
    of `layers`, and where that is empty its own default ones.

    Raises:
      UserError: a loss that is not in `defaults`, one named twice, no layer, or a bad weight.
    """
    losses = {}
    for word in words(spec):
        match = re.fullmatch(r"([^:()]*)(?::([^()]*))?(?:\((.*)\))?", word)
        name = match[1].strip() if match else word
        if match is None or name not in defaults:
            raise UserError(f"unknown loss {name!r}; there are {', '.join(defaults)}")
        if name in losses:
            raise UserError(f"loss {name} is named twice")
        weight = (
            1.0 if match[2] is None else number(match[2].strip(), f"loss {name} has the weight")
        )
        own = layers or defaults[name] if match[3] is None else match[3]
        lambdas = parse_layers(own, arch)
        if not lambdas:
            raise UserError(f"loss {name} has no layer; name one such as relu4_2")
        losses[name] = {tap: weight * value for tap, value in lambdas.items()}
    return losses


def parse_pictures(spec: str) -> dict[str, float]:
    """Reads "night.jpg:3, day.jpg" as {"night.jpg": 0.75, "day.jpg": 0.25}: shares that sum to 1.

    Raises:
      UserError: a path that is named twice, or weights that are all 0.
    """
    weights = {}
    for word in words(spec):
        path, colon, text = word.rpartition(":")
        if not (colon and _is_number(text)):
            path, text = word, "1"
        if path in weights:
            raise UserError(f"picture {path} is named twice")
        weights[path] = number(text, f"picture {path} has the weight")
    total = math.fsum(weights.values())
    if weights and not 0 < total <= LARGEST:
        raise UserError(f"the weights of the pictures are {spec!r}; one must be above 0")
    return {path: weight / total for path, weight in weights.items()}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def parse_regions(spec: str) -> dict[str, float]:
    """Reads "sky:2, house:0.5" as {"sky": 2.0, "house": 0.5}.

    Raises:
      UserError: a region that is named twice or has no number.
    """
    weights = {}
    for word in words(spec):
        name, colon, text = (part.strip() for part in word.rpartition(":"))
        name, text = (name, text) if colon else (text, "")
        if name in weights:
            raise UserError(f"region {name!r} is named twice")
        weights[name] = number(text, f"region {name!r} has the weight")
    return weights
