"""Draws the pictures of docs/controls.md: what each control does, on one pair of pictures.

pip install scikit-learn scikit-image
python scripts/controls.py --families pooling,padding
python scripts/controls.py --style starry_night.jpg

The photograph is scikit-learn's sample of a Chinese pavilion; the docs show it painted like Van
Gogh's Starry Night. 2 CPU cores: 1 min 23 s for the seven paintings of `color`. GPU, TPU: not
measured.
"""

import runpy
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from absl import flags
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFilter

from nst_jax import cli, config
from nst_jax.config import rules
from nst_jax.errors import UserError
from nst_jax.pictures import images, sheets

_FAMILIES = flags.DEFINE_list("families", [], "Sheets to draw; all if empty.")
_FOLDER = flags.DEFINE_string("folder", "docs/images", "Folder to write FAMILY.jpg to.")
_STYLE = flags.DEFINE_string("style", str(config.PICTURES / "starry.jpg"), "Painting.")
_SIZE = flags.DEFINE_integer("size", 224, "Longer side of a painting in pixels.", lower_bound=32)
_STEPS = flags.DEFINE_integer("steps", 70, "Steps per painting.", lower_bound=1)

MAX_PRESET_STEPS = 200  # at each scale
# Outline of the pavilion, drawn by hand: x and y as shares of the width and height.
PAVILION = [(0.31, 0.06), (0.34, 0.06), (0.35, 0.14), (0.51, 0.29), (0.47, 0.37), (0.53, 0.42)]
PAVILION += [(0.51, 0.55), (0.56, 0.60), (0.54, 0.73), (0.59, 0.79), (0.50, 0.92), (0.48, 1.0)]
PAVILION += [(0.38, 1.0), (0.30, 0.90), (0.11, 0.78), (0.09, 0.62), (0.15, 0.55), (0.12, 0.41)]
PAVILION += [(0.18, 0.38), (0.14, 0.28), (0.29, 0.15)]


def photograph() -> images.Picture:
    """The pavilion, float32 [427, 640, 3]."""
    try:
        from sklearn.datasets import load_sample_image  # pyright: ignore
    except ImportError:
        raise UserError("this needs scikit-learn's photograph; pip install scikit-learn") from None
    return np.asarray(load_sample_image("china.jpg"), np.float32) / np.float32(255)


def pictures() -> dict[str, Any]:
    """The content and style that are painted, as settings."""
    return {"content": photograph(), "style": _STYLE.value}


def warm() -> images.Picture:
    """A second style: the first with red and blue swapped."""
    return np.ascontiguousarray(images.read(_STYLE.value)[..., ::-1])


def masks(folder: Path) -> dict[str, Any]:
    """Writes masks of the pavilion and of what is around it; returns guides."""
    width, height = 320, 214
    pavilion = PillowImage.new("L", (width, height))
    outline = [(x * width, y * height) for x, y in PAVILION]
    ImageDraw.Draw(pavilion).polygon(outline, fill=255)
    pavilion = pavilion.filter(ImageFilter.GaussianBlur(3))
    pavilion.save(folder / "pavilion.png")
    PillowImage.eval(pavilion, lambda value: 255 - value).save(folder / "around.png")
    return {"content": f"pavilion={folder}/pavilion.png, around={folder}/around.png"}


Paint = Callable[..., images.Picture]  # (**settings of `stylize`) -> painting
Cells = dict[str, images.Picture]  # label -> painting
Family = Callable[[Paint, Path], Cells]  # (paint, folder for masks) -> cells


def _varied(changes: dict[str, dict[str, Any]]) -> Family:
    """A family whose paintings differ only in config keys."""
    return lambda paint, folder: {label: paint(**keys) for label, keys in changes.items()}


def _named(key: str, names: Any, **others: Any) -> Family:
    """A family with one painting per value of a key."""
    return _varied({str(name): {key: name} | others for name in names})


def _guides(paint: Paint, folder: Path) -> Cells:
    """Regions with a style picture each, and a map of where content counts."""
    guides = masks(folder) | {"style": "pavilion=; around="}
    two = [warm(), images.read(_STYLE.value)]
    cells = {"no guides": paint(style=two)}
    for how in ("simple", "all"):
        given = guides | {"propagation": how}
        cells[how] = paint(style=two, guides=given)
    cells["pavilion x 0.1"] = paint(style=two, guides=guides | {"weights": "pavilion:0.1"})
    cells["content_weight"] = paint(guides={"content_weight": f"{folder}/pavilion.png"})
    return cells


def _blends(paint: Paint, _: Path) -> Cells:
    """Two styles mixed, and a sequence from one to the other."""
    two = [images.read(_STYLE.value), warm()]
    cells = {
        f"interpolate {k + 1} of 3": one for k, one in enumerate(paint(style=two, interpolate=3))
    }
    for blend in ("targets", "losses"):
        cells[f"sliced, {blend}"] = paint(style=two, blend=blend, style_losses="sliced")
    return cells


def _padding(paint: Paint, _: Path) -> Cells:
    """Textures, tiled 2 x 2: only circular padding leaves no seam."""
    cells = {}
    for name in rules.PADDINGS:
        texture = paint(
            content=None,
            padding=name,
            init={"noise": 1.0},
            image_size=128,
            pyramid={"min_size": 64, "first_steps": 100, "steps": 50},
        )
        cells[name] = np.tile(texture, (2, 2, 1))
    return cells


def _periods(paint: Paint, _: Path) -> Cells:
    """A regular texture, with what keeps its rows."""
    try:
        from skimage import data  # pyright: ignore
    except ImportError:
        raise UserError("this needs scikit-image's bricks; pip install scikit-image") from None
    bricks = np.repeat(np.asarray(data.brick(), np.float32)[..., None] / 255, 3, -1)
    cells: Cells = {"the texture": images.resize(bricks, (_SIZE.value, _SIZE.value))}
    ways: dict[str, dict[str, Any]] = {
        "gram": {},
        "gram, shifted_gram": {"style_losses": "gram, shifted_gram"},
        "spectrum_weight 1e7": {"spectrum_weight": 1e7},
    }
    ways["both"] = ways["gram, shifted_gram"] | ways["spectrum_weight 1e7"]
    for name, keys in ways.items():
        common: dict[str, Any] = {"content": None, "style": bricks, "init": {"noise": 1.0}}
        cells[name] = paint(optimizer={"name": "lbfgs"}, steps=150, **common, **keys)
    return cells


def _presets(paint: Paint, _: Path) -> Cells:
    """Every preset, shrunk to the sheet's size and to `MAX_PRESET_STEPS` at each scale."""
    cells = {}
    for path in sorted((config.PICTURES.parent / "configs" / "presets").glob("*.py")):
        c = runpy.run_path(str(path))["get_config"]()
        c.pyramid.min_size = round(c.pyramid.min_size * _SIZE.value / c.image_size)
        if c.optimizer.name == "sgd":  # gradients grow as the number of pixels shrinks
            c.optimizer.learning_rate *= (_SIZE.value / c.image_size) ** 2
        c.image_size = _SIZE.value
        c.pyramid.first_steps = min(c.pyramid.first_steps, MAX_PRESET_STEPS)
        c.pyramid.steps = min(c.pyramid.steps, MAX_PRESET_STEPS)
        c.steps = c.log_every = min(c.steps, MAX_PRESET_STEPS)
        c.save_every = 0
        cells[path.stem] = paint(**c.to_dict() | pictures())
    return cells


# Name -> sheet.
FAMILIES: dict[str, Family] = {
    "style_losses": _named("style_losses", [*rules.STYLE_LOSSES]),
    "content_losses": _varied(
        {
            "squared": {},
            "self_similarity": {
                "content_losses": "self_similarity",
                "alpha": 1e6,
            },
            "squared(relu2_2)": {"content_losses": "squared(relu2_2)"},
            "squared(relu5_2)": {"content_losses": "squared(relu5_2)", "alpha": 100.0},
            "gram + mrf": {"style_losses": "gram, mrf"},
        }
    ),
    "color": _varied({name: {"color": {"mode": name}} for name in rules.COLOR_MODES}),
    "photorealism": _varied(
        {f"{share:g}": {"color": {"photorealism": share}} for share in (0.0, 0.2, 0.35, 0.5, 0.8)}
    ),
    "style_scale": _named("style_scale", [0.25, 0.5, 1.0, 2.0, 4.0]),
    "pyramid": _varied(
        {
            "off": {},
            "from 112": {
                "pyramid": {"min_size": 112, "first_steps": 100, "steps": 50},
                "steps": 40,
            },
            "from 56": {"pyramid": {"min_size": 56, "first_steps": 100, "steps": 50}, "steps": 40},
            "average 0.95": {"optimizer": {"average": 0.95}},
        }
    ),
    "pooling": _named("pooling", rules.POOLINGS),
    "padding": _padding,
    "periods": _periods,
    "guides": _guides,
    "blends": _blends,
    "presets": _presets,
    "network": _varied(
        {
            "as trained": {},
            "normalize_network": {
                "normalize_network": "content, style",
                "style_layers": "relu1_1, relu2_1, relu3_1, relu4_1, relu5_1:0.05",
                "alpha": 0.15,
                "beta": 1.0,
                "tv_weight": 1.0,
            },
            "normalize_gradients": {
                "normalize_gradients": True,
                "content_losses": "squared(relu4_2:1)",
                "style_layers": "relu1_1, relu2_1, relu3_1, relu4_1, relu5_1",
                "beta": 6.0,
                "tv_weight": 3000.0,
            },
        }
    ),
}


def main():
    """Draws the chosen sheets and prints their paths."""
    from nst_jax import stylize

    unknown = set(_FAMILIES.value) - set(FAMILIES)
    if unknown:
        raise UserError(
            f"--families: unknown {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}"
        )

    def paint(**keys: Any) -> images.Picture:
        common: dict[str, Any] = {"image_size": _SIZE.value, "steps": _STEPS.value}
        common["log_every"] = _STEPS.value
        return stylize(**(pictures() | common | keys))

    with TemporaryDirectory() as folder:
        for name in _FAMILIES.value or FAMILIES:
            cells = FAMILIES[name](paint, Path(folder))
            path = Path(_FOLDER.value) / f"{name}.jpg"
            images.write(path, sheet(cells))
            print(path, flush=True)


def sheet(cells: Cells, columns: int = 5) -> images.Picture:
    """Lays out labelled paintings, `columns` to a row."""
    labels, pictures = [*cells], [*cells.values()]
    rows = []
    for start in range(0, len(labels), columns):
        some = slice(start, start + columns)
        blank = [None] * (columns - len(labels[some])) if start else []
        filler = [""] * len(blank)
        rows.append(
            sheets.sheet([[*pictures[some], *blank]], [""], [*labels[some], *filler], height=150)
        )
    width = max(row.shape[1] for row in rows)
    padded = [
        np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=1) for row in rows
    ]
    return np.concatenate(padded)


if __name__ == "__main__":
    cli.start(main)
