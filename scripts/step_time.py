"""Times a step with each control on, as a ratio to a step of the defaults in the same run.

  python scripts/step_time.py
  python scripts/step_time.py --rows "written by hand, guides" --size 256

The first row is a step written by hand below, with nothing that could be switched on: what the
controls cost while they are off. Rounds go through all rows in turn; the table has the median over
rounds of the ratio within a round, and its smallest and largest. Compilation is not counted.

2 CPU cores: 8 minutes, of which the steps themselves take half.
"""

import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from measuring import ROUNDS, STEPS, begun, ongoing, rounds, stepped

from nst_jax import cli
from nst_jax import config
from nst_jax.config import grammar
from nst_jax.config import rules
from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.transfer import prepare

if TYPE_CHECKING:
    from nst_jax.losses.objective import Args

_ROWS = flags.DEFINE_string("rows", "", "Rows to measure, by their first letters; all if empty.")
_SIZE = flags.DEFINE_integer("size", 192, "Longer side of the painting.", lower_bound=32)
flags.set_default(STEPS, 3)
flags.set_default(ROUNDS, 7)

BY_HAND = "written by hand"
STYLE = str(config.PICTURES / "starry.jpg")
MASKS = "left={0}/left.png, right={0}/right.png"  # {0}: the folder that holds them
# Row -> the keys of the config that are not at their defaults.
ROWS: dict[str, dict[str, Any]] = {
    BY_HAND: {},
    **{f"style_losses={name}": {"style_losses": name} for name in [*rules.STYLE_LOSSES][1:]},
    "content_losses=self_similarity": {"content_losses": "self_similarity"},
    **{f"pooling={name}": {"pooling": name} for name in rules.POOLINGS[1:3]},
    **{f"padding={name}": {"padding": name} for name in rules.PADDINGS[1:4]},
    "guides, two regions": {"guides": {"content": MASKS, "style": MASKS}},
    "two styles, blend=targets": {"style": f"{STYLE}:2, {config.sample_photograph()}"},
    "two styles, blend=losses": {
        "style": f"{STYLE}:2, {config.sample_photograph()}",
        "blend": "losses",
    },
    "normalize_gradients": {"normalize_gradients": True},
    "optimizer.average=0.9": {"optimizer": {"average": 0.9}},
    "optimizer.name=sgd": {"optimizer": {"name": "sgd"}},
    "optimizer.name=lbfgs": {"optimizer": {"name": "lbfgs"}},
    "parameterization=fourier": {"parameterization": "fourier"},
    "convolution=direct": {"convolution": "direct"},
    "rematerialize": {"rematerialize": True},
}


def main():
    """Measures in turn and prints the table."""
    wanted = tuple(grammar.words(_ROWS.value))
    rows = [row for row in ROWS if not wanted or row.startswith(wanted)]
    if not rows:
        raise UserError(f"--rows {_ROWS.value!r} names none; there are {', '.join(ROWS)}")
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
    """Two regions, the left and the right half."""
    left = np.zeros((64, 64, 3), np.float32)
    left[:, :32] = 1
    images.write(folder / "left.png", left)
    images.write(folder / "right.png", 1 - left)


def side(row: str, folder: str) -> Callable[[], None]:
    """What takes the steps of a row."""
    from nst_jax.transfer import paint as transfer

    c = config.sample()
    c.image_size = _SIZE.value
    c.update(ROWS.get(row, {}))
    for part in ("content", "style"):
        c.guides[part] = c.guides[part].format(folder)
    c = config.validate(c)
    pictures, loaded = prepare.read(c), transfer.load_weights(c)
    if row != BY_HAND:
        return stepped(c, pictures, loaded)
    _, state, args, _ = begun(c, pictures, loaded)
    start, steps = by_hand(state.image, args, STEPS.value, c.optimizer.learning_rate)
    return ongoing(steps, start)


def by_hand(start: Any, args: "Args", count: int, learning_rate: float) -> tuple[Any, Any]:
    """The default objective without tables, guides, regions, shares or averages; and Adam."""
    import jax
    import jax.numpy as jnp
    import optax

    from nst_jax.losses.objective import features

    adam = optax.adam(learning_rate, b1=0.9, b2=0.99)

    def gram(a: jax.Array) -> jax.Array:
        matrix = a.reshape(-1, a.shape[-1])
        return matrix.T @ matrix / len(matrix)

    def loss(image: jax.Array, args: "Args") -> jax.Array:
        taps, knobs = features(args.network, image), args.knobs
        total = 0.0
        for tap, target in args.targets.content["squared"].items():
            total += knobs.alpha * jnp.mean(jnp.square(taps[tap] - target)) / 4
        for tap, weight in knobs.style["gram"].items():
            target = args.targets.style["gram"][tap][""][0][1]
            distance = jnp.sum(jnp.square(gram(taps[tap]) - target)) / (4 * target.size)
            total += knobs.beta * weight * distance
        below, beside = image[1:] - image[:-1], image[:, 1:] - image[:, :-1]
        variation = jnp.mean(jnp.square(below)) + jnp.mean(jnp.square(beside))
        return jnp.asarray(total + knobs.smoothness["squared"] * variation)

    def step(carry: Any, args: "Args") -> Any:
        image, moments = carry
        gradient = jax.grad(loss)(image, args)
        updates, moments = adam.update(gradient, moments)
        return jnp.clip(image + jnp.asarray(updates), 0, 1), moments

    @jax.jit
    def steps(carry: Any, args: "Args") -> Any:
        with jax.default_matmul_precision("highest"):
            after, _ = jax.lax.scan(lambda now, _: (step(now, args), None), carry, length=count)
            return after, loss(after[0], args)  # which is what the log wants to know

    return ((start, adam.init(start)), None), lambda before: steps(before[0], args)


if __name__ == "__main__":
    cli.start(main)
