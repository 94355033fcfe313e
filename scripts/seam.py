"""Paints the same steps whole and in tiles, and looks for the borders of tiles in the difference.

  python scripts/seam.py --content me.jpg --style painting.jpg --output seam.png

Value and gradient in tiles differ from the whole picture's only by rounding, yet paths part at
flipped ReLUs, so the paintings differ a little everywhere. If that is no more at borders than
elsewhere, there is no seam. Prints how far the paintings are apart, and the mean squared difference
within 4 pixels of borders, as a multiple of that elsewhere; for comparison, the same around lines
that are moved into the tiles. The sheet has both paintings and their difference.

2 CPU cores: 50 steps of Adam at 1024x768 pixels take 15 minutes.
"""

from typing import Any

import numpy as np
from absl import flags

from nst_jax import cli, config
from nst_jax.errors import UserError
from nst_jax.pictures import images, sheets

_CONTENT = flags.DEFINE_string("content", config.sample_photograph(), "Photograph.")
_STYLE = flags.DEFINE_string("style", str(config.PICTURES / "starry.jpg"), "Painting.")
_SIZE = flags.DEFINE_integer("size", 1024, "Longer side in pixels.", lower_bound=32)
_TILE = flags.DEFINE_integer("tile", 512, "Longest side of a tile in pixels.", lower_bound=80)
_STEPS = flags.DEFINE_integer("steps", 50, "Steps of Adam.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "seam.png", "Picture to write.")

SETTINGS: dict[str, Any] = {"optimizer.name": "adam", "pyramid.min_size": 0}
NEAR = 4  # pixels on each side of a line
MOVED = (1 / 8, 1 / 4, 3 / 8, 1 / 2)  # of a tile, into which the lines for comparison are moved
VISIBLY = 16  # the difference in the sheet is so many times as strong


def main():
    """Paints twice, prints the figures and draws the sheet."""
    output = sheets.destination(_OUTPUT.value)
    cores = core(SETTINGS | {"image_size": _SIZE.value, "tile": _TILE.value})
    whole, tiled = painted(0), painted(_TILE.value)
    squares = ((whole - tiled) ** 2).mean(-1)
    print(f"{whole.shape[1]}x{whole.shape[0]} pixels in tiles of {cores[1]}x{cores[0]}")
    print(f"{-10 * np.log10(squares.mean()):.1f} dB apart")
    print(f"{contrast(squares, cores, 0):.2f} at borders, as a multiple of elsewhere")
    moved = ", ".join(f"{contrast(squares, cores, share):.2f}" for share in MOVED)
    print(f"{moved} at lines moved by {', '.join(f'{share:g}' for share in MOVED)} of a tile")
    row = [whole, tiled, np.clip(VISIBLY * np.abs(whole - tiled), 0, 1)]
    labels = ["whole", "in tiles", f"difference x {VISIBLY}"]
    images.write(output, sheets.sheet([row], [""], labels, height=min(512, _SIZE.value)))
    print(output)


def core(settings: dict[str, Any]) -> tuple[int, int]:
    """(height, width) of a tile in pixels.

    Raises:
      UserError: the picture has but one tile.
    """
    from nst_jax.network.tiling import tiling
    from nst_jax.transfer import networks, prepare
    from nst_jax.transfer.cache import SHARED

    c = config.default()
    c.content, c.style = _CONTENT.value, _STYLE.value
    experiment = config.with_values(c, settings)
    pictures = prepare.load(experiment, SHARED)
    network = networks.load_network(experiment, pictures, SHARED)
    tiles = tiling(network, pictures.shape, _TILE.value)
    if tiles is None:
        raise UserError(f"--tile {_TILE.value}: must be below --size, which is {_SIZE.value}")
    return tiles.core


def painted(tile: int) -> images.Picture:
    """The painting in tiles of this side, or whole with 0."""
    from nst_jax import stylize  # imports JAX

    settings: dict[str, Any] = SETTINGS | {
        "image_size": _SIZE.value,
        "steps": _STEPS.value,
        "tile": tile,
    }
    return stylize(_CONTENT.value, _STYLE.value, **settings)


def contrast(squares: np.ndarray, cores: tuple[int, int], moved: float) -> float:
    """The mean near the lines between tiles, as a multiple of the mean elsewhere.

    Args:
      squares: [h, w] squared differences.
      cores: (height, width) of a tile.
      moved: by which share of a tile the lines are moved back into the tiles.
    """
    near = np.zeros(squares.shape, bool)
    for axis, side in enumerate(cores):
        lines = np.arange(side, squares.shape[axis], side) - round(moved * side)
        at = np.arange(squares.shape[axis])
        close = ((at >= lines[:, None] - NEAR) & (at < lines[:, None] + NEAR)).any(0)
        near |= close[:, None] if axis == 0 else close[None]
    return float(squares[near].mean() / squares[~near].mean())


if __name__ == "__main__":
    cli.start(main)
