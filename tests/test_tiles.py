"""Tiles: windows have the taps of the whole picture, and every loss its value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import network_of, problem_for

from nst_jax import config
from nst_jax.config import rules
from nst_jax.errors import UserError
from nst_jax.losses.arguments import GuideWeights, Knobs, ObjectiveStatic
from nst_jax.losses.content import CONTENT
from nst_jax.losses.objective import objective
from nst_jax.losses.style import STYLE
from nst_jax.network import architecture, tiles, tiling, windows
from nst_jax.network.receptive import receptive_field
from nst_jax.network.state import features
from nst_jax.network.vgg import PADDINGS
from nst_jax.transfer import estimate, failures

TAPS = ("relu1_1", "conv2_2", "relu3_1")
SHALLOW = ("relu2_1",)
# These differ from others by a factor only, or see two layers.
LEFT_OUT = ("mse", "half_sum", "sum", "gram_mse", "gram_johnson", "gram_normalized", "w2_crowsonkb")
LEFT_OUT += rules.PAIRED_LOSSES + rules.WHOLE_LOSSES
UNGUIDED = ("squared", "self_similarity", "gram", "gram_keras", "mean_variance", "w2", "mrf")
ROOTED = ("w2", "w2_crowsonkb")  # float32 roots, which a rounding error in activations changes more


@pytest.mark.parametrize("arch", ["vgg16", "vgg19"])
def test_a_halo_holds_what_the_deepest_position_sees(arch):
    for deepest in architecture.conv_shapes(arch):
        names = [*architecture.conv_shapes(arch)]
        layers = names[: names.index(deepest) + 1]
        stride, first, last = receptive_field(deepest, arch)
        assert windows.halo(layers) == max(-first, last - stride + 1)


@pytest.mark.slow
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("pooling", ["max", "max_ceil"])
def test_a_window_has_the_taps_of_the_whole(padding, pooling, vgg19, picture, quickly_compiled):
    """In every corner, at an edge and in the middle, of a picture with odd sides where it may."""
    height, width = (96, 80) if padding == "circular" else (91, 75)
    network = network_of(vgg19, TAPS, padding=padding, pooling=pooling)
    image = jnp.asarray(picture(height, width))
    whole = features(network, image)
    cut = tiling.tiling(network, image.shape[:2], 32)
    assert cut.counts == (4, 4)
    assert cut.merged == (2, 2)
    compute = jax.jit(lambda network, image: tiles.features_in_tiles(cut, network, image, TAPS))
    tiled = compute(network, image)
    for tap in TAPS:
        size = jnp.abs(whole[tap]).max()
        np.testing.assert_allclose(tiled[tap] / size, whole[tap] / size, atol=2e-6)


@pytest.mark.parametrize("mode", ["zero", "reflect", "edge"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 3), (4, 1)])
def test_beyond_a_small_layer_is_what_padding_has_there(mode, shape, rng):
    picture = rng.random((*shape, 2)).astype(np.float32)
    around = rng.random((shape[0] + 6, shape[1] + 6, 2)).astype(np.float32)
    around[3:-3, 3:-3] = picture
    found = windows.filled(jnp.asarray(around[None]), (-3, -3), shape, mode)[0, 2:-2, 2:-2]
    pads = (1, 1), (1, 1), (0, 0)
    expected = jnp.pad(picture, pads, mode={"zero": "constant"}.get(mode, mode))
    np.testing.assert_array_equal(found, expected)


def test_a_circular_picture_that_does_not_divide_is_whole(vgg19, picture):
    network = network_of(vgg19, TAPS, padding="circular")
    assert tiling.tiling(network, (90, 80), 32) is None
    assert tiling.tiling(network, (96, 80), 32) is not None


def at_taps(mask, taps=SHALLOW):
    """A mask at every one of the taps."""
    found = {}
    for tap in taps:
        stride = 2 ** (architecture.block(tap) - 1)
        height, width = (side // stride for side in mask.shape)
        found[tap] = jnp.asarray(mask[::stride, ::stride][:height, :width])
    return found


def halves(shape):
    """Regions, a left and a right half, with weights that sum to 1."""
    left = np.zeros(shape, np.float32)
    left[:, : shape[1] // 2] = 1
    both = {"left": at_taps(left), "right": at_taps(1 - left)}
    return jax.tree.map(lambda mask: mask / mask.sum(), both)


@pytest.mark.slow
@pytest.mark.parametrize("guided", [False, True])
def test_every_loss_is_the_same_in_tiles(guided, vgg19, picture, rng, quickly_compiled):
    """Value and gradient; one program has all losses, and the knobs choose one at a time."""
    network = network_of(vgg19, SHALLOW, pooling="average")
    shape, style_shape = (43, 51), (38, 45)
    content, image, style = (jnp.asarray(picture(*s)) for s in (shape, shape, style_shape))
    names = [name for name in (*CONTENT, *STYLE) if name not in LEFT_OUT]
    if not guided:
        names = [name for name in names if name in UNGUIDED]

    def knobs(chosen):
        content, style = (
            {name: dict.fromkeys(SHALLOW, float(name == chosen)) for name in table if name in names}
            for table in (CONTENT, STYLE)
        )
        own = {"left": 1.0, "right": 0.5} if guided else {"": 1.0}
        return Knobs(1.0, 1.0, content, style, {"squared": 0.0}, own)

    options = {}
    if guided:
        weights = at_taps(0.5 + np.float32(rng.random(shape)))
        options["guides"] = GuideWeights(weights, halves(shape))
        options["style_regions"] = (halves(style_shape),)
    whole, tiled = (
        problem_for(
            network, content, style, knobs(""), static=ObjectiveStatic(tile=tile), **options
        )
        for tile in (0, 16)
    )
    assert_close(tiled.targets, whole.targets, 1e-5)
    evaluate = jax.jit(jax.value_and_grad(objective))
    for name in names:
        expected, found = (
            evaluate(image, network, problem._replace(knobs=knobs(name)))
            for problem in (whole, tiled)
        )
        assert_close(found, expected, 2e-5 if name in ROOTED else 5e-6, name)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [*rules.PAIRED_LOSSES, "normalized"])
def test_two_layers_at_once_and_normalized_gradients(loss, vgg19, picture, quickly_compiled):
    """Sides that the layers do not divide: what is enlarged depends on where a tile lies."""
    taps, normalize_gradients = ("relu1_2", "relu2_1", "relu3_1"), loss == "normalized"
    if normalize_gradients:
        taps, loss = ("relu1_2", "relu2_1"), "gram"
    network = network_of(vgg19, taps, pooling="average")
    content, image, style = (jnp.asarray(picture(*s)) for s in ((107, 99), (107, 99), (75, 81)))
    lambdas = dict(zip(taps, (1.0, 0.3, 0.1), strict=False))
    knobs = Knobs(
        1.0, 1.0, {"squared": {taps[1]: 0.01}}, {loss: lambdas}, {"power": 1.0}, {"": 1.0}
    )
    problems = [
        problem_for(network, content, style, knobs, static=ObjectiveStatic(normalize_gradients, t))
        for t in (0, 48)
    ]
    assert_close(problems[1].targets, problems[0].targets, 2e-6)
    evaluate = jax.jit(jax.value_and_grad(objective))
    expected, found = (evaluate(image, network, problem) for problem in problems)
    assert_close(found, expected, 2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["zero", "circular"])
def test_recomputed_content_targets(padding, vgg19, picture, rng, quickly_compiled):
    """Layers of both sections; a loss that draws positions keeps its target."""
    taps = ("relu1_2", "relu2_1", "relu4_1")
    shape = (64, 48) if padding == "circular" else (59, 45)
    network = network_of(vgg19, taps, pooling="average", padding=padding)
    content, image, style = (jnp.asarray(picture(*s)) for s in (shape, shape, (43, 38)))
    losses = {"squared": {"relu2_1": 1.0, "relu4_1": 3.0}, "self_similarity": {"relu1_2": 0.1}}
    knobs = Knobs(1.0, 1e-9, losses, {"gram": {"relu1_2": 1.0}}, {}, {"": 1.0})
    weights = at_taps(0.5 + np.float32(rng.random(shape)), losses["squared"])
    evaluate = jax.jit(jax.value_and_grad(objective))
    whole, kept, anew = (
        problem_for(
            network, content, style, knobs, guides=GuideWeights(weights, {"": {}}), static=static
        )
        for static in (
            ObjectiveStatic(recomputes=True),
            ObjectiveStatic(tile=32),
            ObjectiveStatic(tile=32, recomputes=True),
        )
    )
    assert anew.targets.content["squared"] == dict.fromkeys(losses["squared"])
    assert anew.targets.content["self_similarity"]["relu1_2"] is not None
    assert not whole.targets.inputs
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(one.targets)) for one in (anew, kept)]
    assert sizes[0] < sizes[1]
    expected = evaluate(image, network, whole)
    assert expected[0] > 1
    assert_close(evaluate(image, network, anew), expected, 2e-6)


def assert_close(one, other, tolerance, name=""):
    """Within a share of the largest element of each array."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        size = np.abs(b).max() + 1e-9
        np.testing.assert_allclose(a / size, b / size, rtol=0, atol=tolerance, err_msg=name)


def test_tiles_are_the_largest_that_fit(monkeypatch):
    c = config.default()
    c.content = c.style = "a.jpg"
    experiment, shape = config.parse(c), (4096, 4096)
    whole, large, small = (estimate.memory(experiment, shape, tile) for tile in (0, 2048, 512))
    assert whole > 3 * large > 3 * small
    for least, tile in ((whole, 0), (large, 2048), (small, 512), (1, 256)):
        monkeypatch.setattr(estimate, "device_bytes", lambda least=least: int(least / 0.69))
        assert estimate.tile(experiment, shape) == tile
    monkeypatch.setattr(estimate, "device_bytes", lambda: int(large / 0.69))
    assert not estimate.recomputes_content(experiment, shape, 2048)
    c.content_layers = "relu2_2"
    low = config.parse(c)
    assert estimate.tile(low, shape) < 2048
    assert not estimate.recomputes_content(low, shape, estimate.tile(low, shape))
    monkeypatch.setattr(estimate, "device_bytes", lambda: int(small / 0.71))
    kept, anew = (estimate.memory(low, shape, 256, recomputes=one) for one in (False, True))
    assert kept - anew == 4 * (128 // 4 - 3) * 4096**2
    assert estimate.recomputes_content(low, shape, estimate.tile(low, shape))
    assert not estimate.recomputes_content(low, shape, 256, available=kept / 0.69)  # elsewhere
    monkeypatch.setattr(estimate, "device_bytes", lambda: 1)
    c.normalize_gradients, c.style_losses = True, "cross_gram"
    assert estimate.tile(config.parse(c), shape) == 0
    with pytest.raises(UserError, match="takes about .* GB of memory, and the device has"):
        failures.check_memory(experiment, shape)
    c = config.default()
    c.content = c.style = "a.jpg"
    c.style_losses, c.style_layers = "shifted_gram", "relu3_1"
    assert "rematerialize=True" in str(failures.out_of_memory(config.parse(c)))


def test_the_estimate_counts_what_is_never_in_tiles():
    """XLA takes 13.4 GB to describe 4096x4096 pixels of a style, and 17.2 GB for metrics."""
    c = config.default()
    c.content = c.style = "a.jpg"
    c.image_size = 1024
    small = estimate.memory(config.parse(c), (1024, 1024), 0)
    c.style_scale = 4.0
    large = estimate.memory(config.parse(c), (1024, 1024), 0)
    assert small < 4e9
    assert large == pytest.approx(13.4e9, rel=0.05)
    c.style_scale, c.image_size, c.tile = 1.0, 4096, 512
    tiled = estimate.work(config.parse(c), (3072, 4096)).bytes
    c.metrics = True
    measured = config.parse(c)
    assert tiled < 8e9 < estimate.work(measured, (3072, 4096)).bytes < 17.5e9


def test_metrics_too_large_for_the_device_are_said_before_the_first_step(monkeypatch):
    c = config.default()
    c.content = c.style = "a.jpg"
    c.image_size, c.tile, c.metrics = 4096, 512, True
    monkeypatch.setattr(estimate, "device_bytes", lambda: 9_000_000_000)
    with pytest.raises(UserError, match="leave config.metrics out"):
        failures.check_memory(config.parse(c), (3072, 4096))


def test_out_of_memory_names_a_smaller_tile_than_there_is(monkeypatch):
    c = config.default()
    c.content = c.style = "a.jpg"
    c.image_size = 8192
    monkeypatch.setattr(estimate, "device_bytes", lambda: 1)  # 256 is chosen
    for tile, smaller in ((0, 512), (1024, 512), (512, 256), (256, 0), (-1, 0)):
        c.tile = tile
        advice = str(failures.out_of_memory(config.parse(c)))
        assert f"--config.tile={smaller}," in advice if smaller else "tile" not in advice


def test_the_estimate_counts_what_losses_keep_of_styles():
    c = config.default()
    c.content = c.style = "a.jpg"
    c.style_layers = "relu3_1"
    shape = (1024, 512)

    def gigabytes(**keys):
        return estimate.memory(config.with_values(c, keys), shape, 256) / 1e9

    gram, positions = gigabytes(), 256 / 16 * 1024 * 512 * 4 / 1e9
    assert gigabytes(style_losses="sliced") - gram == pytest.approx(positions, rel=1e-3)
    assert gigabytes(style_losses="mrf") - gram == pytest.approx(9 * positions, rel=1e-3)
    twice = gigabytes(style_losses="sliced", style_scale=2.0)
    assert twice - gram == pytest.approx(4 * positions, rel=1e-3)
    whole_layers = gigabytes(style_losses="w2", style_scale=20.0)
    assert whole_layers == pytest.approx(400 * positions, rel=1e-3)


def test_the_estimate_of_a_circular_picture_that_does_not_divide_is_of_the_whole():
    c = config.default()
    c.content = c.style = "a.jpg"
    c.padding, c.tile = "circular", 512
    assert estimate.tile(config.parse(c), (1024, 1024)) == 512
    assert estimate.tile(config.parse(c), (1024, 1025)) == 0


def test_content_is_not_recomputed_where_that_takes_more():
    c = config.default()
    c.content = c.style = "a.jpg"
    c.content_layers, c.rematerialize = "relu5_1", True
    experiment, shape = config.parse(c), (4096, 4096)
    room = estimate.memory(experiment, shape, 512) / 0.69
    assert estimate.tile(experiment, shape, room) == 512
    assert not estimate.recomputes_content(experiment, shape, 512)


def test_recomputed_content_targets_leave_room_for_larger_tiles():
    c = config.default()
    c.content = c.style = "a.jpg"
    kept, shape = config.parse(c), (4096, 4096)
    c.rematerialize = True
    anew = config.parse(c)
    room = estimate.memory(anew, shape, 512, recomputes=True) / 0.69
    assert estimate.tile(anew, shape, room) == 512
    assert estimate.tile(kept, shape, room) == 256
