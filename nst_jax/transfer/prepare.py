"""Experiment -> pictures: read, sized for every scale, recoloured, with masks for their regions."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from nst_jax.config import rules
from nst_jax.config.experiment import Color, Experiment, Guide, Pixels, Scale, Source
from nst_jax.config.grammar import quoted
from nst_jax.errors import UserError
from nst_jax.network import architecture
from nst_jax.pictures import color, detail, images, mapped, masks
from nst_jax.pictures.images import Picture
from nst_jax.pictures.masks import Mask
from nst_jax.pictures.sizes import LONGER_SIDE, Sizing
from nst_jax.transfer.cache import Cache, file_state

LARGE = ("content", "start", "photo")  # of `Pictures`, and the styles
KEEP_CHROMA = ("luminance", "recombine")  # colour modes whose paintings get the photograph's chroma


class Pictures(NamedTuple):
    """The pictures of an experiment at one scale, float32 sRGB in [0, 1]; masks in [0, 1].

    Attributes:
      shape: (height, width) of the output.
      content: [h, w, 3], of the output's size; None for texture synthesis.
      styles: [h, w, 3] each, of any sizes; () for a reconstruction.
      start: [h, w, 3] the picture that a start of the kind "file" reads; None otherwise.
      photo: [h, w, 3] the content picture in colour, where the finished painting takes chroma or
        detail from it; None where it does not.
      regions: region -> [h, w], of the output; {} without guides.
      style_regions: the same for every style picture.
      content_weight: [h, w], how much the content counts where; None for 1 everywhere.
      sizing: what the sizes of scales mean, and how the pictures are resampled.
    """

    shape: tuple[int, int]
    content: Picture | None
    styles: tuple[Picture, ...]
    start: Picture | None = None
    photo: Picture | None = None
    regions: Mapping[str, Mask] = {}
    style_regions: tuple[Mapping[str, Mask], ...] = ()
    content_weight: Mask | None = None
    sizing: Sizing = LONGER_SIDE


def load(experiment: Experiment, cache: Cache) -> Pictures:
    """Reads the pictures and masks of an experiment, at the size of its last scale.

    Args:
      experiment: the experiment.
      cache: keeps the pictures that were read last.

    Raises:
      UserError: a file that is not a picture, a picture too small for the deepest layer, a region
        without a partner.
    """
    inputs, last = experiment.inputs, experiment.scales[-1]
    content = None
    if inputs.content is not None:
        content = _read(inputs.content, experiment, "size", cache)
    styles = tuple(_read(style.picture, experiment, "style_size", cache) for style in inputs.styles)
    height, width, _ = (styles[0] if content is None else content).shape
    shape = inputs.sizing.fit((height, width), last.size)
    start = None
    if inputs.start.file:
        start = images.resize(images.read(inputs.start.file), shape, inputs.sizing.resample)
    weight = None
    if inputs.content_weight:
        weight = masks.read({"content_weight": inputs.content_weight}, shape)["content_weight"]
    pictures = Pictures(
        shape,
        content,
        styles,
        start=start,
        style_regions=({},) * len(styles),
        content_weight=weight,
        sizing=inputs.sizing,
    )
    pictures = _recolour(inputs.color, _with_regions(experiment, pictures))
    single = {name: getattr(pictures, name) for name in LARGE}
    return pictures._replace(
        styles=tuple(map(mapped.on_disk, pictures.styles)),
        **{name: mapped.on_disk(one) for name, one in single.items() if one is not None},
    )


def release(pictures: Pictures):
    """Gives back the memory of large pictures, which are read from the disk when used again."""
    for picture in (*pictures.styles, *(getattr(pictures, name) for name in LARGE)):
        if picture is not None:
            mapped.release(picture)


def _read(source: Source, experiment: Experiment, field: str, cache: Cache) -> Picture:
    """A content or style picture at the last scale, checked for the smallest.

    Args:
      source: the picture.
      experiment: the experiment.
      field: the one of `Scale` that has the picture's size.
      cache: keeps what was read from files.
    """
    size, least = getattr(experiment.scales[-1], field), getattr(experiment.scales[0], field)
    smallest = architecture.smallest_size(experiment.objective.taps)
    sizing = experiment.inputs.sizing
    if isinstance(source, Pixels):
        picture = images.prepare(source.array, size, smallest, source.name, sizing)
    else:
        picture = _read_file(source, field, experiment, cache)
    if min(sizing.fit(picture.shape, least)) < smallest:
        raise UserError(
            f"{source}, at size {least} in the pyramid's smallest scale, is too small for "
            "the deepest layer; choose a larger config.pyramid.min_size"
        )
    return picture


def _read_file(path: str, field: str, experiment: Experiment, cache: Cache) -> Picture:
    size, sizing = getattr(experiment.scales[-1], field), experiment.inputs.sizing
    smallest = architecture.smallest_size(experiment.objective.taps)
    is_content = field == "size"
    fills = is_content and experiment.output.keep_alpha

    def read() -> Picture:
        picture = images.read(path, size, smallest, sizing, fills=fills, says_enlarged=is_content)
        picture.setflags(write=False)  # others get the same array
        return mapped.on_disk(picture)

    try:
        state = file_state(path)
        if state is None:
            return read()
        return cache.get("picture", (state, size, smallest, sizing, fills), read)
    except UserError as error:
        whole = path if is_content else experiment.raw["style"]
        several = isinstance(whole, str) and path != whole
        if several and str(error).startswith("no picture") and not _any_exists(experiment):
            raise UserError(
                f"{error}; a name with commas or colons is quoted: --config.style='{quoted(whole)}'"
            ) from None
        raise


def _any_exists(experiment: Experiment) -> bool:
    """Whether some style picture is there, so that commas and colons are meant as such."""
    names = (style.picture for style in experiment.inputs.styles)
    return any(isinstance(name, str) and file_state(name) is not None for name in names)


def _with_regions(experiment: Experiment, pictures: Pictures) -> Pictures:
    """The pictures with the masks of their regions.

    Raises:
      UserError: a mask that cannot be read, a region without a partner, or a weight without region.
    """
    guides = experiment.inputs.guides
    if not guides.content:
        return pictures
    part = "content"
    try:
        regions = masks.read(_by_region(guides.content), pictures.shape)
        part = "style"
        style_regions = tuple(
            masks.read(_by_region(own), style.shape[:2], list(regions))
            for own, style in zip(guides.styles, pictures.styles, strict=True)
        )
    except UserError as error:
        raise UserError(f"config.guides.{part}: {error}") from None
    masks.check_partners(regions, style_regions)
    for name in experiment.objective.region_weights:
        if name not in regions:
            raise UserError(
                f"config.guides.weights names a region {name!r}; there are {', '.join(regions)}"
            )
    return pictures._replace(regions=regions, style_regions=style_regions)


def _by_region(guide: Guide) -> dict[str, str] | str:
    return guide if isinstance(guide, str) else {region.name: region.mask for region in guide}


def with_content(pictures: Pictures, content: Picture, wanted: Color) -> Pictures:
    """The pictures with another content picture, as the colour mode wants it; styles stay."""
    photo = content if _needs_photo(wanted) else None
    if wanted.mode == "luminance":
        content = color.gray(content, wanted.space)
    return pictures._replace(content=content, photo=photo)


def _needs_photo(wanted: Color) -> bool:
    """Whether the finished painting takes something from the photograph."""
    return wanted.mode in KEEP_CHROMA or wanted.photorealism > 0


def _recolour(wanted: Color, pictures: Pictures) -> Pictures:
    """The pictures as the colour mode wants them before painting."""
    content, mode = pictures.content, wanted.mode
    if _needs_photo(wanted):
        pictures = pictures._replace(photo=content)
    if mode == "style":
        return pictures
    assert content is not None, "config.parse asks for it"
    if mode == "luminance":
        gray = color.gray(content, wanted.space)
        styles = tuple(
            color.match_luminance(color.gray(style, wanted.space), gray)
            for style in pictures.styles
        )
        start = None if pictures.start is None else color.gray(pictures.start, wanted.space)
        pictures = pictures._replace(content=gray, styles=styles, start=start)
    if mode in rules.RECOLOURINGS:
        recoloured = []
        for style, regions in zip(pictures.styles, pictures.style_regions, strict=True):
            names = regions if wanted.guided else ()
            own = [regions[name] for name in names]
            target = [pictures.regions[name] for name in names]
            recoloured.append(color.transfer(style, content, mode, own, target))
        pictures = pictures._replace(styles=tuple(recoloured))
    return pictures


def shape_at(pictures: Pictures, scale: Scale) -> tuple[int, int]:
    """(height, width) of the output at a scale."""
    return pictures.sizing.fit(pictures.shape, scale.size)


def at_scale(pictures: Pictures, scale: Scale) -> Pictures:
    """The pictures at one scale.

    Args:
      pictures: at the size of the last scale, from `load`.
      scale: one of the experiment's.
    """
    shape, sizing = shape_at(pictures, scale), pictures.sizing
    if shape == pictures.shape:
        return pictures

    def resized(picture: Picture | None) -> Picture | None:
        return None if picture is None else images.resize(picture, shape, sizing.resample)

    def resized_masks(regions: Mapping[str, Mask], shape: tuple[int, int]) -> dict[str, Mask]:
        return {name: masks.resize(mask, shape) for name, mask in regions.items()}

    styles = tuple(
        images.resize(style, sizing.fit(style.shape, scale.style_size), sizing.resample)
        for style in pictures.styles
    )
    weight = pictures.content_weight
    return Pictures(
        shape,
        resized(pictures.content),
        styles,
        start=resized(pictures.start),
        photo=resized(pictures.photo),
        regions=resized_masks(pictures.regions, shape),
        style_regions=tuple(
            resized_masks(regions, style.shape[:2])
            for regions, style in zip(pictures.style_regions, styles, strict=True)
        ),
        content_weight=None if weight is None else masks.resize(weight, shape),
        sizing=sizing,
    )


def finished(paintings: Any, pictures: Pictures, wanted: Color) -> Float[np.ndarray, "*n h w 3"]:
    """Paintings as they are shown: with the photograph's chroma and detail, where those are asked.

    Args:
      paintings: [..., h, w, 3], on the host or the device, at any scale.
      pictures: at the size of the last scale.
      wanted: the colour mode, and how much detail.
    """
    paintings = np.asarray(paintings)
    if pictures.photo is None:
        return paintings
    photo = images.resize(pictures.photo, paintings.shape[-3:-1], pictures.sizing.resample)

    def one(painting: Picture) -> Picture:
        if wanted.mode in KEEP_CHROMA:
            painting = color.recombine(painting, photo, wanted.space)
        return detail.keep_detail(painting, photo, wanted.photorealism)

    return np.stack([*map(one, paintings.reshape(-1, *photo.shape))]).reshape(paintings.shape)
