import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from conftest import STYLE_TAPS

from nst_jax import optimize, transfer
from nst_jax.objective import Args, Knobs, targets_from
from nst_jax.optimize import NonFiniteLossError, Settings

KNOBS = Knobs(1.0, 0.02, 1e5, {"relu2_2": 1.0}, {"relu1_1": 100.0, "relu2_1": 1.0})
ADAM, LBFGS = Settings("adam", 10, "highest"), Settings("lbfgs", 10, "highest")


@pytest.fixture
def args(vgg19, pixels) -> Args:
    network = transfer.network_of(vgg19, ("relu1_1", "relu2_1", "relu2_2"), "max")
    targets = targets_from(network, pixels(16, 18), pixels(20, 16), KNOBS)
    return Args(network, targets, KNOBS)


@pytest.fixture
def quadratic(monkeypatch):
    """A stiff quadratic instead of the objective; its minimum is the image 0.3, inside [0, 1]."""
    scales = jnp.linspace(1, 30, 27).reshape(3, 3, 3)

    def objective(image, args):
        del args
        return jnp.sum(scales * jnp.square(image - 0.3))

    monkeypatch.setattr(optimize, "objective", objective)


@pytest.mark.usefixtures("quadratic")
@pytest.mark.parametrize(("settings", "steps"), [(ADAM, 1500), (LBFGS, 40)])
def test_reaches_the_minimum_of_a_quadratic(args, settings, steps):
    image = jnp.asarray(np.random.default_rng(1).random((3, 3, 3)), jnp.float32)
    state = optimize.initial_state(settings, image)
    advance = jax.jit(lambda i, s: optimize.step(settings, i, s, args, 0.01)[:2])
    for _ in range(steps):
        image, state = advance(image, state)
    np.testing.assert_allclose(image, 0.3, atol=1e-3)
    scales = np.linspace(1, 30, 27)
    found = scipy.optimize.minimize(lambda x: (scales * (x - 0.3) ** 2).sum(), np.zeros(27))
    np.testing.assert_allclose(image.ravel(), found.x, atol=1e-3)


def test_adams_first_step_has_the_length_of_the_learning_rate(args, pixels):
    """Adam's first update is the learning rate times the gradient's sign (Kingma & Ba, 2.1)."""
    image = pixels(16, 18) * 0.8 + 0.1
    moved, *_ = optimize.step(ADAM, image, optimize.initial_state(ADAM, image), args, 0.01)
    grad = jax.grad(optimize.objective)(image, args)
    np.testing.assert_allclose(moved, image - 0.01 * jnp.sign(grad), atol=1e-5)


@pytest.mark.parametrize("settings", [ADAM, LBFGS])
def test_the_loop_equals_single_steps(settings, args, pixels):
    start = pixels(16, 18)
    seen = list(optimize.optimize(settings, start, args, 0.03, steps=7, every=3))
    assert [progress.step for progress in seen] == [0, 3, 6, 7]
    np.testing.assert_array_equal(seen[0].image, start)
    image, state = start, optimize.initial_state(settings, start)
    advance = jax.jit(optimize.step, static_argnames="settings")
    for _ in range(7):
        image, state, _ = advance(settings, image, state, args, 0.03)
    # Compiled together and apart, sums round apart; L-BFGS magnifies it with every line search.
    np.testing.assert_allclose(seen[-1].image, image, atol=2e-2 if settings is LBFGS else 2e-3)
    losses = [progress.terms["total"] for progress in seen]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("settings", [ADAM, LBFGS])
def test_the_loss_is_that_of_a_picture_that_can_be_saved(settings, args, pixels):
    start = pixels(16, 18).round()  # black and white: half of all gradients point out of the range
    *_, last = optimize.optimize(settings, start, args, 0.5, steps=4, every=4)
    assert 0 <= last.image.min() < last.image.max() <= 1
    clipped = optimize.objective(jnp.clip(last.image, 0, 1), args)
    assert last.terms["total"] == pytest.approx(float(clipped), rel=1e-5)


@pytest.mark.parametrize("settings", [ADAM, LBFGS])
def test_other_weights_and_rates_compile_nothing(settings, args, pixels, compilations):
    start = pixels(16, 18)

    def run(args, learning_rate, steps):
        list(optimize.optimize(settings, start, args, learning_rate, steps, every=2))

    jax.clear_caches()
    run(args, 0.02, 4)
    assert compilations, "the counter counts"
    compilations.clear()
    knobs = Knobs(3.0, 0.5, 0.0, {"relu2_2": 0.4}, {"relu1_1": 0.0, "relu2_1": 7.0})
    run(args._replace(knobs=knobs), 0.05, 6)
    assert not compilations


@pytest.mark.parametrize("settings", [ADAM, LBFGS])
def test_the_device_never_waits_for_the_host(settings, args, pixels):
    """Nothing goes to the device once the steps have begun, and only whole chunks come back."""
    steps = optimize.optimize(settings, pixels(16, 18), args, 0.02, steps=6, every=2)
    assert next(steps).step == 0
    with jax.transfer_guard_host_to_device("disallow"):
        assert [progress.step for progress in steps] == [2, 4, 6]


def test_a_non_finite_loss_names_its_step_and_spares_what_came_before(args, pixels):
    steps = optimize.optimize(ADAM, pixels(16, 18), args, float("nan"), steps=9, every=3)
    first = next(steps)
    assert first.step == 0
    with pytest.raises(NonFiniteLossError, match="nan at step 1;") as caught:
        list(steps)
    assert caught.value.step == 1
    assert np.isfinite(first.image).all()


def test_style_taps_are_all_used(vgg19, pixels):
    """Every named layer has its own share in the gradient."""
    network = transfer.network_of(vgg19, STYLE_TAPS, "max")
    lambdas = dict.fromkeys(STYLE_TAPS, 0.0)
    image = pixels(32, 32)
    targets = targets_from(
        network, None, pixels(32, 32), KNOBS._replace(content_lambdas={}, style_lambdas=lambdas)
    )
    for tap in STYLE_TAPS:
        knobs = Knobs(0.0, 1.0, 0.0, {}, lambdas | {tap: 1.0})
        args = Args(network, targets, knobs)
        assert jnp.abs(jax.grad(optimize.objective)(image, args)).max() > 0
