"""Coarse to fine: sizes by hand, and what a state keeps when it grows."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nst_jax import config
from nst_jax.optimize.loop import State, initial_state
from nst_jax.optimize.optimizers import OPTIMIZERS, Rates, Settings
from nst_jax.pictures import images
from nst_jax.transfer import paint as transfer
from nst_jax.transfer import prepare
from nst_jax.transfer import pyramid


def configured(**values):
    """A validated config of flat keys."""
    c = config.default()
    c.content = c.style = "array"
    c.update_from_flattened_dict(values)
    return config.validate(c)


@pytest.mark.parametrize(
    ("size", "least", "factor", "expected"),
    [
        (512, 128, 2**0.5, [128, 181, 256, 362, 512]),  # crowsonkb/style-transfer-pytorch
        (1024, 512, 2.0, [512, 1024]),  # Gatys et al. 2017
        (512, 129, 2**0.5, [181, 256, 362, 512]),
        (300, 100, 1.5, [133, 200, 300]),  # 88.9 would be next
        (64, 64, 2.0, [64]),
        (64, 0, 2.0, [64]),
    ],
)
def test_sizes_by_hand(size, least, factor, expected):
    c = configured(**{"image_size": size, "pyramid.min_size": least, "pyramid.factor": factor})
    assert [scale.size for scale in pyramid.scales(c)] == expected


def test_each_scale_has_its_steps():
    keys = {"pyramid.first_steps": 7, "pyramid.steps": 5, "steps": 3}
    sizes = {"image_size": 256, "pyramid.min_size": 64, "pyramid.factor": 2.0}
    assert pyramid.scales(configured(**keys, **sizes)) == [(64, 7), (128, 5), (256, 3)]
    assert pyramid.scales(configured(**keys, image_size=256)) == [(256, 3)]


def stepped(settings: Settings, image, gradients) -> State:
    """A state whose optimiser has seen gradients, and whose image and average differ."""
    state, rates = initial_state(settings, image), Rates(0.1)
    optimizer = state.optimizer
    for gradient in gradients:
        _, optimizer = OPTIMIZERS["adam"].build(settings, rates, 0.1).update(gradient, optimizer)
    return State(1 - image, image, optimizer, jnp.int32(len(gradients)))


def test_adam_stays_warm_and_its_mean_squares_positive(rng):
    """One lit pixel among zeros: bicubic interpolation would undershoot beside it."""
    image = jnp.asarray(rng.random((8, 6, 3)), jnp.float32)
    gradient = jnp.zeros((8, 6, 3)).at[4, 3].set(100.0)
    state = stepped(Settings("adam"), image, [gradient, gradient])
    grown = pyramid.enlarge(Settings("adam"), state, (12, 9))
    before, after = state.optimizer[0], grown.optimizer[0]
    assert before.nu.shape == (8, 6, 3)
    assert after.nu.shape == after.mu.shape == (12, 9, 3)
    assert after.nu.min() == 0 < after.nu.max() <= before.nu.max()
    assert jnp.unravel_index(after.nu[..., 0].argmax(), (12, 9)) == (6, 5)  # 4.5 and 3.5 by 1.5
    assert after.count == before.count == 2
    assert grown.step == 0


def test_what_was_lowest_at_another_size_does_not_count(rng):
    """But the rate stays where it was backed off to."""
    settings = Settings("adam", backs_off=True)
    state = initial_state(settings, jnp.asarray(rng.random((8, 6, 3)), jnp.float32))
    used = optax.tree.set(state.optimizer, lowest=jnp.float32(3), share=jnp.float32(0.25))
    grown = pyramid.enlarge(settings, state._replace(optimizer=used), (12, 9)).optimizer
    assert optax.tree.get(grown, "lowest") == np.inf
    assert optax.tree.get(grown, "share") == 0.25


def test_constant_moments_stay_constant(rng):
    image = jnp.asarray(rng.random((8, 6, 3)), jnp.float32)
    state = stepped(Settings("adam"), image, [jnp.full((8, 6, 3), 3.0)])
    after = pyramid.enlarge(Settings("adam"), state, (11, 9)).optimizer[0]
    np.testing.assert_allclose(after.mu, 0.3, rtol=1e-5)  # (1 - b1) * 3
    np.testing.assert_allclose(after.nu, 0.09, rtol=1e-5)  # (1 - b2) * 9


def test_the_average_is_what_grows_within_the_range():
    image = jnp.zeros((8, 6, 3)).at[:, 3:].set(1.0)  # an edge, at which bicubic overshoots
    state = stepped(Settings("adam"), image, [image])
    grown = pyramid.enlarge(Settings("adam"), state, (16, 12))
    assert 0 == grown.image.min() < grown.image.max() == 1
    assert (grown.image[:, :4] < 0.1).all()
    assert (grown.image[:, 8:] > 0.9).all()
    np.testing.assert_array_equal(grown.average, grown.image)


def test_lbfgs_starts_afresh(rng):
    settings = Settings("lbfgs", memory=3)
    image = jnp.asarray(rng.random((8, 6, 3)), jnp.float32)
    old = initial_state(settings, image)
    used = old._replace(optimizer=jax.tree.map(lambda leaf: leaf + 1, old.optimizer))
    grown = pyramid.enlarge(settings, used, (12, 9))
    expected = initial_state(settings, grown.image)
    assert jax.tree.structure(grown) == jax.tree.structure(expected)
    for leaf, wanted in zip(jax.tree.leaves(grown), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(leaf, wanted)


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_steps_are_counted_through_and_a_second_run_compiles_nothing(
    name, picture, vgg19, compilations
):
    """Scales of 32, 45 and 64 with 3, 2 and 4 steps, shown every second and the last of each."""
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
    seen = list(transfer.paint(c, prepare.read(c, *arrays), vgg19))
    assert [progress.step for progress in seen] == [0, 2, 3, 5, 7, 9]
    shapes = [progress.image.shape for progress in seen]
    assert shapes == [(24, 32, 3)] * 3 + [(34, 45, 3)] + [(48, 64, 3)] * 2
    assert seen[2].terms["total"] < seen[0].terms["total"]
    assert seen[-1].terms["total"] < seen[-2].terms["total"]
    compilations.clear()
    again = list(transfer.paint(c, prepare.read(c, *arrays), vgg19))
    assert not compilations
    np.testing.assert_array_equal(again[-1].image, seen[-1].image)


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
    pictures = prepare.read(c, picture(48, 64), [picture(40, 64)])
    *_, last = transfer.paint(c, pictures, vgg19)
    assert last.image.shape == (48, 64, 3)
    assert np.isfinite(list(last.terms.values())).all()
