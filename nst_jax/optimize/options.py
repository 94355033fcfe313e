"""What an optimiser is asked for: static options, which recompile, and rates, which do not.

Plain data without JAX, so that a config can be parsed without it.
"""

import dataclasses
from typing import NamedTuple


@dataclasses.dataclass(frozen=True, slots=True)
class OptimizerStatic:
    """Static options of an optimiser: changing one recompiles.

    Attributes:
      name: a key of `optimizers.OPTIMIZERS`.
      memory: pairs of steps and gradients that L-BFGS keeps, >= 1.
      parameterization: what is stepped, a key of `parameterization.PARAMETERIZATIONS`.
      precision: of matrix products, a name that `jax.default_matmul_precision` knows.
      backs_off: whether the learning rate is halved when the loss is on a plateau.
    """

    name: str
    memory: int = 10
    parameterization: str = "pixels"
    precision: str = "float32"
    backs_off: bool = False


class Rates(NamedTuple):
    """Numbers of an optimiser. They are traced: changing one does not recompile.

    Attributes:
      learning_rate: pixel units a step (Adam) or a factor (SGD), > 0; L-BFGS has none.
      decay: factor on the learning rate at every step, in (0, 1].
      b1: Adam's decay of the mean gradient, in [0, 1).
      b2: Adam's decay of the mean squared gradient, in [0, 1).
      eps: Adam's epsilon, > 0.
      average: decay of the moving average of the iterates, in [0, 1); 0 for no average.
      patience: steps on a plateau until the learning rate is halved, if `backs_off`.
    """

    learning_rate: float
    decay: float = 1.0
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    average: float = 0.0
    patience: int = 0
