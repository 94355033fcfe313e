"""What the benchmarks share: their flags, the lines of their tables, and how sides take turns."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import flags

from nst_jax import config

SIZES = flags.DEFINE_list("sizes", [], "Sides of the painting, in pixels; empty: the benchmark's.")
STEPS = flags.DEFINE_integer("steps", 10, "Steps of one measurement.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Measurements of each side.", lower_bound=1)


def sizes(*usual: int) -> list[int]:
    """The sizes that are asked for, or else the usual ones."""
    return [int(size) for size in SIZES.value] or [*usual]


class Row(NamedTuple):
    """A line of a table.

    Attributes:
      label: what was measured, against what.
      value: median of what was measured.
      ratios: of each round, to the reference, in order of size.
      note: more about it.
    """

    label: str
    value: float
    ratios: list[float]
    note: str = ""


def rounds(sides: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Seconds of each side in every round; a first one compiles and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(ROUNDS.value + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def row(label: str, own: list[float], reference: list[float], each: int) -> Row:
    """A line of what was measured against its reference, in seconds of one of `each`."""
    ratios = sorted(a / b for a, b in zip(own, reference, strict=True))
    return Row(label, statistics.median(own) / each, ratios)


def experiment(size: int, **keys: Any) -> config.Config:
    """The default objective at a size, in a single chunk."""
    c = config.sample()
    c.update_from_flattened_dict(keys)
    c.image_size, c.steps, c.log_every, c.save_every = size, STEPS.value, STEPS.value, 0
    return config.validate(c)


def begun(c: config.Config, pictures: Any, loaded: Any) -> tuple[Any, Any, Any, Any]:
    """What `optimize.chunk` takes for an experiment's first steps: settings, state, args, rates."""
    import jax

    from nst_jax.optimize.loop import initial_state
    from nst_jax.transfer import paint as transfer
    from nst_jax.transfer.starts import start_image

    settings = transfer.settings_of(c)
    args = transfer.problem(c, pictures, transfer.network_for(c, loaded))
    state = initial_state(settings, start_image(c, pictures, loaded.mean))
    return settings, state, *jax.device_put((args, transfer.rates_of(c)))


def stepped(c: config.Config, pictures: Any, loaded: Any) -> Callable[[], None]:
    """A function that takes a chunk of steps and goes on where the last one ended."""
    from nst_jax.optimize.loop import chunk

    settings, start, args, rates = begun(c, pictures, loaded)
    count = STEPS.value
    return ongoing(lambda state: chunk(settings, count, count, state, args, rates)[0], start)


def ongoing(steps: Callable[[Any], Any], state: Any) -> Callable[[], None]:
    """A function that takes steps from where they ended the last time, and waits for them."""
    import jax

    now = [state]

    def go_on():
        now[0] = jax.block_until_ready(steps(now[0]))

    return go_on
