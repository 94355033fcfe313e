"""Losses of the pixels themselves, against plain float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from nst_jax.losses.matting import EPSILON, colour_basis, matting_distance
from nst_jax.losses.spectrum import spectrum, spectrum_distance


def matting_laplacian(photo: np.ndarray):
    """Levin et al. 2008, equation 12, window by window."""
    height, width, _ = photo.shape
    total = sparse.lil_matrix((height * width, height * width))
    for y, x in itertools.product(range(1, height - 1), range(1, width - 1)):
        rows = [(y + a) * width + x + b for a in (-1, 0, 1) for b in (-1, 0, 1)]
        colours = photo.reshape(-1, 3)[rows]
        centred = colours - colours.mean(0)
        inverse = np.linalg.inv(np.cov(colours.T, bias=True) + EPSILON / 9 * np.eye(3))
        total[np.ix_(rows, rows)] += np.eye(9) - (1 + centred @ inverse @ centred.T) / 9
    return sparse.csr_matrix(total)


def test_matting_agrees_with_the_matting_laplacian(rng):
    photo, image = rng.random((8, 7, 3)), rng.random((8, 7, 3))
    laplacian = matting_laplacian(photo)
    channels = image.reshape(-1, 3)
    windows = 6 * 5
    expected = np.sum(channels * (laplacian @ channels)) / windows
    slope = 2 * (laplacian @ channels).reshape(image.shape) / windows
    basis = jnp.asarray(colour_basis(np.float32(photo)))
    value, gradient = jax.value_and_grad(matting_distance)(jnp.float32(image), basis)
    assert value == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(gradient, slope, atol=1e-5 * np.abs(slope).max())


def test_an_affine_recolouring_costs_nothing(rng, picture):
    photo = picture(24, 20)
    recoloured = 0.2 + photo @ np.float32(rng.random((3, 3)) / 3)
    basis = jnp.asarray(colour_basis(photo))
    noise = matting_distance(jnp.asarray(picture(24, 20)), basis)
    assert abs(matting_distance(jnp.asarray(recoloured), basis)) < 1e-3 * noise


@pytest.mark.parametrize("size", [(8, 10), (9, 7)])
def test_the_spectrum_loss_is_the_distance_from_the_nearest_of_that_spectrum(size, rng):
    image, texture = rng.random((*size, 3)), rng.random((*size, 3))
    own, target = (np.fft.fft2(x, axes=(0, 1)) for x in (image, texture))
    phase = np.sum(own * np.conj(target), -1, keepdims=True)
    nearest = np.fft.ifft2(target * phase / np.abs(phase), axes=(0, 1)).real
    expected = np.mean(np.square(image - nearest))
    found = spectrum_distance(jnp.float32(image), spectrum(jnp.float32(texture)))
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_texture_that_is_moved_has_the_same_spectrum(rng):
    texture = np.float32(rng.random((240, 256, 3)))  # its square is beyond 32 bits
    moved = jnp.asarray(np.roll(texture, (3, 5), (0, 1)))
    target = spectrum(jnp.asarray(texture))
    value, gradient = jax.value_and_grad(spectrum_distance)(moved, target)
    other = spectrum_distance(jnp.float32(rng.random((240, 256, 3))), target)
    assert abs(value) < 1e-4 * other
    assert np.isfinite(gradient).all()
    flat = jax.grad(spectrum_distance)(jnp.full((240, 256, 3), 0.5), target)
    assert np.isfinite(flat).all()
