"""Paints the small pictures by which the studio explains its looks and knobs.

python scripts/studio_examples.py
python scripts/studio_examples.py --examples strength,strokes

The photograph is matplotlib's portrait of Grace Hopper, the painting is the project's own. 2 CPU
cores: 7 minutes. GPU, TPU: not measured.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from PIL import Image as PillowImage

from nst_jax import cli, config
from nst_jax.config import looks
from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.pictures.sizes import LONGER_SIDE

_FOLDER = flags.DEFINE_string("folder", "nst_jax/studio/examples", "Folder to write to.")
_EXAMPLES = flags.DEFINE_list("examples", [], "Examples to paint; all if empty.")
_SIZE = flags.DEFINE_integer("size", 256, "Longer side of a painting in pixels.", lower_bound=64)

HEIGHT = 144  # of an example, in pixels
# Example -> the knobs and keys of its pictures, from left to right.
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    **{f"look-{name}": [{"look": name}] for name in looks.LOOKS},
    "strength": [{"strength": 0.2}, {}, {"strength": 5.0}],
    "strokes": [{"strokes": 0.5}, {}, {"strokes": 2.0}],
    "smoothness": [{}, {"tv_weight": 3e7}, {"tv_weight": 3e8}],
    "start": [{}, {"init.noise": 1.0}],
    "keep_colors": [{}, {"keep_colors": True}],
}


def painted(choice: Mapping[str, Any]) -> images.Picture:
    """A painting by knobs and keys."""
    from nst_jax import stylize  # imports JAX

    c = config.load(config.find("starry"))
    knobs = {"size": _SIZE.value, "draft": True} | dict(choice)
    looks.turn(c, {name: knobs.pop(name) for name in looks.KNOBS if name in knobs})
    c.update_from_flattened_dict(knobs)
    standard = config.flat(config.default())
    return stylize(**{key: v for key, v in config.flat(c).items() if v != standard[key]})


def main():
    """Writes FOLDER/EXAMPLE.jpg, each the pictures of an example side by side."""
    folder = Path(_FOLDER.value)
    folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, images.Picture] = {}
    for name in _EXAMPLES.value or EXAMPLES:
        if name not in EXAMPLES:
            raise UserError(f"--examples: there is no {name!r}; there are {', '.join(EXAMPLES)}")
        choices = EXAMPLES[name]
        for choice in choices:
            if str(choice) not in known:
                picture = painted(choice)
                known[str(choice)] = images.resize(picture, LONGER_SIDE.fit(picture.shape, HEIGHT))
        path = folder / f"{name}.jpg"
        row = np.concatenate([known[str(choice)] for choice in choices], 1)
        PillowImage.fromarray(np.uint8(np.rint(255 * row))).save(path, quality=85)
        cli.answer(path)


if __name__ == "__main__":
    cli.start(main)
