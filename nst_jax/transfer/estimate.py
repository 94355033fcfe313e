"""What an experiment asks of a device: memory, operations, and how many fit at once."""

from typing import NamedTuple

import jax

from nst_jax.config.experiment import Experiment
from nst_jax.network import architecture

# Pixels of a batch on a CPU: a larger one outgrows the cache and gains nothing
# (docs/performance.md).
MAX_CPU_BATCH_PIXELS = 256 * 256
MAX_BATCH = 64
BATCH_MEMORY_SHARE = 0.7  # of the device's memory
UNKNOWN_DEVICE_BYTES = 8 << 30
STATE_PICTURES = 6  # float32 pictures that a step keeps besides the optimiser's
REMATERIALIZED_SHARE = 0.5  # of the activations' memory


class Work(NamedTuple):
    """What an experiment asks of a device.

    Attributes:
      pixels: of the painting, at its last scale.
      bytes: memory of one painting, without the network; an estimate.
      operations: floating-point operations of all steps; an estimate.
    """

    pixels: int
    bytes: int
    operations: float


def work(experiment: Experiment, shape: tuple[int, int]) -> Work:
    """Estimates what an experiment asks for, from the convolutions of its network.

    A step evaluates the objective and its gradient once: the convolutions forwards and backwards.
    Memory is mostly activations. The estimate is within a tenth of what XLA reports on CPU.

    Args:
      experiment: the experiment.
      shape: (height, width) of the painting.
    """
    height, width = shape
    arch, static = experiment.network.arch, experiment.optimizer.static
    deepest = max(architecture.conv(tap) for tap in experiment.objective.taps)
    activations = operations = 0.0
    for name, (rows, columns, into, out) in architecture.conv_shapes(arch).items():
        if name <= deepest:
            share = 4.0 ** (1 - architecture.block(name))  # of the pixels, at this depth
            activations += 2 * out * share
            operations += 2 * 2 * rows * columns * into * out * share
    if experiment.network.rematerialize:
        activations *= REMATERIALIZED_SHARE
    pictures = STATE_PICTURES + (2 * static.memory if static.name == "lbfgs" else 2)
    return Work(
        height * width,
        round(4 * height * width * (1.1 * activations + 3 * pictures)),
        height * width * operations * experiment.weighed(experiment.steps),
    )


def batch_size(asked: Work) -> int:
    """How many experiments one device computes at once: by its memory, a CPU by its cache."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        most = MAX_CPU_BATCH_PIXELS // asked.pixels
    else:
        memory = (device.memory_stats() or {}).get("bytes_limit", UNKNOWN_DEVICE_BYTES)
        most = int(BATCH_MEMORY_SHARE * memory) // asked.bytes
    return max(1, min(most, MAX_BATCH))
