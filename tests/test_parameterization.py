import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nst_jax.optimize.parameterization import PARAMETERIZATIONS

SHAPES = [(8, 12), (9, 7), (1, 16), (32, 31)]


@pytest.fixture(params=PARAMETERIZATIONS)
def name(request):
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
def test_encoding_undoes_decoding(name, shape, rng):
    decode, encode, _ = PARAMETERIZATIONS[name](shape)
    picture = jnp.asarray(rng.random((*shape, 3)), jnp.float32)
    np.testing.assert_allclose(decode(encode(picture)), picture, atol=1e-5)
    np.testing.assert_allclose(encode(decode(picture)), picture, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_the_coordinates_is_the_decoded_one(name, shape, rng):
    """Symmetric: d J(D z) / dz = D' dJ/dx = D dJ/dx, by JAX's own chain rule."""
    decode, *_ = PARAMETERIZATIONS[name](shape)
    weights, z = (jnp.asarray(rng.random((*shape, 3)), jnp.float32) for _ in range(2))

    def function(x):
        return jnp.sum(weights * jnp.sin(x))

    chained = jax.grad(lambda z: function(decode(z)))(z)
    np.testing.assert_allclose(decode(jax.grad(function)(decode(z))), chained, atol=1e-5)


@pytest.mark.parametrize(("across", "down"), [(0, 0), (1, 0), (3, 0), (0, 2), (3, 4), (8, 8)])
def test_a_wave_has_the_amplitude_of_its_frequency(across, down):
    """Scaled by frequency^-1/2, the constant like the lowest; mean square 1, in NumPy."""
    height = width = 16
    y, x = np.mgrid[:height, :width] / 16
    wave = np.cos(2 * np.pi * (across * x + down * y))[..., None].repeat(3, -1)
    decode, *_ = PARAMETERIZATIONS["fourier"]((height, width))
    all_across, all_down = np.meshgrid(np.arange(0, 9), np.fft.fftfreq(16) * 16)
    scales = np.maximum(np.hypot(all_across, all_down) / 16, 1 / 16) ** -0.5
    expected = max(np.hypot(across, down) / 16, 1 / 16) ** -0.5 / np.sqrt((scales**2).mean())
    decoded = decode(jnp.asarray(wave, jnp.float32))
    np.testing.assert_allclose(decoded, expected * wave, atol=2e-5 * expected)
