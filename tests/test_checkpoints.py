import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, painted, prepared
from PIL import Image

from nst_jax import config, files
from nst_jax.errors import UserError
from nst_jax.optimize import loop
from nst_jax.runs import checkpoints, record, single, workdir
from nst_jax.runs.interrupts import Interrupts

pytestmark = pytest.mark.slow

SHALLOW = {"content_layers": "relu2_1", "style_layers": "relu1_1, relu2_1"}
COMMAND = [sys.executable, "-m", "nst_jax.run", "--config", f"{ROOT}/configs/starry.py:smoke"]
COMMAND += [f"--config.{key}={value}" for key, value in SHALLOW.items()]  # compiles in less time


@pytest.fixture
def experiment(tmp_path, rng):
    """Makes a config of two scales, 24 and 32 pixels, and reads its pictures."""
    for name in ("content", "style"):
        noise = rng.random((32, 28, 3)) * np.linspace(0.5, 1, 28)[:, None]
        Image.fromarray(np.uint8(255 * noise)).save(tmp_path / f"{name}.png")

    def make(**keys):
        c = config.default()
        c.content, c.style = f"{tmp_path}/content.png", f"{tmp_path}/style.png"
        c.convolution, c.image_size, c.steps, c.log_every = "direct", 32, 7, 3
        c.pyramid.min_size, c.pyramid.factor, c.pyramid.first_steps = 24, 1.3, 6
        c.update_from_flattened_dict({"save_every": 0} | SHALLOW | keys)
        return prepared(c)

    return make


CASES = {
    "adam": {"optimizer.average": 0.9, "style_losses": "sliced"},
    "lbfgs": {"optimizer.name": "lbfgs", "optimizer.memory": 3, "parameterization": "fourier"},
    "sgd": {"optimizer.name": "sgd", "optimizer.learning_rate": 1e-9, "precision": "bfloat16"},
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_goes_on_to_the_bit(case, experiment, vgg19, tmp_path):
    """From every log line of both scales, through a file: the rest is what it was."""
    e, pictures = experiment(**CASES[case])
    whole = list(painted(e, pictures, vgg19, snapshot=lambda last: True))
    assert [p.step for p in whole] == [0, 3, 6, 9, 12, 13]
    assert [p.scale for p in whole] == [0, 0, 0, 1, 1, 1]
    assert np.abs(np.asarray(whole[-1].image) - np.asarray(whole[-2].image)).max() > 0
    for k, progress in enumerate(whole):
        checkpoints.write(tmp_path, progress.progress, 1.5)
        (resume, seconds, lost), damaged = checkpoints.newest(tmp_path, e, pictures)
        assert (resume.step, resume.scale) == (progress.step, whole[k].scale)
        assert (seconds, lost, damaged) == (1.5, {}, [])
        alike(painted(e, pictures, vgg19, resume), whole[k:])


def test_states_between_two_lines_of_the_log(experiment, vgg19, tmp_path, monkeypatch):
    """Slow steps run in shorter chunks: a state can be had after each, and the log has no more."""
    e, pictures = experiment()
    expected = list(painted(e, pictures, vgg19))
    monkeypatch.setattr(loop, "MAX_DISPATCH_SECONDS", 0.0)
    alike(painted(e, pictures, vgg19), expected)
    whole = list(painted(e, pictures, vgg19, snapshot=lambda last: True))
    assert [p.step for p in whole] == list(range(14))
    alike((p for p in whole if p.terms), expected)
    for step in (2, 11):
        checkpoints.write(tmp_path, whole[step].progress, 1.5)
        found, _ = checkpoints.newest(tmp_path, e, pictures)
        first, *rest = painted(e, pictures, vgg19, found.progress)
        assert (first.step, first.terms) == (step, {})
        alike(rest, [p for p in expected if p.step > step])


def alike(some, others):
    """The same steps, pictures and terms, to the bit."""
    for one, other in zip(some, others, strict=True):
        assert (one.step, one.terms) == (other.step, other.terms)
        np.testing.assert_array_equal(one.image, other.image)


def test_the_newest_is_that_of_the_most_steps(experiment, vgg19, tmp_path):
    e, pictures = experiment()
    progress = next(painted(e, pictures, vgg19, snapshot=lambda last: True))
    for step in (999_999, 1_000_000, 10_000_000):
        checkpoints.write(tmp_path, progress.progress._replace(step=step), 0.0)
    assert checkpoints.newest(tmp_path, e, pictures)[0].progress.step == 10_000_000


def test_several_paintings_go_on_too(experiment, vgg19, tmp_path):
    keys = {"interpolate": 2, "pyramid.min_size": 0}
    style = f"{tmp_path}/style.png, {tmp_path}/content.png"
    e, pictures = experiment(**keys, style=style)
    whole = list(painted(e, pictures, vgg19, snapshot=lambda last: True))
    checkpoints.write(tmp_path, whole[1].progress, 0.0)
    found, _ = checkpoints.newest(tmp_path, e, pictures)
    *_, last = painted(e, pictures, vgg19, found.progress)
    np.testing.assert_array_equal(last.image, whole[-1].image)


def test_states_are_fetched_only_when_asked_for(experiment, vgg19):
    e, pictures = experiment()
    asked = []

    def keep(last):
        asked.append(last)
        return len(asked) == 2

    states = [p.progress.state for p in painted(e, pictures, vgg19, snapshot=keep)]
    assert asked == [False, False, True, False, False, False, True]
    assert [state is not None for state in states] == [False, True, False, False, False, False]


@pytest.fixture
def kept(experiment, vgg19, tmp_path):
    """The checkpoints of a run: its config, its pictures, the files newest first."""
    e, pictures = experiment()
    for progress in painted(e, pictures, vgg19, snapshot=lambda last: True):
        checkpoints.write(tmp_path, progress.progress, 1.0)
    paths = sorted((tmp_path / "checkpoints").iterdir(), reverse=True)
    assert [path.name for path in paths] == ["000000013-1.state", "000000012-1.state"]
    return e, pictures, paths


def test_a_scale_of_a_style_of_another_size(experiment, vgg19, tmp_path):
    """Without content the picture has the style's shape, rounded at its own size first."""
    Image.fromarray(np.uint8(np.arange(301 * 400 * 3).reshape(301, 400, 3) % 251)).save(
        tmp_path / "wide.png"
    )
    keys = {"content": "", "style": f"{tmp_path}/wide.png", "style_scale": 0.5, "image_size": 100}
    keys |= {"init.noise": 1.0, "pyramid.min_size": 70, "pyramid.first_steps": 1, "steps": 1}
    e, pictures = experiment(**keys)
    for progress in painted(e, pictures, vgg19, snapshot=lambda last: True):
        checkpoints.write(tmp_path, progress.progress, 1.0)
        found, damaged = checkpoints.newest(tmp_path, e, pictures)
        assert damaged == []
        assert found.progress.step == progress.step


def header(path, **changes):
    line, payload = path.read_bytes().split(b"\n", 1)
    path.write_bytes(json.dumps(json.loads(line) | changes).encode() + b"\n" + payload)


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "a bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x7f"),
    "empty": lambda path: path.write_bytes(b""),
    "no JSON": lambda path: path.write_bytes(b"\x80\x04K\x01.\n"),
    "a list": lambda path: path.write_bytes(b"[]\n"),
    "deep": lambda path: path.write_bytes(b"[" * 60000 + b"\n"),
    "endless line": lambda path: path.write_bytes(b"{" * 10_000_000),
    "a scale there is not": lambda path: header(path, scale=9),
    "a scale before the first": lambda path: header(path, scale=-1),
    "no scale": lambda path: header(path, scale=None),
    "another scale": lambda path: header(path, scale=0),
    "no version": lambda path: header(path, format="nst_jbx checkpoint 2"),
    "infinite": lambda path: header(path, step=float("inf")),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage, kept, tmp_path):
    e, pictures, (newest, before) = kept
    DAMAGE[damage](newest)
    found, damaged = checkpoints.newest(tmp_path, e, pictures)
    assert found.progress.step == 12
    assert len(damaged) == 1
    assert str(newest) in damaged[0]
    DAMAGE[damage](before)
    assert checkpoints.newest(tmp_path, e, pictures)[0] is None


def test_another_versions_checkpoint_is_refused_by_name(kept, tmp_path):
    e, pictures, (newest, _) = kept
    header(newest, format="nst_jax checkpoint 0")
    with pytest.raises(UserError, match="'nst_jax checkpoint 0', but this version reads"):
        checkpoints.newest(tmp_path, e, pictures)


def test_a_checkpoint_is_due_after_a_time_and_takes_a_twentieth_at_most(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = checkpoints.Clock(60.0)
    now[0] = 59
    assert not clock.due()
    now[0] = 60
    assert clock.due()
    with clock.writing():
        now[0] = 64
    now[0] = 64 + 79
    assert not clock.due()
    now[0] = 64 + 80
    assert clock.due()


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [(False, False, False), (False, True, False), (True, False, False), (True, True, True)],
)
def test_a_folder_is_one_commands_or_shared(first, second, both, tmp_path):
    """Whether each of two commands shares, and whether both may be at work."""
    with workdir.lock(tmp_path, first), contextlib.ExitStack() as stack:
        if not both:
            stack.enter_context(pytest.raises(UserError, match="another command is at work"))
        with workdir.lock(tmp_path, second):
            assert both


def test_what_a_killed_command_leaves_is_no_obstacle(tmp_path):
    for name in (".lock", ".0123456789abcdef.json", "environment.json"):
        (tmp_path / name).write_text("left")
    assert workdir.open_run(str(tmp_path), "name") == (tmp_path, False)
    with workdir.lock(tmp_path):
        pass


def run(*words, code=0):
    done = subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


LONG = (
    "--config.pyramid.min_size=0",
    "--config.steps=80",
    "--config.log_every=2",
    "--config.save_every=40",
    "--config.checkpoint_every=0.1",
)


def stopped(workdir, number, after="step 10/"):
    """Starts a run and sends it a signal at a step; its exit code and the last line it printed."""
    process = subprocess.Popen(
        [*COMMAND, *LONG, f"--workdir={workdir}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith(after):
            process.send_signal(number)
            break
    _, err = process.communicate()
    return process.returncode, err[err.rstrip().rfind("\n") + 1 :]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "w"
    run(*LONG, f"--workdir={workdir}")
    return workdir


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_the_same_command_goes_on_where_a_signal_stopped_it(name, tmp_path, undisturbed):
    """The painting, the log but for its times, and the frames are those of an undisturbed run."""
    number, workdir = getattr(signal, name), tmp_path / "w"
    code, said = stopped(workdir, number)
    assert code == (-number if name == "SIGKILL" else 128 + number), said
    if name != "SIGKILL":
        assert f"--workdir={workdir}` resumes after step" in said
        assert json.loads((workdir / "result.json").read_text())["message"] == "interrupted"
    again = run(*LONG, f"--workdir={workdir}")
    assert "resuming after" in again.stderr
    for path in ["final.png", *(f"frames/{k:06d}.png" for k in (0, 40, 80))]:
        assert (workdir / path).read_bytes() == (undisturbed / path).read_bytes(), path

    def log(folder):
        rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        return [row | {"seconds": 0} for row in rows]

    assert log(workdir) == log(undisturbed)
    assert json.loads((workdir / "result.json").read_text())["status"] == "done"
    assert not [path for path in workdir.rglob(".*") if path.name != ".lock"]


def test_a_finished_run_is_left_alone_and_another_refused(undisturbed, tmp_path):
    before = (undisturbed / "final.png").stat().st_mtime_ns
    given = (*LONG, f"--workdir={undisturbed}")
    done = run(*given)
    assert done.stdout == f"{undisturbed / 'final.png'}\n"
    assert "finished already" in done.stderr
    assert (undisturbed / "final.png").stat().st_mtime_ns == before
    said = run(*given, "--config.alpha=7", code=2).stderr
    assert "config.alpha was 1.5, is 7.0" in said
    assert said.count("\n") == 1


def test_other_weights_and_a_damaged_record_are_refused(experiment, vgg19, tmp_path):
    e, _ = experiment(**{"pyramid.min_size": 0, "steps": 1})
    folder = tmp_path / "w"

    def again():
        return single.run(e, "name", str(folder), Interrupts())

    painting = again()
    environment = json.loads((folder / "environment.json").read_text())
    saved = json.dumps(environment)
    environment["weights"]["sha256"] = "of others"
    files.write_json(folder / "environment.json", environment)
    with pytest.raises(UserError, match=r"weights\.sha256 was 'of others'"):
        again()
    (folder / "environment.json").write_text("{")
    with pytest.raises(UserError, match=r"environment\.json is damaged"):
        again()
    (folder / "environment.json").write_text(saved)
    assert again() == painting


def test_a_finished_run_can_be_extended(tmp_path):
    """To what a longer run comes to, also in two goes."""
    adam = ("--config.optimizer.name=adam", "--config.pyramid.min_size=0")
    short, long = f"--workdir={tmp_path}/short", f"--workdir={tmp_path}/long"
    run(*adam, short)
    run(*adam, "--config.steps=10", long)
    run(*adam, "--extend_steps=6", short)
    assert (tmp_path / "short" / "final.png").stat().st_size > 0
    pictures = [Image.open(tmp_path / name / "final.png") for name in ("short", "long")]
    assert pictures[0].tobytes() == pictures[1].tobytes()
    rows = (tmp_path / "short" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [0, 2, 4, 6, 8, 10]
    assert "finished already" in run(*adam, "--extend_steps=6", short).stderr


def test_a_run_that_cannot_be_extended_is_left_alone(tmp_path):
    assert "--workdir" in run("--extend_steps=6", code=2).stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".hidden").touch()
    said = run("--extend_steps=6", f"--workdir={tmp_path}/mine", code=2).stderr
    assert "no run began" in said
    assert "is not empty" in run(f"--workdir={tmp_path}/mine", code=2).stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [".hidden"]


def test_a_second_command_in_the_folder_is_refused(tmp_path):
    """Also while nothing is written yet; the first is not disturbed."""
    record.rewind(tmp_path, 0)
    (tmp_path / "metrics.jsonl").unlink()
    with workdir.lock(tmp_path):
        said = run(f"--workdir={tmp_path}", code=2).stderr
    assert "another command is at work" in said
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_full_disk_ends_the_run_and_names_what_is_left(tmp_path):
    """Files of 30 kB at most, as where the disk ends: the picture fits, the state does not."""

    def cramp():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    given = ("--config.pyramid.min_size=0", "--config.checkpoint_every=0.01")
    done = subprocess.run(
        [*COMMAND, *given, f"--workdir={tmp_path}/w"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=cramp,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": ""},
    )
    said = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert said.startswith("error: cannot write")
    assert f"the picture after 0 steps is {tmp_path}/w/final.png" in said
    assert not list((tmp_path / "w" / "checkpoints").iterdir())


def test_output_that_nobody_takes_is_one_line(undisturbed):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *LONG, f"--workdir={undisturbed}"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: cannot write to standard output")
    assert "Traceback" not in done.stderr


def test_a_log_line_cut_short_is_taken_back(tmp_path):
    rows = [json.dumps({"step": step, "seconds": 1.0}) for step in (0, 10, 20)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + '\n{"step": 3')
    record.rewind(tmp_path, 99)
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == rows
    record.rewind(tmp_path, 20)
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == rows[:2]


def test_a_write_that_fails_leaves_the_checkpoints_before(kept, tmp_path):
    e, pictures, (newest, _) = kept
    progress = checkpoints.read(newest, e, pictures).progress
    (tmp_path / "checkpoints" / "000000014-1.state").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        checkpoints.write(tmp_path, progress._replace(step=14), 1.0)
    assert checkpoints.newest(tmp_path, e, pictures)[0].progress.step == 13
