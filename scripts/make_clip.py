"""Makes a short clip whose motion is known: a textured square moves across a moving ground.

  pip install -e ".[film]"
  python scripts/make_clip.py clip.webm
  python -m nst_jax.film --config film --config.content=clip.webm

It is there to try films without footage, and the tests of optical flow know what they should find.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import scipy.ndimage
from absl import flags

from nst_jax import cli
from nst_jax.errors import UserError
from nst_jax.pictures import clips, images
from nst_jax.pictures.writers import FILM_CODECS

_FRAMES = flags.DEFINE_integer("frames", 24, "How many.", lower_bound=1)
_WIDTH = flags.DEFINE_integer("width", 192, "Pixels.", lower_bound=32)
_HEIGHT = flags.DEFINE_integer("height", 128, "Pixels.", lower_bound=32)
flags.DEFINE_integer("seed", 0, "Of the textures.")

GROUND = (2, 1)  # pixels that it moves a frame, to the right and down
SQUARE = (-3, 2)  # the same of the square


class Scene(NamedTuple):
    """A clip.

    Attributes:
      frames: [n, h, w, 3] float32 in [0, 1].
      squares: [n, h, w] bool, where the square is.
    """

    frames: np.ndarray
    squares: np.ndarray

    def flow(self, now: int, other: int) -> np.ndarray:
        """[h, w, 2] the true flow from a frame to another, in pixels."""
        inside = self.squares[now][..., None]
        return np.where(inside, SQUARE, GROUND).astype(np.float32) * (other - now)

    def hidden(self, now: int, other: int) -> np.ndarray:
        """[h, w] bool: the ground that the square covers in the other frame, and what left it."""
        height, width = self.squares.shape[1:]
        ys, xs = np.mgrid[:height, :width]
        flow = self.flow(now, other).astype(int)
        xs, ys = xs + flow[..., 0], ys + flow[..., 1]
        inside = (xs >= 0) & (xs < width) & (ys >= 0) & (ys < height)
        covered = self.squares[other][np.clip(ys, 0, height - 1), np.clip(xs, 0, width - 1)]
        return ~inside | (covered & ~self.squares[now])


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """[height, width, 3] coloured noise with detail at several sizes."""
    noise = rng.standard_normal((height, width, 3))
    layers = [scipy.ndimage.gaussian_filter(noise, (size, size, 0)) * size for size in (1.5, 4, 12)]
    total = np.sum(layers, 0)
    return np.clip(0.5 + 0.18 * total / total.std(), 0, 1).astype(np.float32)


def scene(count: int, height: int, width: int, seed: int) -> Scene:
    """A clip of so many frames."""
    rng = np.random.default_rng(seed)
    reach = 4 * count
    ground = texture(rng, height + 2 * reach, width + 2 * reach)
    side = min(height, width) // 3
    square = texture(rng, side, side)[..., ::-1]
    frames, squares = [], []
    for k in range(count):
        top, left = reach - k * GROUND[1], reach - k * GROUND[0]
        frame = ground[top : top + height, left : left + width].copy()
        mask = np.zeros((height, width), bool)
        y = (height - side) // 2 + k * SQUARE[1]
        x = (width - side) // 2 + k * SQUARE[0]
        rows, columns = slice(max(y, 0), max(y + side, 0)), slice(max(x, 0), max(x + side, 0))
        part = square[max(-y, 0) : height - y, max(-x, 0) : width - x]
        mask[rows, columns] = True
        frame[rows, columns] = part[: frame[rows, columns].shape[0]]
        frames.append(frame)
        squares.append(mask)
    return Scene(np.stack(frames), np.stack(squares))


def main(name: str):
    """Writes the clip; prints its path."""
    path = Path(name)
    if path.suffix.lower() not in FILM_CODECS:
        raise UserError(f"{name} must end in {', '.join(FILM_CODECS)}")
    made = scene(_FRAMES.value, _HEIGHT.value, _WIDTH.value, flags.FLAGS.seed)
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{k:06d}.png" for k in range(len(made.frames))]
        for one, frame in zip(paths, made.frames, strict=True):
            images.write(one, frame)
        clips.write(path, paths, clips.PICTURES_PER_SECOND)
    cli.answer(path)


if __name__ == "__main__":
    cli.start(main, takes=(1,))
