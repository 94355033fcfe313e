import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from conftest import STYLE_TAPS, knobs_for, network_of, problem_for
from flax import nnx
from golden import SAMPLES, golden_picture

from nst_jax.losses import objective
from nst_jax.network import architecture, fetch, weights
from nst_jax.network.state import features
from nst_jax.network.vgg import PADDINGS, POOLINGS, VGG
from nst_jax.optimize.options import OptimizerStatic, Rates
from nst_jax.optimize.step import chunk, initial_state, stack


@pytest.fixture(scope="module")
def all_taps(vgg19) -> dict[str, np.ndarray]:
    network = network_of(vgg19, architecture.taps("vgg19"))
    taps = jax.jit(features)(network, golden_picture())
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


def tiny(rng, taps, pooling="max", padding="zero", depth=16) -> VGG:
    """VGG-19 with two to four channels a layer and seeded weights."""
    layers, channels = {}, 3
    for name in list(architecture.conv_shapes("vgg19"))[:depth]:
        width = 2 + len(layers) % 3
        kernel = rng.normal(size=(3, 3, channels, width)) / 3
        layers[name] = np.float32(kernel), np.float32(rng.normal(size=width))
        channels = width
    return VGG(layers, *weights.FAMILIES["torchvision"], taps, pooling, padding)


def test_convolution_by_hand():
    """Row 1 of the kernel, column 2, input channel 0: each pixel gets its right neighbour."""
    kernel = np.zeros((3, 3, 3, 1), np.float32)
    kernel[1, 2, 0, 0] = 1
    layers = {"conv1_1": (kernel, np.float32([0.25]))}
    vgg = VGG(layers, np.zeros(3, np.float32), np.ones(3, np.float32), ["conv1_1"])
    image = jnp.arange(18.0).reshape(2, 3, 3)
    expected = [[3.25, 6.25, 0.25], [12.25, 15.25, 0.25]]
    np.testing.assert_array_equal(vgg(image)["conv1_1"][..., 0], expected)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("max", [6, 8]),
        ("max_ceil", [6, 8, 9, 11, 13, 14]),
        ("average", [3, 5]),
        ("l2", [15.5**0.5, 31.5**0.5]),  # (0 + 1 + 25 + 36) / 4 and (4 + 9 + 49 + 64) / 4
        ("average_rescaled", [6, 10]),
        ("l2_rescaled", [0.78 * 62**0.5, 0.78 * 126**0.5]),
    ],
)
def test_pooling_by_hand(pooling, expected):
    features = jnp.arange(15.0).reshape(
        1, 3, 5, 1
    )  # all but "max_ceil" leave out the odd last row and column
    np.testing.assert_allclose(POOLINGS[pooling](features).ravel(), expected, rtol=1e-6)


def test_every_pooling_has_its_case_above():
    (mark,) = test_pooling_by_hand.pytestmark
    assert {name for name, _ in mark.args[1]} == set(POOLINGS)


@pytest.mark.parametrize("pooling", ["max", "max_ceil"])
def test_of_equal_elements_the_first_has_max_poolings_gradient(pooling):
    """By rows, as in PyTorch and TensorFlow; the third row makes windows of half the size."""
    features = jnp.float32([[1, 1, 5, 5], [1, 1, 5, 7], [2, 2, 3, 4]])[None, ..., None]
    slope = jax.grad(lambda x: POOLINGS[pooling](x).sum())(features)[0, ..., 0]
    last = [1, 0, 0, 1] if pooling == "max_ceil" else [0, 0, 0, 0]
    np.testing.assert_array_equal(slope, [[1, 0, 0, 0], [0, 0, 0, 1], last])


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["l2", "l2_rescaled"])
def test_the_gradient_of_l2_pooling_is_zero_where_all_are_zero(pooling):
    """Elsewhere it is x / (4 y), y the root of the mean square, times 0.78 * 2 if rescaled."""
    features = jnp.zeros((1, 2, 4, 1)).at[0, :, 2:, 0].set(jnp.array([[1.0, 0.0], [2.0, 2.0]]))
    slope = jax.grad(lambda x: POOLINGS[pooling](x).sum())(features)[0, ..., 0]
    expected = np.array([[0, 0, 1, 0], [0, 0, 2, 2]]) / (4 * 1.5)  # y = (1 + 4 + 4) / 4 under root
    np.testing.assert_allclose(slope, (1.56 if "rescaled" in pooling else 1) * expected, rtol=1e-6)


MODES = {  # of np.pad and jnp.pad, at the first convolution and at the others
    "zero": ("constant", "constant"),
    "reflect": ("reflect", "reflect"),
    "replicate": ("edge", "edge"),
    "circular": ("wrap", "wrap"),
    "replicate_first": ("edge", "constant"),
}


@pytest.mark.parametrize("padding", PADDINGS)
def test_padding_is_numpys_and_the_gradient_that_of_plain_autodiff(padding, rng):
    vgg = tiny(rng, ["conv1_1", "conv1_2", "conv2_2"], "average", padding)
    image, slope = (jnp.asarray(rng.random((10, 13, n)), jnp.float32) for n in (3, 4))
    layers = {
        name: (np.asarray(layer.kernel[...]), np.asarray(layer.bias[...]))
        for name, layer in vgg.convs.items()
    }

    def mode(name):
        return MODES[padding][name != "conv1_1"]

    # Values, by NumPy alone: a sum over the nine positions of the kernel.
    x, seen = (np.float64(image) - vgg.mean[...]) * vgg.scale[...], {}
    for name in ("conv1_1", "conv1_2"):
        kernel, bias = layers[name]
        height, width, _ = x.shape
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode(name))
        seen[name] = bias + sum(
            padded[i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
        )
        x = np.maximum(seen[name], 0)

    # Gradients, by lax's own.
    def plain(image):
        x = ((image - vgg.mean[...]) * vgg.scale[...])[None]
        for name, (kernel, bias) in layers.items():
            x = jax.nn.relu(x) if name != "conv1_1" else x
            if name == "conv2_1":
                x = x[:, :10, :12].reshape(1, 5, 2, 6, 2, -1).mean((2, 4))
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode(name))
            x = bias + jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return x[0]

    ours = jax.jit(vgg)(image)
    for name, expected in seen.items():
        np.testing.assert_allclose(ours[name], expected, rtol=1e-4, atol=1e-4)
    cotangent = slope[:5, :6, : layers["conv2_2"][1].size]
    gradients = [
        jax.jit(jax.grad(lambda image, f=f: jnp.vdot(cotangent, f(image))))(image)
        for f in (lambda image: vgg(image)["conv2_2"], plain)
    ]
    atol = 1e-5 * float(jnp.abs(gradients[1]).max())
    np.testing.assert_allclose(*gradients, atol=atol)
    assert all((gradients[0][edge] != 0).any() for edge in (0, -1))


def test_padding_has_all_that_a_config_may_name():
    assert set(MODES) == set(PADDINGS)


@pytest.mark.parametrize(("tap", "stride"), [("conv1_2", 1), ("relu2_2", 2), ("relu3_1", 4)])
def test_circular_padding_has_no_edges(tap, stride, rng):
    """A picture shifted around by one position of a tap shifts the tap by one position."""
    image = jnp.asarray(rng.random((16, 24, 3)), jnp.float32)
    shifted = jnp.roll(image, (stride, 2 * stride), (0, 1))
    differences = {}
    for padding in ("circular", "zero"):
        vgg = jax.jit(tiny(np.random.default_rng(4), [tap], "max", padding))
        expected = jnp.roll(vgg(image)[tap], (1, 2), (0, 1))
        differences[padding] = jnp.abs(vgg(shifted)[tap] - expected).max() / expected.max()
    assert differences["circular"] < 1e-5
    assert differences["zero"] > 1e-2


@pytest.mark.parametrize("padding", PADDINGS)
def test_every_padding_works_down_to_one_position(padding, rng):
    vgg = jax.jit(tiny(rng, ["relu5_1"], "l2", padding))
    deepest = vgg(jnp.asarray(rng.random((16, 17, 3)), jnp.float32))["relu5_1"]
    assert deepest.shape[:2] == (1, 1)
    assert jnp.isfinite(deepest).all()


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_nothing_but_the_image_is_learned(vgg19):
    network = network_of(vgg19, STYLE_TAPS)
    vgg = nnx.merge(network.graphdef, network.params)
    assert not jax.tree.leaves(nnx.state(vgg, nnx.Param))
    image = jnp.full((16, 16, 3), 0.5)
    grads = jax.grad(
        lambda params: features(network._replace(params=params), image)["relu2_1"].sum()
    )(network.params)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(grads))


@pytest.mark.slow
def test_sixteen_pixels_reach_relu5_1_and_no_fewer(vgg19):
    network = network_of(vgg19, STYLE_TAPS)
    assert features(network, jnp.zeros((16, 17, 3)))["relu5_1"].shape == (1, 1, 512)


@pytest.mark.slow
def test_vgg16_as_published_agrees_with_numpy(picture):
    """torchvision's VGG-16, fetched like any user's, against the float64 reference."""
    vgg16 = weights.load(fetch.find("", "vgg16"), "vgg16")
    taps = architecture.taps("vgg16")
    image = picture(33, 35)
    seen, _ = reference.forward(
        image, vgg16.layers, np.float64(vgg16.mean), np.float64(vgg16.scale), "conv5_3"
    )
    found = features(network_of(vgg16, taps), jnp.asarray(image))
    assert vgg16.source_sha256.startswith("2ecbe4ce01168921")
    for tap in taps:
        np.testing.assert_allclose(found[tap], seen[tap], atol=1e-4 * np.abs(seen[tap]).max())


@pytest.mark.slow
@pytest.mark.parametrize(("pooling", "method"), [("l2", "direct")])
def test_rematerialized_gradients_are_the_same_for_less_memory(vgg19, pixels, method, pooling):
    """A chunk's values and slopes, through three blocks; memory as XLA counts it."""
    taps = STYLE_TAPS[:3]
    image, content, style = pixels(96, 96), pixels(96, 96), pixels(64, 64)
    memory, values, pictures = [], [], []
    for rematerialize in (False, True):
        network = network_of(
            vgg19, taps, pooling=pooling, convolution=method, rematerialize=rematerialize
        )
        knobs = knobs_for({"relu3_1": 1.0}, dict.fromkeys(taps, 1.0))
        batch = network, stack([problem_for(network, content, style, knobs)]), stack([Rates(1e-9)])
        static = OptimizerStatic("sgd")
        state, two = initial_state(static, image[None]), jnp.int32(2)
        compiled = chunk.lower(static, 2, two, state, *batch).compile()
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
        state, terms, _ = compiled(two, state, *batch)
        values.append(float(terms["total"][0]))
        pictures.append(state.image[0])
    # Methods differ with it where they are chosen by layer.
    assert values[1] == pytest.approx(values[0], rel=1e-3 if method == "auto" else 1e-5)
    # Equal members of a pooling window, ReLUs' signs.
    off = np.abs(pictures[0] - pictures[1]) > 1e-3
    assert off.mean() <= (0.01 if method == "auto" else 0)
    assert np.abs(pictures[0] - image).max() > 1e-3
    assert memory[1] < 0.6 * memory[0]


@pytest.mark.slow
def test_bfloat16_keeps_the_picture_and_the_losses_in_float32(vgg19, pixels):
    """Activations within the error of 8 bits, summed over the layers; taps and slope in float32."""
    image, style = pixels(64, 64), pixels(64, 48)
    terms, slopes = [], []
    for dtype in ("float32", "bfloat16"):
        network = network_of(vgg19, STYLE_TAPS[:2], convolution="auto", precision=dtype)
        knobs = knobs_for({"relu2_1": 1.0}, dict.fromkeys(STYLE_TAPS[:2], 1.0))
        problem = problem_for(network, image[::-1], style, knobs)
        seen = jax.eval_shape(features, network, image)
        assert {tap.dtype for tap in seen.values()} == {jnp.dtype("float32")}
        inner = {leaf.dtype for leaf in jax.tree.leaves(network.params["convs"])}
        assert inner == {jnp.dtype(dtype)}
        terms.append(jax.jit(objective.breakdown)(image, network, problem))
        slopes.append(jax.jit(jax.grad(objective.objective))(image, network, problem))
    assert slopes[1].dtype == jnp.float32
    for name, exact in terms[0].items():
        assert float(terms[1][name]) == pytest.approx(float(exact), rel=0.03), name
    one, other = (np.asarray(slope).ravel() for slope in slopes)
    assert one @ other > 0.98 * np.linalg.norm(one) * np.linalg.norm(other)
