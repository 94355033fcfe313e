import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from nst_jax.optimize import lbfgs


def walk(function, start, memory, steps):
    """The points evaluated, and the state after each, one evaluation a step."""
    method = lbfgs.lbfgs(memory)
    image, state = jnp.asarray(start, jnp.float32), method.init(jnp.asarray(start, jnp.float32))

    @jax.jit
    def step(image, state):
        value, gradient = jax.value_and_grad(function)(image)
        updates, state = method.update(gradient, state, image, value=value)
        return optax.apply_updates(image, updates), state

    points, states = [], []
    for _ in range(steps):
        points.append(np.asarray(image))
        image, state = step(image, state)
        states.append(state)
    return points, states


def stiff(image):
    return jnp.sum(jnp.linspace(1, 30, image.size) * jnp.square(image.ravel() - 0.3))


def test_directions_are_those_of_the_inverse_hessian_in_numpy(rng):
    """H' = (1 - w s y') H (1 - w y s') + w s s' for the pairs in memory, from s'y / y'y times 1."""
    memory = 3
    points, _ = walk(stiff, rng.random((2, 2, 3)), memory, 9)
    gradients = [np.asarray(jax.grad(stiff)(jnp.asarray(point)), np.float64) for point in points]
    x = np.stack(points).reshape(9, -1).astype(np.float64)
    g = np.stack(gradients).reshape(9, -1)
    for k in range(1, 8):
        pairs = [(x[i + 1] - x[i], g[i + 1] - g[i]) for i in range(k)][-memory:]
        s, y = pairs[-1]
        inverse = np.eye(12) * (s @ y) / (y @ y)
        for s, y in pairs:
            weight, one = 1 / (s @ y), np.eye(12)
            inverse = (one - weight * np.outer(s, y)) @ inverse @ (one - weight * np.outer(y, s))
            inverse += weight * np.outer(s, s)
        expected = -inverse @ g[k]
        np.testing.assert_allclose(x[k + 1] - x[k], expected, atol=2e-3 * np.abs(expected).max())


def test_the_first_move_follows_the_gradient_for_a_fiftieth_of_the_range(rng):
    points, _ = walk(stiff, rng.random((2, 2, 3)), 5, 2)
    gradient = jax.grad(stiff)(jnp.asarray(points[0]))
    expected = -0.02 * gradient / jnp.abs(gradient).max()
    np.testing.assert_allclose(points[1] - points[0], expected, atol=1e-6)


def test_reaches_scipys_minimum_and_never_rises(rng):
    """On Rosenbrock's valley, where the whole way is often too far."""

    def valley(x):
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    start = np.float32(rng.uniform(-1, 1, 4))
    points, states = walk(valley, start, 10, 150)
    values = [float(state.value) for state in states]
    assert values == sorted(values, reverse=True)
    evaluated = [float(valley(jnp.asarray(point))) for point in points]
    assert sum(np.diff(evaluated) > 0) > 1, "some tries were too far"
    found = scipy.optimize.minimize(
        scipy.optimize.rosen, start.astype(float), jac=scipy.optimize.rosen_der, method="BFGS"
    )
    np.testing.assert_allclose(states[-1].image, found.x, atol=1e-2)


def test_a_try_too_far_is_followed_by_the_parabolas_lowest_point():
    """From 1 the first step leads to 0.98, beyond the minimum and higher; a parabola is exact."""
    points, states = walk(lambda x: jnp.square(x[0] - 0.995), [1.0], 3, 3)
    np.testing.assert_allclose(np.ravel(points), [1, 0.98, 0.995], atol=1e-6)
    assert [float(state.value) for state in states] == pytest.approx([2.5e-5, 2.5e-5, 0], abs=1e-9)


@pytest.mark.parametrize("high", [10.0, np.inf, np.nan])
def test_a_cliff_is_a_try_too_far(high):
    """A 64th of the way at least; a value that is no number is no reason to end."""
    points, states = walk(lambda x: jnp.where(x[0] < 0.995, high, x[0]), [1.0], 3, 3)
    np.testing.assert_allclose(np.ravel(points), [1, 0.98, 1 - 0.02 / 64], atol=1e-6)
    assert np.isfinite(states[-1].gradient).all()


@pytest.mark.slow
def test_forgets_what_does_not_help():
    """With pairs of another function every try rises, until the gradient is followed again."""
    method = lbfgs.lbfgs(2)
    pairs = lbfgs.Pairs(
        jnp.eye(2), -jnp.eye(2), -jnp.ones(2), jnp.int32(2), jnp.float32(1)
    )  # uphill
    at = jnp.array([1.0, 1.0])
    state = lbfgs.LBFGSState(at, jnp.float32(2), 2 * at, pairs, jnp.float32(1))
    image, values = at + 1, []
    for _ in range(8):
        value, gradient = jax.value_and_grad(lambda x: jnp.sum(x**2))(image)
        updates, state = method.update(gradient, state, image, value=value)
        image = image + updates
        values.append(float(state.value))
    assert values[:3] == [2] * 3
    assert values[-1] < 2
    assert float(state.pairs.scale) > 0


def test_pairs_without_curvature_are_left_out():
    """Along a slope that steepens downhill, s . y < 0."""
    _, states = walk(lambda x: -jnp.sum(jnp.exp(x)), [0.5, 0.5], 3, 4)
    assert [int(state.pairs.total) for state in states] == [0, 0, 0, 0]
    _, states = walk(stiff, [0.5, 0.5], 3, 4)
    assert [int(state.pairs.total) for state in states] == [0, 1, 2, 3]


def test_at_the_minimum_nothing_moves():
    points, _ = walk(lambda x: jnp.sum(x**2), [0.0, 0.0], 3, 4)
    assert not np.any(points)


@pytest.mark.slow
def test_a_batch_steps_at_once_as_each_alone(rng):
    starts = np.float32(rng.random((3, 4)))
    method = lbfgs.lbfgs(3)

    def step(image, state):
        value, gradient = jax.value_and_grad(stiff)(image)
        updates, state = method.update(gradient, state, image, value=value)
        return image + updates, state

    images = jnp.asarray(starts)
    states = jax.vmap(method.init)(images)
    advance = jax.jit(jax.vmap(step))
    for _ in range(6):
        images, states = advance(images, states)
    alone = functools.partial(walk, stiff, memory=3, steps=7)
    for image, start in zip(images, starts, strict=True):
        np.testing.assert_allclose(image, alone(start)[0][-1], atol=1e-4)
