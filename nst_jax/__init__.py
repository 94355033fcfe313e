"""Neural style transfer in JAX: `from nst_jax import stylize`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nst_jax.transfer.paint import stylize

__all__ = ["stylize"]


def __getattr__(name: str) -> Any:
    """Imports the engine, and JAX with it, only when it is asked for: `--help` need not wait."""
    if name == "stylize":
        from nst_jax.transfer.paint import stylize

        return stylize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
