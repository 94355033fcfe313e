"""Rows of one picture on several devices, which a CPU is made to look like; and two processes."""

import json
import os
import re
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from absl import flags
from conftest import ROOT, run_command, script

from nst_jax import config
from nst_jax.config import rules
from nst_jax.errors import UserError
from nst_jax.transfer import paint

SCRIPT = str(ROOT / "scripts" / "split_equality.py")
QUICKLY = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def started(*flags):
    return subprocess.Popen(
        [sys.executable, SCRIPT, *flags],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | QUICKLY,
    )


def checked(text, rows):
    """Reads a table; fails where values, gradients or what devices tell each other are wrong."""
    found = [
        re.split(r" {2,}", line.strip())
        for line in text.splitlines()
        if "e-" in line or "e+" in line
    ]
    assert len(found) == rows, text
    for name, devices, value, gradient, neighbours, sums, gathered in found:
        assert float(value) < 1e-6, name
        assert float(gradient) < 2e-6, name
        assert (int(neighbours) > 0) == (int(devices) > 1), name
        assert (int(sums) > 0) == (int(devices) > 1), name
        assert int(gathered) == 0, name


def test_every_row_of_the_table_can_be_tiled_and_split():
    table = script("split_equality")
    flags.FLAGS.mark_as_parsed()
    for settings in table.ROWS.values():
        experiment = table.experiment_of(settings | {"tile": 80, "split": 2})
        assert not rules.untileable(experiment)
    serving = {name for name in rules.STYLE_LOSSES if name not in rules.WHOLE_LOSSES}
    assert serving | {f"content {name}" for name in rules.CONTENT_LOSSES} <= set(table.ROWS)


@pytest.mark.slow
def test_rows_on_devices_have_the_value_and_gradient_of_the_whole():
    """Odd sides, in tiles. Nothing but sums and a halo crosses over."""
    flags = "--rows=content self,replicate_first,recomputed", "--size=119", "--devices=4"
    command = started(*flags, "--split_tile=80")
    text, _ = command.communicate()
    checked(text, 3)


@pytest.mark.slow
def test_rows_on_two_processes_have_the_value_and_gradient_of_the_whole():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = f"--coordinator=localhost:{free.getsockname()[1]}"
    flags = place, "--processes=2", "--rows=mean_variance", "--size=100"
    commands = [started(*flags, f"--process={k}") for k in range(2)]
    for command in commands:
        text, _ = command.communicate()
        checked(text, 1)


@pytest.mark.slow
def test_a_split_run_paints_what_one_device_does_and_resumes(tmp_path):
    """At two sizes, the larger in tiles."""
    keys = ["--config=starry", "--config.image_size=140", "--config.pyramid.min_size=98"]
    keys += ["--config.pyramid.first_steps=2", "--config.steps=3", "--config.pooling=average"]
    keys += ["--config.style_layers=relu1_1,relu2_1", "--config.content_layers=relu2_2"]
    keys += ["--config.log_every=1", "--config.checkpoint_every=0.001"]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    paintings = []
    for split in (0, 3):
        folder = tmp_path / str(split)
        own = [*keys, f"--config.split={split}", f"--workdir={folder}"]
        own += ["--config.tile=80"] if split else ["--config.tile=0"]
        run_command("nst_jax.run", *own, **QUICKLY, **flags)
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        paintings.append([json.loads(line)["total"] for line in lines])
    np.testing.assert_allclose(*paintings, rtol=1e-4)
    _, said = run_command("nst_jax.run", *own, "--extend_steps=1", **QUICKLY, **flags)
    assert "resuming after 5 steps" in said


def started_together(count, words):
    """A command, started in so many processes that share a picture."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = f"--coordinator=localhost:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "nst_jax.run", *words, place, f"--processes={count}"]
    return [
        subprocess.Popen(
            [*command, f"--process={k}"],
            env=os.environ | QUICKLY,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(count)
    ]


def ended(processes, code):
    """What processes said on standard error, each of which ends with a code."""
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [code] * len(processes), said
    assert not any("Traceback" in text for text in said)
    return said


def in_processes(count, words):
    """Runs a command in so many processes that share a picture."""
    ended(started_together(count, words), 0)


@pytest.mark.slow
def test_two_processes_paint_one_picture_and_resume(tmp_path):
    """Both take part; process 0 writes."""
    keys = ["--config=starry", "--config.image_size=64", "--config.steps=2", "--config.split=-1"]
    keys += ["--config.style_layers=relu1_1", "--config.content_layers=relu2_2"]
    keys += ["--config.pyramid.min_size=0", "--config.log_every=1"]
    run_command("nst_jax.run", *keys, f"--workdir={tmp_path / 'alone'}", **QUICKLY)
    for more in ([], ["--extend_steps=1"]):
        in_processes(2, [*keys, *more, f"--workdir={tmp_path / 'both'}"])
    alone, both = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("alone", "both")
    )
    assert [line["step"] for line in both] == [0, 1, 2, 3]
    totals = ([line["total"] for line in lines] for lines in (alone, both[:3]))
    np.testing.assert_allclose(*totals, rtol=1e-4)


@pytest.mark.slow
def test_processes_end_together(tmp_path):
    """By a signal to all, with a checkpoint; and where one of them cannot begin."""
    keys = ["--config=starry", "--config.image_size=48", "--config.steps=100000"]
    keys += ["--config.style_layers=relu1_1", "--config.content_layers=relu1_2"]
    keys += ["--config.pyramid.min_size=0", "--config.split=-1", f"--workdir={tmp_path / 'run'}"]
    processes = started_together(2, keys)
    metrics = tmp_path / "run" / "metrics.jsonl"
    until = time.monotonic() + 200
    while not (metrics.is_file() and '"step": 20' in metrics.read_text()):
        assert time.monotonic() < until
        time.sleep(0.2)
    for process in processes:
        process.terminate()
    first, _ = ended(processes, 143)
    assert "resumes after step" in first
    assert list((tmp_path / "run" / "checkpoints").iterdir())
    first, other = ended(started_together(2, [*keys, "--config.seed=7"]), 2)
    assert "was begun with other settings" in first
    assert "another process cannot begin" in other


ROWS_OF_8 = jax.sharding.Mesh(np.array(jax.devices()[:1] * 8), ("rows",))


def test_a_scale_too_small_for_the_devices_is_whole_on_each():
    c = config.load(config.find("starry"))
    c.image_size = 4096
    experiment = config.parse(c)
    small, large = (154, 181), (3495, 4096)
    with pytest.raises(UserError, match=r"8 devices cannot share 181x154 pixels: with 32 rows"):
        paint.check_split(experiment, small, ROWS_OF_8)
    paint.check_split(experiment, large, ROWS_OF_8)
    place = paint.placement(experiment, small, ROWS_OF_8)
    assert (place.split, place.rows) == (None, 0)
    place = paint.placement(experiment, large, ROWS_OF_8)
    assert place.split.height == 3495
    assert place.rows == 8 * 448


def test_circular_rows_are_whole_where_they_do_not_divide():
    c = config.default()
    c.content = c.style = "a.jpg"
    c.padding = "circular"
    experiment = config.parse(c)
    assert paint.placement(experiment, (512, 512), ROWS_OF_8).rows == 512
    assert not paint.placement(experiment, (600, 512), ROWS_OF_8).rows
    with pytest.raises(UserError, match="divides evenly, such as 512x640 for 8 devices"):
        paint.check_split(experiment, (600, 512), ROWS_OF_8)


def test_pairs_of_lbfgs_do_not_depend_on_the_devices():
    """1792 rows of a canvas of 8 devices are beyond the pixels that have 20 pairs, 1728 are not."""
    c = config.default()
    c.content = c.style = "a.jpg"
    c.optimizer.name = "lbfgs"
    assert paint._static_at(config.parse(c), (1728, 2304)).memory == 20
    assert paint._static_at(config.parse(c), (1792, 2304)).memory == 5
    c.optimizer.memory = 7
    assert paint._static_at(config.parse(c), (1792, 2304)).memory == 7


@pytest.mark.slow
def test_a_split_run_begins_whole_where_it_is_too_small_to_share(tmp_path):
    """16 rows of 3 devices, then 96; L-BFGS."""
    keys = ["--config=starry", "--config.image_size=96", "--config.pyramid.min_size=16"]
    keys += ["--config.pyramid.factor=6", "--config.pyramid.first_steps=3", "--config.steps=3"]
    keys += ["--config.style_layers=relu1_1,relu3_1", "--config.content_layers=relu2_2"]
    keys += ["--config.pooling=average", "--config.log_every=1", "--config.optimizer.name=lbfgs"]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    paintings = []
    for split in (0, 3):
        own = [*keys, f"--config.split={split}", f"--workdir={tmp_path / str(split)}"]
        run_command("nst_jax.run", *own, **QUICKLY, **flags)
        lines = (tmp_path / str(split) / "metrics.jsonl").read_text().splitlines()
        paintings.append([json.loads(line)["total"] for line in lines])
    assert len(paintings[0]) == 7
    np.testing.assert_allclose(*paintings, rtol=1e-3)


@pytest.mark.slow
def test_three_processes_begin_whole_where_they_cannot_share(tmp_path):
    """16 rows, which two of three processes would have alone, then 48."""
    keys = ["--config=starry", "--config.image_size=48", "--config.pyramid.min_size=16"]
    keys += ["--config.pyramid.factor=3", "--config.pyramid.first_steps=1", "--config.steps=1"]
    keys += ["--config.style_layers=relu1_1,relu4_1", "--config.content_layers=relu2_2"]
    keys += ["--config.log_every=1", "--config.split=-1"]
    run_command("nst_jax.run", *keys, f"--workdir={tmp_path / 'alone'}", **QUICKLY)
    in_processes(3, [*keys, f"--workdir={tmp_path / 'all'}"])
    alone, together = (
        [json.loads(line)["total"] for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("alone", "all")
    )
    assert len(alone) == 3
    np.testing.assert_allclose(together, alone, rtol=1e-3)


LOWERED = """
import hashlib, jax, numpy as np
from nst_jax import config
from nst_jax.losses.targets import compute_targets
from nst_jax.transfer import networks, prepare, problem
from nst_jax.transfer.cache import SHARED

c = config.default()
c.content, c.style = config.sample_photograph(), str(config.PICTURES / "starry.jpg")
keys = {"image_size": 96, "tile": 80, "style_losses": "sliced", "style_layers": "relu1_1, relu2_1"}
experiment = config.with_values(c, keys | {"content_layers": "relu1_1, relu1_2, relu2_2"})
pictures = prepare.load(experiment, SHARED)
network = networks.load_network(experiment, pictures, SHARED)
regions = problem.guide_weights(experiment, pictures)[1]
text = compute_targets.lower(
    network, pictures.content, pictures.styles, problem.knobs_of(experiment.objective, []),
    np.ones(1, np.float32), regions, jax.random.key(0),
    static=problem.objective_static(experiment, pictures.shape),
).as_text()
print(hashlib.sha256(text.encode()).hexdigest())
"""


@pytest.mark.slow
def test_processes_compile_the_same_targets_whatever_their_hash_seed():
    command = [sys.executable, "-c", LOWERED]
    found = set()
    for seed in "123":
        environment = os.environ | {"PYTHONHASHSEED": seed}
        found.add(subprocess.run(command, env=environment, capture_output=True, text=True).stdout)
    assert len(found) == 1
    assert len(found.pop()) == 65


def test_what_cannot_be_split_is_said():
    c = config.default()
    c.content = c.style = "a.jpg"
    c.split = 4096
    with pytest.raises(UserError, match=r"config.split=4096, but there (is|are) only"):
        paint.rows_mesh(config.parse(c))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--processes=2", "--process=1"], "--coordinator"),
        (["--coordinator=nowhere"], "HOST:PORT"),
        (["--coordinator=127.0.0.1:1", "--processes=2", "--process=2"], "--process=2 of"),
        (["--distributed", "--process=1"], "--coordinator"),
        (["--distributed", "--workdir="], "name it with --workdir"),
        (["--distributed", "--config.split=0"], "--config.split=-1"),
        (["--config.split=4096"], "config.split=4096, but there"),
    ],
)
@pytest.mark.slow
def test_processes_and_devices_that_are_not_there_are_one_line(words, said, tmp_path):
    words = ["--config=starry", "--config.split=-1", f"--workdir={tmp_path / 'w'}", *words]
    done = subprocess.run(
        [sys.executable, "-m", "nst_jax.run", *words], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "w").exists()
