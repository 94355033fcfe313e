"""What a failed run says: errors of the device in one line, the exit code, what is kept."""

import dataclasses
import re

import jax

from nst_jax.config import rules
from nst_jax.config.experiment import Experiment
from nst_jax.errors import StoppedError, UserError
from nst_jax.transfer import estimate

# How XLA's errors begin. When a program is dispatched, JAX raises them as ValueError.
STATUS = re.compile(
    "(ABORTED|CANCELLED|DATA_LOSS|DEADLINE_EXCEEDED|FAILED_PRECONDITION|INTERNAL|OUT_OF_RANGE|"
    "RESOURCE_EXHAUSTED|UNAVAILABLE|UNKNOWN): "
)
MAX_QUOTED_LETTERS = 300


def is_out_of_memory(error: Exception) -> bool:
    """Whether XLA failed for want of memory."""
    return "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def out_of_memory(experiment: Experiment) -> UserError:
    """The error of an experiment that the device cannot hold."""
    advice = "choose a smaller one"
    now = estimate.tile(experiment, (experiment.size, experiment.size))
    tile = next((side for side in (512, 256) if side < (now or experiment.size)), 0)
    if tile and not rules.untileable(experiment):
        advice += f", or --config.tile={tile}, which takes the memory of one tile"
    elif not (now or experiment.network.rematerialize):
        advice += ", or --config.rematerialize=True, which takes about half"
    return UserError(
        f"the device has too little memory for config.image_size {experiment.size}; {advice}"
    )


def check_memory(experiment: Experiment, shape: tuple[int, int]):
    """Checks that the device has the memory that a painting takes, as far as both are known.

    Without this, a system that overcommits memory would end the process without a word.

    Args:
      experiment: the experiment.
      shape: (height, width) of the painting.

    Raises:
      UserError: it has less.
    """
    needed = estimate.work(experiment, shape).bytes
    there = estimate.device_bytes()
    if there and needed > there:
        advice = "choose a smaller one"
        if experiment.optimizer.static.name == "lbfgs":
            advice += ", or a smaller config.optimizer.memory"
        plain = dataclasses.replace(experiment.output, metrics=False)
        plain = dataclasses.replace(experiment, output=plain)
        if estimate.work(plain, shape).bytes <= there:
            advice += ", or leave config.metrics out, which needs the whole picture at once"
        raise UserError(
            f"config.image_size {experiment.size} takes about {needed / 1e9:.3g} GB of memory, and "
            f"the device has {there / 1e9:.3g}; {advice}"
        )


def device_failed(error: Exception) -> StoppedError:
    """The error of a device that failed in another way, for example because it was lost.

    Raises:
      Exception: `error` itself, if it does not come from a device.
    """
    if not isinstance(error, jax.errors.JaxRuntimeError) and not STATUS.match(str(error)):
        raise error
    first = str(error).strip().partition("\n")[0]
    return StoppedError(f"the device failed: {first[:MAX_QUOTED_LETTERS]}", 1)


def explained(error: Exception, experiment: Experiment) -> UserError | StoppedError:
    """The error of a device in one line.

    Raises:
      Exception: `error` itself, if it does not come from a device.
    """
    return out_of_memory(experiment) if is_out_of_memory(error) else device_failed(error)
