"""Coarse to fine: sizes by hand, and what a state keeps when it grows."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import painted, prepared

from nst_jax import config
from nst_jax.optimize.optimizers import OPTIMIZERS
from nst_jax.optimize.options import OptimizerStatic, Rates
from nst_jax.optimize.step import State, enlarge, initial_state
from nst_jax.pictures import images

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def configured(**values):
    """A config of flat keys."""
    c = config.default()
    c.update_from_flattened_dict(values)
    return c


def stepped(static: OptimizerStatic, image, gradients) -> State:
    """A state whose optimiser has seen gradients, and whose image and average differ."""
    state, adam = initial_state(static, image[None]), OPTIMIZERS["adam"]
    optimizer, update = state.optimizer, jax.vmap(adam.build(static, Rates(0.1), 0.1).update)
    for gradient in gradients:
        _, optimizer = update(gradient[None], optimizer)
    return State(1 - image[None], image[None], optimizer, jnp.int32([len(gradients)]))


@pytest.mark.slow
def test_adam_stays_warm_and_its_mean_squares_positive(rng):
    """One lit pixel among zeros: bicubic interpolation would undershoot beside it."""
    image = jnp.asarray(rng.random((8, 6, 3)), jnp.float32)
    gradient = jnp.zeros((8, 6, 3)).at[4, 3].set(100.0)
    state = stepped(OptimizerStatic("adam"), image, [gradient, gradient])
    grown = enlarge(OptimizerStatic("adam"), state, (12, 9))
    before, after = state.optimizer[0], grown.optimizer[0]
    assert before.nu.shape == (1, 8, 6, 3)
    assert after.nu.shape == after.mu.shape == (1, 12, 9, 3)
    assert after.nu.min() == 0 < after.nu.max() <= before.nu.max()
    assert jnp.unravel_index(after.nu[0, ..., 0].argmax(), (12, 9)) == (6, 5)  # 4.5 and 3.5 by 1.5
    assert after.count == before.count == 2
    assert grown.step == 0


def test_adams_mean_gradient_grows_bicubically(rng):
    """Keys' weights with a = -1/2, a quarter before and three quarters after a position."""
    rows = rng.random(8)
    gradient = jnp.asarray(np.broadcast_to(rows[:, None, None], (8, 6, 3)), jnp.float32)
    state = stepped(OptimizerStatic("adam"), jnp.zeros((8, 6, 3)), [gradient])
    grown = enlarge(OptimizerStatic("adam"), state, (16, 12)).optimizer[0]
    # Row 7 of 16 lies at (7 + 1/2) / 2 - 1/2 = 3.25 of the 8: rows 2 to 5 are 1.25 to 1.75 away.
    weights = np.array([-9, 111, 29, -3]) / 128
    np.testing.assert_allclose(grown.mu[0, 7, 6], 0.1 * weights @ rows[2:6], rtol=1e-5)
    linear = 0.75 * rows[3] ** 2 + 0.25 * rows[4] ** 2
    np.testing.assert_allclose(grown.nu[0, 7, 6], 0.01 * linear, rtol=1e-5)


def test_what_was_lowest_at_another_size_does_not_count(rng):
    """But the rate stays where it was backed off to."""
    static = OptimizerStatic("adam", backs_off=True)
    state = initial_state(static, jnp.asarray(rng.random((1, 8, 6, 3)), jnp.float32))
    used = optax.tree.set(state.optimizer, lowest=jnp.float32([3]), share=jnp.float32([0.25]))
    grown = enlarge(static, state._replace(optimizer=used), (12, 9)).optimizer
    assert optax.tree.get(grown, "lowest") == np.inf
    assert optax.tree.get(grown, "share") == 0.25


def test_constant_moments_stay_constant(rng):
    image = jnp.asarray(rng.random((8, 6, 3)), jnp.float32)
    state = stepped(OptimizerStatic("adam"), image, [jnp.full((8, 6, 3), 3.0)])
    after = enlarge(OptimizerStatic("adam"), state, (11, 9)).optimizer[0]
    np.testing.assert_allclose(after.mu, 0.3, rtol=1e-5)  # (1 - b1) * 3
    np.testing.assert_allclose(after.nu, 0.09, rtol=1e-5)  # (1 - b2) * 9


def test_the_average_is_what_grows_within_the_range():
    image = jnp.zeros((8, 6, 3)).at[:, 3:].set(1.0)  # an edge, at which bicubic overshoots
    state = stepped(OptimizerStatic("adam"), image, [image])
    grown = enlarge(OptimizerStatic("adam"), state, (16, 12))
    assert 0 == grown.image.min() < grown.image.max() == 1
    assert (grown.image[0, :, :4] < 0.1).all()
    assert (grown.image[0, :, 8:] > 0.9).all()
    np.testing.assert_array_equal(grown.average, grown.image)


def test_lbfgs_starts_afresh(rng):
    static = OptimizerStatic("lbfgs", memory=3)
    image = jnp.asarray(rng.random((1, 8, 6, 3)), jnp.float32)
    old = initial_state(static, image)
    used = old._replace(optimizer=jax.tree.map(lambda leaf: leaf + 1, old.optimizer))
    grown = enlarge(static, used, (12, 9))
    expected = initial_state(static, grown.image)
    assert jax.tree.structure(grown) == jax.tree.structure(expected)
    for leaf, wanted in zip(jax.tree.leaves(grown), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(leaf, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lbfgs"])
def test_steps_are_counted_through_and_a_second_run_compiles_nothing(
    name, picture, vgg19, compilations
):
    """Scales of 32, 45 and 64 with 3, 2 and 4 steps: every second and the last of each is shown."""
    c = configured(
        **{
            "image_size": 64,
            "style_layers": "relu1_1, relu2_1",
            "content_layers": "relu2_1",
            "log_every": 2,
            "save_every": 0,
            "steps": 4,
            "pyramid.min_size": 32,
            "pyramid.first_steps": 3,
            "pyramid.steps": 2,
            "optimizer.name": name,
            "optimizer.average": 0.5,
        }
    )
    arrays = picture(48, 64), [picture(40, 64)]
    seen = list(painted(*prepared(c, *arrays), vgg19))
    assert [progress.step for progress in seen] == [0, 2, 3, 4, 5, 6, 8, 9]
    shapes = [progress.image.shape for progress in seen]
    assert shapes == [(24, 32, 3)] * 3 + [(34, 45, 3)] * 2 + [(48, 64, 3)] * 3
    assert seen[2].terms["total"] < seen[0].terms["total"]
    assert seen[-1].terms["total"] < seen[-2].terms["total"]
    compilations.clear()
    again = list(painted(*prepared(c, *arrays), vgg19))
    assert not compilations
    np.testing.assert_array_equal(again[-1].image, seen[-1].image)


@pytest.mark.slow
def test_guides_and_start_are_sized_for_every_scale(picture, vgg19, tmp_path):
    for side, half in {"left": np.s_[:, :32], "right": np.s_[:, 32:]}.items():
        mask = np.zeros((48, 64, 3), np.float32)
        mask[half] = 1
        images.write(tmp_path / f"{side}.png", mask)
    images.write(tmp_path / "start.png", picture(20, 30))
    masks = f"left={tmp_path}/left.png, right={tmp_path}/right.png"
    c = configured(
        **{
            "image_size": 64,
            "style_layers": "relu2_1",
            "content_layers": "relu2_1",
            "pyramid.min_size": 32,
            "pyramid.factor": 2.0,
            "pyramid.first_steps": 1,
            "steps": 1,
            "guides.content": masks,
            "guides.style": masks,
            "guides.content_weight": str(tmp_path / "left.png"),
            "init.picture": str(tmp_path / "start.png"),
            "color.mode": "luminance",
        }
    )
    *_, last = painted(*prepared(c, picture(48, 64), [picture(40, 64)]), vgg19)
    assert last.image.shape == (48, 64, 3)
    assert np.isfinite(list(last.terms.values())).all()


@pytest.mark.slow
def test_frames_are_due_by_the_steps_of_the_whole_run(picture, vgg19):
    """Five steps at 32 pixels, six at 64: every third step has a log line, every fourth a frame."""
    c = configured(
        **{
            "image_size": 64,
            "style_layers": "relu1_1",
            "content_layers": "relu1_1",
            "log_every": 3,
            "save_every": 4,
            "steps": 6,
            "pyramid.min_size": 32,
            "pyramid.factor": 2.0,
            "pyramid.first_steps": 5,
        }
    )
    experiment, pictures = prepared(c, picture(48, 64), [picture(40, 64)])
    seen = [progress.step for progress in painted(experiment, pictures, vgg19)]
    assert seen == [0, 3, 4, 5, 6, 8, 9, 11]
    assert [step for step in seen if experiment.output.is_frame(step)] == [0, 4, 8]
