"""What is asked for: the schema of a config, its rules and grammar, the parsed experiment.

A config file needs `default` or `sample`, `parse_arg` and `smoke`; a program `parse`.
"""

from nst_jax.config.base import (
    PICTURES,
    explain,
    find,
    load,
    names,
    parse_arg,
    sample,
    sample_photograph,
    smoke,
)
from nst_jax.config.described import described
from nst_jax.config.experiment import Experiment
from nst_jax.config.parsing import check_still, parse, parse_values, with_values
from nst_jax.config.schema import Config, default, flat

__all__ = [
    "PICTURES",
    "Config",
    "Experiment",
    "check_still",
    "default",
    "described",
    "explain",
    "find",
    "flat",
    "load",
    "names",
    "parse",
    "parse_arg",
    "parse_values",
    "sample",
    "sample_photograph",
    "smoke",
    "with_values",
]
