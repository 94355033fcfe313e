import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from conftest import STYLE_TAPS
from flax import nnx
from golden import SAMPLES, golden_picture

from nst_jax import architecture, config, objective, transfer, weights
from nst_jax.vgg import POOLINGS, VGG


@pytest.fixture(scope="module")
def all_taps(vgg19) -> dict[str, np.ndarray]:
    network = transfer.network_of(vgg19, architecture.taps("vgg19"), "max")
    taps = jax.jit(objective.features)(network, golden_picture())
    return {name: np.asarray(value, np.float64) for name, value in taps.items()}


@pytest.mark.parametrize("tap", list(SAMPLES))
def test_agrees_with_an_independent_float64_computation(tap, all_taps):
    """Numbers from another framework in float64, for the 8-bit codebook's weights."""
    golden, features = SAMPLES[tap], all_taps[tap]
    assert features.shape == golden["shape"]
    assert features.mean() == pytest.approx(golden["mean"], rel=1e-4)
    assert np.linalg.norm(features) == pytest.approx(golden["l2"], rel=1e-4)
    assert (features**2).sum() == pytest.approx(golden["gram_trace"], rel=1e-4)
    first_two = (features[..., 0] * features[..., 1]).sum()
    assert first_two == pytest.approx(golden["gram_0_1"], rel=1e-4)
    for place, value in golden["samples"].items():
        assert features[place] == pytest.approx(value, rel=1e-4, abs=1e-4 * golden["mean"])


def test_relu_is_the_positive_part_of_conv(all_taps):
    for name in architecture.conv_shapes("vgg19"):
        np.testing.assert_array_equal(
            all_taps[architecture.relu(name)], np.maximum(all_taps[name], 0)
        )


def tiny(rng, taps, pooling="max", depth=16) -> VGG:
    """VGG-19 with two to four channels a layer and seeded weights."""
    layers, channels = {}, 3
    for name in list(architecture.conv_shapes("vgg19"))[:depth]:
        width = 2 + len(layers) % 3
        kernel = rng.normal(size=(3, 3, channels, width)) / 3
        layers[name] = np.float32(kernel), np.float32(rng.normal(size=width))
        channels = width
    return VGG(layers, *weights.FAMILIES["torchvision"], taps, pooling)


def test_convolution_by_hand():
    """Row 1 of the kernel, column 2, input channel 0: each pixel gets its right neighbour."""
    kernel = np.zeros((3, 3, 3, 1), np.float32)
    kernel[1, 2, 0, 0] = 1
    layers = {"conv1_1": (kernel, np.float32([0.25]))}
    vgg = VGG(layers, np.zeros(3, np.float32), np.ones(3, np.float32), ["conv1_1"])
    image = jnp.arange(18.0).reshape(2, 3, 3)
    expected = [[3.25, 6.25, 0.25], [12.25, 15.25, 0.25]]
    np.testing.assert_array_equal(vgg(image)["conv1_1"][..., 0], expected)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_pooling_by_hand(pooling):
    features = jnp.arange(15.0).reshape(1, 3, 5, 1)  # the odd last row and column are left out
    expected = {"max": [6, 8], "average": [3, 5]}[pooling]
    np.testing.assert_array_equal(POOLINGS[pooling](features).ravel(), expected)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_gradient_is_that_of_plain_autodiff(pooling, rng):
    """The hand-made backward convolution against lax's own, by a directional derivative."""
    vgg = tiny(rng, ["relu3_4"], pooling)
    image, direction = (jnp.asarray(rng.random((19, 23, 3)), jnp.float32) for _ in range(2))

    def loss(x):
        return jnp.sum(jnp.tanh(vgg(x)["relu3_4"]))

    step = 1e-3
    numeric = (loss(image + step * direction) - loss(image - step * direction)) / (2 * step)
    assert jnp.vdot(jax.grad(loss)(image), direction) == pytest.approx(float(numeric), rel=2e-2)


def test_gradient_is_zero_outside_the_receptive_field(rng):
    vgg = tiny(rng, ["conv2_2"])
    image = jnp.asarray(rng.random((31, 37, 3)), jnp.float32)
    grad = jax.grad(lambda x: vgg(x)["conv2_2"][7, 9].sum())(image)
    seen = np.argwhere(np.asarray(jnp.abs(grad).sum(-1)) > 0)
    # conv2_2 sees 2 positions around on its grid of stride 2, and 2 pixels more at each side.
    assert seen.min(0).tolist() == pytest.approx([2 * 7 - 6, 2 * 9 - 6], abs=1)
    assert seen.max(0).tolist() == pytest.approx([2 * 7 + 7, 2 * 9 + 7], abs=1)


def test_cut_at_the_deepest_tap(rng):
    assert list(tiny(rng, ["relu2_1", "conv1_2"]).convs) == ["conv1_1", "conv1_2", "conv2_1"]


def test_nothing_but_the_image_is_learned(vgg19):
    network = transfer.network_of(vgg19, STYLE_TAPS, "max")
    vgg = nnx.merge(network.graphdef, network.params)
    assert not jax.tree.leaves(nnx.state(vgg, nnx.Param))
    image = jnp.full((16, 16, 3), 0.5)
    grads = jax.grad(
        lambda params: objective.features(network._replace(params=params), image)["relu2_1"].sum()
    )(network.params)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(grads))


def test_sixteen_pixels_reach_relu5_1_and_no_fewer(vgg19):
    network = transfer.network_of(vgg19, STYLE_TAPS, "max")
    assert objective.features(network, jnp.zeros((16, 17, 3)))["relu5_1"].shape == (1, 1, 512)


def test_vgg16_as_published_agrees_with_numpy(picture):
    """torchvision's VGG-16, fetched like any user's, against the float64 reference."""
    c = config.default()
    c.arch = "vgg16"
    vgg16 = transfer.load_weights(c)
    taps = architecture.taps("vgg16")
    image = picture(33, 35)
    seen, _ = reference.forward(
        image, vgg16.layers, np.float64(vgg16.mean), np.float64(vgg16.scale), "conv5_3"
    )
    found = objective.features(transfer.network_of(vgg16, taps, "max"), jnp.asarray(image))
    assert vgg16.source_sha256.startswith("2ecbe4ce01168921")
    for tap in taps:
        np.testing.assert_allclose(found[tap], seen[tap], atol=1e-4 * np.abs(seen[tap]).max())
