"""What `paint` offers instead of keys: six knobs, and looks by name."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nst_jax.config.schema import Config


class Look(NamedTuple):
    """A named choice of keys.

    Attributes:
      what: what it is good for.
      keys: what it sets, beyond configs/starry.py.
    """

    what: str
    keys: Mapping[str, Any]


LOOKS = {
    "classic": Look("strokes and colours of the painting, the photograph well readable", {}),
    "faithful": Look(
        "portraits and buildings: faces and edges stay", {"alpha": 8.0, "pyramid.steps": 60}
    ),
    "wild": Look(
        "the painting takes over: large strokes, shapes dissolve",
        {"alpha": 0.4, "pyramid.first_steps": 120},
    ),
    "soft": Look(
        "broad, rounded strokes and flat colours: skies, water, animals",
        {"style_losses": "w2", "pooling": "average", "padding": "reflect", "tv_weight": 3e6},
    ),
    "motifs": Look(
        "whole pieces of the painting, such as its stars, where they fit",
        {"style_losses": "gram, mrf:0.5(relu3_1:50, relu4_1:13)"},
    ),
    "photo": Look(
        "still a photograph, in the light and colours of the painting",
        {"color.photorealism": 0.5},
    ),
}

# Knob -> what it does to a config.
KNOBS: dict[str, Callable[[Config, Any], Mapping[str, Any]]] = {
    "look": lambda c, name: LOOKS[name].keys,
    "size": lambda c, pixels: {"image_size": pixels, "pyramid.min_size": pixels // 2},
    "strength": lambda c, factor: {"beta": c.beta * factor},
    "strokes": lambda c, factor: {"style_scale": factor},
    "draft": lambda c, on: {"pyramid.min_size": 0, "steps": 40} if on else {},
    "keep_colors": lambda c, on: {"color.mode": "luminance"} if on else {},
}


def turn(c: Config, knobs: Mapping[str, Any]) -> Config:
    """Sets a config's keys by knobs.

    Args:
      c: the config, which is changed.
      knobs: values by the names in `KNOBS`, in that table's order.
    """
    for name, change in KNOBS.items():
        if name in knobs:
            c.update_from_flattened_dict(dict(change(c, knobs[name])))
    return c
