import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from conftest import STYLE_TAPS

from nst_jax import transfer
from nst_jax.objective import Args, Knobs, breakdown, features, objective, targets_from

LAMBDAS = {"relu1_1": 0.5, "relu2_1": 0.1, "relu3_1": 0.3, "relu4_1": 0.002, "relu5_1": 0.7}
TAPS = (*STYLE_TAPS, "relu4_2", "relu2_2")
KNOBS = Knobs(2.0, 0.05, 1e5, {"relu4_2": 0.8, "relu2_2": 0.2}, LAMBDAS)


@pytest.fixture(scope="module")
def network(vgg19):
    return transfer.network_of(vgg19, TAPS, "max")


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_value_and_gradient_equal_numpys_in_float64(pooling, vgg19, pixels):
    network = transfer.network_of(vgg19, TAPS, pooling)
    image, content, style = pixels(38, 34), pixels(38, 34), pixels(45, 33)
    targets = targets_from(network, content, style, KNOBS)
    args = Args(network, targets, KNOBS)
    value, gradient = jax.jit(jax.value_and_grad(objective))(image, args)
    terms = breakdown(image, args)
    expected, slope, (j_content, j_style, tv) = reference.objective(
        image,
        content,
        style,
        vgg19,
        KNOBS.content_lambdas,
        KNOBS.style_lambdas,
        KNOBS.alpha,
        KNOBS.beta,
        KNOBS.tv_weight,
        pooling,
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
    arguments = (vgg19, KNOBS.content_lambdas, LAMBDAS, 2.0, 0.05, 1e5)
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
    knobs = KNOBS._replace(beta=0.0, tv_weight=0.0)
    targets = targets_from(network, content, content, knobs)
    args = Args(network, targets, knobs)
    value, gradient = jax.value_and_grad(objective)(content, args)
    _, elsewhere = jax.value_and_grad(objective)(1 - content, args)
    assert value == pytest.approx(0, abs=1e-6)
    assert jnp.abs(gradient).max() < 1e-6 * jnp.abs(elsewhere).max()


def test_terms_add_up(network, pixels):
    image, content, style = pixels(32, 32), pixels(32, 32), pixels(32, 32)
    args = Args(network, targets_from(network, content, style, KNOBS), KNOBS)
    terms = breakdown(image, args)
    styles = sum(LAMBDAS[tap] * terms[f"style/{tap}"] for tap in LAMBDAS)
    assert terms["style"] == pytest.approx(float(styles), rel=1e-6)
    total = 2.0 * terms["content"] + 0.05 * terms["style"] + 1e5 * terms["tv"]
    assert terms["total"] == pytest.approx(float(total), rel=1e-6)


def test_a_lambda_of_zero_switches_a_layer_off(network, pixels):
    image, content, style = pixels(32, 32), pixels(32, 32), pixels(32, 32)
    without = {tap: value for tap, value in LAMBDAS.items() if tap != "relu4_1"}
    values = []
    for lambdas in (without, LAMBDAS | {"relu4_1": 0.0}):
        knobs = KNOBS._replace(style_lambdas=lambdas)
        targets = targets_from(network, content, style, knobs)
        args = Args(network, targets, knobs)
        values.append(float(objective(image, args)))
    assert values[0] == pytest.approx(values[1], rel=1e-6)
