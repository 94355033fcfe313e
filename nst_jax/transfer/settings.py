"""JAX's own settings as this project needs them, whatever the caller has chosen."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

import jax

T = TypeVar("T")


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Context manager and decorator that sets JAX's options for this thread, and for its block.

    float32 and not x64, standard promotion of types and ranks, compiled programs, the default
    random numbers, transfers allowed. Other options (devices, precision of the caller's own
    products, caches) are left alone; the caller's options are back after the block.
    """
    with contextlib.ExitStack() as stack:
        for setting in (
            jax.enable_x64(False),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            jax.debug_nans(False),  # a chunk marks the steps it does not take by NaN
            jax.debug_infs(False),
            jax.disable_jit(False),
            jax.transfer_guard("allow"),
            jax.default_prng_impl("threefry2x32"),
        ):
            stack.enter_context(setting)
        yield


def each_with_own_settings(make: Callable[[], Iterator[T]]) -> Generator[T, None, None]:
    """Iterates with `own_settings` while a value is computed, not while the caller has it."""
    with own_settings():
        values = make()
    while True:
        with own_settings():
            try:
                value = next(values)
            except StopIteration:
                return
        yield value
