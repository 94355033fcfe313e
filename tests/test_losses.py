"""Losses by hand, against NumPy, SciPy and Pillow in float64, and by what must hold of any loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import linalg, ndimage, special, stats
from scipy.spatial import distance

from nst_jax.losses import context, grams, hypercolumns, samples, wasserstein
from nst_jax.losses.content import CONTENT
from nst_jax.losses.context import Context
from nst_jax.losses.smoothness import SMOOTHNESS, whole
from nst_jax.losses.style import STYLE

pytestmark = pytest.mark.usefixtures("quickly_compiled")

KEY = jax.random.key(20150826)
SIDES = 6, 8  # of most features here; few shapes, few compilations
PIXELS = 192.0  # of the picture that such features are said to be of
POINTS = {
    "mmd_gaussian",
    "sliced",
    "remd",
    "nnst",
    "mrf",
}  # keep their style's activations as they are
# Those whose code is that of another, with another factor, are left out.
KINDS = [name for name in STYLE if name not in ("gram_mse", "gram_johnson", "gram_keras")]
PLACED = {
    "mrf",
    "cross_gram",
    "cross_covariance",
    "shifted_gram",
    "hypercolumns",
}  # see which activations are neighbours
DISTANCES = [name for name in CONTENT if name != "amplify"]


def activations(rng, height: int = 6, width: int = 8, channels: int = 5) -> np.ndarray:
    """Like a rectified layer's: correlated channels, many zeros; none all zero, without cosine."""
    mixed = rng.normal(size=(height, width, channels)) @ rng.normal(size=(channels, channels))
    return np.float32(np.maximum(mixed + 0.5, 0) + 0.1 * np.eye(channels)[0])


def look(name: str, features):
    """What a style loss is given of a layer's features, here with a next layer made of them."""
    fine = jnp.asarray(features)
    return fine if STYLE[name].neighbours == 1 else (fine, fine[::2, ::2, :3])


def weighed(mask) -> jax.Array:
    """A guide's weights: they sum to 1."""
    return jnp.asarray(mask / np.sum(mask), jnp.float32)


@functools.partial(jax.jit, static_argnames="name")
def described(name: str, features, weights=None):
    return STYLE[name].describe(look(name, features), Context(weights, KEY))


@functools.partial(jax.jit, static_argnames="name")
def measured(name: str, features, target, weights=None, pixels=PIXELS):
    """A style loss's value and its gradient; `target` is as `described` or `mix` left it."""
    context, finished = Context(weights, KEY, pixels), STYLE[name].finish(target)
    if (match := STYLE[name].match) is not None:
        finished = match(finished, look(name, features), context)

    def loss(x):
        return STYLE[name].distance(look(name, x), finished, context)

    return jax.value_and_grad(loss)(jnp.asarray(features))


@functools.partial(jax.jit, static_argnames="name")
def compared(name: str, features, target, weights=None):
    """A content loss's value and its gradient."""
    return jax.value_and_grad(CONTENT[name].distance)(features, target, Context(weights, KEY))


# ---- names


# ---- content


def test_content_by_hand():
    target, features = jnp.zeros((2, 1, 3)), jnp.array([[[1.0, 2.0, 0.0]], [[0.0, 0.0, 3.0]]])
    expected = {"squared": 14 / (4 * 6), "mse": 14 / 6, "half_sum": 7, "sum": 14}
    for name, value in expected.items():
        assert CONTENT[name].distance(features, target, Context()) == pytest.approx(value)
        halved = CONTENT[name].distance(features, target, Context(jnp.array([[1.0], [0.5]])))
        assert halved == pytest.approx(value * (5 + 9 / 2) / 14)


def test_amplify_by_hand():
    features, channel = jnp.array([[[1.0, 2.0], [3.0, 6.0]]]), jnp.array([0.0, 4.0])
    mean = -(2 + 6) / 2  # of the channel, whatever the length of the direction
    assert CONTENT["amplify"].distance(features, channel, Context()) == pytest.approx(mean)
    guided = CONTENT["amplify"].distance(features, channel, Context(jnp.array([[0.0, 1.0]])))
    assert guided == pytest.approx(-6 / 2)
    like = jnp.array([[[3.0, 0.0], [0.0, 4.0]]])
    expected = -(1 * 3 + 6 * 4) / (2 * 5)
    assert CONTENT["amplify"].distance(features, like, Context()) == pytest.approx(expected)


def test_amplify_is_lower_the_more_there_is(rng):
    features, target = activations(rng), activations(rng)
    once, grad = compared("amplify", features, target)
    twice, _ = compared("amplify", 2 * features, target)
    assert float(twice) == pytest.approx(2 * float(once), rel=1e-5)
    np.testing.assert_allclose(grad, -target / (48 * np.linalg.norm(target)), rtol=1e-4, atol=1e-8)


def test_self_similarity_agrees_with_numpy(rng):
    pictures = [activations(rng, channels=7) + np.float32(0.1) for _ in range(2)]
    ratios = []
    for picture in pictures:
        rows = np.float64(picture).reshape(48, 7)
        costs = distance.cdist(rows, rows, "cosine")
        ratios.append(costs / costs.sum(0))
    expected = 48 * np.abs(ratios[0] - ratios[1]).mean()
    value, _ = compared("self_similarity", *pictures)
    assert float(value) == pytest.approx(expected, rel=1e-4)


def test_self_similarity_keeps_what_is_like_what(rng):
    """Turning all activations alike changes nothing of it; moving them about does."""
    features = activations(rng, channels=7) + np.float32(0.1)
    turned = features @ np.float32(np.linalg.qr(rng.normal(size=(7, 7)))[0])
    value, _ = compared("self_similarity", 3 * turned, features)
    elsewhere, _ = compared("self_similarity", features[::-1].copy(), features)
    assert float(value) < 1e-3 * float(elsewhere)
    assert compared("mse", 3 * turned, features)[0] > 0.1


@pytest.mark.parametrize("name", DISTANCES)
def test_the_content_itself_is_a_minimum(name, rng):
    features, other = activations(rng), activations(rng)
    value, grad = compared(name, features, features)
    elsewhere, slope = compared(name, other, features)
    assert elsewhere > 0
    assert abs(value) < 1e-6 * elsewhere
    assert np.abs(grad).max() < 1e-4 * np.abs(slope).max()


@pytest.mark.parametrize("name", CONTENT)
def test_content_is_finite_where_a_picture_is_flat_or_black(name, rng):
    flat = np.broadcast_to(np.float32(50 * rng.random(5)), (*SIDES, 5))
    for features in (flat, 0 * flat):
        for target in (flat, 0 * flat, activations(rng)):
            value, grad = compared(name, features, target)
            assert np.isfinite(value)
            assert np.isfinite(grad).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_self_similarity_of_a_flat_picture_is_bounded(seed):
    """The means of |D_G / sum D_G| and |D_C / sum D_C| are 1 / n at most: together 2, after n."""
    rng = np.random.default_rng(seed)
    target = activations(rng, 2, 4, 16)
    for level in np.float32(rng.random((25, 16))):
        value, _ = compared("self_similarity", np.broadcast_to(level, (2, 4, 16)), target)
        assert 0 <= value <= 2.001


@pytest.mark.parametrize("name", CONTENT)
def test_a_content_weight_of_one_changes_nothing(name, rng):
    features, target = activations(rng), activations(rng)
    plain, slope = compared(name, features, target)
    guided, guided_slope = compared(name, features, target, jnp.ones(SIDES))
    assert float(guided) == pytest.approx(float(plain), rel=1e-5)
    np.testing.assert_allclose(guided_slope, slope, atol=1e-5 * np.abs(slope).max())


@pytest.mark.parametrize("name", CONTENT)
def test_where_the_content_weight_is_zero_content_is_free(name, rng):
    features, target = activations(rng), activations(rng)
    weights = jnp.zeros(SIDES).at[:, :4].set(1)
    value, grad = compared(name, features, target, weights)
    assert not grad[:, 4:].any()
    assert grad[:, :4].any()
    features[:, 4:] = activations(rng, 6, 4)
    assert compared(name, features, target, weights)[0] == value


# ---- style, by hand


def test_gram_by_hand():
    features = jnp.array([[[1.0, 2.0], [3.0, 0.0]]])  # two positions, two channels
    np.testing.assert_allclose(grams.gram(features, Context()), np.array([[1 + 9, 2], [2, 4]]) / 2)
    guided = grams.gram(features, Context(jnp.array([[0.25, 0.75]])))
    np.testing.assert_allclose(guided, [[0.25 + 6.75, 0.5], [0.5, 1.0]])


def test_gram_of_one_hot_channels_is_diagonal():
    features = jax.nn.one_hot(jnp.array([[0, 1, 2], [0, 0, 1]]), 3)
    np.testing.assert_allclose(grams.gram(features, Context()), np.diag([3, 2, 1]) / 6)


@pytest.mark.slow
def test_style_distances_by_hand():
    """One position of 12 pixels with the activations 2 and 0; a style of zeros."""
    features, context = jnp.array([[[2.0, 0.0]]]), Context(None, KEY, 12)
    expected = {
        "gram": 16 / (4 * 2**2),
        "gram_mse": 16 / 4,
        "gram_johnson": (4 / 2) ** 2 / 4,
        "gram_keras": 16 / (4 * 3**2 * 12**2),
        "mean_variance": 2**2 / 2,  # a single position deviates from nothing
        "mmd_linear": 2**2 / 2,
        "histogram": 2**2 / 2,
        "mrf": 2**2 / 2,
    }
    for name, value in expected.items():
        target = STYLE[name].describe(0 * features, context)
        found = STYLE[name].distance(features, target, context)
        assert float(found) == pytest.approx(value), name


@pytest.mark.slow
def test_a_shift_costs_the_squared_distance(rng):
    """Two several that differ by a shift v: |v|^2 / n_C, and with lines about that on average."""
    features, shift = activations(rng), np.float32([0.3, -0.1, 0.2, 0.5, -0.4])
    expected = (shift**2).sum() / 5
    tolerance = {"sliced": 0.3, "mmd_linear": 1e-4, "w2": 1e-2, "histogram": 1e-4}
    for name, within in tolerance.items():
        value, _ = measured(name, features + shift, described(name, features))
        assert float(value) == pytest.approx(expected, rel=within), name


# ---- style, against other programs


def rows_of(features: np.ndarray) -> np.ndarray:
    return np.float64(features).reshape(-1, features.shape[-1])


def mmd(kernel, a, s) -> float:
    """mean k(a, a') + mean k(s, s') - 2 mean k(a, s), pair by pair."""

    def mean(x, y):
        return np.mean([[kernel(p, q) for q in y] for p in x])

    return mean(a, a) + mean(s, s) - 2 * mean(a, s)


def numpy_mean_variance(a, s):
    deviations = [np.sqrt(x.var(0) + 1e-5) for x in (a, s)]
    return ((a.mean(0) - s.mean(0)) ** 2 + (deviations[0] - deviations[1]) ** 2).mean()


def numpy_polynomial(a, s):
    c = np.mean(np.square(s))
    return mmd(lambda x, y: (x @ y + c) ** 2, a, s) / (4 * a.shape[1] ** 2)


def numpy_gaussian(a, s):
    variance = np.mean([[((x - y) ** 2).sum() for y in s] for x in s])
    return mmd(lambda x, y: np.exp(-((x - y) ** 2).sum() / (2 * variance)), a, s)


def numpy_w2(a, s):
    c_a, c_s = (np.cov(x.T, bias=True) + 1e-4 * np.eye(x.shape[1]) for x in (a, s))
    root = linalg.sqrtm(c_s)
    cross = linalg.sqrtm(root @ c_a @ root).real
    squares = ((a.mean(0) - s.mean(0)) ** 2).sum()
    return (squares + np.trace(c_a + c_s - 2 * cross)) / a.shape[1]


def numpy_sliced(a, s):
    """With the directions that this key draws; Hazen's quantiles are those at (i + 1/2) / n."""
    lines = jax.random.normal(jax.random.fold_in(KEY, 1), (64, a.shape[1]))
    lines = np.float64(lines) / np.linalg.norm(np.float64(lines), axis=1, keepdims=True)
    most = max(len(a), len(s))
    levels = (np.arange(most) + 0.5) / most
    quantiles = [np.quantile(x @ lines.T, levels, axis=0, method="hazen") for x in (a, s)]
    return ((quantiles[0] - quantiles[1]) ** 2).mean()


def numpy_remd(a, s):
    costs = distance.cdist(a, s, "cosine")
    return max(costs.min(0).mean(), costs.min(1).mean())


def numpy_cmd(a, s):
    """With SciPy's moments, and with norms that are rounded at 0."""
    squashed = [special.expit(x / 57.6) for x in (a, s)]
    differences = [np.subtract(*(x.mean(0) for x in squashed))]
    for order in (2, 3, 4, 5):
        differences.append(np.subtract(*(stats.moment(x, order) for x in squashed)))
    return sum(np.sqrt((x**2).sum() + 1e-10) - 1e-5 for x in differences)


def numpy_normalized_gram(a, s):
    own, target = a.T @ a / len(a), s.T @ s / len(s)
    return ((own - target) ** 2).sum() / ((own**2).sum() + (target**2).sum())


def numpy_nearest(a, s):
    return distance.cdist(a - a.mean(0), s - s.mean(0), "cosine").min(1).mean()


NUMPY = {
    "gram_normalized": numpy_normalized_gram,
    "cmd": numpy_cmd,
    "nnst": numpy_nearest,
    "gram": lambda a, s: ((a.T @ a / len(a) - s.T @ s / len(s)) ** 2).sum() / (4 * 5**2),
    "mean_variance": numpy_mean_variance,
    "mmd_linear": lambda a, s: mmd(np.dot, a, s) / a.shape[1],
    "mmd_polynomial": numpy_polynomial,
    "mmd_gaussian": numpy_gaussian,
    "w2": numpy_w2,
    "w2_crowsonkb": numpy_w2,
    "sliced": numpy_sliced,
    "remd": numpy_remd,
}


@pytest.mark.parametrize("shape", [SIDES, (4, 7)])
@pytest.mark.parametrize("name", NUMPY)
def test_style_agrees_with_numpy(name, shape, rng):
    """Pictures of one size, and of two. No activation is all zero: it has no cosine."""
    features, target = (np.abs(rng.normal(size=(*s, 5))) for s in (SIDES, shape))
    size = 60 if name == "cmd" else 1  # where its sigmoid bends
    features, target = np.float32(size * (features + 0.2)), np.float32(size * 1.5 * target)
    value, _ = measured(name, features, described(name, target))
    expected = NUMPY[name](rows_of(features), rows_of(target))
    assert expected > 1e-3
    assert float(value) == pytest.approx(expected, rel=1e-4)


# As the papers and programs write them, with Gram matrices that are sums over n positions.
GRAMS = {
    "gram": lambda g, n, c: (g**2).sum() / (4 * c**2 * n**2),
    "gram_mse": lambda g, n, c: ((g / n) ** 2).mean(),
    "gram_johnson": lambda g, n, c: ((g / (n * c)) ** 2).mean(),
    "gram_keras": lambda g, n, c: (g**2).sum() / (4 * 3**2 * PIXELS**2),
}


@pytest.mark.parametrize("name", grams.GRAM_FACTORS)
def test_gram_factors_are_those_of_the_papers(name, rng):
    features, target = activations(rng), activations(rng)
    a, s = rows_of(features), rows_of(target)
    value, _ = measured(name, features, described(name, target))
    assert float(value) == pytest.approx(GRAMS[name](a.T @ a - s.T @ s, 48, 5), rel=1e-4)


@pytest.mark.parametrize("sides", [((8, 6), (4, 3)), ((9, 7), (4, 3)), ((5, 5), (5, 5))])
def test_cross_gram_enlarges_like_pillow(sides, rng):
    """The next layer has half as many rows and columns, rounded down, or after no pooling all."""
    (height, width), coarse_side = sides
    fine, coarse = activations(rng, height, width, 4), activations(rng, *coarse_side, 3)
    channels = [
        Image.fromarray(coarse[..., k]).resize((width, height), Image.Resampling.BILINEAR)
        for k in range(3)
    ]
    enlarged = np.stack([np.asarray(channel) for channel in channels], -1)
    expected = rows_of(fine).T @ rows_of(enlarged) / (height * width)
    pair = jnp.asarray(fine), jnp.asarray(coarse)
    found = grams.cross_gram(pair, Context())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    off = grams.cross_gram_distance(found, found + 0.5, Context())
    assert off == pytest.approx(4 * 3 * 0.25 / (4 * 4 * 3), rel=1e-4)


def test_cross_covariance_agrees_with_numpy(rng):
    """Two layers of one size, between which nothing is enlarged."""
    (fine, coarse), (other, another) = (
        (activations(rng, channels=4), activations(rng, channels=3)) for _ in range(2)
    )

    def covariance(a, b):
        return np.cov(rows_of(a).T, rows_of(b).T, bias=True)[:4, 4:]

    difference = covariance(fine, coarse) - covariance(other, another)
    own = grams.cross_moments((jnp.asarray(fine), jnp.asarray(coarse)), Context())
    target = grams.cross_moments((jnp.asarray(other), jnp.asarray(another)), Context())
    found = grams.cross_covariance_distance(own, target, Context())
    assert found == pytest.approx((difference**2).sum() / (4 * 4 * 3), rel=1e-4)


def on_a_grid(layers):
    """SciPy's hypercolumns at a quarter of the first layer's positions, from end to end."""
    rows, columns = (side // 4 for side in layers[0].shape[:2])
    found = []
    for layer in layers:
        ends = (
            np.linspace(0, layer.shape[0] - 1, rows),
            np.linspace(0, layer.shape[1] - 1, columns),
        )
        at = np.meshgrid(*ends, indexing="ij")
        found += [
            ndimage.map_coordinates(np.float64(layer[..., k]), at, order=1) / layer.shape[2]
            for k in range(layer.shape[2])
        ]
    return np.stack(found, -1).reshape(rows * columns, -1)


def two_layers(rng, height, width):
    """Activations of a layer, and of the next, which are another picture's."""
    layers = activations(rng, height, width, 4), activations(rng, height // 2, width // 2, 3)
    return tuple(map(jnp.asarray, layers))


def test_hypercolumns_agree_with_scipy(rng):
    """The photograph says which style hypercolumn a position gets, the painting how far it is."""
    painting, photograph, style = (two_layers(rng, *s) for s in ((24, 16), (24, 16), (20, 32)))
    a, c, s = (on_a_grid(layers) for layers in (painting, photograph, style))
    nearest = distance.cdist(c - c.mean(0), s - s.mean(0), "cosine").argmin(1)
    expected = np.mean([distance.cosine(x, t) for x, t in zip(a, s[nearest], strict=True)])
    loss, plain = STYLE["hypercolumns"], Context(key=KEY)
    target = hypercolumns.match(loss.describe(style, plain), photograph, plain)
    assert float(loss.distance(painting, target, plain)) == pytest.approx(expected, rel=1e-4)


def test_a_region_gets_hypercolumns_of_its_region(rng):
    """Of the style's top rows and of the painting's left columns."""
    painting, photograph, style = (two_layers(rng, *s) for s in ((24, 16), (24, 16), (20, 32)))
    top, left = np.zeros((20, 32)), np.zeros((24, 16))
    top[:8], left[:, :5] = 1, 1  # of 5 rows and 4 columns of the grid, the first two and the first
    loss, plain = STYLE["hypercolumns"], Context(key=KEY)
    described = loss.describe(style, Context(weighed(top), KEY))
    target = hypercolumns.match(described, photograph, plain)
    given = np.concatenate(target, -1).reshape(24, -1)
    candidates = on_a_grid(style)[:16]
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    assert distance.cdist(given, candidates).min(1).max() < 1e-5
    value = loss.distance(painting, target, Context(weighed(left), KEY))
    first = np.arange(24).reshape(6, 4)[:, 0]
    costs = [distance.cosine(on_a_grid(painting)[i], given[i]) for i in first]
    assert float(value) == pytest.approx(np.mean(costs), rel=1e-4)


def test_a_region_between_the_grid_gets_hypercolumns_around_it(rng):
    """One row of 20, between the second and third of the grid's, which are at 4.75 and 9.5."""
    photograph, style = two_layers(rng, 24, 16), two_layers(rng, 20, 32)
    row = np.zeros((20, 32))
    row[7] = 1
    loss = STYLE["hypercolumns"]
    described = loss.describe(style, Context(weighed(row), KEY))
    target = hypercolumns.match(described, photograph, Context(key=KEY))
    candidates = on_a_grid(style)[8:24]
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    given = np.concatenate(target, -1).reshape(24, -1)
    assert distance.cdist(given, candidates).min(1).max() < 1e-5


def test_shifted_grams_agree_with_loops(rng):
    """A picture of 5 x 3 has shifts of 1, 2 and 4 down, and of 1 and 2 to the right."""
    features, other = (np.float64(activations(rng, 5, 3)) for _ in range(2))

    def products(a, down, right):
        pairs = [
            np.outer(a[y, x], a[y + down, x + right])
            for y in range(5 - down)
            for x in range(3 - right)
        ]
        return np.mean(pairs, 0)

    shifts = [(1, 0), (2, 0), (4, 0), (0, 1), (0, 2)]
    differences = [products(features, *s) - products(other, *s) for s in shifts]
    expected = np.mean([(x**2).sum() for x in differences]) / (4 * 5**2)
    target = described("shifted_gram", np.float32(other))
    value, _ = measured("shifted_gram", np.float32(features), target)
    assert value == pytest.approx(expected, rel=1e-4)


def test_a_normalized_gram_loss_is_1_at_most_and_does_not_see_how_strong_a_style_is(rng):
    features, target = activations(rng), activations(rng)
    value, _ = measured("gram_normalized", features, described("gram_normalized", target))
    stronger, _ = measured(
        "gram_normalized", 9 * features, described("gram_normalized", 9 * target)
    )
    assert 0 < value < 1
    assert stronger == pytest.approx(float(value), rel=1e-4)
    nothing, _ = measured("gram_normalized", 0 * features, described("gram_normalized", target))
    assert nothing == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("count", [1024, 300, 57])
def test_histogram_agrees_with_a_remap_by_rank(count, rng):
    """Each channel's value of rank r becomes the style's at the same share of its values."""
    features, target = activations(rng, 32, 32), activations(rng, 1, count)
    a, s = rows_of(features), rows_of(target)
    remapped = np.empty_like(a)
    for k in range(5):
        ranks = np.argsort(np.argsort(a[:, k], kind="stable"), kind="stable")
        at = (np.arange(count) + 0.5) / count
        remapped[:, k] = np.interp((ranks + 0.5) / len(a), at, np.sort(s[:, k]))
    value, grad = measured("histogram", features, described("histogram", target))
    assert float(value) == pytest.approx(((a - remapped) ** 2).mean(), rel=1e-4)
    slope = (2 * (a - remapped) / a.size).reshape(grad.shape)
    distinct = features > 0.1  # equal values share a gradient in any order
    np.testing.assert_allclose(grad[distinct], slope[distinct], atol=1e-4 * np.abs(slope).max())


def test_histogram_of_few_positions_agrees_with_numpys_quantiles(rng):
    features, target = activations(rng), activations(rng, 4, 7)
    levels = (np.arange(1024) + 0.5) / 1024
    a, s = (np.quantile(rows_of(x), levels, 0, method="hazen") for x in (features, target))
    value, _ = measured("histogram", features, described("histogram", target))
    assert float(value) == pytest.approx(((a - s) ** 2).mean(), rel=1e-4)


def test_mrf_agrees_with_a_search_patch_by_patch(rng):
    features, target = activations(rng), activations(rng, 4, 7)

    def patches(picture):
        padded = np.pad(np.float64(picture), ((1, 1), (1, 1), (0, 0)), "edge")
        height, width, _ = picture.shape
        return [padded[y : y + 3, x : x + 3].ravel() for y in range(height) for x in range(width)]

    squares = []
    for patch in patches(features):
        cosines = [patch @ s / np.linalg.norm(s) for s in patches(target)]
        squares.append((patch - patches(target)[int(np.argmax(cosines))]) ** 2)
    value, _ = measured("mrf", features, described("mrf", target))
    assert float(value) == pytest.approx(np.mean(squares), rel=1e-4)


@pytest.mark.parametrize("name", STYLE)
def test_style_gradient_is_the_slope(name, rng):
    """Central differences along the gradient and another direction; all are smooth just there."""
    features = activations(rng) + np.float32(0.3)
    target = described(name, 2 * activations(rng))
    _, grad = measured(name, features, target)
    along = grad / np.linalg.norm(grad)
    aside = np.float32(rng.normal(size=grad.shape))
    for direction in (along, along + aside / np.linalg.norm(aside)):
        ahead, behind = (
            float(measured(name, features + d * direction, target)[0]) for d in (2e-2, -2e-2)
        )
        assert np.vdot(grad, direction) == pytest.approx((ahead - behind) / 4e-2, rel=0.01)


@pytest.mark.parametrize("steps", [12, 16])
def test_root_trace_agrees_with_scipy(steps, rng):
    """The trace of the root, and half the inverse root as its gradient."""
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    matrix = basis * np.array([0.02, 0.1, 0.5, 1, 4, 9]) @ basis.T
    root = linalg.sqrtm(matrix)

    def threefold(m):
        return 3 * wasserstein.root_trace(m, steps)

    value, grad = jax.value_and_grad(threefold)(jnp.asarray(matrix, jnp.float32))
    assert float(value) == pytest.approx(3 * np.trace(root), rel=1e-4)
    np.testing.assert_allclose(grad, 3 * np.linalg.inv(root) / 2, atol=1e-3)


# ---- style, properties


@pytest.mark.parametrize("name", STYLE)
def test_the_style_itself_is_a_minimum(name, rng):
    features, other = activations(rng), activations(rng)
    target = described(name, features)
    value, grad = measured(name, features, target)
    elsewhere, slope = measured(name, other, target)
    assert elsewhere > 0
    assert abs(value) < 1e-4 * elsewhere
    assert np.abs(grad).max() < 1e-3 * np.abs(slope).max()


@pytest.mark.parametrize(("name", "share"), [("w2", 0.02), ("w2_crowsonkb", 0.1)])
def test_w2_stays_near_zero_at_a_style_of_few_directions(name, share, rng):
    """As in networks: the covariance's eigenvalues, from 100 to 1e-8, outrange the iteration."""
    spectrum = np.logspace(1, -4, 32)
    features, other = (
        np.float32(rng.normal(size=(16, 16, 32)) * spectrum @ rng.normal(size=(32, 32)))
        for _ in range(2)
    )
    target = described(name, features)
    elsewhere, _ = measured(name, other, target)
    assert abs(measured(name, features, target)[0]) <= share * elsewhere


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_style_is_finite_where_a_picture_is_flat_or_black(name, rng):
    flat = np.broadcast_to(np.float32(50 * rng.random(5)), (*SIDES, 5))
    pictures = [flat, 0 * flat, activations(rng)]
    for features in pictures:
        for target in pictures:
            value, grad = measured(name, features, described(name, target))
            assert np.isfinite(value)
            assert np.isfinite(grad).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("level", [5.0, 500.0])
def test_a_flat_style_of_many_channels_is_a_minimum_too(name, level, rng):
    """Layers of a one-coloured picture have activations to hundreds; rounding stays rounding.

    A Gaussian kernel has no width there, and nothing pulls; its distance has no unit.
    """
    flat = np.broadcast_to(np.float32(level * rng.random(64)), (*SIDES, 64))
    other = flat + np.float32(0.1 * level * rng.random((*SIDES, 64)))
    target = described(name, flat)
    value, grad = measured(name, flat, target)
    elsewhere, slope = measured(name, other, target)
    assert elsewhere > 0
    assert abs(value) < 0.1 * elsewhere
    unit = 1 / level if name == "mmd_gaussian" else 0
    assert np.abs(grad).max() < 0.1 * max(np.abs(slope).max(), unit)
    assert np.isfinite(slope).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_style_forgets_where_things_are_or_does_not(name, rng):
    features, other = activations(rng), activations(rng)
    shuffled = rng.permutation(features.reshape(48, 5)).reshape(6, 8, 5)
    target = described(name, features)
    value, elsewhere = (float(measured(name, x, target)[0]) for x in (shuffled, other))
    if name in PLACED:
        assert value > 1e-3 * elsewhere
    else:
        assert abs(value) < 1e-4 * elsewhere
    again = float(measured(name, shuffled, described(name, other))[0])
    straight = float(measured(name, features, described(name, other))[0])
    if name in PLACED:
        assert again != pytest.approx(straight, rel=1e-4)
    else:
        assert again == pytest.approx(straight, rel=1e-4)
    assert compared("squared", shuffled, features)[0] > 0.01


@pytest.mark.parametrize("name", KINDS)
def test_a_guide_of_everything_changes_nothing(name, rng):
    features, other = activations(rng), activations(rng)
    ones = weighed(np.ones(SIDES))
    plain, slope = measured(name, features, described(name, other))
    guided, guided_slope = measured(name, features, described(name, other, ones), ones)
    assert float(guided) == pytest.approx(float(plain), rel=1e-4)
    np.testing.assert_allclose(guided_slope, slope, atol=1e-4 * np.abs(slope).max())


@pytest.mark.parametrize("name", [name for name in KINDS if name != "hypercolumns"])
def test_a_guide_of_one_half_is_that_half_alone(name, rng):
    """The columns beyond begin like the half's edge, so that patches at the edge agree too.

    Not hypercolumns, whose grid goes from end to end of the picture.
    Where quantiles are read between values there are as many in the half as quantiles.
    """
    height, half = (32, 32) if name == "histogram" else SIDES
    mask = np.zeros((height, 2 * half))
    mask[:, :half] = 1
    pictures = [activations(rng, height, 2 * half) for _ in range(2)]
    for picture in pictures:  # `look` takes every other column, so that two are the edge
        picture[:, half - 2 : half + 2] = picture[:, half - 1 : half]
    (features, own), (other, others) = ((picture, picture[:, :half]) for picture in pictures)
    weights = weighed(mask)
    guided, grad = measured(name, features, described(name, other, weights), weights, 2 * PIXELS)
    alone, slope = measured(name, own, described(name, others))
    assert float(guided) == pytest.approx(float(alone), rel=1e-4)
    inside = slice(None), slice(0, half - 3)
    np.testing.assert_allclose(grad[inside], slope[inside], atol=1e-4 * np.abs(slope).max())
    assert not grad[:, half + 3 :].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STYLE.keys() - POINTS - PLACED - {"histogram"}))
def test_a_position_of_weight_two_counts_like_two(name, rng):
    features, target = activations(rng), described(name, activations(rng))
    counts = rng.permutation(np.repeat([0, 1, 2, 3], 12))  # 72 in all
    repeated = np.repeat(features.reshape(48, 5), counts, 0).reshape(8, 9, 5)
    guided, _ = measured(name, features, target, weighed(counts.reshape(SIDES)))
    plain, _ = measured(name, repeated, target, None, PIXELS * 72 / 48)
    assert float(guided) == pytest.approx(float(plain), rel=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_a_mixture_of_one_is_that_one(name, rng):
    """A mixed set of points has as many vectors as the same one twice, with quantiles between."""
    features, one, other = activations(rng), *(described(name, activations(rng)) for _ in range(2))

    def mixed(targets, *shares):
        mixture = STYLE[name].mix(targets, [jnp.float32(share) for share in shares])
        return float(measured(name, features, mixture)[0])

    alone = float(measured(name, features, one)[0])
    assert mixed([one, other], 1, 0) == pytest.approx(mixed([one, one], 0.5, 0.5), rel=1e-4)
    assert mixed([one, other], 1, 0) == pytest.approx(alone, rel=0.05 if name == "sliced" else 1e-4)
    assert mixed([one, other], 0.5, 0.5) != pytest.approx(alone, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STYLE.keys() - PLACED - {"histogram"}))
def test_two_halves_mixed_are_the_whole(name, rng):
    """Statistics that are means, and several; the mean of two histograms is another thing."""
    features, whole = activations(rng), activations(rng)
    halves = [described(name, half) for half in np.split(whole, 2)]
    mixed = STYLE[name].mix(halves, [jnp.float32(0.5)] * 2)
    value, expected = (measured(name, features, t)[0] for t in (mixed, described(name, whole)))
    assert float(value) == pytest.approx(float(expected), rel=1e-4)


def test_mixed_histograms_are_between():
    """Mixing means quantiles are averaged: halfway between all 0 and all 1 is all 1/2."""
    black, white = (described("histogram", jnp.full((4, 4, 2), v)) for v in (0.0, 1.0))
    half = context.average([black, white], [jnp.float32(0.5)] * 2)
    np.testing.assert_allclose(half, 0.5)


# ---- drawing positions


@pytest.mark.parametrize("count", [1, 35, 1000, 1024, 4096])
def test_as_many_draws_as_equal_positions_take_each_once(count):
    for seed in range(5):
        key = jax.random.key(seed)
        for weights in (None, jnp.full(count, 1 / count)):
            drawn = samples.positions(count, weights, count, key)
            np.testing.assert_array_equal(drawn, np.arange(count))


@pytest.mark.parametrize("u", [0.0, 1 - 2**-23])
def test_the_ends_of_the_random_number_stay_in_place(u, monkeypatch):
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, u))
    for n in (7, 35, 1024, 1600):
        drawn = np.asarray(samples.positions(min(n, 1024), None, n, KEY))
        assert 0 <= drawn.min() <= drawn.max() < n
        assert (np.diff(drawn) >= 0).all()
        weights = jnp.full(n, 1 / n).at[-1].set(0)
        assert samples.positions(16, weights, n, KEY).max() < n - 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1024, 1024), (683, 1024), (256, 218), (80, 80)])
def test_few_draws_reach_all_columns(height, width, weighted):
    """One random number for all of them would draw 1 to 4 columns at sizes like these."""
    n, count = height * width, 1024
    weights = jnp.full(n, 1 / n) if weighted else None
    drawn = np.asarray(samples.positions(count, weights, n, KEY))
    columns = np.bincount(drawn % width * 16 // width, minlength=16)
    rows = np.bincount(drawn // width * 16 // height, minlength=16)
    np.testing.assert_allclose(rows, count / 16, atol=2)  # each stratum is a few rows at most
    assert columns.min() > 30  # 64 expected
    assert columns.max() < 110


@pytest.mark.parametrize("weights", [None, "drawn", "half"])
def test_positions_are_drawn_as_often_as_they_weigh(weights, rng):
    n, count = 37, 1000
    given = {"drawn": rng.random(n), "half": np.repeat([0.0, 1.0], [18, 19])}.get(weights)
    share = np.full(n, 1 / n) if given is None else given / given.sum()
    for seed in range(5):
        told = None if given is None else jnp.asarray(share, jnp.float32)
        drawn = np.asarray(samples.positions(count, told, n, jax.random.key(seed)))
        frequencies = np.bincount(drawn, minlength=n) / count
        np.testing.assert_allclose(frequencies, share, rtol=0, atol=1.001 / count)


@pytest.mark.parametrize("name", [*sorted(POINTS), "histogram"])
def test_of_many_positions_a_step_draws_its_own(name, rng):
    """Another key, another draw; about the same distance. The same key, the same number."""
    features, other = activations(rng, 80, 80) + np.float32(0.5), activations(rng, 70, 60)
    target = described(name, other)

    @jax.jit
    def value(key):
        return STYLE[name].distance(jnp.asarray(features), target, Context(None, key, PIXELS))

    values = [float(value(jax.random.key(seed))) for seed in (1, 2, 1)]
    assert values[0] == values[2] != values[1]
    assert values[0] == pytest.approx(values[1], rel=0.25)


# ---- smoothness


def test_total_variations_of_a_checkerboard():
    """6 x 8 pixels, three channels: (5 * 8 + 6 * 7) * 3 neighbours differ by 1, no diagonal."""
    board = jnp.array((np.indices((6, 8)).sum(0) % 2).astype(np.float32)[..., None].repeat(3, -1))
    assert SMOOTHNESS["squared"](whole(board)) == 2
    assert SMOOTHNESS["absolute"](whole(board)) == 82 * 3
    assert SMOOTHNESS["power"](whole(board)) == pytest.approx(5 * 7 * 3 * 2**1.25, rel=1e-5)


def test_total_variation_by_hand():
    image = jnp.array([[[0.0], [1.0]], [[0.5], [0.5]]])
    assert SMOOTHNESS["squared"](whole(image)) == pytest.approx((0.25 + 0.25) / 2 + (1 + 0) / 2)
    assert SMOOTHNESS["absolute"](whole(image)) == pytest.approx(0.5 + 0.5 + 1 + 0)
    assert SMOOTHNESS["power"](whole(image)) == pytest.approx((0.25 + 1) ** 1.25)


def neighbours(image, dy, dx):
    """Differences of pixels (dy, dx) apart, where both are in the picture."""
    height, width, channels = image.shape
    for y in range(height):
        for x in range(width):
            for k in range(channels):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    yield image[y + dy, x + dx, k] - image[y, x, k]


def looped_nine_point(image):
    """All pixels have neighbours in a picture whose edges are repeated once around."""
    height, width, channels = image.shape

    def at(y, x, k):
        return image[min(max(y, 0), height - 1), min(max(x, 0), width - 1), k]

    def mean(dy, dx, rows, columns):
        places = [(y, x, k) for y in rows for x in columns for k in range(channels)]
        return np.mean([(at(y + dy, x + dx, k) - at(y, x, k)) ** 2 for y, x, k in places])

    inside, around = (range(height), range(width)), (range(-1, height), range(-1, width))
    straight = mean(0, 1, *inside) + mean(1, 0, *inside)
    diagonal = mean(1, 1, *around) + mean(1, -1, around[0], range(width + 1))
    return 2 * (straight / 3 + diagonal / 12)


def looped_power(image):
    height, width, channels = image.shape
    return sum(
        ((image[y + 1, x, k] - image[y, x, k]) ** 2 + (image[y, x + 1, k] - image[y, x, k]) ** 2)
        ** 1.25
        for y in range(height - 1)
        for x in range(width - 1)
        for k in range(channels)
    )


LOOPED = {
    "squared": lambda image: sum(
        np.mean([d**2 for d in neighbours(image, *by)]) for by in ((1, 0), (0, 1))
    ),
    "absolute": lambda image: sum(
        abs(d) for by in ((1, 0), (0, 1)) for d in neighbours(image, *by)
    ),
    "nine_point": looped_nine_point,
    "power": looped_power,
}


@pytest.mark.parametrize("name", SMOOTHNESS)
def test_total_variation_agrees_with_loops(name, picture):
    image = picture(5, 7)
    value = SMOOTHNESS[name](whole(jnp.asarray(image)))
    assert float(value) == pytest.approx(LOOPED[name](np.float64(image)), rel=1e-5)


@pytest.mark.parametrize("name", SMOOTHNESS)
def test_total_variation_of_a_picture_of_more_numbers_than_an_int_holds(name):
    huge = jax.ShapeDtypeStruct((32768, 32768, 3), jnp.float32)
    assert jax.eval_shape(lambda x: SMOOTHNESS[name](whole(x)), huge).shape == ()


@pytest.mark.parametrize("name", SMOOTHNESS)
def test_total_variation_of_a_constant_is_zero_with_zero_gradient(name):
    value, grad = jax.value_and_grad(lambda x: SMOOTHNESS[name](whole(x)))(jnp.full((4, 5, 3), 0.3))
    assert value == 0
    assert not grad.any()


@pytest.mark.parametrize("name", SMOOTHNESS)
def test_total_variation_is_lower_where_a_step_down_its_gradient_leads(name, pixels):
    image = pixels(8, 9)
    value, grad = jax.value_and_grad(lambda x: SMOOTHNESS[name](whole(x)))(image)
    ahead = SMOOTHNESS[name](whole(image - 1e-2 * grad / jnp.linalg.norm(grad)))
    assert float(value - ahead) == pytest.approx(1e-2 * float(jnp.linalg.norm(grad)), rel=0.05)
    assert SMOOTHNESS[name](whole(image + 0.25)) == pytest.approx(float(value), rel=1e-4)
