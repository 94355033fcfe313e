import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, script
from PIL import Image

from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.pictures.sizes import LONGER_SIDE


@pytest.fixture(scope="module")
def paint_starry():
    return script("paint_starry")


@pytest.fixture(scope="module")
def fuzz():
    return script("fuzz")


def test_the_style_picture_is_small_and_rich():
    path = ROOT / "images" / "starry.jpg"
    assert path.stat().st_size < 500_000
    picture = images.read(path)
    assert picture.shape == (768, 1024, 3)
    for size in (1024, 256, 64):  # brush texture at several scales
        gray = images.resize(picture, LONGER_SIDE.fit(picture.shape, size)).mean(-1)
        assert np.abs(np.diff(gray, axis=1)).mean() > 0.02


def test_cycles_of_a_step_count_a_loop_over_tiles_as_often_as_it_runs():
    program = """
%tile.1 (a: f32[2]) -> f32[2] {
  %b = f32[2] fusion(%a), backend_config={"estimated_cycles":"100"}
}

%step.2 (a: f32[2]) -> f32[2] {
  %c = f32[2] fusion(%a), backend_config={"estimated_cycles":"7"}
  %d = f32[2] while(%c), condition=%x, body=%tile.1, backend_config={"known_trip_count":{"n":"4"}}
}

ENTRY %main (a: f32[2]) -> f32[2] {
  %e = f32[2] fusion(%a), backend_config={"estimated_cycles":"9000"}
  ROOT %f = f32[2] while(%e), condition=%y, body=%step.2, metadata={op_name="jit(chunk)/while"}
}
"""
    aot = script("aot")
    assert aot.cycles_of_a_step(program) == 407
    assert aot.cycles_of_a_step("ENTRY %main (a: f32[2]) -> f32[2] {\n}\n") == 0


def test_the_contrast_at_borders_of_tiles():
    """Lines of 8 pixels between four tiles of 40x48; the last row and column of tiles is short."""
    seam = script("seam")
    squares = np.ones((70, 90), np.float32)
    assert seam.contrast(squares, (40, 48), 0) == 1
    squares[36:44] = squares[:, 44:52] = 3
    assert seam.contrast(squares, (40, 48), 0) == 3
    assert seam.contrast(squares, (40, 48), 0.25) < 1  # around row 30 and column 36: few of the 3s
    apart = np.ones((70, 90), np.float32)
    apart[26:34] = apart[:, 32:40] = 5
    assert seam.contrast(apart, (40, 48), 0.25) == 5


@pytest.mark.slow
def test_the_same_seed_paints_the_same_picture(paint_starry):
    """A twentieth of the strokes, to be quick."""
    fewer = [
        paint_starry.Layer(
            layer.count // 20, layer.width, layer.length, layer.jitter, layer.bristles
        )
        for layer in paint_starry.LAYERS
    ]
    scene = paint_starry.scene()
    first, again, other = (
        np.asarray(paint_starry.strokes(np.random.default_rng(seed), *scene, fewer)[0])
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_stroke_follows_the_flow(paint_starry):
    angles = np.zeros((paint_starry.HEIGHT, paint_starry.WIDTH))
    path = paint_starry.follow(100.0, 200.0, angles, length=80)
    assert np.ptp(path[:, 1]) == 0
    assert path[-1, 0] - path[0, 0] == pytest.approx(80)


def test_side_by_side(tmp_path):
    for name, size in {"a.png": (40, 20), "b.png": (20, 40), "final.png": (30, 30)}.items():
        Image.new("RGB", size).save(tmp_path / name)
    config = {"content": f"{tmp_path}/a.png", "style": f"{tmp_path}/b.png", "output": "final.png"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    script = [sys.executable, ROOT / "scripts" / "side_by_side.py", "--height=80"]
    output = tmp_path / "row.png"
    subprocess.run([*script, f"--workdir={tmp_path}", f"--output={output}"], check=True)
    assert images.read(output).shape == (80, 160 + 40 + 80 + 2 * 2, 3)
    done = subprocess.run(
        [*script, f"--workdir={tmp_path}/none"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


TARGETS = {"pictures", "weights", "checkpoints", "masks", "settings", "folders"}


@pytest.mark.slow
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_damaged_files_are_read_or_refused_in_one_line(target, fuzz, tmp_path, capsys):
    """The short form of the campaigns."""
    assert set(fuzz.TARGETS) == TARGETS
    (make, read), draw, refused = fuzz.TARGETS[target], random.Random(11), 0
    whole = make()
    for number in range(40):
        suffix, data = draw.choice(whole)
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(fuzz.damaged(data, draw.choice(whole)[1], draw))
        try:
            read(path)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused


@pytest.mark.slow
def test_the_slurm_script_starts_a_worker(tmp_path):
    """Without Slurm: its srun is one that only starts what it is given."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\nexec "$@"\n')
    srun.chmod(0o755)
    folders = [str(srun.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    words = ["--config", "ablations/losses:smoke", "--workdir", "w", "--dry_run"]
    done = subprocess.run(
        ["bash", ROOT / "scripts" / "slurm.sh", *words],
        cwd=tmp_path,
        env=os.environ | {"PATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "21 cells" in done.stdout
