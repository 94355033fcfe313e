"""Any two choices together: a covering array of all that a config chooses from by name.

Also the other side of that: what is not chosen leaves nothing behind in the compiled program.
"""

import functools
import itertools
import random
import re
from collections import Counter

import jax
import numpy as np
import pytest
from conftest import network_for, prepared

from nst_jax import config
from nst_jax.config import rules
from nst_jax.losses.style import STYLE
from nst_jax.network.receptive import PROPAGATIONS
from nst_jax.optimize import optimizers, step
from nst_jax.optimize.step import initial_state, stack
from nst_jax.pictures.sizes import FILTERS
from nst_jax.transfer import prepare
from nst_jax.transfer.problem import problem_of
from nst_jax.transfer.starts import start_image

# Those whose code is another's, with another number, or another distance of the same statistics.
SAME_CODE = {"gram_mse", "gram_johnson", "gram_keras", "gram_normalized", "shifted_gram"}
SAME_CODE |= {"cross_covariance", "mmd_linear", "mmd_polynomial", "cmd", "mmd_gaussian", "nnst"}
SAME_CODE |= {"w2_crowsonkb", "average_rescaled", "l2_rescaled", "replicate_first", "max_ceil"}
CHOICES = {
    "style_losses": tuple(name for name in STYLE if name not in SAME_CODE),
    "pooling": tuple(name for name in rules.POOLINGS if name not in SAME_CODE),
    "optimizer.name": tuple(optimizers.OPTIMIZERS),
    "parameterization": rules.PARAMETERIZATIONS,
    "guides": ("none", "guided"),
}
# What only changes the pictures, the masks or the network's edges is dealt out in turn.
IN_TURN = {
    "padding": tuple(name for name in rules.PADDINGS if name not in SAME_CODE),
    "guides.propagation": tuple(PROPAGATIONS),
    "color.mode": tuple(rules.COLOR_MODES),
    "resample": tuple(FILTERS),
}
CHEAP = {"none", "pixels", "adam", "sgd"}  # what compiles sooner than its like
# Few and shallow layers: it is compilation that takes the time. cross_gram sees two.
FAST = {
    "image_size": 64,
    "steps": 3,
    "log_every": 3,
    "save_every": 0,
    "content_layers": "relu2_1",
    "style_layers": "relu2_1",
    "convolution": "direct",
}


Row = tuple[str, ...]


def pairs_of(row: Row) -> set[tuple]:
    """All pairs of (key, value) of a combination, or of its first values."""
    return set(itertools.combinations(zip(CHOICES, row, strict=False), 2))


def covering_array(seed: int = 0, tries: int = 200) -> list[Row]:
    """Combinations among which every two values of different keys meet.

    Greedily: of random rows with a pair that is missing, that with most of the missing pairs.
    """
    rng, rows = random.Random(seed), []
    missing = {
        ((a, x), (b, y))
        for a, b in itertools.combinations(CHOICES, 2)
        for x, y in itertools.product(CHOICES[a], CHOICES[b])
    }
    while missing:
        fixed = dict(min(missing))
        tried = (
            tuple(fixed.get(key) or rng.choice(values) for key, values in CHOICES.items())
            for _ in range(tries)
        )
        rows.append(max(tried, key=lambda row: (len(missing & pairs_of(row)), len(CHEAP & {*row}))))
        missing -= pairs_of(rows[-1])
    return sorted(rows)


COMBINATIONS = covering_array()
DEALT = [
    (*row, *dealt)
    for row, *dealt in zip(COMBINATIONS, *map(itertools.cycle, IN_TURN.values()), strict=False)
]


def configured(files, *row: str, **more) -> config.Config:
    """The config of one combination; of the defaults where none is given."""
    c = config.default()
    c.content, c.style = str(files / "content.png"), str(files / "style.png")
    c.update(FAST)
    chosen = dict(zip(CHOICES, row, strict=False))
    if chosen.pop("guides", "none") != "none":
        for part in ("content", "style"):
            masks = (f"{side}={files}/{part}-{side}.png" for side in ("left", "right"))
            c.guides[part] = ", ".join(masks)
    if chosen.get("style_losses") in rules.JOINT_LOSSES:
        c.style_layers = "relu1_1, relu2_1"
    c.update_from_flattened_dict(chosen | more)
    return c


def begun(experiment, pictures, vgg19):
    """Where a painting starts, its network, and its problem as yet to make."""
    network = network_for(experiment, pictures, vgg19)
    start = start_image(experiment.inputs.start, experiment.seed, pictures, vgg19.mean)
    return start, network, functools.partial(problem_of, experiment, pictures, network)


def test_every_pair_of_choices_occurs():
    """Counted anew: for every two keys, as many different pairs as their values have."""
    columns = dict(zip(CHOICES, zip(*COMBINATIONS, strict=True), strict=True))
    for a, b in itertools.combinations(CHOICES, 2):
        together = set(zip(columns[a], columns[b], strict=True))
        assert together == set(itertools.product(CHOICES[a], CHOICES[b]))
    assert len(COMBINATIONS) <= 30  # 9 losses by 3 poolings are 27
    for key, values in IN_TURN.items():
        column = list(CHOICES | IN_TURN).index(key)
        assert {row[column] for row in DEALT} == {*values}


@pytest.mark.slow
@pytest.mark.parametrize("row", DEALT, ids="-".join)
def test_any_two_choices_paint_together(row, files, vgg19, quickly_compiled):
    """Three steps: all terms finite, the picture within its range, and another than before."""
    choices, dealt = row[: len(CHOICES)], row[len(CHOICES) :]
    c = configured(files, *choices, **dict(zip(IN_TURN, dealt, strict=True)))
    experiment, pictures = prepared(c)
    start, network, make_problem = begun(experiment, pictures, vgg19)
    static, rates = experiment.optimizer.static, stack([experiment.optimizer.rates])
    state = initial_state(static, start[None])
    state, terms, (values,) = step.chunk(
        static, 3, 3, state, network, stack([make_problem()]), rates
    )
    (image,) = state.average
    assert np.isfinite(values).all()
    assert len(values) == state.step == 3
    assert all(np.isfinite(value) for value in terms.values()), terms
    assert terms["style"] > 0
    regions = ("/left", "/right") if c.guides.content else ("",)
    tap = "relu1_1" if c.style_losses in rules.JOINT_LOSSES else "relu2_1"  # the first of two
    expected = {f"style/{c.style_losses}/{tap}{region}" for region in regions}
    assert {name for name in terms if name.startswith("style/")} == expected
    painting = prepare.finished(image, pictures, experiment.inputs.color)
    for result in (np.asarray(image), painting):
        assert result.shape == (64, 56, 3)
        assert 0 <= result.min() < result.max() <= 1
    assert np.abs(image - start).max() > 1e-3


# ---- what is off


def program_of(c, vgg19) -> str:
    """One step as it is handed to the compiler. It takes shapes alone: nothing is compiled."""
    experiment, pictures = prepared(c)
    return program_of_experiment(experiment, pictures, vgg19)


def program_of_experiment(experiment, pictures, vgg19) -> str:
    """The same of an experiment."""
    start, network, make_problem = begun(experiment, pictures, vgg19)
    static, rates = experiment.optimizer.static, experiment.optimizer.rates
    states = jax.eval_shape(functools.partial(initial_state, static), start[None])
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), states)
    one = jax.jit(step.step, static_argnames="static")
    return one.lower(static, state, network, jax.eval_shape(make_problem), rates).as_text()


def operations(program: str) -> Counter:
    """How often each operation occurs; "threefry" is JAX's random number generator."""
    return Counter(re.findall(r"(?<=stablehlo\.)\w+|threefry", program))


DEFAULT_LAYERS = {"content_layers": "", "style_layers": ""}
ADDED = {  # by what is on: to one step of the defaults
    "style_losses=sliced": {"sort", "gather", "threefry", "iota"},
    "style_losses=histogram": {"sort", "gather", "threefry", "iota"},
    "style_losses=mrf": {"gather", "threefry", "iota"},
    "content_losses=self_similarity": {"gather", "threefry", "iota", "abs"},
    "style_losses=w2": {"iota"},
    "normalize_gradients": {"abs"},
    "tv_loss=absolute": {"abs"},
    "padding=reflect": {"reverse"},
    "convolution=winograd": {"concatenate"},
    "optimizer.name=lbfgs": {"while"},
    "parameterization=fourier": {"fft"},
}


@pytest.fixture(scope="module")
def default_program(files, vgg19) -> str:
    return program_of(configured(files, **DEFAULT_LAYERS), vgg19)


def test_a_default_step_computes_what_it_must_and_no_more(default_program):
    """26 convolutions: 13 up to conv5_1, there and back. A Gram matrix takes a product, and its
    gradient another. Nothing draws, sorts, looks up, loops, or takes a norm of a gradient.
    """
    seen = operations(default_program)
    assert seen["convolution"] == 26
    assert seen["dot_general"] == 2 * 5
    assert not seen.keys() & set().union(*ADDED.values(), {"rng", "rng_bit_generator", "scatter"})


@pytest.mark.parametrize("choice", ADDED)
def test_what_is_on_is_seen_in_the_program(choice, files, vgg19, default_program):
    """So that the test before would fail if it were on."""
    key, _, value = choice.partition("=")
    c = configured(files, **DEFAULT_LAYERS, **{key: value or True})
    assert operations(program_of(c, vgg19)).keys() >= ADDED[choice]


def test_guides_take_products_of_their_own(files, vgg19):
    """Two regions at one layer: a Gram matrix each, with its gradient, and one more weighting."""
    plain, guided = (
        operations(program_of(configured(files, *row), vgg19))
        for row in ((), ("gram", "max", "adam", "pixels", "guided"))
    )
    assert (plain["dot_general"], guided["dot_general"]) == (2, 4)
    assert guided["multiply"] > plain["multiply"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "numbers",
    [
        {"alpha": 2.0, "beta": 0.5, "tv_weight": 3.0, "seed": 7, "steps": 9},
        {"style_losses": "gram:3", "content_losses": "squared:0.5"},
        {"optimizer.average": 0.9, "optimizer.decay": 0.99, "optimizer.learning_rate": 0.1},
        {"guides.propagation": "inside", "blend": "losses"},
        {"color.mode": "luminance", "color.space": "lab"},
        {"init.picture": "gray", "init.noise": 0.5},
        {"normalize_network": "content, style"},
        {"style_scale": 0.5, "bits": 16},
    ],
    ids=lambda numbers: ",".join(numbers),
)
def test_what_is_a_number_or_a_picture_leaves_the_program_alone(
    numbers, files, vgg19, default_program
):
    assert program_of(configured(files, **DEFAULT_LAYERS, **numbers), vgg19) == default_program


def test_styles_whose_statistics_are_mixed_cost_a_step_no_more(files, vgg19, default_program):
    both = f"{files}/style.png:3, {files}/content.png"
    c = configured(files, style=both, **DEFAULT_LAYERS)
    assert program_of(c, vgg19) == default_program
    each = configured(files, style=both, blend="losses", **DEFAULT_LAYERS)
    assert operations(program_of(each, vgg19))["dot_general"] == 2 * 2 * 5
