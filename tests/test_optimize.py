import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from conftest import STYLE_TAPS, knobs_for, network_of, problem_for

from nst_jax.losses.arguments import Problem
from nst_jax.network.state import NetworkState
from nst_jax.optimize import loop
from nst_jax.optimize import step as stepping
from nst_jax.optimize.loop import NonFiniteLossError
from nst_jax.optimize.options import OptimizerStatic, Rates
from nst_jax.optimize.step import State, initial_state, stack

KNOBS = knobs_for({"relu2_2": 1.0}, {"relu1_1": 100.0, "relu2_1": 1.0}, beta=0.02, tv=1e5)
ADAM, SGD, LBFGS = (OptimizerStatic(name) for name in ("adam", "sgd", "lbfgs"))

advance = jax.jit(stepping.step, static_argnames="static")
value, gradient = jax.jit(stepping.objective), jax.jit(jax.grad(stepping.objective))


def start_of(static, image) -> State:
    """The state of one picture, without the axis of a batch."""
    return jax.tree.map(lambda leaf: leaf[0], initial_state(static, image[None]))


@pytest.fixture
def network(vgg19):
    return network_of(vgg19, ("relu1_1", "relu2_1", "relu2_2"))


@pytest.fixture
def given(network, pixels) -> tuple[NetworkState, Problem]:
    """What the objective depends on besides the image."""
    return network, problem_for(network, pixels(16, 18), pixels(20, 16), KNOBS)


def run(static, start, given, rates, steps, every):
    """The loop from the start of one picture; yields its progress without the axis of the batch."""
    state = initial_state(static, start[None])
    network, problem = given
    batch = network, stack([problem]), stack([rates])
    for progress in loop.optimize(static, state, *batch, until=steps, room=every):
        terms = {name: float(value[0]) for name, value in progress.terms.items()}
        yield progress._replace(images=progress.images[0], terms=terms)


@pytest.fixture
def quadratic(monkeypatch):
    """A stiff quadratic instead of the objective; its minimum is the image 0.3, inside [0, 1]."""
    scales = jnp.linspace(1, 30, 27).reshape(3, 3, 3)

    def objective(image, network, problem):
        del network, problem
        return jnp.sum(scales * jnp.square(image - 0.3))

    monkeypatch.setattr(stepping, "objective", objective)


@pytest.mark.usefixtures("quadratic")
@pytest.mark.parametrize(
    ("static", "rate", "steps"),
    [
        (ADAM, 0.01, 1500),
        (dataclasses.replace(ADAM, parameterization="fourier"), 0.01, 1500),
        (LBFGS, 0.01, 60),  # it makes no use of the rate
        (dataclasses.replace(LBFGS, parameterization="fourier"), 0.01, 60),
        (SGD, 0.03, 200),
    ],
)
def test_reaches_the_minimum_of_a_quadratic(given, static, rate, steps):
    image = jnp.asarray(np.random.default_rng(1).random((3, 3, 3)), jnp.float32)
    state = start_of(static, image)
    one = jax.jit(lambda state: stepping.step(static, state, *given, Rates(rate))[0])
    for _ in range(steps):
        state = one(state)
    np.testing.assert_allclose(state.average, 0.3, atol=1e-3)
    scales = np.linspace(1, 30, 27)
    found = scipy.optimize.minimize(lambda x: (scales * (x - 0.3) ** 2).sum(), np.zeros(27))
    np.testing.assert_allclose(state.average.ravel(), found.x, atol=1e-3)


def test_adams_first_step_has_the_length_of_the_learning_rate(given, pixels):
    """Adam's first update is the learning rate times the gradient's sign (Kingma & Ba, 2.1)."""
    image = pixels(16, 18) * 0.8 + 0.1
    moved, _ = advance(ADAM, start_of(ADAM, image), *given, Rates(0.01))
    grad = gradient(image, *given)
    np.testing.assert_allclose(moved.image, image - 0.01 * jnp.sign(grad), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("static", [ADAM, LBFGS])
def test_the_loop_equals_single_steps(static, given, pixels):
    start = pixels(16, 18)
    rates = Rates(0.03)
    seen = list(run(static, start, given, rates, steps=7, every=3))
    assert [progress.step for progress in seen] == [0, 3, 6, 7]
    np.testing.assert_array_equal(seen[0].images, start)
    state = start_of(static, start)
    for _ in range(7):
        state, _ = advance(static, state, *given, rates)
    # Compiled together and apart, sums round apart; L-BFGS magnifies it step by step.
    atol = 2e-2 if static is LBFGS else 2e-3
    np.testing.assert_allclose(seen[-1].images, state.average, atol=atol)
    losses = [progress.terms["total"] for progress in seen]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("static", [ADAM, LBFGS])
def test_the_loss_is_that_of_a_picture_that_can_be_saved(static, given, pixels):
    start = pixels(16, 18).round()  # black and white: half of all gradients point out of the range
    *_, last = run(static, start, given, Rates(0.5), steps=4, every=3)
    assert 0 <= last.images.min() < last.images.max() <= 1
    clipped = value(jnp.clip(last.images, 0, 1), *given)
    assert last.terms["total"] == pytest.approx(float(clipped), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("static", [ADAM, LBFGS])
def test_other_weights_and_rates_compile_nothing(static, network, pixels, compilations):
    start = pixels(18, 16)
    given = network, problem_for(network, pixels(18, 16), pixels(20, 16), KNOBS)
    compilations.clear()
    list(run(static, start, given, Rates(0.02), 4, 2))
    assert compilations, "the counter counts"
    compilations.clear()
    knobs = knobs_for({"relu2_2": 0.4}, {"relu1_1": 0.0, "relu2_1": 7.0}, 3.0, 0.5)
    knobs = knobs._replace(regions={"": 0.3})
    rates = Rates(0.05, decay=0.9, b1=0.5, b2=0.7, eps=1e-3, average=0.6)
    list(run(static, start, (network, given[1]._replace(knobs=knobs)), rates, 6, 2))
    assert not compilations


@pytest.mark.slow
def test_one_program_serves_all_chunks_of_a_size(given, pixels):
    """Also the start, which takes no step, and a last chunk that is shorter."""
    start, rates = pixels(16, 18), Rates(0.02)
    stepping.chunk.clear_cache()
    for steps, every in ((7, 3), (11, 3), (6, 3), (3, 10)):
        assert [*run(ADAM, start, given, rates, steps, every)][-1].step == steps
    assert stepping.chunk._cache_size() == 1
    list(run(ADAM, start, given, rates, steps=7, every=2))
    assert stepping.chunk._cache_size() == 2


@pytest.mark.slow
@pytest.mark.parametrize("static", [ADAM, LBFGS])
def test_the_device_never_waits_for_the_host(static, given, pixels):
    """Nothing goes to the device once the steps have begun, and only whole chunks come back."""
    steps = run(static, pixels(16, 18), given, Rates(0.02), steps=7, every=3)
    assert next(steps).step == 0
    with jax.transfer_guard_host_to_device("disallow"):
        assert [progress.step for progress in steps] == [3, 6, 7]


def test_a_non_finite_loss_names_its_step_and_spares_what_came_before(given, pixels):
    steps = run(ADAM, pixels(16, 18), given, Rates(float("nan")), steps=9, every=3)
    first = next(steps)
    assert first.step == 0
    with pytest.raises(NonFiniteLossError, match="not finite at step 1;") as caught:
        list(steps)
    assert caught.value.step == 1
    assert np.isfinite(first.images).all()


@pytest.mark.slow
def test_style_taps_are_all_used(vgg19, pixels):
    """Every named layer has its own share in the gradient."""
    network = network_of(vgg19, STYLE_TAPS)
    lambdas = dict.fromkeys(STYLE_TAPS, 0.0)
    image = pixels(32, 32)
    problem = problem_for(network, None, pixels(32, 32), knobs_for(style=lambdas, alpha=0.0))
    for tap in STYLE_TAPS:
        knobs = knobs_for(style=lambdas | {tap: 1.0}, alpha=0.0)
        assert jnp.abs(gradient(image, network, problem._replace(knobs=knobs))).max() > 0


@pytest.mark.usefixtures("quadratic")
def test_adam_equals_numpys(given):
    """Kingma & Ba 2015, algorithm 1, for three steps, with a learning rate that decays."""
    rates = Rates(0.02, decay=0.5, b1=0.7, b2=0.8, eps=0.3)
    x = np.random.default_rng(1).uniform(0.2, 0.8, (3, 3, 3))
    state = start_of(ADAM, jnp.asarray(x, jnp.float32))
    m = v = 0.0
    for t in range(1, 4):
        g = 2 * np.linspace(1, 30, 27).reshape(3, 3, 3) * (x - 0.3)
        m, v = 0.7 * m + 0.3 * g, 0.8 * v + 0.2 * g**2
        step = (m / (1 - 0.7**t)) / (np.sqrt(v / (1 - 0.8**t)) + 0.3)
        x = x - 0.02 * 0.5 ** (t - 1) * step
        state, _ = stepping.step(ADAM, state, *given, rates)
        np.testing.assert_allclose(state.image, x, atol=1e-6)
    assert int(state.step) == 3


@pytest.mark.usefixtures("quadratic")
@pytest.mark.parametrize("decay", [1.0, 0.25])
def test_sgd_steps_along_the_gradient(given, decay):
    x = np.random.default_rng(1).uniform(0.2, 0.8, (3, 3, 3))
    state = start_of(SGD, jnp.asarray(x, jnp.float32))
    for t in range(3):
        x = x - 0.01 * decay**t * 2 * np.linspace(1, 30, 27).reshape(3, 3, 3) * (x - 0.3)
        state, _ = stepping.step(SGD, state, *given, Rates(0.01, decay=decay))
        np.testing.assert_allclose(state.image, x, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("quadratic")
def test_backing_off_saves_a_rate_that_is_too_large(given):
    """Above 2 / curvature, here 1 / 30, SGD goes to and fro; halved twice, it arrives."""
    image = jnp.asarray(np.random.default_rng(1).random((3, 3, 3)), jnp.float32)
    for static, arrives in ((SGD, False), (dataclasses.replace(SGD, backs_off=True), True)):
        state, step = start_of(static, image), jax.jit(stepping.step, static_argnums=0)
        for _ in range(200):
            state, _ = step(static, state, *given, Rates(0.1, patience=3))
        assert (np.abs(state.average - 0.3).max() < 1e-3) == arrives


def test_the_rate_is_halved_after_so_many_steps_without_a_lower_loss(given, pixels, monkeypatch):
    """A loss that stays what it is: the second after the lowest halves, and the next is lowest."""
    monkeypatch.setattr(stepping, "objective", lambda image, *_: 5 + 0 * image.sum())
    static = dataclasses.replace(SGD, backs_off=True)
    seen = run(static, pixels(17, 18), given, Rates(0.8, decay=0.5, patience=2), 7, 1)
    halvings = [0, 0, 0, 1, 1, 1, 2, 2]
    expected = [0.8 * 0.5 ** (step + halved) for step, halved in enumerate(halvings)]
    np.testing.assert_allclose([p.terms["learning_rate"] for p in seen], expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.0, 0.6, 0.99])
def test_the_average_is_that_of_all_iterates_with_the_start(decay, given, pixels):
    """Weights decay^(t - i) of x_0 .. x_t, scaled to sum to 1; none of it feeds back."""
    start, rates = pixels(16, 18), Rates(0.05, average=decay)
    network, problem = given
    batch = network, stack([problem]), stack([rates])
    state, iterates = initial_state(ADAM, start[None]), [np.float64(start)]
    for t in range(1, 6):
        state, terms, _ = stepping.chunk(ADAM, 1, 1, state, *batch)
        (average,) = state.average
        iterates.append(np.float64(state.image[0]))
        powers = decay ** np.arange(t, -1, -1.0)
        expected = np.tensordot(powers / powers.sum(), np.stack(iterates), 1)
        np.testing.assert_allclose(average, expected, atol=1e-6)
    assert float(terms["total"][0]) == pytest.approx(float(value(average, *given)), rel=1e-4)
    *_, last = run(ADAM, start, given, rates, steps=7, every=3)
    *_, plain = run(ADAM, start, given, rates._replace(average=0.0), steps=7, every=3)
    assert (np.abs(last.images - plain.images).max() > 1e-3) == (decay > 0)
    np.testing.assert_allclose(iterates[-1], after(5, start, given, rates), atol=1e-5)


def after(steps, start, given, rates):
    """The iterate of Adam without an average."""
    state = start_of(ADAM, start)
    for _ in range(steps):
        state, _ = advance(ADAM, state, *given, rates._replace(average=0.0))
    return state.image


@pytest.fixture
def two(network, pixels):
    """Starts, arguments and rates of two paintings, and the same as a batch."""
    starts, content = [pixels(16, 18), pixels(16, 18)], pixels(16, 18)
    knobs = [KNOBS, KNOBS._replace(alpha=3.0, beta=0.5)]
    each = [
        problem_for(network, content, pixels(20, 16), own, key=jax.random.key(k))
        for k, own in enumerate(knobs)
    ]
    rates = [Rates(0.03), Rates(0.01, b1=0.8, average=0.5)]
    batch = jnp.stack(starts), network, stack(each), stack(rates)
    return starts, [(network, problem) for problem in each], rates, batch


@pytest.mark.slow
@pytest.mark.parametrize("static", [ADAM, OptimizerStatic("lbfgs", memory=3)], ids=lambda s: s.name)
def test_two_paintings_at_once_equal_two_runs(static, two):
    """A batch has everything but the network of its own for each image."""
    starts, each, rates, (start, *batch) = two
    state = initial_state(static, start)
    both = list(loop.optimize(static, state, *batch, until=4, room=3))
    assert [progress.step for progress in both] == [0, 3, 4]
    for k, one in enumerate(zip(starts, each, rates, strict=True)):
        for together, alone in zip(both, run(static, *one, 4, 3), strict=True):
            np.testing.assert_allclose(together.images[k], alone.images, atol=1e-4)
            for name, value in alone.terms.items():
                assert together.terms[name][k] == pytest.approx(value, rel=1e-3)


@pytest.mark.slow
def test_a_lost_painting_leaves_the_others_of_its_batch_alone(two):
    starts, each, rates, (start, *given, _) = two
    bad = rates[1]._replace(learning_rate=float("nan"))

    def both(*rates):
        state = initial_state(ADAM, start)
        return loop.optimize(ADAM, state, *given, stack(rates), until=4, room=3)

    *_, last = both(rates[0], bad)
    assert list(last.lost) == [-1, 1]  # its first step led nowhere
    *_, alone = run(ADAM, starts[0], each[0], rates[0], 4, 3)
    np.testing.assert_allclose(last.images[0], alone.images, atol=1e-5)
    with pytest.raises(NonFiniteLossError, match="at step 1") as caught:
        list(both(bad, bad))
    assert list(caught.value.lost) == [1, 1]


@pytest.mark.slow
def test_other_shares_of_the_styles_compile_nothing(network, pixels, compilations):
    start, content, styles = pixels(16, 22), pixels(16, 22), [pixels(20, 16), pixels(16, 16)]
    seen = []
    for shares in ((0.2, 0.8), (0.5, 0.5)):
        seen.append(len(compilations))
        given = network, problem_for(network, content, styles, KNOBS, shares, blend="losses")
        list(run(SGD, start, given, Rates(1e-6), 2, 1))
    seen.append(len(compilations))
    assert seen[1] > seen[0]
    assert seen[2] == seen[1]


def test_random_numbers_are_new_at_every_step_but_not_for_lbfgs(given):
    """L-BFGS compares gradients of different steps, which must be of one function."""
    _, problem = given
    for static, count in ((ADAM, 3), (SGD, 3), (LBFGS, 1)):
        keys = {
            tuple(
                jax.random.key_data(
                    stepping.problem_at(static, problem, jnp.int32(step)).key
                ).tolist()
            )
            for step in range(3)
        }
        assert len(keys) == count


def test_a_chunk_needs_nothing_of_the_host(given, pixels):
    """Compiled, and its arguments on the device: no number goes up or comes down in its course."""
    network, problem = given
    state = initial_state(ADAM, pixels(16, 18)[None])
    batch = network, stack([problem]), stack([Rates(0.03)])
    *batch, count, shown = jax.device_put((*batch, jnp.int32(3), np.bool(True)))
    state, *_ = stepping.chunk(ADAM, 3, count, state, *batch, shown=shown)
    with jax.transfer_guard("disallow"):
        results = stepping.chunk(ADAM, 3, count, state, *batch, shown=shown)
        jax.block_until_ready(results)
    assert results[0].step.tolist() == [6]


@pytest.mark.slow
@pytest.mark.parametrize("static", [ADAM, LBFGS], ids=lambda s: s.name)
def test_a_batch_computed_in_parts_is_the_same_to_the_bit(static, two):
    """`together` only saves memory; and a picture alone is what it is in a batch of two."""
    starts, each, rates, (start, *batch) = two
    whole, parts = (
        list(
            loop.optimize(
                static, initial_state(static, start), *batch, until=4, room=3, together=together
            )
        )
        for together in (0, 1)
    )
    for k, one in enumerate(zip(starts, each, rates, strict=True)):
        *_, alone = run(static, *one, 4, 3)
        np.testing.assert_array_equal(whole[-1].images[k], alone.images)
        np.testing.assert_array_equal(parts[-1].images[k], alone.images)


def test_steps_to_show_need_no_common_rhythm(given, pixels):
    """Every third step and every fifth; a dispatch takes three at most."""
    network, problem = given
    seen = loop.optimize(
        SGD,
        initial_state(SGD, pixels(16, 18)[None]),
        network,
        stack([problem]),
        stack([Rates(1e-6)]),
        until=11,
        room=3,
        is_shown=lambda step: step % 3 == 0 or step % 5 == 0,
    )
    assert [progress.step for progress in seen] == [0, 3, 5, 6, 9, 10, 11]
