"""Anything as an argument of `stylize`: a picture and an experiment, or an error of one short line.

Hypothesis makes up the arguments. For a campaign:

  pytest -n0 tests/test_arguments.py --hypothesis-profile=campaign
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nst_jax import config
from nst_jax.config import rules
from nst_jax.errors import MAX_LETTERS, UserError
from nst_jax.pictures import arrays, images
from nst_jax.transfer import api, prepare
from nst_jax.transfer.cache import Cache

NAMES = [
    "content",
    "",
    "none.jpg",
    "a.jpg:3, b.jpg",
    "\0",
    "~nobody/x",
    "x" * 5000,
    "{",
    ":",
    "a=b;",
]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=40)
ARRAYS = st.one_of(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int64, np.uint16, np.float32, np.float64, np.float16, bool]),
        st.one_of(SHAPES, st.sampled_from([(20, 24, 3), (20, 24), (20, 24, 4), (3, 20, 24)])),
    ),
    hnp.arrays(np.float32, (20, 24, 3), elements=st.floats(0, 1, width=32)),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=20),
    st.sampled_from(NAMES),
    st.binary(max_size=40),
    st.dates(),
)
LISTS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
PICTURES = st.one_of(ARRAYS, LISTS, st.tuples(SCALARS, SCALARS), st.lists(ARRAYS, max_size=2))
KEYS = st.one_of(
    st.sampled_from([*config.flat(config.default()), "optimizer", "color", "guides", "pyramid"]),
    st.sampled_from(sorted(rules.ALIASES)),
    st.text(max_size=12),
)
VALUES = st.one_of(
    LISTS,
    hnp.arrays(np.float32, SHAPES),
    st.dictionaries(st.text(max_size=8), SCALARS, max_size=3),
)


def answer(call):
    """What a call returns, or None; an error must be one of those documented, and short."""
    try:
        return call()
    except (TypeError, UserError) as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) <= MAX_LETTERS
        assert not isinstance(error, TypeError) or text.startswith(
            ("the picture", "style pic", "the")
        )
        return None


@given(PICTURES)
def test_a_picture_or_one_line(picture):
    array = answer(lambda: arrays.as_array(picture, "the picture"))
    if array is not None:
        assert array.ndim == 3 and array.shape[2] == 3
        assert array.dtype in (np.uint8, np.float32)
        read = answer(lambda: images.prepare(array, 32, 1, "the picture"))
        assert read is None or (0 <= read.min() <= read.max() <= 1)


@given(PICTURES, PICTURES)
def test_pictures_or_one_line(content, style):
    """The whole way to what is painted from, of any content and style."""

    def load():
        experiment = api.experiment_of(
            content, style, {"image_size": 32, "style_layers": "relu1_1"}
        )
        return prepare.load(experiment, Cache())

    found = answer(load)
    if found is not None:
        assert len(found.shape) == 2 and min(found.shape) >= 1


@given(st.dictionaries(KEYS, VALUES, max_size=3))
def test_an_experiment_or_one_line(given_settings):
    """Of any keys and values."""
    found = answer(lambda: api.experiment_of("c.png", "s.png", given_settings))
    assert found is None or found.steps >= 1


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_one_line(name):
    answer(lambda: prepare.load(api.experiment_of(name, name, {}), Cache()))
