"""How good a painting is: what it keeps of its content, how near it comes to its style.

The objective cannot say, because it is what was minimised. The metrics in `CONTENT` compare the
painting with the photograph, place by place. Those in `STYLE` compare what occurs in it with what
occurs in the style picture, wherever it does, as seen by the VGG that did not paint.

None of them knows beauty. The photograph itself has perfect content and the style picture perfect
style, so only both together say something, about paintings of the same pictures and size. And the
two VGGs are relatives: the one held out is a stricter judge, but not an impartial one.
"""

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.signal import convolve2d
from jaxtyping import Float

from nst_jax.config.experiment import Experiment
from nst_jax.errors import UserError
from nst_jax.losses.arguments import ByTap, Image
from nst_jax.losses.context import Context
from nst_jax.losses.wasserstein import Spread, spread
from nst_jax.network import architecture, fetch, weights
from nst_jax.network.state import NetworkState, features, split
from nst_jax.network.vgg import VGG
from nst_jax.pictures.images import Picture
from nst_jax.transfer.cache import Cache, file_state
from nst_jax.transfer.prepare import Pictures

Scalar = Float[Array, ""]

LPIPS_ARCH = "vgg16"
LPIPS_TAPS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
SIFID_TAP = "relu2_2"
HELD_OUT = {"vgg19": "vgg16", "vgg16": "vgg19"}  # network that paints -> network that judges
SSIM_WINDOW_PIXELS = 11  # across its Gaussian window

_LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)  # BT.601, as SSIM's authors' rgb2gray
_SOBEL = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], np.float32) / 4

Statistics = dict[str, Spread]  # of activations, by tap; in float64 on the host


def lpips(painting: ByTap, content: ByTap, heads: ByTap) -> Scalar:
    """LPIPS 0.1 with VGG-16: perceptual distance, 0 for equal pictures, seldom above 1; symmetric.

    sum_l mean_i sum_c w_lc (y_G - y_C)^2: y is a position's activations at length 1, and w, the
    `heads`, was learned from what people call alike. Zhang et al. 2018, "The Unreasonable
    Effectiveness of Deep Features as a Perceptual Metric" (https://arxiv.org/abs/1801.03924),
    equation 1, w outside the square as in their program, whose shift and scale of [-1, 1] are
    torchvision's normalisation. Activations of torchvision's VGG-16, heads [channels], by tap.

    It tells whether things look alike in place, and forgives small changes of colour and texture.
    But it was trained on judgements of blur, noise and compression, not of paint.
    """

    def unit(x: Array) -> Array:
        return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)

    def layer(tap: str) -> Array:
        return jnp.mean(jnp.square(unit(painting[tap]) - unit(content[tap])) @ heads[tap])

    return jnp.sum(jnp.stack([layer(tap) for tap in LPIPS_TAPS]))


def ssim(painting: Image, content: Image) -> Scalar:
    """Structural similarity of `luminance`: 1 for equal pictures, 0 for unrelated ones; symmetric.

    Mean over windows of (2 mu_G mu_C + c1) (2 sigma_GC + c2) / ((mu_G^2 + mu_C^2 + c1) (sigma_G^2
    + sigma_C^2 + c2)); down to -1 where light and dark are swapped. Wang et al. 2004, "Image
    Quality Assessment: From Error Visibility to Structural Similarity", equation 13, on gray.

    It tells whether light and dark lie where they did. It ignores colour, counts every brush stroke
    as damage, and drops for a shift by a pixel or two that nobody sees.
    """
    return _similarity(luminance(painting), luminance(content))


def edge_ssim(painting: Image, content: Image) -> Scalar:
    """Structural similarity of edges: `ssim` of Sobel's gradient magnitudes; 1 for equal pictures.

    Yoo et al. 2019 (https://arxiv.org/abs/1903.09760), section 4, compare an edge detector's
    responses so; ours are Sobel's, as in Chen et al. 2006, "Gradient-Based Structural Similarity
    for Image Quality Assessment", who still compare the pictures' own luminance.

    It tells whether contours lie where they did, whichever side is darker. Texture has edges, too:
    strokes in a clear sky count as much as a lost roof line.
    """
    return _similarity(edges(painting), edges(content))


def _similarity(a: Float[Array, "h w 1"], b: Float[Array, "h w 1"]) -> Scalar:
    import dm_pix

    return cast(Array, dm_pix.ssim(a, b, filter_size=SSIM_WINDOW_PIXELS))


def luminance(image: Image) -> Float[Array, "h w 1"]:
    """0.299 R + 0.587 G + 0.114 B of sRGB as stored, in [0, 1]."""
    return image @ _LUMA


def edges(image: Image) -> Float[Array, "h w 1"]:
    """Sobel's gradient magnitude of the luminance: 1 along a step from black to white."""
    padded = jnp.pad(luminance(image)[..., 0], 1, "edge")
    x, y = (convolve2d(padded, jnp.asarray(k), "valid") for k in (_SOBEL, _SOBEL.T))
    return jnp.hypot(x, y)[..., None]


def style_gram(painting: Statistics, style: Statistics) -> float:
    """The loss "gram", held out: 0 for the style picture itself, 1 for a picture of nothing.

    Mean over `STYLE_TAPS` of |G_G - G_S|^2 / |G_S|^2 with G = C + mu mu^T: Gatys et al. 2015
    (https://arxiv.org/abs/1508.06576), equation 4, each layer as a share of what it would be if
    nothing were active. So layers count alike, and other pictures and networks give like numbers.

    It tells whether the same features occur together as strongly; above 1, far too strongly. Strong
    channels dominate, and paintings that minimised "gram" are favoured.
    """

    def share(a: Spread, b: Spread) -> float:
        own, target = (s.covariance + np.outer(s.mean, s.mean) for s in (a, b))
        return np.sum(np.square(own - target)) / np.sum(np.square(target))

    return float(np.mean([share(painting[tap], style[tap]) for tap in STYLE_TAPS]))


def style_w2(painting: Statistics, style: Statistics) -> float:
    """The loss "w2", held out: 0 for the style picture itself, 1 for a picture of nothing.

    Mean over `STYLE_TAPS` of W_2^2(G, S) / E|a_S|^2: `frechet`, each layer as a share of what it
    would be if nothing were active. Unlike the loss, whose roots stop early, it is 0 at 0.

    It tells whether activations have the same mean and spread, weak channels included. With few
    positions (relu5_1 has 256 at 256x256 pixels, for 512 channels) the estimate is poor: even
    another part of the style picture stays well above 0.
    """

    def share(a: Spread, b: Spread) -> float:
        return frechet(a, b) / float(np.sum(np.square(b.mean)) + np.trace(b.covariance))

    return float(np.mean([share(painting[tap], style[tap]) for tap in STYLE_TAPS]))


def sifid(painting: Statistics, style: Statistics) -> float:
    """Single-image Frechet distance: `frechet` at `SIFID_TAP`, in squared units of activations.

    0 for the style picture itself, unbounded above; symmetric. Shaham et al. 2019, "SinGAN"
    (https://arxiv.org/abs/1905.01164), section 4: over positions of the layer before the second
    pooling, there Inception's, here the held-out VGG's. So its numbers cannot be compared with
    theirs, nor between the VGGs: those of Caffe's training are far larger than torchvision's.

    It tells whether lines, strokes and colours up to 14 pixels across are those of the style.
    """
    return frechet(painting[SIFID_TAP], style[SIFID_TAP])


def frechet(a: Spread, b: Spread) -> float:
    """|mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), >= 0: W_2^2 of normal distributions.

    Dowson & Landau 1982, "The Frechet Distance between Multivariate Normal Distributions". With
    R^T R = C the last trace is the sum of the singular values of R_a R_b^T. In NumPy: in a compiled
    program several decompositions run at once and, on a CPU, wait for each other's threads.
    """

    def root(covariance: Any) -> np.ndarray:
        values, vectors = np.linalg.eigh(covariance)
        values = np.where(values > 1e-6 * values[-1], values, 0)  # without float32 noise
        return np.sqrt(values)[:, None] * vectors.T

    root_a, root_b = root(a.covariance), root(b.covariance)
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False)
    apart = np.sum(np.square(root_a)) + np.sum(np.square(root_b)) - 2 * np.sum(cross)
    return float(np.sum(np.square(a.mean - b.mean)) + max(apart, 0))


# Metric -> (shortest side in pixels that both pictures need, comparison). Comparisons get
# activations by tap, with the picture itself as "image".
CONTENT: dict[str, tuple[int, Callable[[ByTap, ByTap, ByTap], Scalar]]] = {
    "lpips": (architecture.smallest_size(LPIPS_TAPS), lpips),
    "ssim": (SSIM_WINDOW_PIXELS, lambda a, b, heads: ssim(a["image"], b["image"])),
    "edge_ssim": (SSIM_WINDOW_PIXELS, lambda a, b, heads: edge_ssim(a["image"], b["image"])),
}
STYLE: dict[str, tuple[int, Callable[[Statistics, Statistics], float]]] = {
    "style_gram": (architecture.smallest_size(STYLE_TAPS), style_gram),
    "style_w2": (architecture.smallest_size(STYLE_TAPS), style_w2),
    "sifid": (architecture.smallest_size([SIFID_TAP]), sifid),
}


def prepare(experiment: Experiment, cache: Cache):
    """Finds or fetches what `measure` needs, so that a lack is reported before hours of painting.

    Raises:
      UserError: weights cannot be found, fetched or used.
    """
    _judge(HELD_OUT[experiment.network.arch], cache)
    if experiment.inputs.content is not None:
        _heads(cache)


def measure(
    experiment: Experiment, painting: Picture, pictures: Pictures, cache: Cache
) -> dict[str, float]:
    """The metrics of a finished painting.

    With several styles, style metrics are the share-weighted mean. The content is the photograph in
    its own colours; styles are as they were painted from (gray with color.mode=luminance); guides
    do not count. Metrics of a picture that the experiment does not have are missing, and so are
    those of pictures that are too small: below 16 pixels, for SSIM `SSIM_WINDOW_PIXELS`.

    Args:
      experiment: the experiment.
      painting: [h, w, 3] sRGB in [0, 1].
      pictures: the experiment's, at the size of the painting.
      cache: keeps the judging networks.

    Returns:
      name in `CONTENT` or `STYLE` -> value.

    Raises:
      UserError: dm-pix is not installed, or weights cannot be found, fetched or used.
    """
    content = pictures.content if pictures.photo is None else pictures.photo

    def applicable(table: dict[str, Any], others: Sequence[Picture]) -> tuple[str, ...]:
        shortest = min(min(picture.shape[:2]) for picture in (painting, *others))
        return tuple(name for name in table if others and shortest >= table[name][0])

    to_content = applicable(CONTENT, [] if content is None else [content])
    to_style = applicable(STYLE, pictures.styles)
    if "ssim" in to_content and importlib.util.find_spec("dm_pix") is None:
        raise UserError('SSIM needs dm-pix: pip install -e ".[metrics]"')
    held_out = HELD_OUT[experiment.network.arch]
    needed = {arch for arch, names in ((LPIPS_ARCH, to_content), (held_out, to_style)) if names}
    networks = {arch: _judge(arch, cache)[0] for arch in needed}
    heads = _heads(cache) if "lpips" in to_content else {}
    with jax.default_matmul_precision("highest"):
        seen = _compare(painting, content, pictures.styles, networks, heads, to_content, held_out)
    values = {name: float(seen[0][name]) for name in to_content}
    own, *others = jax.tree.map(lambda x: np.asarray(x, np.float64), seen[1])
    shares = [style.share for style in experiment.inputs.styles]
    for name in to_style:
        each = [STYLE[name][1](own, other) for other in others]
        values[name] = float(np.average(each, weights=shares))
    return values


@functools.partial(jax.jit, static_argnames=("to_content", "held_out"))
def _compare(
    painting: Image,
    content: Image | None,
    styles: tuple[Array, ...],
    networks: dict[str, NetworkState],
    heads: ByTap,
    to_content: tuple[str, ...],
    held_out: str,
) -> tuple[dict[str, Scalar], list[Statistics]]:
    """The metrics `to_content`, and the statistics of the painting and of each style picture."""

    def look(image: Array, arch: str) -> ByTap:
        return features(networks[arch], image) | {"image": image} if arch in networks else {}

    own = {arch: look(painting, arch) for arch in (LPIPS_ARCH, held_out)}
    distances = {}
    if content is not None:
        other = look(content, LPIPS_ARCH)
        distances = {name: CONTENT[name][1](own[LPIPS_ARCH], other, heads) for name in to_content}
    seen = [own[held_out], *(look(style, held_out) for style in styles)]
    taps = (*STYLE_TAPS, SIFID_TAP) if styles and held_out in networks else ()
    return distances, [{tap: spread(one[tap], Context()) for tap in taps} for one in seen]


def _judge(arch: str, cache: Cache) -> tuple[NetworkState, str]:
    """The default weights of `arch`, whatever config.weights names, and their training family."""
    path = fetch.find("", arch)

    def load() -> tuple[NetworkState, str]:
        loaded = weights.load(path, arch)
        taps = tuple(dict.fromkeys((*STYLE_TAPS, SIFID_TAP, *LPIPS_TAPS)))
        return split(VGG(loaded.layers, loaded.mean, loaded.scale, taps)), loaded.family

    return cache.get("judge", (file_state(path), arch), load)


def _heads(cache: Cache) -> dict[str, np.ndarray]:
    """LPIPS's heads by tap, [channels]."""
    if _judge(LPIPS_ARCH, cache)[1] != "torchvision":
        path = fetch.default_path(LPIPS_ARCH)
        raise UserError(f"LPIPS needs torchvision's VGG-16: move {path} away to have it fetched")
    heads = fetch.lpips_heads()
    return dict(zip(LPIPS_TAPS, np.split(heads, np.cumsum(architecture.WIDTHS)[:-1]), strict=True))
