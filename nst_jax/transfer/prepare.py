"""What a run starts from: the pictures and masks that a config names, sized and coloured for it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nst_jax import config
from nst_jax.config import grammar as specs
from nst_jax.config import rules
from nst_jax.errors import UserError
from nst_jax.network import architecture
from nst_jax.pictures import color, images
from nst_jax.pictures import masks as guides
from nst_jax.pictures.images import Picture
from nst_jax.transfer import pyramid

NAMED_STARTS = ("content", "style", "gray", "mean", "style_statistics")  # others are files


class Pictures(NamedTuple):
    """The pictures of a run at one size; [h, w, 3] each, masks [h, w] in [0, 1].

    Attributes:
      content: None where the config names none; like `chroma` and the masks, of the output's size.
      styles: one or several, of any sizes; empty where the config names none.
      start: the file that `init.picture` names, if it names one.
      chroma: the photograph whose colours the painting gets back, if any.
      regions: of the output, by name; empty without guides.
      style_regions: likewise of each style picture.
      content_weight: how much content counts where, if that differs.
      size: the output's longer side; 0: the first picture's.
    """

    content: Picture | None
    styles: tuple[Picture, ...]
    start: Picture | None
    chroma: Picture | None
    regions: dict[str, guides.Mask]
    style_regions: tuple[dict[str, guides.Mask], ...]
    content_weight: guides.Mask | None
    size: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the output, with the content's aspect, or else the first style's."""
        height, width, _ = (self.styles[0] if self.content is None else self.content).shape
        return images.fit((height, width), self.size or max(height, width))


def taps_of(c: config.Config) -> tuple[str, ...]:
    """The taps that the objective needs."""
    parts = [part for part in ("content", "style") if c[part]]
    lambdas = [lambdas for part in parts for lambdas in config.losses(c, part).values()]
    return tuple(dict.fromkeys(tap for by_tap in lambdas for tap in by_tap))


def files_of(c: config.Config) -> list[str]:
    """The picture files that a config names: content, styles, start, masks."""
    named = [c.content, *specs.parse_pictures(c.style), c.guides.content_weight]
    named += [] if c.init.picture in NAMED_STARTS else [c.init.picture]
    named += [word for word in specs.words(c.normalize_network) if word not in ("content", "style")]
    count = max(1, len(specs.parse_pictures(c.style)))
    for spec in [guides.parse(c.guides.content), *guides.parse_styles(c.guides.style, count)]:
        named += [spec] if isinstance(spec, str) else spec.values()
    return [path for path in named if path]


def style_side(c: config.Config, size: int) -> int:
    """Longer side of the style pictures where the output's is `size`, in pixels."""
    return c.style_size or max(1, round(c.style_scale * size))


def read(
    c: config.Config,
    content: np.ndarray | None = None,
    styles: Sequence[np.ndarray | None] | None = None,
) -> Pictures:
    """Reads the pictures and masks that a config names, resized and recoloured for it.

    Args:
      c: a validated config.
      content, styles: arrays that take the place of files.

    Raises:
      UserError: a file that is no picture, a picture too small for the deepest layer, a region
        without a partner.
    """
    smallest = architecture.smallest_size(taps_of(c))
    first = pyramid.scales(c)[0].size

    def picture(path: str, given: np.ndarray | None, size: int, least: int) -> Picture:
        if given is None:
            read = images.read(path, size, smallest)
        else:
            read = images.prepare(given, size, smallest, path)
        if min(images.fit(read.shape, least)) < smallest:
            raise UserError(
                f"{path}, {least} pixels long at the pyramid's smallest scale, is too small for "
                f"the deepest layer; choose a larger config.pyramid.min_size"
            )
        return read

    photograph = picture(c.content, content, c.image_size, first) if c.content else None
    paths = list(specs.parse_pictures(c.style))
    paintings = tuple(
        picture(path, given, style_side(c, c.image_size), style_side(c, first))
        for path, given in zip(paths, styles or [None] * len(paths), strict=True)
    )
    pictures = Pictures(
        photograph, paintings, None, None, {}, ({},) * len(paths), None, c.image_size
    )
    shape = pictures.shape
    start = None if c.init.picture in NAMED_STARTS else images.read(c.init.picture)
    pictures = pictures._replace(
        start=None if start is None else images.resize(start, shape),
        content_weight=_mask(c.guides.content_weight, shape) if c.guides.content_weight else None,
    )
    return _recolour(c, _guide(c, pictures))


def _mask(path: str, shape: tuple[int, int]) -> guides.Mask:
    """One grayscale mask."""
    return guides.read({"content_weight": path}, shape)["content_weight"]


def _guide(c: config.Config, pictures: Pictures) -> Pictures:
    """The pictures with the masks of their regions."""
    if not c.guides.content:
        return pictures
    part = "content"
    try:
        regions = guides.read(guides.parse(c.guides.content), pictures.shape)
        part = "style"
        style_regions = tuple(
            guides.read(own, style.shape[:2], list(regions))
            for own, style in zip(
                guides.parse_styles(c.guides.style, len(pictures.styles)),
                pictures.styles,
                strict=True,
            )
        )
    except UserError as error:
        raise UserError(f"config.guides.{part}: {error}") from None
    guides.check_partners(regions, style_regions)
    for name in specs.parse_regions(c.guides.weights):
        if name not in regions:
            raise UserError(
                f"config.guides.weights names a region {name!r}; there are {', '.join(regions)}"
            )
    return pictures._replace(regions=regions, style_regions=style_regions)


def _recolour(c: config.Config, pictures: Pictures) -> Pictures:
    """The pictures as `color.mode` wants them before painting."""
    content, mode = pictures.content, c.color.mode
    if mode == "style":
        return pictures
    assert content is not None, "validate asks for it"
    if mode in ("luminance", "recombine"):
        pictures = pictures._replace(chroma=content)
    if mode == "luminance":
        gray = color.gray(content, c.color.space)
        styles = tuple(
            color.match_luminance(color.gray(style, c.color.space), gray)
            for style in pictures.styles
        )
        start = None if pictures.start is None else color.gray(pictures.start, c.color.space)
        pictures = pictures._replace(content=gray, styles=styles, start=start)
    if mode in rules.RECOLOURINGS:
        recoloured = []
        for style, regions in zip(pictures.styles, pictures.style_regions, strict=True):
            own = [regions[name] for name in regions] if c.color.guided else []
            wanted = [pictures.regions[name] for name in regions] if c.color.guided else []
            recoloured.append(color.transfer(style, content, mode, own, wanted))
        pictures = pictures._replace(styles=tuple(recoloured))
    return pictures


def at(c: config.Config, pictures: Pictures, size: int) -> Pictures:
    """The pictures at a scale whose longer side is `size` pixels."""
    if size == c.image_size:
        return pictures
    shape = images.fit((*pictures.shape, 3), size)

    def sized(picture: Picture | None) -> Picture | None:
        return None if picture is None else images.resize(picture, shape)

    def masks(regions: dict[str, guides.Mask], shape: tuple[int, int]) -> dict[str, guides.Mask]:
        return {name: guides.resize(mask, shape) for name, mask in regions.items()}

    styles = tuple(
        images.resize(style, images.fit(style.shape, style_side(c, size)))
        for style in pictures.styles
    )
    style_regions = tuple(
        masks(regions, style.shape[:2])
        for regions, style in zip(pictures.style_regions, styles, strict=True)
    )
    weight = pictures.content_weight
    return Pictures(
        sized(pictures.content),
        styles,
        sized(pictures.start),
        sized(pictures.chroma),
        masks(pictures.regions, shape),
        style_regions,
        None if weight is None else guides.resize(weight, shape),
        size,
    )


def finished(c: config.Config, painting: Any, pictures: Pictures) -> np.ndarray:
    """The painting(s) [..., h, w, 3] as people get them: with the photograph's chroma, or as is."""
    painting = np.asarray(painting)
    if pictures.chroma is None:
        return painting
    chroma = images.resize(pictures.chroma, painting.shape[-3:-1])
    several = painting.reshape(-1, *chroma.shape)
    recombined = [color.recombine(one, chroma, c.color.space) for one in several]
    return np.stack(recombined).reshape(painting.shape)
