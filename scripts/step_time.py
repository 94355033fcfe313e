"""Times a step with each control on, as a ratio to a step of the defaults in the same run.

  python scripts/step_time.py
  python scripts/step_time.py --rows "written by hand, guides" --size 256

The first row is a step written by hand below, without anything to switch on: it shows what the
controls cost while they are off. Every round times all rows in turn. The table has the median over
rounds of the ratio within a round, with its smallest and largest. Compilation is not counted.

2 CPU cores: 8 minutes, half of which is the steps themselves.
"""

import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from measuring import ROUNDS, STEPS, begun, ongoing, rounds, stepped

from nst_jax import cli, config
from nst_jax.config import grammar, rules
from nst_jax.errors import UserError
from nst_jax.pictures import images

if TYPE_CHECKING:
    from nst_jax.losses.arguments import Problem
    from nst_jax.network.state import NetworkState

_ROWS = flags.DEFINE_string(
    "rows", "", "Rows to time, each by the start of its name; all rows if empty."
)
_SIZE = flags.DEFINE_integer("size", 192, "Longer side of the painting in pixels.", lower_bound=32)
flags.declare_key_flag("steps")
flags.declare_key_flag("rounds")
flags.set_default(STEPS, 3)
flags.set_default(ROUNDS, 7)

BY_HAND = "written by hand"
STYLE = str(config.PICTURES / "starry.jpg")
MASKS = "left={0}/left.png, right={0}/right.png"  # {0}: the folder with the masks
# Row -> the config keys that differ from the defaults.
ROWS: dict[str, dict[str, Any]] = {
    BY_HAND: {},
    **{f"style_losses={name}": {"style_losses": name} for name in [*rules.STYLE_LOSSES][1:]},
    "content_losses=self_similarity": {"content_losses": "self_similarity"},
    **{f"pooling={name}": {"pooling": name} for name in ("average", "l2")},
    **{f"padding={name}": {"padding": name} for name in rules.PADDINGS[1:4]},
    "guides, two regions": {"guides": {"content": MASKS, "style": MASKS}},
    "two styles, blend=targets": {"style": f"{STYLE}:2, {config.sample_photograph()}"},
    "two styles, blend=losses": {
        "style": f"{STYLE}:2, {config.sample_photograph()}",
        "blend": "losses",
    },
    "matting_weight=1e8": {"matting_weight": 1e8},
    "normalize_gradients": {"normalize_gradients": True},
    "optimizer.average=0.9": {"optimizer": {"average": 0.9}},
    "optimizer.name=sgd": {"optimizer": {"name": "sgd"}},
    "optimizer.name=lbfgs": {"optimizer": {"name": "lbfgs"}},
    "parameterization=fourier": {"parameterization": "fourier"},
    "convolution=direct": {"convolution": "direct"},
    "rematerialize": {"rematerialize": True},
}


def main():
    """Times the rows in turn and prints the table."""
    wanted = tuple(grammar.words(_ROWS.value))
    rows = [row for row in ROWS if not wanted or row.startswith(wanted)]
    if not rows:
        raise UserError(f"--rows {_ROWS.value!r} matches no row; there are {', '.join(ROWS)}")
    with TemporaryDirectory() as folder:
        write_masks(Path(folder))
        seconds = rounds({row: side(row, folder) for row in ["", *rows]})
    each = statistics.median(seconds[""]) / STEPS.value
    print(f"{'defaults':<32}{each:>8.3f} s a step, {_SIZE.value} pixels")
    for row in rows:
        ratios = sorted(own / other for own, other in zip(seconds[row], seconds[""], strict=True))
        middle = statistics.median(ratios)
        print(f"{row:<32}{middle:>8.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)


def write_masks(folder: Path):
    """Writes the masks of two regions, the left and the right half."""
    left = np.zeros((64, 64, 3), np.float32)
    left[:, :32] = 1
    images.write(folder / "left.png", left)
    images.write(folder / "right.png", 1 - left)


def side(row: str, folder: str) -> Callable[[], None]:
    """A function that takes the steps of a row."""
    import jax

    c = config.sample()
    c.image_size = _SIZE.value
    c.update(ROWS.get(row, {}))
    for part in ("content", "style"):
        c.guides[part] = c.guides[part].format(folder)
    experiment = config.parse(c)
    if row != BY_HAND:
        return stepped(experiment)
    _, state, network, problem, _ = begun(experiment)
    image, problem = jax.tree.map(lambda leaf: leaf[0], (state.image, problem))  # no batch axis
    learning_rate = experiment.optimizer.rates.learning_rate
    start, steps = by_hand(image, network, problem, STEPS.value, learning_rate)
    return ongoing(steps, start)


def by_hand(
    start: Any, network: "NetworkState", problem: "Problem", count: int, learning_rate: float
) -> tuple[Any, Any]:
    """Adam on the default objective, without tables, guides, regions, shares or averages.

    Args:
      start: [h, w, 3] the first picture.
      network: with the taps of the default losses.
      problem: of one picture, with the default losses.
      count: steps per call.
      learning_rate: of Adam.

    Returns:
      The first state, and a function from a state to the next. A state is a pair: the picture with
      Adam's moments, and the objective.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from nst_jax.network.state import features

    adam = optax.adam(learning_rate, b1=0.9, b2=0.99)

    def gram(a: jax.Array) -> jax.Array:
        matrix = a.reshape(-1, a.shape[-1])
        return matrix.T @ matrix / len(matrix)

    def loss(image: jax.Array, network: "NetworkState", problem: "Problem") -> jax.Array:
        taps, knobs, targets = features(network, image), problem.knobs, problem.targets
        total = 0.0
        for tap, target in targets.content["squared"].items():
            total += knobs.alpha * jnp.mean(jnp.square(taps[tap] - target)) / 4
        for tap, weight in knobs.style["gram"].items():
            target = targets.style["gram"][tap][""][0][1]
            distance = jnp.sum(jnp.square(gram(taps[tap]) - target)) / (4 * target.size)
            total += knobs.beta * weight * distance
        below, beside = image[1:] - image[:-1], image[:, 1:] - image[:, :-1]
        variation = jnp.mean(jnp.square(below)) + jnp.mean(jnp.square(beside))
        return jnp.asarray(total + knobs.smoothness["squared"] * variation)

    @jax.jit
    def steps(carry: Any, network: "NetworkState", problem: "Problem") -> Any:
        def step(carry: Any, _: None) -> Any:
            image, moments = carry
            gradient = jax.grad(loss)(image, network, problem)
            updates, moments = adam.update(gradient, moments)
            return (jnp.clip(image + jnp.asarray(updates), 0, 1), moments), None

        with jax.default_matmul_precision("highest"):
            after, _ = jax.lax.scan(step, carry, length=count)
            return after, loss(after[0], network, problem)  # `chunk` computes the terms, too

    return ((start, adam.init(start)), None), lambda before: steps(before[0], network, problem)


if __name__ == "__main__":
    cli.start(main)
