"""Draws what channels of the network look for: activation maximisation, one row per layer.

  python scripts/feature_visualisation.py --output features.png
  python scripts/feature_visualisation.py --taps "conv4_1, conv4_3" --channels 7,40,112 --size 128

Each picture maximises the mean activation of one channel (the loss "amplify"; Erhan et al. 2009;
Simonyan et al. 2014, https://arxiv.org/abs/1312.6034), with total variation to keep it smooth. It
starts from gray with noise at half the size and finishes at full size. Padding is circular, and
every few steps the picture is shifted around its edges, so that the grid of the pooling layers
leaves no pattern (the jitter of Mordvintsev et al. 2015, "Inceptionism").

Layers before their ReLU ("conv4_1") always have a gradient to follow. After the ReLU ("relu4_1"), a
channel that does not respond to noise stays gray. Only the first layer needs its ReLU: the mean of
conv1_1 is that of the colours, and no edge can raise it.

2 CPU cores: 1.6 minutes.
"""

import sys
from typing import TYPE_CHECKING, Any

from absl import flags
from tqdm import tqdm

from nst_jax import cli
from nst_jax.config import grammar
from nst_jax.config.experiment import Network
from nst_jax.errors import UserError
from nst_jax.network import architecture
from nst_jax.optimize.options import OptimizerStatic, Rates
from nst_jax.pictures import images, sheets

if TYPE_CHECKING:
    from jax import Array

    from nst_jax.network.state import NetworkState

_TAPS = flags.DEFINE_string(
    "taps", "relu1_1, conv2_1, conv3_1, conv4_1, conv5_1", "Layers, one row each."
)
_CHANNELS = flags.DEFINE_list(
    "channels", [], "Channel numbers, one column each; the first --count if empty."
)
_COUNT = flags.DEFINE_integer("count", 6, "Number of channels.", lower_bound=1)
_SIZE = flags.DEFINE_integer(
    "size", 96, "Side of each picture in pixels.", lower_bound=32, upper_bound=4096
)
_STEPS = flags.DEFINE_integer("steps", 32, "Steps at half the size, and again at full size.", 1)
_SMOOTHNESS = flags.DEFINE_float(
    "smoothness", 1.0, "Factor on the weight of total variation.", lower_bound=0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the noise and the shifts.", 0, 2**32 - 1)
_ARCH = flags.DEFINE_enum("arch", "vgg19", list(architecture.DEPTHS), "Network.")
_WEIGHTS = flags.DEFINE_string(
    "weights", "", "Converted weights, a file; the default ones if empty, fetched once."
)
_OUTPUT = flags.DEFINE_string("output", "features.png", "Picture to write.")

# Weight of total variation, by block: activations grow most with contrast in the middle of VGG.
# Tuned by eye on networks trained in Caffe: with less, noise remains; with more, colour fades.
SMOOTHNESS = (30.0, 5e3, 3e4, 3e5, 1.5e5)
LEARNING_RATE = 0.04  # pixel units a step
NOISE = 0.05  # standard deviation, around gray
STEPS_PER_SHIFT = 4


def main():
    """Flags -> one sheet; prints its path."""
    output = sheets.destination(_OUTPUT.value)
    taps = list(grammar.parse_layers(_TAPS.value, _ARCH.value))
    if not taps:
        raise UserError("--taps names no layer; name one such as conv3_1")
    channels = channels_of(_CHANNELS.value or [*map(str, range(_COUNT.value))], taps)
    rows = [
        [*visualise(network_of(tap), tap, channels)]
        for tap in tqdm(taps, unit="layer", disable=not sys.stderr.isatty())
    ]
    labels = [f"channel {channel}" for channel in channels]
    images.write(output, sheets.sheet(rows, taps, labels, "What channels look for"))
    print(output)


def channels_of(words: list[str], taps: list[str]) -> list[int]:
    """Parses channel numbers.

    Raises:
      UserError: not a number, or a layer does not have that channel.
    """
    tap = min(taps, key=_width)
    for word in words:
        if not (word.strip().isdecimal() and int(word) < _width(tap)):
            raise UserError(f"no channel {word.strip()!r}: {tap} has 0 to {_width(tap) - 1}")
    return [int(word) for word in words]


def _width(tap: str) -> int:
    return architecture.WIDTHS[architecture.block(tap) - 1]


def network_of(tap: str) -> "NetworkState":
    """The network that the flags name, up to a tap, with circular padding."""
    from nst_jax.transfer import networks
    from nst_jax.transfer.cache import SHARED

    wanted = Network(
        arch=_ARCH.value,
        weights=_WEIGHTS.value,
        pooling="max",
        padding="circular",
        convolution="direct",
        rematerialize=False,
        tile=0,
        split=0,
        precision="float32",
        normalize=(),
    )
    return networks.build(networks.load_weights(wanted, SHARED), (tap,), wanted)


def visualise(network: "NetworkState", tap: str, channels: list[int]) -> Any:
    """Pictures [channels, size, size, 3], each maximising one channel of a layer, in one batch."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from nst_jax.losses.arguments import NO_GUIDES, Knobs, Problem, Targets
    from nst_jax.optimize.step import chunk, enlarge, initial_state, stack

    key, random = jax.random.key(_SEED.value), np.random.default_rng(_SEED.value)
    weight = _SMOOTHNESS.value * SMOOTHNESS[architecture.block(tap) - 1]
    knobs = Knobs(1.0, 0.0, {"amplify": {tap: 1.0}}, {}, {"squared": weight}, {"": 1.0})
    directions = jax.nn.one_hot(jnp.array(channels), _width(tap))
    targets = [Targets({"amplify": {tap: direction}}, {}) for direction in directions]
    problem = stack([Problem(one, knobs, NO_GUIDES, key) for one in targets])
    rates = stack([Rates(LEARNING_RATE)] * len(channels))

    def shifted(leaf: "Array", shift: tuple[int, int]) -> "Array":
        return jnp.roll(leaf, shift, (1, 2)) if leaf.ndim == 4 else leaf

    static, small = OptimizerStatic("adam"), _SIZE.value // 2
    noise = jax.random.normal(key, (len(channels), small, small, 3))
    state = initial_state(static, jnp.clip(0.5 + NOISE * noise, 0, 1))
    for size in (small, _SIZE.value):
        if size != small:
            state = enlarge(static, state, (size, size))
        for done in range(0, _STEPS.value, STEPS_PER_SHIFT):
            count = min(STEPS_PER_SHIFT, _STEPS.value - done)
            state, *_ = chunk(static, count, count, state, network, problem, rates)
            down, right = random.integers(0, size, 2).tolist()
            state = jax.tree.map(lambda leaf, s=(down, right): shifted(leaf, s), state)
    return np.asarray(state.image)


if __name__ == "__main__":
    cli.start(main)
