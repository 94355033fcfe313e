"""What a visitor has chosen, and the request that it makes."""

import dataclasses
import io
from pathlib import Path
from typing import Any

from PIL import Image

from nst_jax import config
from nst_jax.config import grammar
from nst_jax.studio import brush
from nst_jax.studio.painter import Painter, Request

STYLES = ("starry", "ember")  # the project's own paintings
QUALITIES = {
    "draft": ("Draft, a quick look", {"size": 256, "draft": True}),
    "good": ("Good", {"size": 384}),
    "print": ("Print, slow", {"size": 1024}),
}


@dataclasses.dataclass
class Choice:
    """What one visitor has chosen.

    Attributes:
      content: the photograph.
      styles: painting -> weight.
      knobs: by their names in `looks.KNOBS`.
      keys: any other keys of the config.
      strokes: of the brush, on a preview of the photograph.
      preview: width and height of that, in pixels.
      shown: the name of the painting that is looked at; "" for none.
    """

    content: str
    styles: dict[str, float]
    knobs: dict[str, Any]
    keys: dict[str, Any]
    strokes: list[brush.Stroke] = dataclasses.field(default_factory=list)
    preview: tuple[int, int] = (1, 1)
    shown: str = ""

    def request(self, painter: Painter) -> Request:
        """The request for a painting; the masks of the strokes are kept like uploads."""
        regions = brush.regions(self.strokes, self.preview, [*self.styles])
        places = {path: name for name, (_, paintings) in regions.items() for path in paintings}
        used = {path: w for path, w in self.styles.items() if not regions or path in places}
        guides = {}
        if regions:
            masks = {name: painter.upload(_png(mask)) for name, (mask, _) in regions.items()}
            guides["guides.content"] = ", ".join(
                f"{name}={grammar.quoted(str(path))}" for name, path in masks.items()
            )
            guides["guides.style"] = "; ".join(f"{places[path]}=" for path in used)
        style = ", ".join(f"{grammar.quoted(path)}:{w:g}" for path, w in used.items())
        return Request(self.content, style, self.knobs, guides | self.keys, {})


def _png(mask: brush.Mask) -> bytes:
    """A mask as a file."""
    file = io.BytesIO()
    Image.fromarray(mask).convert("L").save(file, "PNG")
    return file.getvalue()


def samples(painter: Painter) -> dict[str, str]:
    """The project's own pictures, uploaded like any other: name -> file."""
    paths = [Path(config.sample_photograph()), *(config.PICTURES / f"{one}.jpg" for one in STYLES)]
    return {path.stem: str(painter.upload(path.read_bytes())) for path in paths}


def first(samples: dict[str, str]) -> Choice:
    """What is chosen when a page is opened."""
    (photograph,) = (path for name, path in samples.items() if name not in STYLES)
    knobs = {"look": "classic", **QUALITIES["draft"][1]}
    return Choice(photograph, {samples[STYLES[0]]: 1.0}, knobs, {})
