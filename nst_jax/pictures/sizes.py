"""How large a picture becomes, and how it is resampled to that."""

import math
from collections.abc import Callable
from typing import NamedTuple

from PIL.Image import Resampling

# Name -> (height, width) -> the number of pixels that a size sets.
SIDES: dict[str, Callable[[int, int], float]] = {
    "long": max,
    "short": min,
    "height": lambda height, width: height,
    "area": lambda height, width: math.sqrt(height * width),  # the side of a square as large
}

# Name -> Pillow's filter. All but "nearest" are antialiased: a pixel of a smaller picture sees
# every pixel that it covers.
FILTERS = {
    "lanczos": Resampling.LANCZOS,
    "bicubic": Resampling.BICUBIC,
    "bilinear": Resampling.BILINEAR,
    "nearest": Resampling.NEAREST,
}


class Sizing(NamedTuple):
    """What a size means, and how pictures get it.

    Attributes:
      side: a key of `SIDES`.
      resample: a key of `FILTERS`.
    """

    side: str = "long"
    resample: str = "lanczos"

    def fit(self, shape: tuple[int, ...], size: int) -> tuple[int, int]:
        """(height, width) of the aspect ratio of `shape` for a size; each is 1 or more.

        >>> Sizing("long").fit((300, 400, 3), 200)
        (150, 200)
        >>> Sizing("short").fit((300, 400, 3), 150)
        (150, 200)
        """
        height, width = shape[:2]
        scale = size / SIDES[self.side](height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))


LONGER_SIDE = Sizing()
