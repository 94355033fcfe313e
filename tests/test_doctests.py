"""Examples in docstrings."""

import doctest
import importlib
import pkgutil

import pytest

import nst_jax

pytestmark = pytest.mark.usefixtures("quickly_compiled")

# These define flags when they are imported.
DOORS = ("film", "paint", "report.__main__", "run", "studio.__main__", "sweep", "watch")
FLAGS = {f"nst_jax.{name}" for name in DOORS}
MODULES = [
    module.name
    for module in pkgutil.walk_packages(nst_jax.__path__, "nst_jax.")
    if module.name not in FLAGS
]


def examples_of(name):
    """The docstrings of a module that have examples."""
    found = doctest.DocTestFinder().find(importlib.import_module(name))
    return [test for test in found if test.examples]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    for example in examples_of(name):
        assert doctest.DocTestRunner().run(example).failed == 0, example.name


def test_there_are_examples():
    names = [example.name for name in MODULES for example in examples_of(name)]
    assert "nst_jax.transfer.api.stylize" in names
    assert len(names) > 8
