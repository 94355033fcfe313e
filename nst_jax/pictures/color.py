"""Colour spaces and colour transfer between pictures: NumPy on the host, no files, no JAX.

Two ways to keep a photograph's colours in its painting (Gatys et al. 2016, "Preserving Color in
Neural Artistic Style Transfer", https://arxiv.org/abs/1606.05897): give the style picture the
photograph's colours before painting (`transfer`), or paint in luminance alone (`gray`,
`match_luminance`) and take the photograph's chroma afterwards (`recombine`).

Pictures are float32 sRGB in [0, 1]; everything in between is float64.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from nst_jax.errors import UserError
from nst_jax.pictures.images import Picture

Colors = Float[np.ndarray, "... 3"]
Guide = Float[np.ndarray, "_ _"]  # in [0, 1]: how much of a pixel belongs to a region
Matrix = Float[np.ndarray, "3 3"]
Space = tuple[Callable[[Colors], Colors], Callable[[Colors], Colors]]  # from sRGB, and back
Source = Float[np.ndarray, "n 3"]  # pixels
SourceWeights = Float[np.ndarray, " n"]
Reference = Float[np.ndarray, "m 3"]
ReferenceWeights = Float[np.ndarray, " m"]

_LUMA = np.array([0.299, 0.587, 0.114])  # BT.601, the same in YUV and YIQ
_U = 0.436 * (np.array([0, 0, 1]) - _LUMA) / (1 - 0.114)  # 0.492 (B - Y)
_V = 0.615 * (np.array([1, 0, 0]) - _LUMA) / (1 - 0.299)  # 0.877 (R - Y)
_TO_YUV = np.stack([_LUMA, _U, _V])
_SIN, _COS = np.sin(np.deg2rad(33)), np.cos(np.deg2rad(33))
_TO_YIQ = np.array([[1, 0, 0], [0, -_SIN, _COS], [0, _COS, _SIN]]) @ _TO_YUV
_TO_XYZ = np.array(  # of linear light: IEC 61966-2-1's primaries and white, D65, to seven digits
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = _TO_XYZ.sum(1)  # not the tabulated D65, so that grays have a* = b* = 0 to the last digit
_KNEE = 6 / 29  # where CIE's cube root turns into a line

EPSILON = 1e-5  # added to variances: a standard deviation of 0.003, just below an 8-bit step
ITERATIONS = 10  # leave the colours, seen along any axis, about an 8-bit step from the wanted


def to_lab(colors: Colors) -> Colors:
    """CIE L*a*b* 1976 of sRGB values: L* = 116 f(Y) - 16, a* = 500 (f(X) - f(Y)), b* = 200 (...).

    X, Y, Z relative to white D65, of the light itself: the sRGB curve (IEC 61966-2-1) is undone
    first. f is the cube root, and below (6/29)^3 a line.

    Args:
      colors: [..., 3], sRGB as stored; below 0 the curves go on as lines.

    Returns:
      [..., 3]: L* in [0, 100], a* (green to red) and b* (blue to yellow) within about +-110.
    """
    light = np.where(
        colors <= 0.04045, colors / 12.92, ((np.maximum(colors, 0) + 0.055) / 1.055) ** 2.4
    )
    xyz = light @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > _KNEE**3, np.cbrt(xyz), xyz / (3 * _KNEE**2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def from_lab(lab: Colors) -> Colors:
    """The sRGB values of `to_lab`'s result; outside [0, 1] where sRGB has no such colour."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = np.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29))
    light = xyz * _WHITE @ np.linalg.inv(_TO_XYZ).T
    curved = 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, curved)


def _linear_space(matrix: Matrix) -> Space:
    inverse = np.linalg.inv(matrix)
    return lambda colors: colors @ matrix.T, lambda colors: colors @ inverse.T


# Name -> (sRGB to the space, and back), each [..., 3] to [..., 3]. Channel 0 is the luminance: in
# [0, 1] for yuv and yiq, which are linear maps of the values as stored and share their luma; in
# [0, 100] for lab, which is of linear light. yiq's chroma plane is yuv's turned by 33 degrees.
SPACES: dict[str, Space] = {
    "yuv": _linear_space(_TO_YUV),  # BT.601
    "yiq": _linear_space(_TO_YIQ),  # NTSC
    "lab": (to_lab, from_lab),
}


def recombine(
    painting: Float[np.ndarray, "h w 3"], content: Float[np.ndarray, "h w 3"], space: str
) -> Float[np.ndarray, "h w 3"]:
    """The painting's luminance with the content picture's chroma, clipped to [0, 1].

    Gatys et al. 2016, luminance-only transfer; neural-style's -original_colors (in yuv). In yuv
    and in yiq it is content + (Y_painting - Y_content) on every channel, so the two agree.

    Args:
      painting, content: [h, w, 3] of one size.
      space: a key of `SPACES`.
    """
    to, back = SPACES[space]
    mixed = to(content)
    mixed[..., 0] = to(painting)[..., 0]
    return np.clip(back(mixed), 0, 1).astype(np.float32)


def gray(picture: Picture, space: str) -> Picture:
    """The luminance as a picture of three equal channels in [0, 1].

    The colour of the same luminance and no chroma: in yuv and yiq that is (Y, Y, Y); in lab the
    gray of the same L*.
    """
    to, back = SPACES[space]
    values = back(to(picture) * np.array([1, 0, 0]))[..., :1]
    return np.clip(values, 0, 1).astype(np.float32).repeat(3, -1)


def match_luminance(style: Picture, content: Picture) -> Picture:
    """L' = sigma_C / sigma_S (L_S - mu_S) + mu_C: the content's mean and contrast, in [0, 1].

    Gatys et al. 2016, luminance-only transfer. Clipping moves the statistics a little. A style of
    one luminance everywhere becomes mu_C everywhere.

    Args:
      style, content: `gray` pictures, of any sizes; the result has the style's.
    """
    own, wanted = style.astype(np.float64), content.astype(np.float64)
    scale = wanted.std() / max(own.std(), 1e-6)
    return np.clip(scale * (own - own.mean()) + wanted.mean(), 0, 1).astype(np.float32)


def _power(matrix: Matrix, exponent: float) -> Matrix:
    """A power of a symmetric positive definite matrix, U diag(lambda^exponent) U^T."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T


def _cholesky(source: Matrix, reference: Matrix) -> Matrix:
    """A = L_R L_S^-1, with Sigma = L L^T; depends on the order of the channels."""
    return np.linalg.cholesky(reference) @ np.linalg.inv(np.linalg.cholesky(source))


def _pca(source: Matrix, reference: Matrix) -> Matrix:
    """A = Sigma_R^(1/2) Sigma_S^(-1/2): whitened along the source's axes, coloured along R's."""
    return _power(reference, 0.5) @ _power(source, -0.5)


def _symmetric(source: Matrix, reference: Matrix) -> Matrix:
    """A = Sigma_S^(-1/2) (Sigma_S^(1/2) Sigma_R Sigma_S^(1/2))^(1/2) Sigma_S^(-1/2).

    The one symmetric positive definite solution: of all linear maps it moves the colours least.
    """
    root, inverse = _power(source, 0.5), _power(source, -0.5)
    return inverse @ _power(root @ reference @ root, 0.5) @ inverse


# Name -> (Sigma_S, Sigma_R) to an A with A Sigma_S A^T = Sigma_R.
SOLUTIONS: dict[str, Callable[[Matrix, Matrix], Matrix]] = {
    "cholesky": _cholesky,
    "pca": _pca,
    "symmetric": _symmetric,
}


def _statistics(colors: Colors, weights: np.ndarray | None) -> tuple[np.ndarray, Matrix]:
    """Weighted mean [3] and covariance [3, 3] (divided by n, not n - 1) plus EPSILON I."""
    colors = colors.astype(np.float64)
    covariance = np.cov(colors, rowvar=False, aweights=weights, ddof=0)
    return np.average(colors, 0, weights), covariance + EPSILON * np.eye(3)


def _linear(
    solve: Callable[[Matrix, Matrix], Matrix],
    source: Source,
    reference: Reference,
    source_weights: SourceWeights | None = None,
    reference_weights: ReferenceWeights | None = None,
) -> Source:
    """A (x - mu_S) + mu_R: the reference's mean and covariance, up to EPSILON.

    Gatys et al. 2016, color transfer; match_color in Gatys' ColourControl notebook (modes chol,
    pca, sym), which has EPSILON on both diagonals too. It bounds A: a source without a colour
    direction (a gray or constant one) goes without, instead of having its noise blown up.
    """
    source_mean, source_covariance = _statistics(source, source_weights)
    reference_mean, reference_covariance = _statistics(reference, reference_weights)
    a = solve(source_covariance, reference_covariance)
    return (source - source_mean) @ a.T + reference_mean


def _quantiles(weights: np.ndarray) -> np.ndarray:
    """For sorted values' weights [n], the share of the weight below each plus half its own."""
    total = np.cumsum(weights, dtype=np.float64)
    return (total - weights / 2) / total[-1]


def _match(
    values: np.ndarray, weights: np.ndarray, wanted: np.ndarray, wanted_weights: np.ndarray
) -> np.ndarray:
    """Histogram matching of values [n]: each becomes the `wanted` value [m] of its quantile."""
    order, wanted_order = np.argsort(values), np.argsort(wanted)
    matched = np.empty_like(values)
    matched[order] = np.interp(
        _quantiles(weights[order]), _quantiles(wanted_weights[wanted_order]), wanted[wanted_order]
    )
    return matched


def _histogram(
    source: Source,
    reference: Reference,
    source_weights: SourceWeights | None = None,
    reference_weights: ReferenceWeights | None = None,
) -> Source:
    """The reference's whole distribution: ITERATIONS times each of three axes is matched alone.

    The axes are turned at random, the same for every call; last come red, green and blue, whose
    histograms are then the reference's. Equal pixels stay equal, so where a source repeats colours
    (flat paper, say) these histograms are as close as its repeated colours allow.

    Pitie, Kokaram, Dahyot 2007, "Automated colour grading using colour distribution transfer",
    without their last step, which takes out the grain that stretched colours show.
    """
    wanted_weights = np.ones(len(reference)) if reference_weights is None else reference_weights
    counts = wanted_weights > 0
    reference, wanted_weights = reference[counts], wanted_weights[counts]
    colors, index = np.unique(source.astype(np.float64), axis=0, return_inverse=True)
    index = index.ravel()  # NumPy 2.0 gives it another shape
    weights = np.bincount(index, source_weights)
    rng = np.random.default_rng(0)
    turned = [np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(ITERATIONS - 1)]
    for axes in (*turned, np.eye(3)):
        matched = [
            _match(values, weights, wanted, wanted_weights)
            for values, wanted in zip((colors @ axes).T, (reference @ axes).T, strict=True)
        ]
        colors = np.stack(matched, -1) @ axes.T
    return colors[index]


# Name -> (source [n, 3], reference [m, 3], their weights [n] and [m], or None) to the source's
# pixels [n, 3] in the reference's colours, not clipped. Weights are nonnegative and not all zero:
# how much a pixel counts in its picture's statistics; every pixel of the source is recoloured.
TRANSFERS: dict[str, Callable[..., np.ndarray]] = {
    **{name: functools.partial(_linear, solve) for name, solve in SOLUTIONS.items()},
    "histogram": _histogram,
}


def transfer(
    source: Picture,
    reference: Picture,
    method: str,
    source_guides: Sequence[Guide] = (),
    reference_guides: Sequence[Guide] = (),
) -> Picture:
    """The source in the reference's colours, clipped to [0, 1]; with guides, region by region.

    Each region of the source takes the colours of the same region of the reference. With masks
    M_r, a pixel becomes the mean of its recolourings weighted by M_r / max(1, sum_r M_r), and
    what is missing from 1 is left to the source: outside all regions nothing changes, and the
    soft edge of a region fades into it.

    Args:
      source, reference: [h, w, 3], of any sizes.
      method: a key of `TRANSFERS`.
      source_guides, reference_guides: one mask in [0, 1] per region, of its picture's height and
        width, in the same order; none is one region of everything. A region that is empty in
        the source is skipped.

    Raises:
      UserError: guides of other numbers or sizes, or a region without a pixel in the reference.
    """
    if not source_guides and not reference_guides:
        source_guides = (np.ones(source.shape[:2], np.float32),)
        reference_guides = (np.ones(reference.shape[:2], np.float32),)
    _check_guides(source, reference, source_guides, reference_guides)
    covered = np.sum(source_guides, 0)
    total = np.maximum(1, covered)
    result = source * (1 - covered / total)[..., None]
    for mask, wanted in zip(source_guides, reference_guides, strict=True):
        inside, there = mask > 0, wanted > 0
        if inside.any():
            pixels = TRANSFERS[method](
                source[inside], reference[there], mask[inside], wanted[there]
            )
            result[inside] += np.clip(pixels, 0, 1) * (mask / total)[inside, None]
    return np.clip(result, 0, 1).astype(np.float32)


def _check_guides(
    source: Picture,
    reference: Picture,
    source_guides: Sequence[Guide],
    reference_guides: Sequence[Guide],
):
    counts = len(source_guides), len(reference_guides)
    if counts[0] != counts[1]:
        raise UserError(
            f"{counts[0]} and {counts[1]} guides; each region needs one in both pictures"
        )
    for picture, guides in ((source, source_guides), (reference, reference_guides)):
        for guide in guides:
            if guide.shape != picture.shape[:2]:
                raise UserError(f"a guide of {guide.shape} for a picture of {picture.shape[:2]}")
    for number, guide in enumerate(reference_guides, 1):
        if not guide.any():
            raise UserError(f"guide {number} of the picture whose colours are taken is all black")
