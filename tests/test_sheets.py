"""Labelled sheets, and the scripts that draw them."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, network_for, prepared, script

from nst_jax import config
from nst_jax.optimize.step import chunk, initial_state, stack
from nst_jax.pictures import images, sheets
from nst_jax.transfer.problem import problem_of
from nst_jax.transfer.starts import start_image

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quickly_compiled")]


def flat(height, width, value):
    return np.full((height, width, 3), value, np.float32)


def test_cells_are_equal_and_pictures_stand_in_their_middle():
    wide, high = flat(10, 20, 0.25), flat(20, 10, 0.75)
    drawn = sheets.sheet([[wide, high], [None, wide]], ["", ""], ["", ""], height=40)
    gap, cell = 2, 80
    assert drawn.shape == (gap + 2 * (40 + gap), gap + 2 * (cell + gap), 3)
    np.testing.assert_allclose(drawn[gap : gap + 40, gap : gap + cell], 0.25, atol=1e-6)
    left = gap + cell + gap + (cell - 20) // 2  # of the upright picture
    np.testing.assert_allclose(drawn[gap : gap + 40, left : left + 20], 0.75, atol=1e-6)
    np.testing.assert_array_equal(drawn[gap : gap + 40, left + 20 :], 1)
    np.testing.assert_array_equal(drawn[2 * gap + 40 :, : gap + cell], 1)  # None


def test_labels_are_drawn_outside_the_cells():
    white = flat(10, 10, 1.0)
    plain = sheets.sheet([[white]], [""], [""], height=80)
    assert plain.min() == 1
    for labels in (["row"], [""], ""), ([""], ["column"], ""), ([""], [""], "title"):
        drawn = sheets.sheet([[white]], *labels, height=80)
        assert drawn.min() < 0.5
        assert drawn.shape[0] * drawn.shape[1] > plain.shape[0] * plain.shape[1]
        np.testing.assert_array_equal(drawn[-84:-4, -84:-4], 1)  # the cell itself


@pytest.mark.parametrize(
    ("rows", "columns"), [(["a", "b"], ["c"]), (["a"], ["c", "d"]), ([], ["c"])]
)
def test_labels_must_match_the_cells(rows, columns):
    with pytest.raises(ValueError, match="label for each row"):
        sheets.sheet([[flat(4, 4, 0.5)]], rows, columns)


def run(name, *arguments):
    script = [sys.executable, ROOT / "scripts" / f"{name}.py", *arguments]
    return subprocess.run(script, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "arguments", "least"),
    [
        ("feature_visualisation", ["--taps=conv1_1,conv2_1", "--channels=3,5"], (320, 320)),
        ("reconstructions", ["--blocks=1"], (64, 64)),
        ("alpha_beta_grid", ["--blocks=1", "--ratios=1,100"], (32, 64)),
        ("seam", ["--size=96", "--tile=80"], (90, 250)),
    ],
)
def test_a_script_draws_its_sheet(vgg19, tmp_path, name, arguments, least):
    output = tmp_path / "sheet.png"
    done = run(name, "--size=32", "--steps=2", f"--output={output}", *arguments)
    assert done.returncode == 0, done.stderr
    drawn = images.read(output)
    assert drawn.shape[0] > least[0]
    assert drawn.shape[1] > least[1]
    assert drawn.std() > 0.05


def test_the_studios_examples_are_painted(vgg19, tmp_path):
    done = run("studio_examples", "--size=64", "--examples=look-classic", f"--folder={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert images.read(tmp_path / "look-classic.jpg").shape[0] == 144
    assert {path.stem for path in (ROOT / "nst_jax/studio/examples").iterdir()} == {
        *script("studio_examples").EXAMPLES
    }


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("studio_examples", "--examples=look-classics"),
        ("feature_visualisation", "--taps=relu9_1"),
        ("feature_visualisation", "--channels=64"),
        ("feature_visualisation", "--channels=one"),
        ("reconstructions", "--content=none.jpg"),
        ("alpha_beta_grid", "--ratios=1,0"),
        ("alpha_beta_grid", "--output=grid.pdf"),
        ("controls", "--families=pool"),
        ("step_time", "--rows=nothing"),
    ],
)
def test_a_mistake_is_one_line(name, argument):
    done = run(name, argument)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_step_times_are_ratios_to_the_defaults():
    small = ["--size=32", "--steps=1", "--rounds=2"]
    done = run("step_time", *small, "--rows=guides")
    assert done.returncode == 0, done.stderr
    first, *rows = done.stdout.splitlines()
    assert first.startswith("defaults")
    assert [row.split("  ")[0] for row in rows] == ["guides, two regions"]
    assert all(0.05 < float(row[32:40]) < 20 for row in rows)


def test_the_step_written_by_hand_is_one_of_the_defaults(vgg19):
    """Otherwise its time would say nothing."""
    step_time = script("step_time")
    c = config.sample()
    c.image_size = 48
    experiment, pictures = prepared(c)
    network = network_for(experiment, pictures, vgg19)
    problem, rates = problem_of(experiment, pictures, network), experiment.optimizer.rates
    start = start_image(experiment.inputs.start, 0, pictures, vgg19.mean)
    state, steps = step_time.by_hand(start, network, problem, 4, rates.learning_rate)
    static = experiment.optimizer.static
    batch = network, stack([problem]), stack([rates])
    expected = chunk(static, 4, 4, initial_state(static, start[None]), *batch)[0].average
    np.testing.assert_allclose(steps(state)[0][0], expected[0], atol=1e-4)
