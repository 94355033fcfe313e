"""Colour spaces and colour transfer between pictures, in NumPy on the host.

There are two ways to keep the photograph's colours. Either recolour the style picture like the
photograph before painting (`transfer`). Or paint in luminance only (`gray`, `match_luminance`) and
take the photograph's chroma afterwards (`recombine`).

Pictures are float32 sRGB in [0, 1]; intermediate results are float64.

References:
  Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer"
  (https://arxiv.org/abs/1606.05897).
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from nst_jax.errors import UserError
from nst_jax.pictures.images import Picture
from nst_jax.pictures.profiles import SRGB_TO_XYZ, from_light, to_light

Colors = Float[np.ndarray, "... 3"]
Guide = Float[np.ndarray, "_ _"]  # in [0, 1], the share of each pixel that belongs to a region
Matrix = Float[np.ndarray, "3 3"]
Space = tuple[Callable[[Colors], Colors], Callable[[Colors], Colors]]  # from sRGB and to sRGB
Source = Float[np.ndarray, "n 3"]
SourceWeights = Float[np.ndarray, " n"]
Reference = Float[np.ndarray, "m 3"]
ReferenceWeights = Float[np.ndarray, " m"]

_LUMA = np.array([0.299, 0.587, 0.114])  # BT.601, for both YUV and YIQ
_U = 0.436 * (np.array([0, 0, 1]) - _LUMA) / (1 - 0.114)  # 0.492 (B - Y)
_V = 0.615 * (np.array([1, 0, 0]) - _LUMA) / (1 - 0.299)  # 0.877 (R - Y)
_TO_YUV = np.stack([_LUMA, _U, _V])
_SIN, _COS = np.sin(np.deg2rad(33)), np.cos(np.deg2rad(33))
_TO_YIQ = np.array([[1, 0, 0], [0, -_SIN, _COS], [0, _COS, _SIN]]) @ _TO_YUV
_WHITE = SRGB_TO_XYZ.sum(1)  # instead of the tabulated D65, so that grays have exactly a* = b* = 0
_KNEE = 6 / 29  # where CIE's cube root continues as a line

VARIANCE_EPSILON = 1e-5  # a standard deviation of 0.003, just below an 8-bit step
# After this many iterations the colours along any axis are about an 8-bit step from the reference.
NUM_HISTOGRAM_ITERATIONS = 10


def to_lab(colors: Colors) -> Colors:
    """CIE 1976 `L*a*b*` of sRGB colours.

    L* = 116 f(Y) - 16, a* = 500 (f(X) - f(Y)), b* = 200 (f(Y) - f(Z)).

    X, Y and Z are relative to the D65 white and belong to linear light, so the sRGB curve (IEC
    61966-2-1) is inverted first. f is the cube root, continued as a line below (6/29)^3.

    Args:
      colors: [..., 3], sRGB values as stored; below 0 the curves continue as lines.

    Returns:
      [..., 3]: L* in [0, 100], a* (green to red) and b* (blue to yellow) within about +-110.
    """
    xyz = to_light(colors) @ SRGB_TO_XYZ.T / _WHITE
    f = np.where(xyz > _KNEE**3, np.cbrt(xyz), xyz / (3 * _KNEE**2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def from_lab(lab: Colors) -> Colors:
    """Inverse of `to_lab`.

    Args:
      lab: [..., 3].

    Returns:
      [..., 3] sRGB values, outside [0, 1] for colours that sRGB does not have.
    """
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = np.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29))
    return from_light(xyz * _WHITE @ np.linalg.inv(SRGB_TO_XYZ).T)


def _linear_space(matrix: Matrix) -> Space:
    """The colour space that is a linear map of stored sRGB values."""
    inverse = np.linalg.inv(matrix)
    return lambda colors: colors @ matrix.T, lambda colors: colors @ inverse.T


# Name -> (sRGB to the space, the space to sRGB), both [..., 3] -> [..., 3]. Channel 0 is the
# luminance. yuv and yiq are linear maps of stored values with the same luma, in [0, 1]; the chroma
# plane of yiq is that of yuv rotated by 33 degrees. lab is computed from linear light, with L* in
# [0, 100].
SPACES: dict[str, Space] = {
    "yuv": _linear_space(_TO_YUV),  # BT.601
    "yiq": _linear_space(_TO_YIQ),  # NTSC
    "lab": (to_lab, from_lab),
}


def recombine(
    painting: Float[np.ndarray, "h w 3"], content: Float[np.ndarray, "h w 3"], space: str
) -> Float[np.ndarray, "h w 3"]:
    """Combines the painting's luminance with the content picture's chroma.

    In yuv and in yiq this is content + (Y_painting - Y_content) on every channel, so the two agree.
    neural-style's -original_colors does the same in yuv.

    Args:
      painting: [h, w, 3].
      content: [h, w, 3], of the same size.
      space: a key of `SPACES`.

    Returns:
      [h, w, 3], clipped to [0, 1].

    References:
      Gatys et al. 2016 (https://arxiv.org/abs/1606.05897), luminance-only transfer.
    """
    to, back = SPACES[space]
    mixed = to(content)
    mixed[..., 0] = to(painting)[..., 0]
    return np.clip(back(mixed), 0, 1).astype(np.float32)


def gray(picture: Picture, space: str) -> Picture:
    """The picture in gray: each pixel keeps its luminance and loses its chroma.

    Args:
      picture: [h, w, 3].
      space: a key of `SPACES`. In yuv and yiq the gray is (Y, Y, Y), in lab that of the same L*.

    Returns:
      [h, w, 3] with three equal channels in [0, 1].
    """
    to, back = SPACES[space]
    values = back(to(picture) * np.array([1, 0, 0]))[..., :1]
    return np.clip(values, 0, 1).astype(np.float32).repeat(3, -1)


def match_luminance(style: Picture, content: Picture) -> Picture:
    """Matches the style's luminance to the content: L' = sigma_C / sigma_S (L_S - mu_S) + mu_C.

    The result has the content's mean and contrast, up to clipping. A style of constant luminance
    becomes mu_C everywhere.

    Args:
      style: from `gray`, of any size.
      content: from `gray`, of any size.

    Returns:
      A picture of the style's size, clipped to [0, 1].

    References:
      Gatys et al. 2016 (https://arxiv.org/abs/1606.05897), luminance-only transfer.
    """
    own, wanted = style.astype(np.float64), content.astype(np.float64)
    scale = wanted.std() / max(own.std(), 1e-6)
    return np.clip(scale * (own - own.mean()) + wanted.mean(), 0, 1).astype(np.float32)


def _power(matrix: Matrix, exponent: float) -> Matrix:
    """Power of a symmetric positive definite matrix: U diag(lambda^exponent) U^T."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T


def _cholesky(source: Matrix, reference: Matrix) -> Matrix:
    """A = L_R L_S^-1 with Sigma = L L^T; it depends on the order of the channels."""
    return np.linalg.cholesky(reference) @ np.linalg.inv(np.linalg.cholesky(source))


def _pca(source: Matrix, reference: Matrix) -> Matrix:
    """A = Sigma_R^(1/2) Sigma_S^(-1/2): whiten along the source's axes, colour along R's."""
    return _power(reference, 0.5) @ _power(source, -0.5)


def _symmetric(source: Matrix, reference: Matrix) -> Matrix:
    """A = Sigma_S^(-1/2) (Sigma_S^(1/2) Sigma_R Sigma_S^(1/2))^(1/2) Sigma_S^(-1/2).

    This is the only symmetric positive definite solution, and moves the colours the least.
    """
    root, inverse = _power(source, 0.5), _power(source, -0.5)
    return inverse @ _power(root @ reference @ root, 0.5) @ inverse


# Name -> function (Sigma_S, Sigma_R) -> A that solves A Sigma_S A^T = Sigma_R.
SOLUTIONS: dict[str, Callable[[Matrix, Matrix], Matrix]] = {
    "cholesky": _cholesky,
    "pca": _pca,
    "symmetric": _symmetric,
}


def _statistics(colors: Colors, weights: np.ndarray | None) -> tuple[np.ndarray, Matrix]:
    """Weighted mean [3] and covariance [3, 3], divided by n, plus VARIANCE_EPSILON I."""
    colors = colors.astype(np.float64)
    covariance = np.cov(colors, rowvar=False, aweights=weights, ddof=0)
    return np.average(colors, 0, weights), covariance + VARIANCE_EPSILON * np.eye(3)


def _linear(
    solve: Callable[[Matrix, Matrix], Matrix],
    source: Source,
    reference: Reference,
    source_weights: SourceWeights | None = None,
    reference_weights: ReferenceWeights | None = None,
) -> Source:
    """Linear colour transfer: A (x - mu_S) + mu_R, which has the reference's mean and covariance.

    `VARIANCE_EPSILON` on both diagonals bounds A, so a source that does not vary along some colour
    direction (gray or constant) does not get its noise amplified along it. match_color in Gatys'
    ColourControl notebook (modes chol, pca, sym) adds it too.

    References:
      Gatys et al. 2016 (https://arxiv.org/abs/1606.05897), color transfer.
    """
    source_mean, source_covariance = _statistics(source, source_weights)
    reference_mean, reference_covariance = _statistics(reference, reference_weights)
    a = solve(source_covariance, reference_covariance)
    return (source - source_mean) @ a.T + reference_mean


def _quantiles(weights: np.ndarray) -> np.ndarray:
    """Quantiles of sorted values from their weights [n]: the share below each plus half its own."""
    total = np.cumsum(weights, dtype=np.float64)
    return (total - weights / 2) / total[-1]


def _match(
    values: np.ndarray, weights: np.ndarray, wanted: np.ndarray, wanted_weights: np.ndarray
) -> np.ndarray:
    """Histogram matching: maps each of the values [n] to the quantile's value in `wanted` [m]."""
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
    """Transfer of the whole colour distribution, by iterated histogram matching on three axes.

    Each of `NUM_HISTOGRAM_ITERATIONS` iterations rotates the axes at random, in the same way at
    every call, and matches each axis by itself. The last uses red, green and blue, so the result
    has the reference's histogram in each. Equal pixels stay equal; if the source repeats colours
    (flat paper, say), the histograms come as close as that allows.

    References:
      Pitie, Kokaram & Dahyot 2007, "Automated colour grading using colour distribution transfer".

    Departs from the paper: it omits their last step, which removes the grain of stretched colours.
    """
    wanted_weights = np.ones(len(reference)) if reference_weights is None else reference_weights
    positive = wanted_weights > 0
    reference, wanted_weights = reference[positive], wanted_weights[positive]
    colors, index = np.unique(source.astype(np.float64), axis=0, return_inverse=True)
    index = index.ravel()  # NumPy 2.0 returns another shape
    weights = np.bincount(index, source_weights)
    rng = np.random.default_rng(0)
    rotations = [
        np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(NUM_HISTOGRAM_ITERATIONS - 1)
    ]
    for axes in [*rotations, np.eye(3)]:
        matched = [
            _match(values, weights, wanted, wanted_weights)
            for values, wanted in zip((colors @ axes).T, (reference @ axes).T, strict=True)
        ]
        colors = np.stack(matched, -1) @ axes.T
    return colors[index]


# Name -> function (source [n, 3], reference [m, 3], source weights [n] or None, reference weights
# [m] or None) -> the source's pixels [n, 3] in the reference's colours, not clipped. Weights are
# >= 0 and not all zero, and say how much each pixel counts in the statistics of its picture. Every
# pixel of the source is recoloured, whatever its weight.
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
    """Recolours the source like the reference; with guides, region by region.

    Each region of the source takes the colours of the same region of the reference. With masks M_r,
    a pixel becomes sum_r w_r x_r + (1 - sum_r w_r) x, where x is the pixel, x_r its recolouring for
    region r and w_r = M_r / max(1, sum_r M_r). Nothing changes outside all regions, and the soft
    edge of a region fades into the unchanged source.

    Args:
      source: [h, w, 3], of any size.
      reference: [h, w, 3], of any size.
      method: a key of `TRANSFERS`.
      source_guides: a mask in [0, 1] for each region, of the source's height and width. Without
        any guides the whole picture is one region. A region that is empty in the source is
        skipped.
      reference_guides: the same for the reference, in the same order.

    Returns:
      [h, w, 3], clipped to [0, 1].

    Raises:
      UserError: the guides differ in number, one does not have its picture's size, or one of the
        reference is empty.
    """
    if not source_guides and not reference_guides:
        source_guides = (np.ones(source.shape[:2], np.float32),)
        reference_guides = (np.ones(reference.shape[:2], np.float32),)
    _check_guides(source, reference, source_guides, reference_guides)
    covered = np.sum(source_guides, 0)
    total = np.maximum(1, covered)
    result = source * (1 - covered / total)[..., None]
    for mask, reference_mask in zip(source_guides, reference_guides, strict=True):
        inside, reference_inside = mask > 0, reference_mask > 0
        if inside.any():
            pixels = TRANSFERS[method](
                source[inside],
                reference[reference_inside],
                mask[inside],
                reference_mask[reference_inside],
            )
            result[inside] += np.clip(pixels, 0, 1) * (mask / total)[inside, None]
    return np.clip(result, 0, 1).astype(np.float32)


def _check_guides(
    source: Picture,
    reference: Picture,
    source_guides: Sequence[Guide],
    reference_guides: Sequence[Guide],
):
    """Checks that guides come in pairs, fit their pictures, and are not empty in the reference."""
    counts = len(source_guides), len(reference_guides)
    if counts[0] != counts[1]:
        raise UserError(
            f"{counts[0]} and {counts[1]} guides; each region needs one in both pictures"
        )
    for picture, guides in ((source, source_guides), (reference, reference_guides)):
        for guide in guides:
            if guide.shape != picture.shape[:2]:
                raise UserError(
                    f"a guide of {guide.shape} for a picture of {picture.shape[:2]}; "
                    "give it the picture's height and width"
                )
    for number, guide in enumerate(reference_guides, 1):
        if not guide.any():
            raise UserError(f"guide {number} of the reference is all black; paint its region white")
