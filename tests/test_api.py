import contextlib
import dataclasses
import io
import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import painted, prepared
from PIL import Image

import nst_jax
from nst_jax import config, errors
from nst_jax.errors import UserError
from nst_jax.network import weights
from nst_jax.optimize import loop, step
from nst_jax.pictures import arrays, images
from nst_jax.transfer import api, cache
from nst_jax.transfer.starts import start_image

pytestmark = pytest.mark.usefixtures("quickly_compiled")

FAST = {
    "image_size": 32,
    "steps": 3,
    "content_layers": "relu2_2",
    "style_layers": "relu1_1, relu2_1",
    "log_every": 1,
    "save_every": 0,
}
MEAN = np.float32([0.5, 0.4, 0.3])


@pytest.fixture
def pair(tmp_path, picture):
    """A content and a style picture on disk, of different shapes."""
    for name, (height, width) in {"content": (40, 64), "style": (50, 30)}.items():
        images.write(tmp_path / f"{name}.png", picture(height, width))
    return tmp_path / "content.png", tmp_path / "style.png"


@pytest.mark.slow
def test_stylize_takes_paths(pair):
    painting = nst_jax.stylize(*pair, **FAST)
    assert painting.shape == (20, 32, 3)
    assert painting.dtype == np.float32
    assert 0 <= painting.min() < painting.max() <= 1
    assert painting.flags.writeable


@pytest.mark.slow
def test_arrays_and_paths_give_the_same_painting(pair):
    content, style = (np.uint8(np.rint(images.read(path) * 255)) for path in pair)
    from_paths = nst_jax.stylize(*pair, **FAST)
    np.testing.assert_array_equal(nst_jax.stylize(content, style, **FAST), from_paths)
    floats = nst_jax.stylize(np.float32(content) / 255, str(pair[1]), **FAST)
    np.testing.assert_array_equal(floats, from_paths)


def test_same_seed_same_bytes_other_seed_other_picture(pair):
    options = FAST | {"init": {"noise": 0.5}}
    first, again = (nst_jax.stylize(*pair, seed=1, **options) for _ in range(2))
    other = nst_jax.stylize(*pair, seed=2, **options)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.05


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_every_optimiser_and_pooling_lowers_the_loss(pair, vgg19, name, pooling):
    c = config.default()
    c.content, c.style = map(str, pair)
    c.update(FAST | {"pooling": pooling, "optimizer": {"name": name}, "steps": 4})
    first, *_, last = painted(*prepared(c), vgg19)
    assert (first.step, last.step) == (0, 4)
    assert last.terms["total"] < 0.8 * first.terms["total"]


@pytest.mark.slow
def test_texture_and_reconstruction_leave_a_picture_out(pair):
    content, style = pair
    noise = {"init": {"noise": 1.0}}
    assert nst_jax.stylize(None, style, **FAST | noise).shape == (32, 19, 3)
    assert nst_jax.stylize(content, None, **FAST | noise).shape == (20, 32, 3)


@pytest.mark.slow
def test_a_second_painting_compiles_nothing(pair, compilations):
    nst_jax.stylize(*pair, **FAST)
    compilations.clear()
    nst_jax.stylize(*pair, **FAST | {"alpha": 3.0, "beta": 0.5, "tv_weight": 7.0, "steps": 5})
    nst_jax.stylize(*pair, **FAST | {"style_layers": "relu1_1:5, relu2_1:0"})
    assert not compilations


@pytest.mark.slow
def test_programs_are_forgotten_before_linux_runs_out_of_maps(pair, compilations):
    """Those of a single painting fill more than a thousandth; elsewhere there is no limit."""
    nst_jax.stylize(*pair, **FAST)
    count = len(compilations)
    cache.drop_programs_if_crowded()
    nst_jax.stylize(*pair, **FAST)
    assert len(compilations) == count
    cache.drop_programs_if_crowded(0.001)
    nst_jax.stylize(*pair, **FAST)
    assert (len(compilations) > count) == (sys.platform == "linux")


def test_starts(pair, picture, tmp_path):
    c = config.default()
    c.content, c.style = map(str, pair)
    c.image_size = 32
    content, style = (images.read(path, 32) for path in pair)
    images.write(tmp_path / "third.png", picture(64, 64))
    third = images.read(tmp_path / "third.png")
    for name, expected in {
        "content": content,
        "style": images.resize(style, (20, 32)),
        str(tmp_path / "third.png"): images.resize(third, (20, 32)),
    }.items():
        c.init.picture = name
        experiment, pictures = prepared(c)
        start = start_image(experiment.inputs.start, 0, pictures, MEAN)
        np.testing.assert_array_equal(start, expected)


def start_of(picture, /, **init):
    """Where a run from an array starts, with keys of `init`."""
    c = config.default()
    c.image_size = max(picture.shape)
    c.init.update(init)
    experiment, pictures = prepared(c, picture)
    return np.asarray(start_image(experiment.inputs.start, 0, pictures, MEAN))


def test_noise_is_blended_in_by_its_share():
    picture = np.full((40, 45, 3), 0.5, np.float32)
    np.testing.assert_array_equal(start_of(picture), picture)
    noise = start_of(picture, noise=1.0)
    assert 0 <= noise.min() < 0.01 < 0.99 < noise.max() <= 1
    assert noise.mean() == pytest.approx(1 / 2, abs=0.02)
    assert noise.std() == pytest.approx(12**-0.5, abs=0.01)  # of a uniform distribution
    half = start_of(picture, noise=0.5)
    np.testing.assert_allclose(half, (picture + noise) / 2, atol=1e-6)


def test_normal_noise_is_added_and_cut_off():
    """4.6 % of a normal distribution are more than two deviations from its mean."""
    picture = np.full((40, 45, 3), 0.5, np.float32)
    picture[0] = 1
    noisy = start_of(picture, noise=0.25, noise_kind="normal")
    assert 0 == noisy.min() < noisy.max() == 1
    assert ((noisy[1:] == 0) | (noisy[1:] == 1)).mean() == pytest.approx(0.0455, abs=0.01)
    assert (noisy[0] == 1).mean() == pytest.approx(0.5, abs=0.15)
    little = start_of(picture, noise=0.05, noise_kind="normal")
    assert (little - picture)[1:].mean() == pytest.approx(0, abs=0.003)
    assert (little - picture)[1:].std() == pytest.approx(0.05, abs=0.002)


def test_noise_near_the_mean_colour():
    """20 levels of 255 on both sides of `start_of`'s mean."""
    picture = np.ones((40, 45, 3), np.float32)
    noise = start_of(picture, noise=1.0, noise_kind="near_mean") - MEAN
    assert np.abs(noise).max() == pytest.approx(20 / 255, rel=0.01)
    assert noise.mean() == pytest.approx(0, abs=0.002)
    mixed = start_of(picture, noise=0.6, noise_kind="near_mean")
    np.testing.assert_allclose(mixed, 0.4 * picture + 0.6 * (MEAN + noise), atol=1e-6)


def test_starts_that_are_made_of_numbers(picture):
    """Gray, the network's mean, and noise with the statistics of both style pictures' pixels."""
    c = config.default()
    c.image_size, c.init.picture = 64, "style_statistics"
    styles = [0.4 + 0.1 * picture(50, 64), 0.3 + 0.2 * picture(64, 20)]
    experiment, pictures = prepared(c, picture(60, 64), styles)
    start = np.asarray(start_image(experiment.inputs.start, 0, pictures, MEAN))
    pixels = np.concatenate([style.reshape(-1, 3) for style in pictures.styles])
    assert start.shape == (60, 64, 3)
    np.testing.assert_allclose(start.mean((0, 1)), pixels.mean(0), atol=0.005)
    np.testing.assert_allclose(start.std((0, 1)), pixels.std(0), rtol=0.05)
    neighbours = np.corrcoef(start[:, 1:].ravel(), start[:, :-1].ravel())[0, 1]
    assert neighbours < 0.3  # noise: what is left comes from the channels' means
    for name, expected in (("gray", 0.5), ("mean", MEAN)):
        start = start_of(picture(8, 9), picture=name)
        np.testing.assert_array_equal(start, np.broadcast_to(expected, (8, 9, 3)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"betta": 1.0}, "Did you mean beta"),
        ({"steps": 2.5}, "steps"),
        ({"steps": 0}, "config.steps is 0"),
        ({"optimizer": {"nam": "adam"}}, "nam"),
        ({"weights": "none.h5"}, "no file none.h5"),
        ({"style_layers": "relu5_1", "image_size": 24}, "16 or more"),
    ],
)
def test_mistakes_are_one_line(pair, overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        nst_jax.stylize(*pair, **FAST | overrides)
    assert "\n" not in str(caught.value)


def test_a_tiny_picture_is_refused_with_the_smallest_size(tmp_path, pair):
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    with pytest.raises(UserError, match=r"dot.png is 1x1 pixels.*16 or more"):
        nst_jax.stylize(tmp_path / "dot.png", pair[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "carried"),
    [("float32", "HIGHEST"), ("tensorfloat32", "HIGH"), ("bfloat16", "DEFAULT")],
)
def test_precision_is_in_the_compiled_program(pair, vgg19, name, carried):
    """On CPU all precisions compute in float32; the program still carries the one asked for."""
    c = config.default()
    c.content, c.style = map(str, pair)
    c.update(FAST | {"precision": name})
    seen = {}
    chunk = loop.chunk

    def spy(*args, **kwargs):
        seen["program"] = chunk.lower(*args, **kwargs).as_text()
        return chunk(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "chunk", spy)
        list(painted(*prepared(c), vgg19))
    for kind, least in (("convolution", 5), ("dot_general", 5)):  # some are Winograd's products
        lines = [line for line in seen["program"].splitlines() if f"stablehlo.{kind}" in line]
        assert len(lines) > least
        assert all(carried in line for line in lines), lines[0]


def test_other_weights_by_their_path(pair, tmp_path, vgg19):
    kernel, bias = vgg19.layers["conv1_1"]
    other = dataclasses.replace(vgg19, layers=vgg19.layers | {"conv1_1": (-kernel, bias)})
    digest = weights.digest(other.layers, other.mean, other.scale)
    weights.save(dataclasses.replace(other, sha256=digest), tmp_path / "mine.h5")
    painting = nst_jax.stylize(*pair, weights=str(tmp_path / "mine.h5"), **FAST)
    assert np.abs(painting - nst_jax.stylize(*pair, **FAST)).max() > 0.01


@pytest.fixture
def two_styles(pair, tmp_path, picture):
    """The pair, and another style picture."""
    images.write(tmp_path / "other.png", picture(40, 40))
    return *pair, tmp_path / "other.png"


@pytest.mark.slow
@pytest.mark.parametrize(("blend", "name"), [("targets", "lbfgs"), ("losses", "adam")])
def test_interpolation_ends_at_the_single_styles(two_styles, blend, name):
    content, first, second = two_styles
    options = FAST | {"blend": blend, "optimizer": {"name": name}}
    options["steps"] = 5 if name == "lbfgs" else 2  # whose first step only looks
    between = nst_jax.stylize(content, [first, second], interpolate=3, **options)
    assert between.shape == (3, 20, 32, 3)
    ends = [nst_jax.stylize(content, style, **options) for style in (first, second)]
    half = nst_jax.stylize(content, [first, second], **options)
    for ours, expected in zip(between, (ends[0], half, ends[1]), strict=True):
        np.testing.assert_allclose(ours, expected, atol=2e-2 if name == "lbfgs" else 2e-3)
    assert np.abs(ends[0] - ends[1]).max() > 0.02


@pytest.mark.slow
def test_the_weights_of_several_styles_are_shares(two_styles):
    content, first, second = two_styles
    alone = nst_jax.stylize(content, first, **FAST)
    for blend in ("targets", "losses"):
        weighted = nst_jax.stylize(content, [f"{first}:3", f"{second}:0"], blend=blend, **FAST)
        np.testing.assert_allclose(weighted, alone, atol=2e-3)
    twice = nst_jax.stylize(content, [f"{first}:1", f"{second}:1"], **FAST)
    again = nst_jax.stylize(content, [f"{first}:7", f"{second}:7"], **FAST)
    np.testing.assert_array_equal(twice, again)
    assert np.abs(twice - alone).max() > 0.01


@pytest.mark.slow
def test_three_styles_of_which_the_last_is_beside_the_path(two_styles, picture):
    content, first, second = two_styles
    options = FAST | {"interpolate": 2}
    three = nst_jax.stylize(content, [first, second, picture(30, 40)], **options)
    np.testing.assert_allclose(
        three, nst_jax.stylize(content, [first, second], **options), atol=2e-3
    )


def test_a_region_too_small_for_a_layer_is_one_line(pair, vgg19, tmp_path):
    mask = np.zeros((20, 32, 3), np.float32)
    mask[8:12, 8:12] = 1
    images.write(tmp_path / "dot.png", mask)
    guides = {"content": f"dot={tmp_path}/dot.png", "style": "dot=", "propagation": "inside"}
    message = r"^region 'dot' is too small for relu2_1 at 32x20 pixels: no .*simple$"
    with pytest.raises(UserError, match=message):
        nst_jax.stylize(*pair, guides=guides, **FAST)
    guides["propagation"] = "simple"
    assert np.isfinite(nst_jax.stylize(*pair, guides=guides, **FAST)).all()


@pytest.mark.slow
def test_odd_sides_that_are_rounded_up_have_regions(pair, picture, tmp_path):
    """The shorter side is 21 pixels, so relu2_1 has 11 rows and the masks must have them."""
    images.write(tmp_path / "half.png", picture(40, 64))
    guides = {"content": f"half={tmp_path}/half.png", "style": "half="}
    options = FAST | {"image_size": 21, "side": "short", "pooling": "max_ceil"}
    guides["content_weight"] = f"{tmp_path}/half.png"
    painting = nst_jax.stylize(*pair, guides=guides, **options)
    assert painting.shape == (21, 34, 3)
    assert np.isfinite(painting).all()


def test_two_styles_in_one_string_are_those_of_a_list(two_styles):
    content, first, second = two_styles
    listed = nst_jax.stylize(content, [f"{first}:3", f"{second}:1"], **FAST)
    in_one = nst_jax.stylize(content, f"{first}:3, {second}:1", **FAST)
    np.testing.assert_array_equal(in_one, listed)


@pytest.mark.slow
@pytest.mark.parametrize("size", [{"style_scale": 0.5}, {"style_scale": 2.0}, {"style_size": 48}])
def test_a_texture_has_the_outputs_size_whatever_the_styles(pair, size):
    options = FAST | size | {"init": {"noise": 1.0}}
    height, width, _ = nst_jax.stylize(None, pair[1], **options).shape
    assert (height, width) in ((32, 19), (32, 20))  # the shrunken style's aspect, rounded


@pytest.mark.slow
def test_a_region_whose_styles_have_no_share_is_no_nan(two_styles, picture):
    """It may be painted, or refused in one line."""
    content, first, second = two_styles
    styles = [f"{first}:0", f"{second}:0", picture(30, 40)]
    guides = {"content": "sky=, ground=", "style": "sky=; sky=; ground="}
    with contextlib.suppress(UserError):
        assert np.isfinite(nst_jax.stylize(content, styles, guides=guides, **FAST)).all()


def as_given(picture, kind):
    """A float32 picture [h, w, 3] as another kind of input, and what it must become."""
    eight = np.uint8(np.rint(picture * 255))
    return {
        "float32": (picture, picture),
        "float64": (picture.astype(np.float64), picture),
        "float16": (picture.astype(np.float16), picture.astype(np.float16).astype(np.float32)),
        "uint8": (eight, eight),
        "jax": (jnp.asarray(picture), picture),
        "jax uint8": (jnp.asarray(eight), eight),
        "bfloat16": (
            jnp.asarray(picture, jnp.bfloat16),
            np.asarray(jnp.asarray(picture, jnp.bfloat16).astype(jnp.float32)),
        ),
        "gray": (picture[..., 0], picture[..., :1].repeat(3, -1)),
        "gray with an axis": (picture[..., :1], picture[..., :1].repeat(3, -1)),
        "PIL": (Image.fromarray(eight), eight),
        "PIL gray": (Image.fromarray(eight[..., 0]), eight[..., :1].repeat(3, -1)),
        "opaque": (np.dstack([picture, np.ones_like(picture[..., 0])]), picture),
        "transparent": (np.dstack([picture, 0 * picture[..., 0]]), np.ones_like(picture)),
        "transparent PIL": (Image.new("RGBA", (5, 7)), np.full((7, 5, 3), 255, np.uint8)),
    }[kind]


KINDS = ["float32", "float64", "float16", "uint8", "jax", "jax uint8", "bfloat16", "gray"]
KINDS += ["gray with an axis", "PIL", "PIL gray", "opaque", "transparent", "transparent PIL"]


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_kind(kind, picture):
    given, expected = as_given(picture(7, 5), kind)
    source = api.as_source(given, "the picture")
    assert source.array.dtype == expected.dtype
    np.testing.assert_array_equal(source.array, expected)


@pytest.mark.parametrize(
    "given",
    [
        3,
        3.5,
        [[1, 2], [3]],
        [[["a"]]],
        [[300, 2]],
        {"a": 1},
        object(),
        np.full((4, 4, 3), 256, np.int32),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((3, 9, 9), np.float32),
        np.zeros((4, 4, 3), complex),
        np.zeros((4, 4, 2), np.float32),
        np.zeros((4, 4, 3, 1), np.float32),
        np.zeros((0, 4, 3), np.float32),
        np.zeros(3, np.float32),
        np.array(["a"]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_anything_else_is_a_type_error_of_one_line(given):
    with pytest.raises(TypeError, match="^the content picture ") as caught:
        api.as_source(given, "the content picture")
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_arrays_paths_and_weights_in_any_mixture(two_styles):
    """Of several styles by name, as paths, as arrays, as PIL images; weighed in pairs or names."""
    content, first, second = two_styles
    named = nst_jax.stylize(str(content), [f"{first}:3", str(second)], **FAST)
    mixed = nst_jax.stylize(
        Image.open(content), [(images.read(first), 3), (Image.open(second), 1.0)], **FAST
    )
    np.testing.assert_array_equal(mixed, named)
    paired = nst_jax.stylize(jnp.asarray(images.read(content)), [(first, 3), second], **FAST)
    np.testing.assert_array_equal(paired, named)


def test_a_picture_outside_the_range_is_named(picture):
    with pytest.raises(UserError, match=r"^the style picture has values outside \[0, 1\]$"):
        nst_jax.stylize(None, 2 * picture(20, 20), **FAST | {"init": {"noise": 1.0}})


def test_nothing_of_the_callers_is_cleared(pair):
    """Neither its compiled programs nor its signal handlers nor its environment."""
    mine = jax.jit(lambda x: x + 1)
    mine(jnp.zeros(3))
    before = mine._cache_size(), signal.getsignal(signal.SIGINT), dict(os.environ)
    nst_jax.stylize(*pair, **FAST)
    nst_jax.clear_cache()
    assert (mine._cache_size(), signal.getsignal(signal.SIGINT), dict(os.environ)) == before


@pytest.mark.slow
def test_what_is_kept_is_bounded_and_can_be_cleared(pair, picture):
    for side in range(20, 30):
        cache.SHARED.get("picture", side, lambda: picture(2, 2))
    kept = cache.SHARED._kept["picture"]
    assert len(kept) == cache.CAPACITIES["picture"]
    assert list(kept)[-1] == 29
    made = []
    cache.SHARED.get("picture", 29, lambda: made.append(1))
    assert not made
    nst_jax.clear_cache()
    assert not kept
    assert nst_jax.stylize(*pair, **FAST).shape == (20, 32, 3)


# ---- what callers hand over


class Tensor:
    """A tensor of another library: nothing but the protocol that all share."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_tensors_lists_bytes_and_open_files(picture, tmp_path):
    floats = picture(6, 5)
    levels = images.quantized(floats, 8)
    images.write(tmp_path / "p.png", floats)
    content = (tmp_path / "p.png").read_bytes()
    for given in (
        levels.tolist(),
        levels.astype(np.int64),
        content,
        bytearray(content),
        io.BytesIO(content),
        Tensor(levels),
    ):
        np.testing.assert_array_equal(arrays.as_array(given, "it"), levels)
    np.testing.assert_allclose(arrays.as_array(floats.tolist(), "it"), floats)
    gray = (np.arange(30).reshape(5, 6) / 30).tolist()
    assert arrays.as_array(gray, "it").shape == (5, 6, 3)
    deep = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))
    np.testing.assert_allclose(arrays.as_array(deep, "it"), 0x8000 / 65535)
    with pytest.raises(UserError, match="^it is no picture of a known format$"):
        arrays.as_array(b"no picture", "it")
    with pytest.raises(TypeError, match="move its channels to the end"):
        arrays.as_array(np.zeros((3, 20, 20)), "it")


def test_a_tensor_that_cannot_leave_its_device_says_why():
    class OnDevice:
        def __array__(self, *_, **__):
            raise RuntimeError("call .cpu() first\nand more")

    with pytest.raises(TypeError, match=r"it cannot become a NumPy array: call .cpu\(\) first$"):
        arrays.as_array(OnDevice(), "it")


def experiment_of(**settings):
    return api.experiment_of("c.png", "s.png", settings)


def test_settings_by_full_names_by_groups_and_by_a_groups_first_key():
    for settings in (
        {"optimizer": {"name": "lbfgs"}},
        {"optimizer.name": "lbfgs"},
        {"optimizer": "lbfgs"},
    ):
        assert experiment_of(**settings).optimizer.static.name == "lbfgs"
    assert experiment_of(color="luminance").inputs.color.mode == "luminance"
    assert experiment_of(init="gray").inputs.start.kind == "gray"


def test_numbers_of_numpy_paths_and_tables_as_settings(tmp_path):
    e = experiment_of(
        steps=np.int64(7), alpha=np.float32(0.5), beta=jnp.asarray(2), seed=np.uint8(3)
    )
    assert (e.steps, e.objective.alpha, e.objective.beta, e.seed) == (7, 0.5, 2.0, 3)
    named = tmp_path / "a, b.png"
    e = experiment_of(
        init={"picture": named},
        normalize_network=named,
        guides={"content": {"sky": named, "ground": ""}, "style": {"sky": named, "ground": ""}},
        style_layers={"relu1_1": 2, "relu2_1": 0.5},
        content_layers=["relu2_1", "relu3_1"],
    )
    assert e.inputs.start.file == str(named)
    assert e.network.normalize == (str(named),)
    assert [(one.name, one.mask) for one in e.inputs.guides.content] == [
        ("sky", str(named)),
        ("ground", ""),
    ]
    assert e.objective.style[0].layers == {"relu1_1": 2.0, "relu2_1": 0.5}
    assert e.objective.content[0].layers == {"relu2_1": 1.0, "relu3_1": 1.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": "a.png"}, "config.output is for the commands; nst_jax.save writes"),
        ({"metrics": True}, "config.metrics is for the commands"),
        ({"optimizer": 3}, "config.optimizer.name is 3; it must be of type str"),
        ({"optimizer": "adamw"}, "config.optimizer.name is 'adamw'; it must be adam or"),
        (
            {"optimizer.nam": "adam"},
            "config.optimizer.nam is not a key. Did you mean optimizer.name",
        ),
        ({"steps": np.zeros((2000, 2000))}, "config.steps is array"),
        ({"style_layers": np.zeros((2000, 2000))}, "config.style_layers is array"),
        ({"content_losses": "x" * 5000}, "x ... x"),
        ({"alpha": float("nan")}, "config.alpha is nan"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_settings_that_cannot_be_used_are_one_short_line(settings, message):
    with pytest.raises(UserError) as caught:
        experiment_of(**settings)
    assert message in str(caught.value)
    assert len(str(caught.value)) <= errors.MAX_LETTERS
    assert "\n" not in str(caught.value)


def test_an_empty_list_of_styles_is_a_mistake_and_a_list_of_numbers_a_picture(picture):
    with pytest.raises(UserError, match="the list of style pictures is empty"):
        api.experiment_of("c.png", [], {})
    (style,) = api.experiment_of("c.png", picture(20, 20).tolist(), {}).inputs.styles
    assert style.picture.array.shape == (20, 20, 3)


def test_an_experiment_as_large_as_its_picture(pair):
    content, style = map(str, pair)
    assert api.experiment_of(content, style, {"image_size": 0}).size == 64
    assert api.experiment_of(np.zeros((30, 41, 3)), style, {"image_size": 0}).size == 41
    assert api.experiment_of(None, style, {"image_size": 0, "init": {"noise": 1}}).size == 50
    with pytest.raises(UserError, match="no picture none"):
        api.experiment_of("none.png", style, {"image_size": 0})


# ---- on the way


def test_a_callback_sees_every_stage_and_may_end_it(pair):
    seen = []
    painting = nst_jax.stylize(*pair, callback=lambda stage: seen.append(stage), **FAST)
    assert [(stage.step, stage.steps) for stage in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert seen[-1].terms["total"] < seen[0].terms["total"]
    np.testing.assert_array_equal(seen[-1].painting, painting)
    early = nst_jax.stylize(*pair, callback=lambda stage: stage.step == 1, **FAST)
    np.testing.assert_array_equal(early, seen[1].painting)
    stages = list(nst_jax.paint_steps(*pair, **FAST))
    for one, other in zip(stages, seen, strict=True):
        np.testing.assert_array_equal(one.painting, other.painting)
        assert one.terms == other.terms


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_weights_change_on_the_way_and_nothing_recompiles(optimizer, pair, monkeypatch):
    """From the third step on it minimises what it would have from the start."""
    monkeypatch.setattr(loop, "MAX_DISPATCH_SECONDS", 0.0)
    settings = FAST | {"steps": 12, "optimizer": optimizer, "beta": 0.0}
    seen, programs = [], []

    def change(stage):
        seen.append(stage)
        programs.append(step.chunk._cache_size())
        if stage.step == 2:
            return {"beta": 50.0, "style_layers": "relu1_1:2, relu2_1"}

    nst_jax.stylize(*pair, callback=change, **settings)
    whole = []
    nst_jax.stylize(*pair, callback=whole.append, **settings)
    assert len(set(programs[1:])) == 1
    assert seen[3].terms == whole[3].terms, "a chunk is under way already"
    assert seen[-1].terms["style"] < 0.9 * whole[-1].terms["style"]
    assert seen[-1].terms["total"] != pytest.approx(whole[-1].terms["total"])
    total = 50.0 * seen[-1].terms["style"]
    assert total < seen[-1].terms["total"] < 1.5 * total


def test_weights_stay_changed_at_the_next_size(pair):
    settings = FAST | {"image_size": 48, "pyramid": {"min_size": 32, "first_steps": 3}, "beta": 0}
    stages = []

    def change(stage):
        stages.append(stage)
        return {"beta": 2.0} if stage.step == 0 else None

    nst_jax.stylize(*pair, callback=change, **settings)
    last = stages[-1].terms
    assert last["total"] > 2.0 * last["style"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_size": 64}, "config.image_size cannot change on the way"),
        ({"style_layers": "relu3_1"}, "losses and layers cannot change"),
        ({"style_losses": "sliced"}, "losses and layers cannot change"),
        ({"matting_weight": 1.0}, "losses and layers cannot change"),
        ({"betta": 1.0}, "Did you mean beta"),
        ({"beta": -1.0}, "beta"),
    ],
)
def test_what_cannot_change_on_the_way_is_one_line(change, said, pair):
    with pytest.raises(UserError, match=said):
        nst_jax.stylize(*pair, callback=lambda stage: change, **FAST)


def test_a_loss_that_is_lost_leaves_the_last_good_painting(pair):
    """Content weighs nothing at the photograph itself, and more than float32 holds one step on."""
    content = images.read(pair[0], 32)
    with pytest.raises(nst_jax.NonFiniteLossError) as caught:
        nst_jax.stylize(*pair, **FAST | {"alpha": 3e37, "beta": 0.0})
    np.testing.assert_allclose(caught.value.painting, content, atol=1e-6)
    with pytest.raises(nst_jax.NonFiniteLossError) as caught:
        nst_jax.stylize(*pair, **FAST | {"beta": 3e38})
    assert caught.value.painting is None


def test_too_little_memory_is_one_line(pair, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

    monkeypatch.setattr(api, "paint", full)
    with pytest.raises(UserError, match="too little memory for config.image_size 32; choose"):
        nst_jax.stylize(*pair, **FAST)


SETTINGS = {
    "numbers": {"jax_enable_x64": True, "jax_default_prng_impl": "rbg"},
    "strictness": {
        "jax_numpy_dtype_promotion": "strict",
        "jax_numpy_rank_promotion": "raise",
        "jax_transfer_guard": "disallow",
    },
    "debugging": {"jax_debug_nans": True, "jax_disable_jit": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_callers_settings_of_jax_change_nothing(setting, pair):
    """Neither the painting nor, afterwards, themselves."""
    options = FAST | {"init": {"noise": 0.3}, "style_losses": "gram, sliced"}
    expected = nst_jax.stylize(*pair, **options)
    given = SETTINGS[setting]

    def current():
        return {name: getattr(jax.config, name) for name in given}

    before = current()
    for name, value in given.items():
        jax.config.update(name, value)
    try:
        stages = []
        for stage in nst_jax.paint_steps(*pair, **options):
            assert current() == given
            stages.append(stage)
        assert current() == given
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    np.testing.assert_array_equal(stages[-1].painting, expected)


def test_programs_of_many_sizes_are_bounded(monkeypatch):
    dropped, kept = [], cache.Cache()
    monkeypatch.setattr(cache, "drop_programs", lambda: dropped.append(True))
    for size in range(cache.MAX_STATICS):
        kept.admit_program(size)
        kept.admit_program(0)
    assert not dropped
    kept.admit_program("another")
    assert dropped == [True]


def test_programs_are_kept_on_request_only(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name, before = "jax_compilation_cache_dir", jax.config.jax_compilation_cache_dir
    try:
        nst_jax.keep_programs()
        assert getattr(jax.config, name) == before  # the caller's own stays
        jax.config.update(name, None)
        nst_jax.keep_programs()
        assert getattr(jax.config, name) == str(tmp_path / "nst_jax" / "programs")
    finally:
        jax.config.update(name, before)


def test_save_writes_what_the_commands_write(tmp_path, picture):
    painting = picture(8, 9)
    nst_jax.save(painting, tmp_path / "new" / "p.png", bits=16)
    np.testing.assert_allclose(images.read(tmp_path / "new" / "p.png"), painting, atol=1e-5)
    alpha = np.linspace(0, 1, 72).reshape(8, 9)
    nst_jax.save(painting, str(tmp_path / "p.tif"), alpha=alpha)
    np.testing.assert_allclose(images.read_alpha(tmp_path / "p.tif", (8, 9)), alpha, atol=3e-3)
    with pytest.raises(UserError, match="its name must end in .png"):
        nst_jax.save(painting, tmp_path / "p.xyz")
    with pytest.raises(TypeError, match="the painting has the shape"):
        nst_jax.save(painting[None], tmp_path / "p.png")
    with pytest.raises(UserError, match=r"alpha has the shape \(3,\), not \(8, 9\)"):
        nst_jax.save(painting, tmp_path / "p.png", alpha=np.zeros(3))
