"""Each preset's objective against an independent NumPy computation of its program's."""

import dialects
import jax
import pytest
from conftest import ROOT
from test_config import load

from nst_jax import config
from nst_jax.losses.objective import breakdown
from nst_jax.transfer import paint as transfer
from nst_jax.transfer import prepare as inputs

PRESETS = sorted(path.stem for path in (ROOT / "configs" / "presets").glob("*.py"))


def test_there_is_a_dialect_for_every_preset():
    assert len(PRESETS) == 9
    assert all(callable(getattr(dialects, name)) for name in PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_weighted_terms_equal_the_programs(name, vgg19, pixels):
    """Term by term, for one triple of pictures; sides that 16 divides, for odd rows differ."""
    c = config.validate(load(ROOT / "configs" / "presets" / f"{name}.py").get_config())
    image, content = pixels(48, 64), pixels(48, 64)
    style = pixels(48, 64) if name == "keras_example" else pixels(64, 80)
    pictures = inputs.Pictures(content, (style,), None, None, {}, ({},), None)
    network = transfer.network_of(vgg19, inputs.taps_of(c), c.pooling, c.padding)
    args = transfer.problem(c, pictures, network)
    terms = jax.jit(breakdown)(image, args)
    expected = getattr(dialects, name)(image, content, style, vgg19)
    assert c.alpha * terms["content"] == pytest.approx(expected["content"], rel=1e-4)
    assert c.beta * terms["style"] == pytest.approx(expected["style"], rel=1e-4)
    assert c.tv_weight * terms["tv"] == pytest.approx(expected.get("tv", 0), rel=1e-4)
    assert terms["total"] == pytest.approx(sum(expected.values()), rel=1e-4)


@pytest.mark.parametrize("pooling", ["average_rescaled", "l2_rescaled"])
def test_crowsonkbs_other_poolings(pooling, vgg19, pixels):
    c = load(ROOT / "configs" / "presets" / "crowsonkb.py").get_config()
    c.pooling = pooling
    c = config.validate(c)
    image, content, style = pixels(48, 64), pixels(48, 64), pixels(64, 80)
    pictures = inputs.Pictures(content, (style,), None, None, {}, ({},), None)
    network = transfer.network_of(vgg19, inputs.taps_of(c), c.pooling, c.padding)
    terms = jax.jit(breakdown)(image, transfer.problem(c, pictures, network))
    short = pooling.removesuffix("_rescaled")
    expected = dialects.crowsonkb(image, content, style, vgg19, pooling=short)
    assert terms["total"] == pytest.approx(sum(expected.values()), rel=1e-4)
