"""What is asked for: the schema of an experiment, its rules, and the languages of its values."""

from nst_jax.config.schema import (
    PICTURES,
    Config,
    default,
    explain,
    load,
    losses,
    parse_arg,
    sample,
    sample_photograph,
    smoke,
    validate,
    with_values,
)

__all__ = [
    "PICTURES",
    "Config",
    "default",
    "explain",
    "load",
    "losses",
    "parse_arg",
    "sample",
    "sample_photograph",
    "smoke",
    "validate",
    "with_values",
]
