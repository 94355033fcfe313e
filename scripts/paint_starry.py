"""Paints images/starry.jpg, the style picture that the project ships: a starry night in oil.

  python scripts/paint_starry.py                        # images/starry.jpg, pixel for pixel
  python scripts/paint_starry.py --palette ember --output images/ember.jpg
  python scripts/paint_starry.py --output other.jpg --seed 7

A flow field (wind, two large swirls, a whirl around each star) guides about 30,000 strokes, from
broad to fine. Each stroke is a bundle of bristles that differ a little in colour. A second canvas
holds the thickness of the paint, which is lit from the upper left. The same seed gives the same
picture.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image, ImageDraw, ImageFilter

from nst_jax import cli, files
from nst_jax.errors import UserError

_OUTPUT = flags.DEFINE_string("output", "images/starry.jpg", "Picture to write.")
_SEED = flags.DEFINE_integer("seed", 3, "Seed of every random choice.", lower_bound=0)
_PALETTE = flags.DEFINE_enum(
    "palette", "night", ["night", "ember"], "ember: red and blue swapped, broad brushes only."
)

WIDTH, HEIGHT = 1024, 768
SCALE = 2  # strokes are drawn at twice the size and averaged down, for smooth edges

# sRGB, 0 to 255.
NIGHT = (14, 24, 66)
ULTRAMARINE = (28, 58, 140)
COBALT = (52, 104, 178)
SKY = (116, 164, 204)
FOAM = (188, 210, 206)
GOLD = (246, 196, 56)
LEMON = (255, 240, 160)
ORANGE = (232, 140, 38)
HILL = (30, 58, 92)
MEADOW = (44, 84, 74)
CYPRESS = (18, 34, 26)
MOSS = (66, 84, 36)
ROOF = (72, 44, 48)
WALL = (86, 104, 126)

# Moon and stars: x, y and radius of the glow, as shares of the width.
MOON = (0.87, 0.13, 0.085)
STARS = (
    (0.09, 0.10, 0.040),
    (0.21, 0.24, 0.030),
    (0.30, 0.07, 0.046),
    (0.41, 0.17, 0.026),
    (0.52, 0.06, 0.034),
    (0.63, 0.12, 0.028),
    (0.70, 0.31, 0.040),
    (0.10, 0.36, 0.034),
    (0.80, 0.40, 0.024),
    (0.95, 0.36, 0.030),
    (0.36, 0.42, 0.028),
)
SWIRLS = (  # x, y, radius, direction of rotation
    (0.43, 0.30, 0.135, 1.0),
    (0.585, 0.345, 0.085, -1.0),
)


@dataclasses.dataclass(frozen=True)
class Layer:
    """One pass of strokes with one brush.

    Attributes:
      count: number of strokes.
      width, length: of a stroke, in pixels of the final picture.
      jitter: spread of the colour between strokes, 0 to 255.
      bristles: per stroke.
    """

    count: int
    width: float
    length: float
    jitter: float
    bristles: int


LAYERS = (
    Layer(1500, 26, 120, 10, 14),
    Layer(6000, 13, 70, 16, 9),
    Layer(14000, 7, 42, 22, 6),
    Layer(12000, 3.5, 24, 30, 4),
)


def main():
    """Paints the strokes, lights them and writes the picture."""
    if Path(_OUTPUT.value).suffix.lower() not in (".jpg", ".jpeg"):
        raise UserError(f"--output {_OUTPUT.value!r} must end in .jpg")
    rng = np.random.default_rng(_SEED.value)
    colours, angles = scene()
    layers = LAYERS
    if _PALETTE.value == "ember":
        colours, layers = colours[..., ::-1], LAYERS[:2]
    paint, thickness = strokes(rng, colours, angles, layers)
    picture = lit(paint, thickness)
    with files.replacing(Path(_OUTPUT.value)) as temporary:
        picture.save(temporary, quality=88)
    print(_OUTPUT.value)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """The scene: colours [h, w, 3] in 0 to 255, and stroke directions [h, w] in radians."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / WIDTH  # y runs to 0.75
    colours, flow_x, flow_y = sky(x, y)
    horizon = 0.50 + 0.05 * np.sin(5.2 * x + 0.6) + 0.03 * np.sin(11 * x + 2)
    ground = 0.60 + 0.025 * np.sin(7 * x + 4)
    for line, near, far, slope in (
        (horizon, HILL, COBALT, 0.30),
        (ground, MEADOW, HILL, 0.16),
    ):
        land = y > line
        depth = np.clip((y - line) / 0.14, 0, 1)
        band = 0.5 + 0.5 * np.sin(60 * (y - line) + 9 * x)
        shade = mix(far, near, np.clip(depth + 0.35 * band - 0.2, 0, 1))
        colours = np.where(land[..., None], shade, colours)
        flow_x = np.where(land, 1, flow_x)
        flow_y = np.where(land, np.gradient(line, axis=1) * WIDTH + slope * np.sin(14 * x), flow_y)
    colours = village(x, y, colours)
    colours, flow_x, flow_y = cypress(x, y, colours, flow_x, flow_y)
    return colours, np.arctan2(flow_y, flow_x)


def sky(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sky: bands of blue, two swirls, and glowing stars with whirls around them.

    Args:
      x, y: [h, w] coordinates, as shares of the width.

    Returns:
      Colours [h, w, 3], and the flow along x and along y, [h, w] each.
    """
    flow_x = np.ones_like(x)
    flow_y = 0.35 * np.sin(6 * x + 2.5 * y) + 0.2 * np.sin(13 * x - 6 * y)
    tone = 0.42 + 0.26 * np.sin(30 * y + 7 * np.sin(4 * x) + 3 * x) + 0.5 * (y - 0.3)
    for cx, cy, radius, turn in SWIRLS:
        dx, dy = x - cx, y - cy
        distance = np.hypot(dx, dy) + 1e-6
        pull = 6 * np.exp(-((distance / radius) ** 2))
        flow_x += pull * (-turn * dy - 0.35 * dx) / distance
        flow_y += pull * (turn * dx - 0.35 * dy) / distance
        spiral = np.sin(np.arctan2(dy, dx) * 2 * turn - 2 * np.pi * distance / radius * 1.7)
        blend = np.exp(-((distance / radius) ** 4))
        tone = tone * (1 - blend) + blend * (0.58 + 0.42 * spiral)
    ramp = np.array([NIGHT, ULTRAMARINE, COBALT, SKY, FOAM], float)
    place = np.clip(tone, 0, 1) * (len(ramp) - 1)
    low = np.minimum(place.astype(int), len(ramp) - 2)
    colours = mix(ramp[low], ramp[low + 1], place - low)
    for cx, cy, radius in (*STARS, MOON):
        dx, dy = x - cx, y - cy
        distance = np.hypot(dx, dy) + 1e-6
        pull = 8 * np.exp(-((distance / (1.6 * radius)) ** 2))
        flow_x += -pull * dy / distance
        flow_y += pull * dx / distance
        rings = 0.5 + 0.5 * np.cos(2 * np.pi * distance / radius * 2.2)
        glow = np.exp(-((distance / radius) ** 2)) * (0.45 + 0.55 * rings)
        colours = mix(colours, mix(GOLD, FOAM, np.clip(distance / radius, 0, 1)), glow)
        colours = mix(colours, LEMON, np.clip(1.4 - distance / (0.3 * radius), 0, 1))
    cx, cy, radius = MOON
    crescent = (np.hypot(x - cx, y - cy) < 0.55 * radius) & (
        np.hypot(x - cx + 0.3 * radius, y - cy) > 0.42 * radius
    )
    return np.where(crescent[..., None], mix(GOLD, ORANGE, 0.35), colours), flow_x, flow_y


def village(x: np.ndarray, y: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Adds houses with lit windows at the foot of the hills, and a church."""
    houses = [(0.34 + 0.058 * i, 0.655 + 0.012 * ((i * 5) % 4), 0.024) for i in range(11)]
    for number, (cx, cy, half) in enumerate(houses):
        walls = (abs(x - cx) < half) & (y > cy) & (y < cy + 0.04)
        roof = (y <= cy) & (y > cy - 0.026) & (abs(x - cx) < half * 1.15 * (y - cy + 0.026) / 0.026)
        window = (abs(x - cx + 0.007) < 0.006) & (abs(y - cy - 0.018) < 0.008)
        colours = np.where(walls[..., None], mix(WALL, HILL, 0.2 * (number % 4)), colours)
        colours = np.where(roof[..., None], mix(ROOF, HILL, 0.3 * (number % 3)), colours)
        colours = np.where(window[..., None], mix(GOLD, ORANGE, 0.3), colours)
    tower = (abs(x - 0.60) < 0.011) & (y > 0.585) & (y < 0.69)
    spire = (y <= 0.585) & (y > 0.485) & (abs(x - 0.60) < 0.011 * (y - 0.485) / 0.10)
    return np.where((tower | spire)[..., None], mix(WALL, NIGHT, 0.4), colours)


def cypress(
    x: np.ndarray, y: np.ndarray, colours: np.ndarray, flow_x: np.ndarray, flow_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Adds two flame-like cypresses on the left, with strokes that run upwards."""
    for cx, top, half in ((0.155, 0.10, 0.060), (0.235, 0.34, 0.036)):
        rise = np.clip((y - top) / (0.75 - top), 0, 1)
        sway = cx + 0.018 * np.sin(13 * y + 2)
        edge = half * rise**0.75 * (1 + 0.22 * np.sin(46 * y + 3 * np.sign(x - sway)))
        tree = (abs(x - sway) < edge) & (y > top)
        tongues = 0.5 + 0.5 * np.sin(150 * (x - sway) + 18 * y)
        colours = np.where(tree[..., None], mix(CYPRESS, MOSS, 0.75 * tongues**2), colours)
        flow_x = np.where(tree, 0.35 * np.sin(30 * y + 60 * (x - sway)), flow_x)
        flow_y = np.where(tree, -1, flow_y)
    return colours, flow_x, flow_y


def mix(first: object, second: object, share: object) -> np.ndarray:
    """first + share * (second - first), of colours or pictures."""
    weight = np.asarray(share, float)
    weight = weight[..., None] if weight.ndim else weight
    return np.asarray(first, float) * (1 - weight) + np.asarray(second, float) * weight


def strokes(
    rng: np.random.Generator,
    colours: np.ndarray,
    angles: np.ndarray,
    layers: Sequence[Layer] = LAYERS,
) -> tuple[Image.Image, np.ndarray]:
    """Paints the layers, enlarged by `SCALE`: the picture, and paint thickness [h, w] in 0 to 1."""
    size = (WIDTH * SCALE, HEIGHT * SCALE)
    canvas = Image.new("RGB", size, NIGHT)
    relief = Image.new("L", size, 0)
    brush, plaster = ImageDraw.Draw(canvas), ImageDraw.Draw(relief)
    detail = local_detail(colours)
    for layer in layers:
        xs = rng.uniform(0, WIDTH - 1, layer.count)
        ys = rng.uniform(0, HEIGHT - 1, layer.count)
        for x, y in zip(xs, ys, strict=True):
            # Broad brushes skip detailed areas; fine brushes skip most of the open sky.
            busy = detail[int(y), int(x)]
            if layer.width > 10 and busy > 0.55:
                continue
            if layer.width < 5 and rng.random() > 0.25 + busy:
                continue
            path = follow(x, y, angles, layer.length * rng.uniform(0.6, 1.3))
            middle = path[len(path) // 2]
            base = colours[int(middle[1]), int(middle[0])] + rng.normal(0, layer.jitter, 3) * 0.5
            base = base + rng.normal(0, layer.jitter)
            stroke(rng, brush, plaster, path, layer, base)
    return canvas, np.asarray(relief, float) / 255


def local_detail(colours: np.ndarray) -> np.ndarray:
    """How much detail the scene has around each pixel: [h, w], 0 for none."""
    gray = colours.mean(-1)
    slopes = np.hypot(*np.gradient(gray))
    busy = Image.fromarray(np.clip(slopes * 12, 0, 255).astype(np.uint8))
    return np.asarray(busy.filter(ImageFilter.GaussianBlur(6)), float) / 255 * 2


def follow(x: float, y: float, angles: np.ndarray, length: float, pace: float = 4) -> np.ndarray:
    """A path [points, 2] along the flow, half of its length on each side of (x, y)."""
    halves = []
    for way in (-1, 1):
        px, py, points = x, y, []
        for _ in range(max(1, int(length / 2 / pace))):
            angle = angles[int(py), int(px)]
            px = min(max(px + way * pace * np.cos(angle), 0), WIDTH - 1)
            py = min(max(py + way * pace * np.sin(angle), 0), HEIGHT - 1)
            points.append((px, py))
        halves.append(points)
    return np.array([*halves[0][::-1], (x, y), *halves[1]])


def stroke(
    rng: np.random.Generator,
    brush: ImageDraw.ImageDraw,
    plaster: ImageDraw.ImageDraw,
    path: np.ndarray,
    layer: Layer,
    base: np.ndarray,
):
    """Draws one stroke: parallel bristles that vary in colour, length and thickness."""
    tangent = np.gradient(path, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], -1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    taper = np.sin(np.linspace(0.15, np.pi - 0.15, len(path))) ** 0.5
    thick = max(2, round(SCALE * layer.width / layer.bristles * 1.5))
    load = rng.uniform(110, 220)
    for offset in rng.permutation(np.linspace(-0.5, 0.5, layer.bristles)):
        start = rng.integers(0, max(1, len(path) // 4))
        stop = len(path) - rng.integers(0, max(1, len(path) // 4))
        side = path + normal * (taper * (offset * layer.width))[:, None]
        points = [(float(px), float(py)) for px, py in side[start:stop] * SCALE]
        if len(points) < 2:
            continue
        colour = np.clip(base + rng.normal(0, layer.jitter * 0.55), 0, 255).astype(int)
        height = load * (1 - 1.2 * abs(offset)) + rng.normal(0, 40)
        brush.line(points, fill=tuple(colour.tolist()), width=thick, joint="curve")
        plaster.line(points, fill=int(np.clip(height, 0, 255)), width=thick, joint="curve")


def lit(paint: Image.Image, thickness: np.ndarray) -> Image.Image:
    """Lights the relief of the paint from the upper left and scales it to the final size."""
    relief = Image.fromarray((thickness * 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(1.2)
    )
    slope_y, slope_x = np.gradient(np.asarray(relief, float) / 255)
    light = np.expand_dims(np.clip(-(slope_x + slope_y) * 1.6, -0.35, 0.45), -1)
    colours = np.asarray(paint, float) / 255
    shaded = np.where(light > 0, colours + light * (1 - colours) * 0.9, colours * (1 + light))
    picture = Image.fromarray(np.rint(np.clip(shaded, 0, 1) * 255).astype(np.uint8))
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    cli.start(main)
