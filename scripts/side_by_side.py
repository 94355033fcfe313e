"""Puts the content, styles and painting of a run side by side in one picture.

python scripts/side_by_side.py --workdir runs/NAME --output side_by_side.jpg
"""

import json
from pathlib import Path

import numpy as np
from absl import flags

from nst_jax import cli
from nst_jax.config import grammar
from nst_jax.errors import UserError
from nst_jax.pictures import images

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
_OUTPUT = flags.DEFINE_string("output", "side_by_side.jpg", "Picture to write.")
_HEIGHT = flags.DEFINE_integer(
    "height", 320, "Height of the result in pixels.", lower_bound=16, upper_bound=4096
)


def main():
    """Finds the pictures in the run's config; a picture that the run left out is left out here."""
    workdir = Path(_WORKDIR.value)
    try:
        config = json.loads((workdir / "config.json").read_text())
        styles = grammar.parse_pictures(config["style"])
        paths = [config["content"], *styles, workdir / config["output"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"--workdir {workdir} holds no finished run") from None
    images.write(Path(_OUTPUT.value), side_by_side(paths, _HEIGHT.value))
    print(_OUTPUT.value)


def side_by_side(paths: list[str | Path], height: int) -> images.Picture:
    """The pictures in a row, at one height, separated by white gaps of 1/40 of that height."""
    row = []
    gap = np.ones((height, height // 40, 3), np.float32)
    for path in filter(None, paths):
        image = images.read(path)
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        row += [gap, images.resize(image, (height, width))]
    return np.concatenate(row[1:], axis=1)


if __name__ == "__main__":
    cli.start(main)
