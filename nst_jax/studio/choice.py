"""What a visitor has chosen, and the request that it makes."""

import dataclasses
import io
from collections.abc import Mapping
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
      keys: other keys of the config that controls set; None leaves one as it is.
      typed: keys that were written under "All settings", which win.
      strokes: of the brush, on a preview of the photograph.
      preview: width and height of that, in pixels.
      shown: the name of the painting that is looked at; "" for none.
    """

    content: str
    styles: dict[str, float]
    knobs: dict[str, Any]
    keys: dict[str, Any]
    typed: dict[str, Any] = dataclasses.field(default_factory=dict)
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
        keys = guides | self._keys() | self.typed
        return Request(self.content, _weighed(used), dict(self.knobs), keys, {})

    def values(self) -> Mapping[str, Any]:
        """The value of each key where nothing is typed."""
        untyped = Request(self.content, _weighed(self.styles), self.knobs, self._keys(), {})
        return config.flat(untyped.experiment().raw)

    def _keys(self) -> dict[str, Any]:
        return {key: value for key, value in self.keys.items() if value is not None}


def _weighed(styles: Mapping[str, float]) -> str:
    """Paintings and weights, as `config.style` names them."""
    return ", ".join(f"{grammar.quoted(path)}:{weight:g}" for path, weight in styles.items())


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
