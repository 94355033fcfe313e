import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from conftest import network_of

from nst_jax.network import architecture, convolution
from nst_jax.network.convolution import Convolution, convolve, transformed, winograd
from nst_jax.network.state import features


def filtered(image, kernel, zeros):
    """The convolution by SciPy, in float64: networks' kernels are not reversed."""
    padded = np.pad(np.float64(image[0]), ((zeros, zeros), (zeros, zeros), (0, 0)))
    planes = [
        sum(
            scipy.signal.correlate(padded[..., i], kernel[..., i, o].astype(np.float64), "valid")
            for i in range(kernel.shape[2])
        )
        for o in range(kernel.shape[3])
    ]
    return np.stack(planes, -1)[None]


def drawn(rng, height, width, into, out):
    image = rng.standard_normal((1, height, width, into)).astype(np.float32)
    return jnp.asarray(image), rng.standard_normal((3, 3, into, out)).astype(np.float32)


@pytest.mark.parametrize("zeros", [0, 1, 2])
@pytest.mark.parametrize(("height", "width"), [(7, 11), (8, 8), (13, 5), (3, 3), (4, 17)])
def test_both_ways_equal_scipys(zeros, height, width, rng):
    image, kernel = drawn(rng, height, width, 5, 3)
    expected = filtered(image, kernel, zeros)
    direct = convolve(image, jnp.asarray(kernel), jnp.asarray(kernel), zeros)
    tiled = winograd(image, transformed(kernel), zeros)
    assert direct.shape == tiled.shape == expected.shape
    np.testing.assert_allclose(direct, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(tiled, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("tile_rows", [1, 2, 3])
def test_strips_are_the_whole(tile_rows, rng, monkeypatch):
    """29 rows are 8 rows of tiles: in strips of one to three of them."""
    image, kernel = drawn(rng, 29, 13, 7, 5)
    whole = winograd(image, transformed(kernel), 1)
    monkeypatch.setattr(convolution, "MAX_STRIP_BYTES", tile_rows * 36 * 4 * 4 * 7)
    np.testing.assert_allclose(winograd(image, transformed(kernel), 1), whole, atol=2e-4)


@pytest.mark.parametrize("zeros", [0, 1])
def test_the_gradient_is_autodiffs(zeros, rng):
    image, kernel = drawn(rng, 9, 14, 6, 4)
    cotangent = jnp.asarray(rng.standard_normal((1, 7 + 2 * zeros, 12 + 2 * zeros, 4)), jnp.float32)

    def plain(x):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), [(zeros, zeros)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    (expected,) = jax.vjp(plain, jnp.asarray(image))[1](cotangent)
    reversed_kernel = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    for form in (jnp.asarray, transformed):
        _, pull = jax.vjp(lambda x: convolve(x, form(kernel), form(reversed_kernel), zeros), image)  # noqa: B023
        np.testing.assert_allclose(pull(cotangent)[0], expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("padding", "deepest"), [("zero", "conv5_4"), ("circular", "conv3_1")])
def test_the_real_network_within_a_ten_thousandth(
    padding, deepest, vgg19, pixels, quickly_compiled
):
    """Every tap, in units of its largest activation, and the gradient of the deepest."""
    image = pixels(37, 50)
    taps = tuple(tap for tap in architecture.taps("vgg19") if tap[4:] <= deepest[4:])
    networks = [
        network_of(vgg19, taps, padding=padding, convolution=method)
        for method in ("direct", "winograd")
    ]
    look = jax.jit(features)
    direct, tiled = (look(network, image) for network in networks)
    for tap in taps:
        scale = jnp.abs(direct[tap]).max()
        assert jnp.abs(direct[tap] - tiled[tap]).max() < 1e-4 * scale, tap
    slope = jax.jit(jax.grad(lambda x, network: jnp.sum(features(network, x)[deepest])))
    one, other = (slope(image, network) for network in networks)
    assert jnp.abs(one - other).max() < 1e-3 * jnp.abs(one).max()


def test_auto_takes_what_is_faster(monkeypatch, rng):
    def ways(method):
        return [
            Convolution(drawn(rng, 3, 3, into, out)[1], np.zeros(out, np.float32), "zero", method)
            .kernel[...]
            .ndim
            for into, out in ((3, 64), (64, 64), (64, 128), (512, 256))
        ]

    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert ways("auto") == [4, 4, 3, 3]
    assert ways("direct") == [4, 4, 4, 4]
    assert ways("winograd") == [3, 3, 3, 3]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert ways("auto") == [4, 4, 4, 4]
