"""Any two choices together: a covering array of all that a config chooses from by name.

Also the other side of that: what is not chosen leaves nothing behind in the compiled program.
"""

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable

import jax
import numpy as np
import pytest

from nst_jax import config, images, inputs, optimize, transfer
from nst_jax.guides import PROPAGATIONS
from nst_jax.losses.style import STYLE

CHOICES = {
    "style_losses": tuple(STYLE),
    "pooling": config.POOLINGS,
    "padding": config.PADDINGS,
    "optimizer": (*optimize.OPTIMIZERS, "lbfgs without line search"),
    "guides": ("none", *PROPAGATIONS),
    "color.mode": tuple(config.COLOR_MODES),  # last: it changes pictures, not the program
}
CHEAP = {"none", "adam", "sgd"}  # what compiles sooner than its like
# Few and shallow layers: it is compilation that takes the time. cross_gram is between two.
FAST = {
    "image_size": 64,
    "steps": 3,
    "log_every": 3,
    "save_every": 0,
    "content_layers": "relu2_1",
    "style_layers": "relu2_1",
}


Row = tuple[str, ...]


def pairs_of(row: Row) -> set[tuple]:
    """All pairs of (key, value) of a combination, or of its first values."""
    return set(itertools.combinations(zip(CHOICES, row, strict=False), 2))


def cover(missing: set[tuple], candidates: Callable[[dict[str, str]], Iterable[Row]]) -> list[Row]:
    """Rows that have all pairs, greedily: of the candidates with a missing pair, that with most."""
    rows = []
    while missing:
        tried = candidates(dict(min(missing)))
        rows.append(max(tried, key=lambda row: (len(missing & pairs_of(row)), len(CHEAP & {*row}))))
        missing = missing - pairs_of(rows[-1])
    return rows


def covering_array(seed: int = 0, tries: int = 50) -> list[Row]:
    """Combinations among which every two values of different keys meet: first of all that is
    compiled, among random candidates; then these programs with the colour modes.
    """
    rng = random.Random(seed)
    wanted = {
        ((a, x), (b, y))
        for a, b in itertools.combinations(CHOICES, 2)
        for x, y in itertools.product(CHOICES[a], CHOICES[b])
    }
    *compiled, last = CHOICES

    def drawn(fixed: dict[str, str]) -> Iterable[Row]:
        for _ in range(tries):
            yield tuple(fixed.get(key) or rng.choice(CHOICES[key]) for key in compiled)

    def coloured(fixed: dict[str, str]) -> Iterable[Row]:
        for *program, mode in itertools.product(programs, CHOICES[last]):
            row = *program[0], mode
            if fixed.items() <= dict(zip(CHOICES, row, strict=True)).items():
                yield row

    programs = cover({pair for pair in wanted if last not in dict(pair)}, drawn)
    return sorted(cover(wanted, coloured))


COMBINATIONS = covering_array()


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A content and a style picture of different shapes, and masks of their left and right."""
    folder, rng = tmp_path_factory.mktemp("combinations"), np.random.default_rng(20150826)
    for name, (height, width) in {"content": (64, 56), "style": (48, 64)}.items():
        y, x = np.mgrid[:height, :width]
        waves = 0.5 + 0.5 * np.sin(x[..., None] / rng.uniform(2, 9, 3) + y[..., None] / 5)
        images.write(
            folder / f"{name}.png", np.float32(0.8 * waves + 0.2 * rng.random(waves.shape))
        )
        left = np.float32(x < width // 2)[..., None].repeat(3, -1)
        images.write(folder / f"{name}-left.png", left)
        images.write(folder / f"{name}-right.png", 1 - left)
    return folder


def configured(files, *row: str, **more) -> config.Config:
    """A validated config of one combination; of the defaults where none is given."""
    c = config.default()
    c.content, c.style = str(files / "content.png"), str(files / "style.png")
    c.update(FAST)
    chosen = dict(zip(CHOICES, row, strict=False))
    name, *no_search = chosen.pop("optimizer", "adam").split(" ", 1)
    c.optimizer.update(name=name, line_search=not no_search)
    if (how := chosen.pop("guides", "none")) != "none":
        for part in ("content", "style"):
            masks = (f"{side}={files}/{part}-{side}.png" for side in ("left", "right"))
            c.guides[part] = ", ".join(masks)
        c.guides.propagation = how
    if chosen.get("style_losses") == "cross_gram":
        c.style_layers = "relu1_1, relu2_1"
    c.update_from_flattened_dict(chosen | more)
    return config.validate(c)


def problem_of(c, vgg19):
    """The arguments of `optimize.chunk`, but for how many steps, and the pictures."""
    pictures = inputs.read(c)
    network = transfer.network_of(vgg19, inputs.taps_of(c), c.pooling, c.padding)
    start = transfer.start_image(c, pictures, vgg19.mean)
    settings, args = transfer.settings_of(c), transfer.problem(c, pictures, network)
    state = optimize.initial_state(settings, start)
    return settings, state, args, transfer.rates_of(c), pictures, np.asarray(start)


def test_every_pair_of_choices_occurs():
    """Counted anew: for every two keys, as many different pairs as their values have."""
    columns = dict(zip(CHOICES, zip(*COMBINATIONS, strict=True), strict=True))
    for a, b in itertools.combinations(CHOICES, 2):
        together = set(zip(columns[a], columns[b], strict=True))
        assert together == set(itertools.product(CHOICES[a], CHOICES[b]))
    assert len(COMBINATIONS) <= 110  # 15 losses by 7 colour modes are 105
    assert len({row[:-1] for row in COMBINATIONS}) <= 80  # 15 losses by 5 poolings are 75


@pytest.mark.parametrize("row", COMBINATIONS, ids="-".join)
def test_any_two_choices_paint_together(row, files, vgg19):
    """Three steps: all terms finite, the picture within its range, and another than before.

    In one dispatch, as `optimize` does after the start; that alone would compile a second program.
    """
    c = configured(files, *row)
    settings, state, args, rates, pictures, start = problem_of(c, vgg19)
    state, image, terms, values = optimize.chunk(settings, c.steps, state, args, rates)
    assert np.isfinite(values).all()
    assert len(values) == state.step == 3
    assert all(np.isfinite(value) for value in terms.values()), terms
    assert terms["style"] > 0
    regions = {"": 1} if c.guides.content == "" else {"/left": 1, "/right": 1}
    assert {name for name in terms if name.startswith("style/")} == {
        f"style/{c.style_losses}/{'relu1_1' if c.style_losses == 'cross_gram' else 'relu2_1'}{suffix}"
        for suffix in regions
    }
    painting = inputs.finished(c, image, pictures)
    for result in (np.asarray(image), painting):
        assert result.shape == (64, 56, 3)
        assert 0 <= result.min() < result.max() <= 1
    assert np.abs(image - start).max() > 1e-3
