import numpy as np
import pytest
import scipy.linalg

from nst_jax.errors import UserError
from nst_jax.pictures import color


def one(*values) -> np.ndarray:
    """A picture of one pixel."""
    return np.array([[values]], np.float32)


def pixels(rng, count, spread=0.5):
    """Seeded colours with correlated channels, [count, 3], somewhere inside [0, 1]."""
    mixing = rng.random((3, 3))
    return 0.3 + spread * (rng.random((count, 3)) @ (mixing / mixing.sum(0)) - 0.3)


def spread(colors):
    return np.cov(colors.T, ddof=0)


# Colour spaces.


@pytest.mark.parametrize(
    "srgb, expected",  # L*, a*, b* under D65, as tables of the sRGB primaries give them
    [
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((1, 1, 1), (100, 0, 0)),
        ((0.5, 0.5, 0.5), (53.39, 0, 0)),
        ((0.01, 0.01, 0.01), (903.2963 * 0.01 / 12.92, 0, 0)),  # both curves' lines
        ((0, 0, 0), (0, 0, 0)),
    ],
)
def test_known_lab_values(srgb, expected):
    to, back = color.SPACES["lab"]
    np.testing.assert_allclose(to(one(*srgb))[0, 0], expected, atol=6e-3)
    np.testing.assert_allclose(back(np.array([expected], float))[0], srgb, atol=1e-3)


@pytest.mark.parametrize(
    "space, red, blue",
    [
        ("yuv", (0.299, -0.14713, 0.615), (0.114, 0.436, -0.10001)),
        ("yiq", (0.299, 0.5959, 0.2115), (0.114, -0.3213, 0.3111)),
    ],
)
def test_known_yuv_and_yiq_values(space, red, blue):
    to, _ = color.SPACES[space]
    np.testing.assert_allclose(to(one(1, 0, 0))[0, 0], red, atol=2e-4)
    np.testing.assert_allclose(to(one(0, 0, 1))[0, 0], blue, atol=2e-4)
    np.testing.assert_allclose(to(one(1, 1, 1))[0, 0], (1, 0, 0), atol=1e-12)
    np.testing.assert_allclose(to(one(0, 0, 0))[0, 0], (0, 0, 0), atol=1e-12)


@pytest.mark.parametrize("space", color.SPACES)
def test_round_trips(space, rng):
    to, back = color.SPACES[space]
    corners = np.stack(np.meshgrid([0.0, 1.0], [0.0, 1.0], [0.0, 1.0]), -1).reshape(-1, 3)
    dark = rng.random((50, 3)) * 0.06  # where the curves have their lines
    outside = rng.random((50, 3)) * 1.4 - 0.2
    colors = np.concatenate([corners, dark, outside, rng.random((500, 3))])
    np.testing.assert_allclose(back(to(colors)), colors, atol=1e-5)


def test_yuv_and_yiq_are_linear_and_lab_is_not(rng):
    a, b = rng.random((2, 5, 3))
    bends = {
        space: np.abs(to((a + b) / 2) - (to(a) + to(b)) / 2).max()
        for space, (to, _) in color.SPACES.items()
    }
    assert bends["yuv"] < 1e-12 and bends["yiq"] < 1e-12 and bends["lab"] > 0.1


# Luminance alone.


@pytest.mark.parametrize("space", color.SPACES)
def test_recombined_with_itself_is_itself(space, picture):
    photo = picture(11, 7)
    np.testing.assert_allclose(color.recombine(photo, photo, space), photo, atol=1e-5)


@pytest.mark.parametrize("space", color.SPACES)
def test_recombined_has_this_luminance_and_that_chroma(space, picture):
    to, _ = color.SPACES[space]
    painting, photo = (0.4 + 0.2 * picture(11, 7) for _ in range(2))
    result = color.recombine(painting, photo, space)
    assert result.min() > 0 and result.max() < 1  # nothing clipped
    np.testing.assert_allclose(to(result)[..., 0], to(painting)[..., 0], atol=1e-4)
    np.testing.assert_allclose(to(result)[..., 1:], to(photo)[..., 1:], atol=1e-4)


@pytest.mark.parametrize("space", ["yuv", "yiq"])
def test_recombine_by_hand(space):
    painting, photo = one(0.5, 0.5, 0.5), one(0.4, 0.2, 0.6)
    gain = 0.5 - (0.299 * 0.4 + 0.587 * 0.2 + 0.114 * 0.6)
    expected = one(0.4 + gain, 0.2 + gain, 0.6 + gain)
    np.testing.assert_allclose(color.recombine(painting, photo, space), expected, atol=1e-6)
    np.testing.assert_array_equal(
        color.recombine(one(1, 1, 1), one(0, 0, 1), space), one(0.886, 0.886, 1)
    )


@pytest.mark.parametrize("space", color.SPACES)
def test_gray_has_equal_channels_and_the_luminance(space, picture):
    to, _ = color.SPACES[space]
    photo = picture(11, 7)
    gray = color.gray(photo, space)
    assert gray.dtype == np.float32 and gray.min() >= 0 and gray.max() <= 1
    assert (gray == gray[..., :1]).all()
    np.testing.assert_allclose(to(gray)[..., 0], to(photo)[..., 0], atol=1e-4)


def test_gray_by_hand():
    assert color.gray(one(1, 0, 0), "yuv")[0, 0, 0] == pytest.approx(0.299)
    assert color.gray(one(0, 1, 0), "yiq")[0, 0, 2] == pytest.approx(0.587)
    light = 0.2126729  # Y of red, well on the curve's power
    assert color.gray(one(1, 0, 0), "lab")[0, 0, 0] == pytest.approx(
        1.055 * light ** (1 / 2.4) - 0.055, abs=1e-5
    )


def test_matched_luminance_by_hand():
    style = np.float32([0.2, 0.4]).reshape(1, 2, 1).repeat(3, -1)  # mean 0.3, deviation 0.1
    content = np.float32([0.3, 0.7, 0.3, 0.7]).reshape(4, 1, 1).repeat(3, -1)  # 0.5, 0.2
    expected = np.float32([0.3, 0.7]).reshape(1, 2, 1).repeat(3, -1)
    np.testing.assert_allclose(color.match_luminance(style, content), expected, atol=1e-6)


def test_matched_luminance_is_clipped_and_survives_a_constant():
    content = np.float32([0, 1, 1, 1]).reshape(1, 4, 1).repeat(3, -1)
    spiky = np.float32([0, 0, 0, 1]).reshape(1, 4, 1).repeat(3, -1)
    matched = color.match_luminance(spiky, content)
    assert matched.min() >= 0 and matched.max() == 1
    flat = np.full((3, 2, 3), 0.1, np.float32)
    np.testing.assert_allclose(color.match_luminance(flat, content), 0.75, atol=1e-6)


# Colour transfer of pixels.


@pytest.mark.parametrize("method", color.SOLUTIONS)
def test_linear_transfers_give_the_mean_and_covariance(method, rng):
    source, reference = pixels(rng, 400), pixels(rng, 300, 0.8)
    result = color.TRANSFERS[method](source, reference, None, None)
    assert np.abs(spread(source) - spread(reference)).max() > 1e-3
    np.testing.assert_allclose(result.mean(0), reference.mean(0), atol=1e-10)
    np.testing.assert_allclose(spread(result), spread(reference), atol=1e-4)


def random_covariance(rng):
    a = rng.standard_normal((3, 3))
    return a @ a.T + 0.1 * np.eye(3)


@pytest.mark.parametrize("solve", color.SOLUTIONS.values())
def test_solutions_solve_the_equation(solve, rng):
    source, reference = random_covariance(rng), random_covariance(rng)
    a = solve(source, reference)
    np.testing.assert_allclose(a @ source @ a.T, reference, atol=1e-10)


def test_solutions_equal_their_formulas_with_other_square_roots(rng):
    source, reference = random_covariance(rng), random_covariance(rng)
    root, inverse = scipy.linalg.sqrtm(source), np.linalg.inv(scipy.linalg.sqrtm(source))
    symmetric = inverse @ scipy.linalg.sqrtm(root @ reference @ root) @ inverse
    ours = color.SOLUTIONS["symmetric"](source, reference)
    np.testing.assert_allclose(ours, symmetric, atol=1e-10)
    np.testing.assert_allclose(ours, ours.T, atol=1e-12)
    pca = scipy.linalg.sqrtm(reference) @ inverse
    np.testing.assert_allclose(color.SOLUTIONS["pca"](source, reference), pca, atol=1e-10)
    cholesky = color.SOLUTIONS["cholesky"](source, reference)
    np.testing.assert_allclose(cholesky, np.tril(cholesky), atol=1e-12)  # the one such A
    assert (np.diag(cholesky) > 0).all()


def test_histograms_of_equally_many_pixels_are_equal(rng):
    source, reference = pixels(rng, 300), rng.random((300, 3)) ** 2
    result = color.TRANSFERS["histogram"](source, reference, None, None)
    np.testing.assert_allclose(np.sort(result, 0), np.sort(reference, 0), atol=1e-12)


@pytest.mark.parametrize("count", [100, 300, 900])
def test_histogram_takes_the_reference_quantiles(count, rng):
    source, reference = pixels(rng, count), rng.random((300, 3)) ** 2
    result = color.TRANSFERS["histogram"](source, reference, None, None)
    middles = (np.arange(count) + 0.5) / count
    expected = np.quantile(reference, middles, axis=0, method="hazen")
    np.testing.assert_allclose(np.sort(result, 0), expected, atol=1e-10)


def test_histogram_matches_more_than_the_channels(rng):
    """The reference's colours lie on a diagonal, which no channel's own histogram shows."""
    reference = rng.random((500, 1)).repeat(3, -1)
    result = color.TRANSFERS["histogram"](rng.random((500, 3)), reference, None, None)
    assert np.ptp(result, axis=1).mean() < 0.05  # 0.5 where channels are matched alone


def test_histogram_keeps_equal_pixels_equal(rng):
    palette = rng.random((5, 3))
    which = rng.integers(0, 5, 200)
    result = color.TRANSFERS["histogram"](palette[which], rng.random((300, 3)), None, None)
    for k in range(5):
        assert (result[which == k] == result[which == k][0]).all()


@pytest.mark.parametrize("method", color.TRANSFERS)
def test_own_colours_change_nothing(method, rng):
    source = np.concatenate([pixels(rng, 200), np.full((50, 3), 0.4)])  # and a flat patch
    weights = rng.random(250) + 0.1
    for given in (None, weights):
        result = color.TRANSFERS[method](source, source, given, given)
        np.testing.assert_allclose(result, source, atol=1e-6)


@pytest.mark.parametrize("method", color.TRANSFERS)
def test_weights_of_ones_are_no_weights(method, rng):
    source, reference = pixels(rng, 200), pixels(rng, 150, 0.8)
    ours = color.TRANSFERS[method](source, reference, np.ones(200), np.ones(150))
    none = color.TRANSFERS[method](source, reference, None, None)
    np.testing.assert_allclose(ours, none, atol=1e-10)
    assert np.abs(ours - source).max() > 0.05


@pytest.mark.parametrize("method", color.TRANSFERS)
def test_pixels_without_weight_do_not_count(method, rng):
    source, reference = pixels(rng, 200), pixels(rng, 150, 0.8)
    alone = color.TRANSFERS[method](source, reference, None, None)
    more_source = np.concatenate([source, rng.random((70, 3)) ** 3])
    more_reference = np.concatenate([rng.random((90, 3)) ** 3, reference])
    masked = color.TRANSFERS[method](
        more_source,
        more_reference,
        np.repeat([1.0, 0.0], [200, 70]),
        np.repeat([0.0, 1.0], [90, 150]),
    )
    np.testing.assert_allclose(masked[:200], alone, atol=1e-9)


@pytest.mark.parametrize("method", color.TRANSFERS)
def test_source_weights_count_as_repetitions(method, rng):
    source, reference = pixels(rng, 200), pixels(rng, 100, 0.8)
    times = rng.integers(1, 4, 200)
    weighted = color.TRANSFERS[method](source, reference, times.astype(float), None)
    repeated = color.TRANSFERS[method](source.repeat(times, 0), reference, None, None)
    np.testing.assert_allclose(weighted.repeat(times, 0), repeated, atol=1e-9)


@pytest.mark.parametrize("method", color.SOLUTIONS)
def test_reference_weights_count_as_repetitions(method, rng):
    source, reference = pixels(rng, 200), pixels(rng, 100, 0.8)
    times = rng.integers(1, 4, 100)
    weighted = color.TRANSFERS[method](source, reference, None, times.astype(float))
    repeated = color.TRANSFERS[method](source, reference.repeat(times, 0), None, None)
    np.testing.assert_allclose(weighted, repeated, atol=1e-9)


def test_histogram_reference_weights_by_hand(rng):
    """Three black pixels to one white, or half and half where a white one counts for three."""
    reference = np.repeat([0.0, 1.0], [300, 100])[:, None].repeat(3, -1)
    weights = np.repeat([1.0, 3.0], [300, 100])
    for given, black in ((None, 0.75), (weights, 0.5)):
        result = color.TRANSFERS["histogram"](rng.random((400, 3)), reference, None, given)
        np.testing.assert_allclose((result < 0.5).mean(0), black, atol=0.005)


@pytest.mark.parametrize("method", color.TRANSFERS)
def test_constant_pictures_are_finite(method, rng):
    flat, other, lively = np.full((40, 3), 0.3), np.full((30, 3), 0.6), rng.random((50, 3))
    np.testing.assert_allclose(color.TRANSFERS[method](flat, other, None, None), 0.6, atol=1e-6)
    np.testing.assert_allclose(color.TRANSFERS[method](lively, other, None, None), 0.6, atol=2e-2)
    result = color.TRANSFERS[method](flat, lively, None, None)
    assert np.isfinite(result).all() and (result == result[0]).all()
    assert result.min() >= 0 and result.max() <= 1


def test_gray_pictures_do_not_break_into_colour(rng):
    """A gray source with a little noise: dividing by the noise's own deviation would blow it up."""
    source = rng.random((400, 1)) + 1e-4 * rng.standard_normal((400, 3))
    for method in color.SOLUTIONS:
        result = color.TRANSFERS[method](source, rng.random((400, 3)), None, None)
        line = np.polynomial.polynomial.polyfit(source.mean(1), result, 1)
        fitted = line[0] + source.mean(1)[:, None] * line[1]
        assert np.abs(result - fitted).max() < 0.1


# Colour transfer of pictures.


@pytest.mark.parametrize("method", color.TRANSFERS)
def test_transfer_clips_and_keeps_the_shape(method, rng, picture):
    source, reference = picture(11, 7), np.float32(rng.integers(0, 2, (5, 13, 3)))
    result = color.transfer(source, reference, method)
    assert result.shape == source.shape and result.dtype == np.float32
    assert result.min() >= 0 and result.max() <= 1
    flat = color.TRANSFERS[method](source.reshape(-1, 3), reference.reshape(-1, 3), None, None)
    np.testing.assert_allclose(result.reshape(-1, 3), np.clip(flat, 0, 1), atol=1e-6)


@pytest.mark.parametrize("method", color.TRANSFERS)
def test_guides_of_ones_are_no_guides(method, picture):
    source, reference = picture(11, 7), picture(5, 13)
    ones = np.ones((11, 7), np.float32), np.ones((5, 13), np.float32)
    guided = color.transfer(source, reference, method, ones[:1], ones[1:])
    np.testing.assert_array_equal(guided, color.transfer(source, reference, method))


@pytest.mark.parametrize("method", color.TRANSFERS)
def test_each_half_takes_the_colours_of_its_partner(method, picture):
    """The source's left goes with the reference's bottom, its right with the top."""
    source, reference = picture(10, 14), picture(12, 6)
    left, bottom = np.zeros((10, 14), np.float32), np.zeros((12, 6), np.float32)
    left[:, :7] = 1
    bottom[6:] = 1
    result = color.transfer(source, reference, method, (left, 1 - left), (bottom, 1 - bottom))
    halves = (
        (result[:, :7], source[:, :7], reference[6:]),
        (
            result[:, 7:],
            source[:, 7:],
            reference[:6],
        ),
    )
    for got, own, partner in halves:
        np.testing.assert_allclose(got, color.transfer(own, partner, method), atol=1e-5)
    whole = color.transfer(source, reference, method)
    assert np.abs(result - whole).max() > 0.02


def test_constant_regions_by_hand():
    """Flat colours go to the partner's mean colour, mixed where masks overlap or fade."""
    source = np.full((1, 6, 3), 0.25, np.float32)
    reference = np.float32([[[1, 0, 0], [0, 0, 1], [0, 1, 0]]])
    guides = np.float32([[[1, 0, 0.5, 0, 0.25, 1]], [[0, 1, 0.5, 0, 0, 1]]])
    partners = np.float32([[[1, 0, 0]], [[0, 1, 0.25]]])
    result = color.transfer(source, reference, "symmetric", tuple(guides), tuple(partners))
    one, other, flat = np.array([[1, 0, 0], [0, 0.2, 0.8], [0.25] * 3])
    mean = (one + other) / 2
    expected = [one, other, mean, flat, 0.25 * one + 0.75 * flat, mean]
    np.testing.assert_allclose(result[0], expected, atol=1e-6)


@pytest.mark.parametrize("method", color.TRANSFERS)
def test_soft_masks_are_weights_and_blend(method, rng, picture):
    source, reference = picture(11, 7), picture(5, 13)
    mask, partner = np.float32(rng.random((11, 7))), np.float32(rng.random((5, 13)))
    result = color.transfer(source, reference, method, (mask,), (partner,))
    recoloured = color.TRANSFERS[method](
        source.reshape(-1, 3), reference.reshape(-1, 3), mask.ravel(), partner.ravel()
    ).reshape(source.shape)
    expected = mask[..., None] * recoloured.clip(0, 1) + (1 - mask[..., None]) * source
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("method", color.TRANSFERS)
def test_outside_all_regions_nothing_changes(method, picture):
    source, reference = picture(11, 7), 1 - picture(5, 13)
    mask = np.zeros((11, 7), np.float32)
    mask[:4] = 1
    everything = np.ones((5, 13), np.float32)
    result = color.transfer(source, reference, method, (mask,), (everything,))
    np.testing.assert_array_equal(result[4:], source[4:])
    assert np.abs(result[:4] - source[:4]).max() > 0.02
    nothing = color.transfer(source, reference, method, (0 * mask,), (everything,))
    np.testing.assert_array_equal(nothing, source)


@pytest.mark.parametrize(
    "own, theirs, message",
    [
        ([(11, 7)], [], "1 and 0 guides"),
        ([(11, 7)], [(5, 13), (5, 13)], "1 and 2 guides"),
        ([(7, 11)], [(5, 13)], r"a guide of \(7, 11\) for a picture of \(11, 7\)"),
        ([(11, 7)], [(13, 5)], r"a guide of \(13, 5\) for a picture of \(5, 13\)"),
    ],
)
def test_guides_must_fit(own, theirs, message, picture):
    own, theirs = ([np.ones(shape, np.float32) for shape in shapes] for shapes in (own, theirs))
    with pytest.raises(UserError, match=message):
        color.transfer(picture(11, 7), picture(5, 13), "pca", own, theirs)


def test_a_region_needs_colours_to_take(picture):
    own, theirs = np.ones((11, 7), np.float32), np.zeros((5, 13), np.float32)
    with pytest.raises(UserError, match="guide 1 .* all black"):
        color.transfer(picture(11, 7), picture(5, 13), "pca", [own], [theirs])
