"""Neural style transfer in JAX: `from nst_jax import stylize`."""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from nst_jax.errors import UserError

if TYPE_CHECKING:
    from nst_jax.optimize.loop import NonFiniteLossError
    from nst_jax.report.tables import load_results
    from nst_jax.transfer.api import Stage, paint_steps, save, stylize, stylize_film
    from nst_jax.transfer.cache import clear_cache, keep_programs

__version__ = importlib.metadata.version("nst_jax")
__all__ = [
    "NonFiniteLossError",
    "Stage",
    "UserError",
    "__version__",
    "clear_cache",
    "keep_programs",
    "load_results",
    "paint_steps",
    "save",
    "stylize",
    "stylize_film",
]

_HOMES = {
    "NonFiniteLossError": "nst_jax.optimize.loop",
    "Stage": "nst_jax.transfer.api",
    "clear_cache": "nst_jax.transfer.cache",
    "keep_programs": "nst_jax.transfer.cache",
    "load_results": "nst_jax.report.tables",
    "paint_steps": "nst_jax.transfer.api",
    "save": "nst_jax.transfer.api",
    "stylize": "nst_jax.transfer.api",
    "stylize_film": "nst_jax.transfer.api",
}


def __getattr__(name: str) -> Any:
    """Imports the engine, and JAX with it, when it is first used: `--help` need not wait."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
