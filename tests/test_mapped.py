"""Large pictures on the disk: what they hold, and what they take."""

import mmap
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import painted, prepared

from nst_jax import config
from nst_jax.pictures import mapped
from nst_jax.transfer import prepare


def test_small_arrays_stay_where_they_are():
    array = np.ones((5, 4, 3), np.float32)
    assert mapped.on_disk(array) is array
    mapped.release(array)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_array_takes_memory_only_while_it_is_used():
    def megabytes():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * mmap.PAGESIZE / 1e6

    array = np.arange(40_000_000, dtype=np.float32)  # 160 MB
    last = array[-1]
    found = mapped.on_disk(array)
    assert found is not array
    assert mapped.on_disk(found) is found
    del array
    before = megabytes()
    assert found[::1000].sum(dtype=np.float64) > 0
    used = megabytes()
    mapped.release(found)
    assert used - before > 100
    assert used - megabytes() > 100
    assert found[-1] == last
    assert not found.flags.writeable


def test_a_full_disk_leaves_it_in_memory(monkeypatch):
    def full(**_):
        raise OSError("no space left on device")

    monkeypatch.setattr(mapped.tempfile, "TemporaryFile", full)
    monkeypatch.setattr(mapped, "MAPPED_BYTES", 0)
    array = np.ones(5, np.float32)
    assert mapped.on_disk(array) is array


@pytest.mark.slow
def test_it_paints_the_same(picture, vgg19, monkeypatch):
    c = config.default()
    c.update_from_flattened_dict(
        {"image_size": 40, "steps": 3, "content_layers": "relu2_1", "style_layers": "relu1_1"}
        | {"color.mode": "luminance", "convolution": "direct", "pyramid.min_size": 30}
    )
    c.pyramid.first_steps = 2
    photograph, painting = picture(30, 40), picture(36, 30)

    def last():
        experiment, pictures = prepared(c, photograph, [painting])
        *_, shown = painted(experiment, pictures, vgg19)
        return pictures, np.asarray(jnp.asarray(shown.image))

    _, expected = last()
    monkeypatch.setattr(mapped, "MAPPED_BYTES", 0)
    released = []
    monkeypatch.setattr(mapped, "release", released.append)
    pictures, found = last()
    assert isinstance(pictures.content, np.memmap)
    assert isinstance(pictures.photo, np.memmap)
    assert {id(array) for array in released} >= {id(pictures.content), id(pictures.styles[0])}
    np.testing.assert_array_equal(found, expected)
    prepare.release(pictures)
