"""Targets: what the content and style pictures ask for, computed once for every scale of a run."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nst_jax.losses.arguments import (
    ByTap,
    Image,
    Knobs,
    ObjectiveStatic,
    Targets,
    activations_of,
    groups,
    margin,
    place,
)
from nst_jax.losses.content import CONTENT
from nst_jax.losses.context import Context
from nst_jax.losses.style import STYLE
from nst_jax.network import tiles, tiling
from nst_jax.network.state import NetworkState, features
from nst_jax.network.tiles import Tile

WHOLE = ObjectiveStatic()


def _features(
    network: NetworkState, image: Image, static: ObjectiveStatic, wanted: Iterable[str]
) -> ByTap:
    """Taps of a picture, computed whole or in tiles."""
    cut = static.tiling(network, image)
    if cut is None:
        return features(network, image)
    return tiles.features_in_tiles(cut, network, image, wanted)


def _each(taps: Iterable[str]) -> list[str]:
    """Each of the taps once. A set's order, and so the program, would differ between processes."""
    return list(dict.fromkeys(taps))


class Description(NamedTuple):
    """What names a target of a style picture; `group` are the taps that the loss sees."""

    loss: str
    tap: str
    region: str
    group: tuple[str, ...]


def _described(
    network: NetworkState,
    image: Image,
    knobs: Knobs,
    regions: dict[str, ByTap],
    key: Array,
    static: ObjectiveStatic,
) -> dict[Description, Any]:
    """What every loss keeps of a style picture."""
    pixels = image.shape[0] * image.shape[1]
    wanted = _descriptions(knobs, regions)

    shapes = tiling.tap_shapes(static.shape(image), network)

    def describe(one: Description, tile: Tile) -> Any:
        origin = None if tile.origin is None else place(one.tap, tile.origin)
        first, *others = (shapes[tap] for tap in one.group)
        own = regions[one.region].get(one.tap)
        context = Context(own, key, pixels, first, origin, 0, *others[:1])
        return STYLE[one.loss].describe(activations_of(tile, one.group), context)

    cut = static.tiling(network, image, margin(knobs))
    if cut is None:
        picture = tiles.whole(network, image)
        return {one: describe(one, picture) for one in wanted}
    summed = [one for one in wanted if STYLE[one.loss].adds]
    others = [one for one in wanted if not STYLE[one.loss].adds]

    def summarize(_: Any, tile: Tile) -> dict[Description, Any]:
        return {one: describe(one, tile) for one in summed if one.tap in tile.taps}

    found = {}
    if summed:
        found = tiles.sum_over_tiles(cut, network, image, summarize)
    if others:
        taps = tiles.features_in_tiles(cut, network, image, _each(one.tap for one in others))
        picture = Tile(taps, taps, None, None, 0)
        found |= {one: describe(one, picture) for one in others}
    return found


def _descriptions(knobs: Knobs, regions: Iterable[str]) -> list[Description]:
    return [
        Description(name, tap, region, group)
        for name, lambdas in knobs.style.items()
        for tap, group in groups(name, lambdas).items()
        for region in regions
    ]


@functools.partial(jax.jit, static_argnames="blend")
def compute_targets(
    network: NetworkState,
    content_image: Image | None,
    style_images: tuple[Array, ...],
    knobs: Knobs,
    shares: Float[Array, " styles"],
    regions: tuple[dict[str, ByTap], ...],
    key: Array,
    blend: str = "targets",
    static: ObjectiveStatic = WHOLE,
) -> Targets:
    """Computes the targets of a content picture and of style pictures.

    Args:
      network: with every layer of `knobs` among its taps.
      content_image: [h, w, 3] sRGB in [0, 1], as the painting on the devices of `static.split`;
        None where no layer needs it.
      style_images: the same, of any sizes.
      knobs: names the losses and layers.
      shares: how much each style picture counts; within a region they are scaled to sum to 1.
      regions: of each style picture, as `GuideWeights.regions`.
      key: for losses that keep a random draw.
      blend: "targets" mixes the statistics of the style pictures, "losses" the distances from each.
      static: says how the pictures are cut.
    """
    content_taps, inputs, recomputed = {}, {}, []
    if content_image is not None:
        cut = static.tiling(network, content_image, margin(knobs))
        if cut is not None and static.recomputes:
            recomputed = [loss for loss in knobs.content if CONTENT[loss].is_local]
            again = _each(tap for loss in recomputed for tap in knobs.content[loss])
            inputs = tiles.inputs_in_tiles(cut, network, content_image, again)
        kept = [knobs.content[loss] for loss in knobs.content if loss not in recomputed]
        kept += [knobs.style[loss] for loss in knobs.style if STYLE[loss].match]
        if wanted := _each(tap for taps in kept for tap in taps):
            content_taps = _features(network, content_image, static, wanted)
    on_one_device = dataclasses.replace(static, split=None)
    described = [
        _described(network, image, knobs, own, key, on_one_device)
        for image, own in zip(style_images, regions, strict=True)
    ]

    def describe(name: str, tap: str, region: str) -> tuple[tuple[Array, Any], ...]:
        """Pairs (share, target) of the style pictures that have the region."""
        loss, given, descriptions = STYLE[name], [], []
        group = groups(name, knobs.style[name])[tap]
        asked = Description(name, tap, region, group)

        def finished(description: Any) -> Any:
            target = loss.finish(description)
            if loss.match is None:
                return target
            return loss.match(target, [content_taps[one] for one in group], Context(key=key))

        for own, share in zip(described, shares, strict=True):
            if asked in own:
                descriptions.append(own[asked])
                given.append(share)
        if len(given) == 1:
            return ((jnp.float32(1), finished(descriptions[0])),)
        total = sum(given)
        # Where every picture that has the region has the share 0, they count the same.
        scaled = [jnp.where(total > 0, share / total, 1 / len(given)) for share in given]
        if blend == "targets":
            return ((jnp.float32(1), finished(loss.mix(descriptions, scaled))),)
        return tuple(zip(scaled, map(finished, descriptions), strict=True))

    names = dict.fromkeys(region for own in regions for region in own)
    return Targets(
        {
            loss: {tap: None if loss in recomputed else content_taps[tap] for tap in taps}
            for loss, taps in knobs.content.items()
        },
        {
            loss: {
                tap: {region: describe(loss, tap, region) for region in names}
                for tap in groups(loss, lambdas)
            }
            for loss, lambdas in knobs.style.items()
        },
        inputs=inputs,
    )
