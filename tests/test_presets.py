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
    assert len(PRESETS) == 9
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
    """Term by term, for one triple of pictures; sides that 16 divides, for odd rows differ."""
    c = load(ROOT / "configs" / "presets" / f"{name}.py").get_config()
    c.convolution = "direct"  # compiles sooner
    experiment = config.parse(c)
    objective = experiment.objective
    image, content = pixels(32, 48), pixels(32, 48)
    style = pixels(32, 48) if name == "keras_example" else pixels(48, 32)
    terms = terms_of(experiment, image, content, style, vgg19)
    expected = getattr(dialects, name)(image, content, style, vgg19)
    assert objective.alpha * terms["content"] == pytest.approx(expected["content"], rel=1e-4)
    assert objective.beta * terms["style"] == pytest.approx(expected["style"], rel=1e-4)
    assert objective.tv_weight * terms["tv"] == pytest.approx(expected.get("tv", 0), rel=1e-4)
    assert terms["total"] == pytest.approx(sum(expected.values()), rel=1e-4)


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
