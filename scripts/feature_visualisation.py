"""Draws what channels of the network look for: activation maximisation, a row for each layer.

  python scripts/feature_visualisation.py --output features.png
  python scripts/feature_visualisation.py --taps "conv4_1, conv4_3" --channels 7,40,112 --size 128

Each picture raises the mean activation of one channel, and is kept smooth (the loss "amplify";
Erhan et al. 2009; Simonyan et al. 2014, https://arxiv.org/abs/1312.6034). It starts as gray and
noise, at half the size, and goes on at the whole one. It continues beyond its own edges, and every
few steps it is shifted there, so that the grid of the poolings leaves no pattern (the jitter of
Mordvintsev et al. 2015, "Inceptionism").

Layers before their ReLU ("conv4_1") always have a slope to follow; after it ("relu4_1") a channel
that sees nothing in noise stays gray. Only in the first layer ReLU must be there: without, the mean
of conv1_1 is that of the colours, and no edge can raise it.

2 CPU cores: 1.6 minutes.
"""

import functools
import sys
from typing import TYPE_CHECKING, Any

from absl import flags
from tqdm import tqdm

from nst_jax import cli
from nst_jax import config
from nst_jax.config import grammar
from nst_jax.errors import UserError
from nst_jax.network import architecture
from nst_jax.pictures import images, sheets

if TYPE_CHECKING:
    from jax import Array

    from nst_jax.losses.objective import Network

_TAPS = flags.DEFINE_string(
    "taps", "relu1_1, conv2_1, conv3_1, conv4_1, conv5_1", "Layers, a row each."
)
_CHANNELS = flags.DEFINE_list(
    "channels", [], "Numbers of channels, a column each; the first --count if empty."
)
_COUNT = flags.DEFINE_integer("count", 6, "How many channels.", lower_bound=1)
_SIZE = flags.DEFINE_integer(
    "size", 96, "Side of each picture in pixels.", lower_bound=32, upper_bound=4096
)
_STEPS = flags.DEFINE_integer("steps", 32, "Steps at half the size, then at the whole.", 1)
_SMOOTHNESS = flags.DEFINE_float(
    "smoothness", 1.0, "Factor of the total variation's weight.", lower_bound=0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the noise and of the shifts.", 0, 2**32 - 1)
_ARCH = flags.DEFINE_enum("arch", "vgg19", list(architecture.DEPTHS), "Network.")
_WEIGHTS = flags.DEFINE_string(
    "weights", "", "Converted weights; the project's own, fetched once, if empty."
)
_OUTPUT = flags.DEFINE_string("output", "features.png", "Picture to write.")

# Weight of total variation by block: activations grow more with contrast in the middle of VGG.
# Found by eye, for networks trained in Caffe: less leaves noise, more leaves no colour.
SMOOTHNESS = (30.0, 5e3, 3e4, 3e5, 1.5e5)
LEARNING_RATE = 0.04  # pixel units a step
NOISE = 0.05  # deviation, around gray
SHIFTED = 4  # steps between two shifts


def main():
    """Flags -> one sheet; prints its path."""
    output = sheets.destination(_OUTPUT.value)
    taps = list(grammar.parse_layers(_TAPS.value, _ARCH.value))
    if not taps:
        raise UserError("--taps names no layer; give some such as conv3_1")
    channels = channels_of(_CHANNELS.value or [*map(str, range(_COUNT.value))], taps)

    from nst_jax.transfer import paint as transfer  # JAX comes with it: --help need not wait

    c = config.default()
    c.arch, c.weights = _ARCH.value, _WEIGHTS.value
    loaded = transfer.load_weights(c)
    rows = []
    for tap in tqdm(taps, unit="layer", disable=not sys.stderr.isatty()):
        network = transfer.network_of(loaded, (tap,), c.pooling, "circular")
        rows.append([*visualise(network, tap, channels)])
    labels = [f"channel {channel}" for channel in channels]
    images.write(output, sheets.sheet(rows, taps, labels, "What channels look for"))
    print(output)


def channels_of(words: list[str], taps: list[str]) -> list[int]:
    """The channels' numbers.

    Raises:
      UserError: no number, or one that a layer does not have.
    """
    tap = min(taps, key=_width)
    for word in words:
        if not (word.strip().isdecimal() and int(word) < _width(tap)):
            raise UserError(f"no channel {word.strip()!r}: {tap} has 0 to {_width(tap) - 1}")
    return [int(word) for word in words]


def _width(tap: str) -> int:
    return architecture.WIDTHS[architecture.block(tap) - 1]


def visualise(network: "Network", tap: str, channels: list[int]) -> Any:
    """Pictures [channels, size, size, 3] that raise the channels of one layer, all at once."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from nst_jax.losses.objective import NO_GUIDES, Args, Kinds, Knobs, Targets
    from nst_jax.optimize.loop import chunk, initial_state, stack
    from nst_jax.optimize.optimizers import Rates, Settings
    from nst_jax.transfer import pyramid

    key = jax.random.key(_SEED.value)
    random = np.random.default_rng(_SEED.value)
    weight = _SMOOTHNESS.value * SMOOTHNESS[architecture.block(tap) - 1]
    knobs = Knobs(1.0, 0.0, {"amplify": {tap: 1.0}}, {}, {"squared": weight}, {"": 1.0})
    directions = jax.nn.one_hot(jnp.array(channels), _width(tap))
    common = Args(network, Targets({}, {}), knobs, NO_GUIDES, key, Kinds())._replace(network=None)
    wanted = [Targets({"amplify": {tap: direction}}, {}) for direction in directions]
    args = stack([common._replace(targets=targets) for targets in wanted])
    args, rates = args._replace(network=network), stack([Rates(LEARNING_RATE)] * len(wanted))

    def rolled(leaf: "Array", shift: tuple[int, int]) -> "Array":
        return jnp.roll(leaf, shift, (1, 2)) if leaf.ndim == 4 else leaf

    settings, small = Settings("adam"), _SIZE.value // 2
    noise = jax.random.normal(key, (len(channels), small, small, 3))
    start = jnp.clip(0.5 + NOISE * noise, 0, 1)
    state = initial_state(settings, start)
    for size in (small, _SIZE.value):
        if size != small:
            state = pyramid.enlarge(settings, state, (size, size))
        for done in range(0, _STEPS.value, SHIFTED):
            steps = min(SHIFTED, _STEPS.value - done)
            state, *_ = chunk(settings, steps, steps, state, args, rates)
            down, right = random.integers(0, size, 2).tolist()
            state = jax.tree.map(functools.partial(rolled, shift=(down, right)), state)
    return np.asarray(state.image)


if __name__ == "__main__":
    cli.start(main)
