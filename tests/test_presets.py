"""Each preset's objective against an independent NumPy computation of its program's."""

import dialects
import jax
import numpy as np
import pytest
from conftest import ROOT, network_for
from test_config import load

from nst_jax import config
from nst_jax.losses.objective import breakdown
from nst_jax.transfer.prepare import Pictures
from nst_jax.transfer.problem import problem_of

pytestmark = pytest.mark.usefixtures("quickly_compiled")

PRESETS = sorted(path.stem for path in (ROOT / "configs" / "presets").glob("*.py"))


def test_there_is_a_dialect_for_every_preset():
    assert len(PRESETS) == 12
    assert all(callable(getattr(dialects, name)) for name in PRESETS)


def terms_of(experiment, image, content, style, loaded):
    """The terms of an image, for a content and a style picture."""
    content, style = np.asarray(content), np.asarray(style)
    pictures = Pictures(content.shape[:2], content, (style,), style_regions=({},))
    network = network_for(experiment, pictures, loaded)
    return jax.jit(breakdown)(image, network, problem_of(experiment, pictures, network))


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_weighted_terms_equal_the_programs(name, vgg19, pixels):
    """Term by term, for one triple of pictures; odd sides, too, where programs differ in them."""
    c = load(ROOT / "configs" / "presets" / f"{name}.py").get_config()
    c.convolution = "direct"  # compiles sooner
    experiment = config.parse(c)
    objective = experiment.objective
    # No more pixels than nnst draws, so that it takes all.
    image, content = pixels(29, 35), pixels(29, 35)
    style = pixels(29, 35) if name == "keras_example" else pixels(35, 29)
    terms = terms_of(experiment, image, content, style, vgg19)
    expected = getattr(dialects, name)(image, content, style, vgg19)
    assert objective.alpha * terms["content"] == pytest.approx(expected["content"], rel=1e-4)
    assert objective.beta * terms["style"] == pytest.approx(expected["style"], rel=1e-4)
    assert objective.tv_weight * terms["tv"] == pytest.approx(expected.get("tv", 0), rel=1e-4)
    assert terms["total"] == pytest.approx(sum(expected.values()), rel=1e-4)


# Side, size and filter of each program's pictures, from its text: what loads a picture.
SIZES = {
    "crowsonkb": ("long", 512, "bicubic"),  # size_to_fit(image.size, 512); Image.BICUBIC
    "deep_photo": ("long", 700, "bilinear"),  # its examples; image.scale(.., 'bilinear')
    "founding": ("long", 512, "lanczos"),  # names none
    "gatys2016": ("short", 512, "bilinear"),  # transforms.Scale(512), of torchvision
    "gatys2017": ("area", 1024, "bilinear"),  # pyramid_reduce(.., sqrt(size / hr_img_size**2))
    "keras_example": ("height", 400, "nearest"),  # img_nrows = 400; load_img(target_size=)
    "neural_style": ("long", 512, "bilinear"),  # 512 / max(image.size); transforms.Resize
    "nnst": ("long", 512, "bilinear"),  # max_side = 512; F.interpolate(mode='bilinear')
    "pastiche": ("area", 500, "bilinear"),  # size_pixels = 500 ** 2; Image.BILINEAR
    "pytorch_tutorial": ("short", 512, "bilinear"),  # transforms.Resize(512)
    "spst": ("short", 2048, "bicubic"),  # any; min(wco, hco), Image.resize's default filter
    "tensorflow_tutorial": ("long", 512, "bilinear"),  # max_dim = 512; tf.image.resize
}


@pytest.mark.parametrize("name", PRESETS)
def test_pictures_have_the_programs_sizes(name):
    experiment = config.parse(load(ROOT / "configs" / "presets" / f"{name}.py").get_config())
    side, size, resample = SIZES[name]
    assert experiment.inputs.sizing == (side, resample)
    assert experiment.size == size


@pytest.mark.parametrize(
    ("arg", "rate", "levels", "pooling"),
    [("adam", 1 / 255, 255, "max"), ("jcjohnson,adam", 10 / 256, 256, "max_ceil")],
)
def test_adam_of_neural_style(arg, rate, levels, pooling):
    """torch.optim.Adam's defaults and optim.adam's are both 0.9, 0.999, 1e-8."""
    experiment = config.parse(
        load(ROOT / "configs" / "presets" / "neural_style.py").get_config(arg)
    )
    rates = experiment.optimizer.rates
    assert experiment.optimizer.static.name == "adam"
    assert (rates.learning_rate, rates.b1, rates.b2, rates.eps) == (rate, 0.9, 0.999, 1e-8)
    assert experiment.inputs.start.noise == pytest.approx(0.001 / levels)
    assert experiment.objective.tv_weight == pytest.approx(0.001 * levels)
    assert experiment.network.pooling == pooling


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["l2_rescaled"])
def test_crowsonkbs_other_poolings(pooling, vgg19, pixels):
    c = load(ROOT / "configs" / "presets" / "crowsonkb.py").get_config()
    c.pooling, c.convolution = pooling, "direct"
    experiment = config.parse(c)
    image, content, style = pixels(32, 48), pixels(32, 48), pixels(48, 32)
    terms = terms_of(experiment, image, content, style, vgg19)
    short = pooling.removesuffix("_rescaled")
    expected = dialects.crowsonkb(image, content, style, vgg19, pooling=short)
    assert terms["total"] == pytest.approx(sum(expected.values()), rel=1e-4)
