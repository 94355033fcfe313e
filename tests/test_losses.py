import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nst_jax.losses import content, smoothness, style


def test_content_by_hand():
    target = jnp.zeros((2, 1, 3))
    features = jnp.array([[[1.0, 2.0, 0.0]], [[0.0, 0.0, 3.0]]])
    assert content.distance(features, content.describe(target)) == pytest.approx(14 / (4 * 6))


def test_gram_by_hand():
    features = jnp.array([[[1.0, 2.0], [3.0, 0.0]]])  # two positions, two channels
    expected = np.array([[1 + 9, 2], [2, 4]]) / 2
    np.testing.assert_allclose(style.gram(features), expected)


def test_gram_of_one_hot_channels_is_diagonal():
    features = jax.nn.one_hot(jnp.array([[0, 1, 2], [0, 0, 1]]), 3)
    np.testing.assert_allclose(style.gram(features), np.diag([3, 2, 1]) / 6)


def test_style_distance_by_hand():
    features, target = jnp.array([[[2.0, 0.0]]]), jnp.zeros((2, 2))
    assert style.distance(features, target) == pytest.approx(16 / (4 * 2**2))


def test_style_equals_the_papers_formula_for_pictures_of_one_size(rng):
    a, s = (np.float32(rng.random((5, 7, 3))) for _ in range(2))
    gram_a, gram_s = (x.reshape(-1, 3).T @ x.reshape(-1, 3) for x in (a, s))
    paper = ((gram_s - gram_a) ** 2).sum() / (4 * 3**2 * (5 * 7) ** 2)
    ours = style.distance(jnp.array(a), style.describe(jnp.array(s)))
    assert ours == pytest.approx(paper, rel=1e-5)


def test_style_forgets_where_things_are(rng):
    features = np.float32(rng.random((5, 7, 11)))
    shuffled = rng.permutation(features.reshape(35, 11)).reshape(5, 7, 11)
    distance = style.distance(jnp.array(shuffled), style.describe(jnp.array(features)))
    assert distance == pytest.approx(0, abs=1e-10)
    assert content.distance(jnp.array(shuffled), jnp.array(features)) > 0.01


@pytest.mark.parametrize("loss", [content, style])
def test_own_target_is_a_minimum(loss, rng):
    features = jnp.array(np.float32(rng.random((3, 5, 7))))
    value, grad = jax.value_and_grad(loss.distance)(features, loss.describe(features))
    assert value == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(grad, 0, atol=1e-7)
    assert loss.distance(features + 0.1, loss.describe(features)) > 0


def test_total_variation_of_a_checkerboard_is_two():
    board = (np.indices((6, 8)).sum(0) % 2).astype(np.float32)
    assert smoothness.total_variation(jnp.array(board[..., None].repeat(3, -1))) == 2


def test_total_variation_by_hand():
    image = jnp.array([[[0.0], [1.0]], [[0.5], [0.5]]])
    assert smoothness.total_variation(image) == pytest.approx((0.25 + 0.25) / 2 + (1 + 0) / 2)


def test_total_variation_of_a_constant_is_zero_with_zero_gradient():
    value, grad = jax.value_and_grad(smoothness.total_variation)(jnp.full((4, 5, 3), 0.3))
    assert value == 0
    assert not grad.any()
