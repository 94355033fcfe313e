"""Style transfer, whole: a config and its pictures in, a painting out.

`stylize` is the Python API; `paint` is the engine behind it and behind the commands.
"""

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float

from nst_jax import config
from nst_jax.config import grammar as specs
from nst_jax.errors import UserError
from nst_jax.losses.objective import (
    NO_GUIDES,
    Args,
    ByTap,
    Guides,
    Kinds,
    Knobs,
    Network,
    targets_from,
)
from nst_jax.network import architecture, weights
from nst_jax.network.vgg import VGG
from nst_jax.optimize.loop import (
    Keep,
    NonFiniteLossError,
    Progress,
    initial_state,
    never,
    optimize,
    stack,
)
from nst_jax.optimize.optimizers import Rates, Settings
from nst_jax.pictures import images
from nst_jax.pictures import masks as guides
from nst_jax.transfer import prepare as inputs
from nst_jax.transfer import pyramid
from nst_jax.transfer.prepare import Pictures
from nst_jax.transfer.starts import start_image


def knobs_of(c: config.Config, regions: Sequence[str] = ()) -> Knobs:
    """The objective's weights; a picture that is left out has no losses."""
    given = specs.parse_regions(c.guides.weights)
    return Knobs(
        c.alpha,
        c.beta,
        config.losses(c, "content") if c.content else {},
        config.losses(c, "style") if c.style else {},
        {c.tv_loss: c.tv_weight},
        {name: given.get(name, 1.0) for name in regions or [""]},
    )


def settings_of(c: config.Config) -> Settings:
    """What of the optimiser is compiled in."""
    o = c.optimizer
    return Settings(o.name, o.memory, c.parameterization, c.precision, o.patience > 0)


def rates_of(c: config.Config) -> Rates:
    """The optimiser's numbers."""
    o = c.optimizer
    return Rates(o.learning_rate, o.decay, o.b1, o.b2, o.eps, o.average, o.patience)


def load_weights(c: config.Config) -> weights.Weights:
    """The weights that a config names, fetched if need be; an unchanged file is read once.

    Raises:
      UserError: they cannot be found, fetched or used.
    """
    path = weights.find(c.weights, c.arch)
    return _load(path, c.arch, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _load(path: Path, arch: str, modified: int) -> weights.Weights:
    del modified
    return weights.load(path, arch)


@functools.lru_cache(maxsize=2)
def network_of(
    loaded: weights.Weights,
    taps: tuple[str, ...],
    pooling: str,
    padding: str = "zero",
    method: str = "direct",
    rematerialize: bool = False,
    dtype: Any = jnp.float32,
) -> Network:
    """The network on the device; kept, likewise."""
    own = loaded.layers, loaded.mean, loaded.scale
    vgg = VGG(*own, taps, pooling, padding, method, rematerialize, dtype)
    return Network(*nnx.split(vgg))


def network_for(c: config.Config, loaded: weights.Weights) -> Network:
    """The network that a config's objective looks through."""
    chosen = c.pooling, c.padding, c.convolution, c.rematerialize
    dtype = jnp.bfloat16 if c.precision == "bfloat16" else jnp.float32
    return network_of(loaded, inputs.taps_of(c), *chosen, dtype)


def _by_tap(
    c: config.Config, mask: guides.Mask, taps: Sequence[str], name: str, how: str
) -> dict[str, np.ndarray]:
    """A region's weights at each tap: the squared mask, scaled to sum to 1.

    Gatys et al. 2017, section 4.1: features are multiplied with the guide, so that products are
    with its square.

    Raises:
      UserError: nothing of it is left at a tap.
    """
    result = {}
    for tap in taps:
        squares = np.square(guides.propagate(mask, tap, c.arch, how).astype(np.float64))
        if not squares.any():
            raise UserError(
                f"region {name!r} is too small for {tap} at {mask.shape[1]}x{mask.shape[0]} pixels"
                + ": no position sees only it; choose config.guides.propagation=simple"
                * (how == "inside")
            )
        result[tap] = np.float32(squares / squares.sum())
    return result


def guides_of(c: config.Config, pictures: Pictures) -> tuple[Guides, tuple[dict[str, ByTap], ...]]:
    """The regions' weights at every tap, of the output and of each style picture.

    Raises:
      UserError: a region that is too small for a layer.
    """
    how = c.guides.propagation
    content_taps, style_taps = (
        list(dict.fromkeys(tap for lambdas in losses.values() for tap in lambdas))
        for losses in (knobs_of(c).content, knobs_of(c).style)
    )
    weight: ByTap = {}
    if pictures.content_weight is not None:
        for tap in content_taps:
            mask = guides.propagate(pictures.content_weight, tap, c.arch, "simple")
            weight[tap] = jnp.asarray(mask)
    if not pictures.regions:
        return Guides(weight, NO_GUIDES.regions), (NO_GUIDES.regions,) * len(pictures.styles)
    painting, *styles = (
        {name: _by_tap(c, mask, style_taps, name, how) for name, mask in regions.items()}
        for regions in (pictures.regions, *pictures.style_regions)
    )
    return Guides(weight, painting), tuple(styles)


def paint(
    c: config.Config,
    pictures: Pictures,
    loaded: weights.Weights,
    resume: Progress | None = None,
    keep: Keep = never,
) -> Iterator[Progress]:
    """Paints: yields the picture and its losses every `log_every` steps, first the start itself.

    Steps are counted through all scales. With `interpolate` the image is [paintings, h, w, 3], and
    the terms are the means over the paintings.

    Args:
      c: a validated config.
      pictures: as `inputs.read` gives them.
      loaded: weights of `c.arch`.
      resume: one with a state, to go on from it: it is yielded first, and what follows is the same
        to the bit as if there had been no pause.
      keep: see `nst_jax.optimize.optimize`.

    Raises:
      nst_jax.optimize.NonFiniteLossError: the last picture yielded is good.
      UserError: a region is too small for a layer.
    """
    if not c.interpolate:
        first = operator.itemgetter(0)
        for progress in _paint([c], [pictures], loaded, first, None, resume, keep):
            terms = {name: float(value) for name, value in progress.terms.items()}
            yield progress._replace(terms=terms)
        return
    between = [_between(c, k / (c.interpolate - 1)) for k in range(c.interpolate)]
    several = [pictures] * c.interpolate
    for progress in paint_together(between, several, loaded, None, resume, keep):
        if (lost := progress.lost[progress.lost >= 0]).size:
            raise NonFiniteLossError(lost)
        terms = {name: float(value.mean()) for name, value in progress.terms.items()}
        yield progress._replace(terms=terms)


def _between(c: config.Config, place: float) -> config.Config:
    """The config with its first two styles weighed by a place from 0, the first, to 1."""
    first, second, *others = specs.parse_pictures(c.style)
    shares = {first: 1 - place, second: place} | dict.fromkeys(others, 0.0)
    style = ", ".join(f"{path}:{share!r}" for path, share in shares.items())
    return config.with_values(c, {"style": style})


def paint_together(
    configs: Sequence[config.Config],
    pictures: Sequence[Pictures],
    loaded: weights.Weights,
    mesh: jax.sharding.Mesh | None = None,
    resume: Progress | None = None,
    keep: Keep = never,
) -> Iterator[Progress]:
    """Paints several at once, in one program: as `paint` does, but with a batch of images.

    Args:
      configs: validated, and alike in what the program is made of (`programs.plan` sees to that).
      pictures: of each.
      loaded: weights of all.
      mesh: devices to spread the batch over, along its axis "cells"; None: the default device. The
        batch must be a multiple of them.
      resume, keep: see `paint`; the state is that of a batch, or of the only one.

    Raises:
      nst_jax.optimize.NonFiniteLossError: every painting is lost.
      UserError: a region is too small for a layer.
    """

    if len(configs) == 1 and mesh is None:  # the program of a single run, with an axis more
        first = operator.itemgetter(0)
        for progress in _paint(configs, pictures, loaded, first, None, resume, keep):
            terms = {name: value[None] for name, value in progress.terms.items()}
            lost = np.reshape(progress.lost, 1)
            yield progress._replace(image=progress.image[None], terms=terms, lost=lost)
        return

    def spread(members: Sequence[Any]) -> Any:
        return jax.device_put(stack(members), mesh and NamedSharding(mesh, P("cells")))

    yield from _paint(configs, pictures, loaded, spread, mesh, resume, keep)


def _paint(
    configs: Sequence[config.Config],
    pictures: Sequence[Pictures],
    loaded: weights.Weights,
    join: Callable[[Sequence[Any]], Any],
    mesh: jax.sharding.Mesh | None,
    resume: Progress | None,
    keep: Keep,
) -> Iterator[Progress]:
    """Paints what `join` makes of each painting's start, objective and rates."""
    c = configs[0]
    settings, rates = settings_of(c), join([rates_of(own) for own in configs])
    own = normalized(c, pictures[0], loaded)
    network = network_for(c, own)
    shared = network if mesh is None else jax.device_put(network, NamedSharding(mesh, P()))
    state, done = None, 0
    for number, scale in enumerate(pyramid.scales(c)):
        if resume and number < resume.scale:
            done += scale.steps
            continue
        sized = [
            inputs.at(own, one, scale.size) for own, one in zip(configs, pictures, strict=True)
        ]
        shown = state is not None  # a later scale starts with what was just shown
        if resume and number == resume.scale:
            state = jax.device_put(resume.state, mesh and NamedSharding(mesh, P("cells")))
        elif state is None:
            begun = map(functools.partial(start_image, mean=loaded.mean), configs, sized)
            state = initial_state(settings, join([*begun]))
        else:
            state = pyramid.enlarge(settings, state, sized[0].shape)
        problems = [
            problem(own, one, network)._replace(network=None)
            for own, one in zip(configs, sized, strict=True)
        ]
        args = join(problems)._replace(network=shared)
        steps = optimize(settings, state, args, rates, scale.steps, c.log_every, mesh, keep)
        while True:
            try:
                progress = next(steps)
            except StopIteration as finished:
                state = finished.value
                break
            except NonFiniteLossError as error:
                raise NonFiniteLossError(done + error.lost) from None
            if not shown:
                lost = np.where(progress.lost < 0, -1, done + progress.lost)
                yield progress._replace(step=done + progress.step, lost=lost, scale=number)
            shown = False
        done += scale.steps


def problem(c: config.Config, pictures: Pictures, network: Network) -> Args:
    """The objective's arguments for pictures of one size.

    Raises:
      UserError: a region is too small for a layer.
    """
    own, style_regions = guides_of(c, pictures)
    knobs = knobs_of(c, list(pictures.regions))
    key = jax.random.fold_in(jax.random.key(c.seed), 2)
    styles = tuple(jnp.asarray(style) for style in pictures.styles)
    shares = jnp.array(list(specs.parse_pictures(c.style).values()), jnp.float32)
    with jax.default_matmul_precision(c.precision):
        found = targets_from(
            network, pictures.content, styles, knobs, shares, style_regions, key, c.blend
        )
    return Args(network, found, knobs, own, key, Kinds(c.normalize_gradients))


def normalized(c: config.Config, pictures: Pictures, loaded: weights.Weights) -> weights.Weights:
    """The weights, rescaled to a mean activation of 1 over the pictures that the config names.

    Raises:
      UserError: one of them is no picture, or the run has none of that name.
    """
    named: dict[str, list[Any]] = {
        "content": [] if pictures.content is None else [pictures.content],
        "style": [*pictures.styles],
    }
    seen = [
        picture
        for word in specs.words(c.normalize_network)
        for picture in (named[word] if word in named else [images.read(word, c.image_size)])
    ]
    if not seen:
        return loaded
    rectified = tuple(tap for tap in architecture.taps(c.arch) if tap.startswith("relu"))
    network = network_of(loaded, rectified, c.pooling, c.padding)
    with jax.default_matmul_precision(c.precision):
        return weights.normalized(loaded, [_means(network, picture) for picture in seen])


@jax.jit
def _means(network: Network, image: Array) -> dict[str, Array]:
    """Mean activation of every channel, by tap."""
    seen = nnx.merge(*network)(image)
    return {tap: activations.mean((0, 1)) for tap, activations in seen.items()}


Given = str | Path | np.ndarray


def stylize(
    content: Given | None, style: Given | Sequence[Given] | None, **overrides: Any
) -> Float[np.ndarray, "*paintings _ _ 3"]:
    """Paints `content` in the style of `style`.

    >>> picture = stylize("me.jpg", "painting.jpg", image_size=256, beta=2.0)
    >>> picture = stylize(photograph, painting, optimizer={"name": "lbfgs"}, steps=100)
    >>> picture = stylize("me.jpg", ["night.jpg:3", "day.jpg:1"], blend="losses")

    Args:
      content, style: paths, or arrays [h, w, 3] with floats in [0, 1] or uint8. None leaves one
        out: a texture without content, a reconstruction without style. Several styles are mixed.
      **overrides: keys of `nst_jax.config.default()`.

    Returns:
      [h, w, 3] float32, sRGB in [0, 1], the longer side `image_size`; with `interpolate`
      [paintings, h, w, 3].

    Raises:
      UserError: an unknown key, a bad value, a picture or weights that cannot be used.
      nst_jax.optimize.NonFiniteLossError: the loss became NaN or infinite.
    """
    c = config.default()
    if style is None:
        several = []
    else:
        several = [style] if isinstance(style, str | Path | np.ndarray) else [*style]
    arrays = [np.asarray(one) if isinstance(one, np.ndarray) else None for one in several]
    names = [
        f"style array {k}" if isinstance(one, np.ndarray) else str(one)
        for k, one in enumerate(several)
    ]
    c.style = ", ".join(names)
    photograph = content if isinstance(content, np.ndarray) else None
    c.content = "content array" if isinstance(content, np.ndarray) else str(content or "")
    try:
        c.update(overrides)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(config.explain(error)) from error
    frozen = config.validate(c)
    given = arrays if any(array is not None for array in arrays) else None
    pictures = inputs.read(frozen, photograph, given)
    *_, last = paint(frozen, pictures, load_weights(frozen))
    return inputs.finished(frozen, np.asarray(last.image), pictures)
