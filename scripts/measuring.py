"""What the benchmarks share: flags, table rows, timing, and the first steps of an experiment."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from nst_jax import config
from nst_jax.config.experiment import Experiment, Source

SIZES = flags.DEFINE_list(
    "sizes", [], "Sides of the painting in pixels; if empty, the benchmark's own."
)
STEPS = flags.DEFINE_integer("steps", 10, "Steps per measurement.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Measurements per side.", lower_bound=1)

ROOT = Path(__file__).parents[1]


class Row(NamedTuple):
    """A row of a table.

    Attributes:
      label: what was measured, and against what.
      value: median of the measurements.
      ratios: each round's ratio to the reference, in ascending order.
      note: anything else worth printing.
    """

    label: str
    value: float
    ratios: list[float]
    note: str = ""


def sizes(*usual: int) -> list[int]:
    """The sizes given with --sizes, or the usual ones."""
    return [int(size) for size in SIZES.value] or [*usual]


def rounds(sides: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Times every side in every round, in seconds. An extra first round compiles and is dropped."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(ROUNDS.value + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def row(label: str, own: list[float], reference: list[float], count: int) -> Row:
    """Compares the seconds of one side with the reference's; the value is for one of `count`."""
    ratios = sorted(a / b for a, b in zip(own, reference, strict=True))
    return Row(label, statistics.median(own) / count, ratios)


def experiment(
    size: int,
    keys: Mapping[str, Any],
    content: Source | None = None,
    styles: Sequence[tuple[Source, float]] = (),
) -> Experiment:
    """The default objective at one size, with all `STEPS` steps in one chunk.

    Args:
      size: longer side in pixels.
      keys: other settings, by their full key.
      content, styles: pictures to use instead of the sample's, as in `config.parse`.
    """
    c = config.sample()
    c.update_from_flattened_dict(keys)
    c.image_size, c.steps, c.log_every, c.save_every = size, STEPS.value, STEPS.value, 0
    return config.parse(c, content, styles)


def loaded(experiment: Experiment) -> tuple[Any, Any]:
    """Loads the pictures and the network of an experiment."""
    from nst_jax.transfer import networks, prepare
    from nst_jax.transfer.cache import SHARED

    pictures = prepare.load(experiment, SHARED)
    return pictures, networks.load_network(experiment, pictures, SHARED)


def begun(experiment: Experiment) -> tuple[Any, Any, Any, Any, Any]:
    """What `chunk` takes for the first steps of an experiment, as a batch of one.

    Returns:
      (static, state, network, problem, rates)
    """
    import jax

    from nst_jax.optimize.step import initial_state, stack
    from nst_jax.transfer.problem import problem_of
    from nst_jax.transfer.starts import start_image

    pictures, network = loaded(experiment)
    static, rates = experiment.optimizer.static, experiment.optimizer.rates
    start = start_image(experiment.inputs.start, experiment.seed, pictures, network.mean)
    problem = problem_of(experiment, pictures, network)
    state = initial_state(static, start[None])
    return static, state, network, *jax.device_put((stack([problem]), stack([rates])))


def stepped(experiment: Experiment) -> Callable[[], None]:
    """A function that takes `STEPS` steps, each time from where the last call stopped."""
    from nst_jax.optimize.step import chunk

    static, start, network, problem, rates = begun(experiment)
    count = STEPS.value

    def steps(state: Any) -> Any:
        return chunk(static, count, count, state, network, problem, rates)[0]

    return ongoing(steps, start)


def ongoing(steps: Callable[[Any], Any], state: Any) -> Callable[[], None]:
    """A function that runs `steps` on the last state and blocks until the next one is ready."""
    import jax

    now = [state]

    def advance():
        now[0] = jax.block_until_ready(steps(now[0]))

    return advance


def run_command(workdir: Path, keys: Mapping[str, Any]) -> list[str]:
    """The command line that paints configs/starry.py with other settings."""
    words = [sys.executable, "-m", "nst_jax.run", "--config", str(ROOT / "configs" / "starry.py")]
    settings = [f"--config.{key}={value}" for key, value in keys.items()]
    return [*words, f"--workdir={workdir}", *settings]
