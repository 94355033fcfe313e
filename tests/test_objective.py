import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from conftest import STYLE_TAPS, args_for, knobs_for

from nst_jax import transfer
from nst_jax.objective import breakdown, features, objective

LAMBDAS = {"relu1_1": 0.5, "relu2_1": 0.1, "relu3_1": 0.3, "relu4_1": 0.002, "relu5_1": 0.7}
TAPS = (*STYLE_TAPS, "relu4_2", "relu2_2")
CONTENT = {"relu4_2": 0.8, "relu2_2": 0.2}
KNOBS = knobs_for(CONTENT, LAMBDAS, alpha=2.0, beta=0.05, tv=1e5)

slope_of = jax.jit(jax.value_and_grad(objective))
terms_of = jax.jit(breakdown)


@pytest.fixture(scope="module")
def network(vgg19):
    return transfer.network_of(vgg19, TAPS, "max")


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_value_and_gradient_equal_numpys_in_float64(pooling, vgg19, pixels):
    network = transfer.network_of(vgg19, TAPS, pooling)
    image, content, style = pixels(38, 34), pixels(38, 34), pixels(45, 33)
    args = args_for(network, content, style, KNOBS)
    (value, gradient), terms = jax.jit(
        lambda *given: (jax.value_and_grad(objective)(*given), breakdown(*given))
    )(image, args)
    expected, slope, (j_content, j_style, tv) = reference.objective(
        image, content, style, vgg19, CONTENT, LAMBDAS, 2.0, 0.05, 1e5, pooling
    )
    assert value == pytest.approx(expected, rel=1e-4)
    assert terms["content"] == pytest.approx(j_content, rel=1e-4)
    assert terms["style"] == pytest.approx(j_style, rel=1e-4)
    assert terms["tv"] == pytest.approx(tv, rel=1e-4)
    difference = np.linalg.norm(gradient - slope) / np.linalg.norm(slope)
    assert difference < 1e-4


def test_weights_baked_into_a_program_are_an_error(network):
    """The guard that the whole suite runs under does fire."""
    image = jnp.zeros((16, 16, 3))
    with pytest.raises(UserWarning, match="constants were captured"):
        jax.jit(lambda x: features(network, x)["relu5_1"])(image)


def test_reference_gradient_is_the_slope_of_its_value(vgg19, rng, pixels):
    """The yardstick itself, against finite differences."""
    image, content, style = pixels(18, 17), pixels(18, 17), pixels(16, 20)
    arguments = (vgg19, CONTENT, LAMBDAS, 2.0, 0.05, 1e5)
    _, gradient, _ = reference.objective(image, content, style, *arguments)
    direction = rng.normal(size=image.shape)
    step = 1e-6
    up, down = (
        reference.objective(np.float64(image) + s * direction, content, style, *arguments)[0]
        for s in (step, -step)
    )
    assert (gradient * direction).sum() == pytest.approx((up - down) / (2 * step), rel=1e-4)


def test_content_gradient_is_zero_at_the_content_image(network, pixels):
    content = pixels(32, 32)
    knobs = KNOBS._replace(beta=0.0, smoothness={"squared": 0.0})
    args = args_for(network, content, content, knobs)
    value, gradient = slope_of(content, args)
    _, elsewhere = slope_of(1 - content, args)
    assert value == pytest.approx(0, abs=1e-6)
    assert jnp.abs(gradient).max() < 1e-6 * jnp.abs(elsewhere).max()


def test_terms_add_up(network, pixels):
    image, content, style = pixels(32, 32), pixels(32, 32), pixels(32, 32)
    args = args_for(network, content, style, KNOBS)
    terms = terms_of(image, args)
    for part, loss, lambdas in (("content", "squared", CONTENT), ("style", "gram", LAMBDAS)):
        layers = sum(lambdas[tap] * terms[f"{part}/{loss}/{tap}"] for tap in lambdas)
        assert terms[part] == pytest.approx(float(layers), rel=1e-6)
    total = 2.0 * terms["content"] + 0.05 * terms["style"] + 1e5 * terms["tv"]
    assert terms["total"] == pytest.approx(float(total), rel=1e-6)


def test_a_lambda_of_zero_switches_a_layer_off(network, pixels):
    image, content, style = pixels(32, 32), pixels(32, 32), pixels(32, 32)
    without = {tap: value for tap, value in LAMBDAS.items() if tap != "relu4_1"}
    values = []
    for lambdas in (without, LAMBDAS | {"relu4_1": 0.0}):
        knobs = KNOBS._replace(style={"gram": lambdas})
        values.append(float(slope_of(image, args_for(network, content, style, knobs))[0]))
    assert values[0] == pytest.approx(values[1], rel=1e-6)
