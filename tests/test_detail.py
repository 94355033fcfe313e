"""The photograph's detail in a painting, against a sparse solver."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import linalg

from nst_jax.pictures.detail import keep_detail


def laplacian(n: int):
    """Of differences between neighbours, none across the ends."""
    steps = sparse.diags([-np.ones(n - 1), np.ones(n - 1)], [0, 1], (n - 1, n))
    return steps.T @ steps


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_detail_agrees_with_a_sparse_solver(share, rng):
    """The minimum of |u - P|^2 / L^2 + |grad u - grad C|^2, where its gradient is 0."""
    height, width = 12, 17
    painting, photo = (np.float32(0.4 + 0.2 * rng.random((height, width, 3))) for _ in range(2))
    length = share / (1 - share) / 64 * width
    both = sparse.kron(laplacian(height), sparse.eye(width)) + sparse.kron(
        sparse.eye(height), laplacian(width)
    )
    matrix = sparse.csc_matrix(sparse.eye(height * width) / length**2 + both)
    expected = [
        linalg.spsolve(matrix, painting[..., k].ravel() / length**2 + both @ photo[..., k].ravel())
        for k in range(3)
    ]
    expected = np.stack(expected, -1).reshape(painting.shape)
    np.testing.assert_allclose(keep_detail(painting, photo, share), expected, atol=1e-5)


def test_a_share_of_0_is_the_painting_and_of_1_the_photograph_with_its_mean(rng):
    painting, photo = (np.float32(0.4 + 0.2 * rng.random((9, 16, 3))) for _ in range(2))
    np.testing.assert_array_equal(keep_detail(painting, photo, 0.0), painting)
    shifted = photo + painting.mean((0, 1)) - photo.mean((0, 1))
    np.testing.assert_allclose(keep_detail(painting, photo, 1.0), shifted, atol=1e-5)


def test_a_large_picture_keeps_as_much_as_a_small_one():
    def waves(height: int, width: int, across: int, down: int) -> np.ndarray:
        ys, xs = ((np.arange(n) + 0.5) / n for n in (height, width))
        wave = np.cos(np.pi * down * ys)[:, None] * np.cos(np.pi * across * xs)
        return np.float32(0.5 + 0.3 * wave)[..., None].repeat(3, -1)

    found, larger = (
        keep_detail(waves(*shape, 7, 4), waves(*shape, 12, 3), 0.4)
        for shape in ((64, 96), (192, 288))
    )
    np.testing.assert_allclose(larger[1::3, 1::3], found, atol=0.005)
