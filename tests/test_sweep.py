"""The command that paints many experiments, as a user runs it: in processes of its own."""

import json
import os
import random
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from nst_jax import cli
from nst_jax.pictures import images

pytestmark = pytest.mark.slow

CONFIG = """
from nst_jax import config
from nst_jax.config import axes

def get_config():
    c = config.sample()
    c.image_size, c.steps, c.log_every, c.save_every = 48, 6, 3, 3
    c.content_layers, c.style_layers = "relu2_1", "relu1_1:100, relu2_1"
    c.init.noise, c.convolution = 0.5, "direct"
    c.axes = (axes.each("beta", 0.01, 1.0), axes.each("seed", 1, 2, 3))
    return c
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A sweep of six cells that takes no time to paint."""
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(CONFIG)
    return path


def start(*arguments, devices=1, module="sweep", **others):
    flag = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", f"nst_jax.{module}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}"},
        **others,
    )


def command(*arguments, code=0, **others):
    """Runs the command to its end and returns (standard output, standard error)."""
    process = start(*arguments, **others)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def paintings(workdir):
    return {path.parent.name: images.read(path) for path in workdir.glob("cells/*/final.png")}


def assert_equal(workdir, other, levels=0):
    """The same paintings, to so many of 255 levels."""
    here, there = paintings(workdir), paintings(other)
    assert here.keys() == there.keys()
    for name, painting in here.items():
        assert np.abs(painting - there[name]).max() * 255 <= levels + 0.01, name


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The whole sweep, undisturbed."""
    workdir = tmp_path_factory.mktemp("sweeps") / "whole"
    out, err = command("--config", tiny, "--workdir", workdir)
    assert out == f"{workdir / 'report.html'}\n"
    assert err.count(": done, ") == 6
    return workdir


def test_leaves_each_cell_and_the_report(whole):
    names = [
        f"{k}-beta={b}-seed={s}"
        for k, (b, s) in enumerate((b, s) for b in ("0.01", "1") for s in "123")
    ]
    assert sorted(path.name for path in (whole / "cells").iterdir()) == names
    files = sorted(path.name for path in (whole / "cells" / names[4]).iterdir())
    assert files == [
        "config.json",
        "environment.json",
        "final.png",
        "frames",
        "losses.png",
        "metrics.jsonl",
        "result.json",
    ]
    result = json.loads((whole / "cells" / names[4] / "result.json").read_text())
    assert (result["status"], result["steps"], result["batch"]) == ("done", 6, 6)
    lines = (whole / "cells" / names[4] / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["seconds"] == result["seconds"], "of its share, while it runs too"
    found = json.loads((whole / "cells" / names[4] / "config.json").read_text())
    assert (found["beta"], found["seed"]) == (1.0, 2)
    for name in ("report.html", "contact_sheet.png", "results.csv", "results.jsonl"):
        assert (whole / name).stat().st_size > 500
    rows = [json.loads(line) for line in (whole / "results.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == names
    assert len({row["total"] for row in rows}) == 6


def test_a_cells_own_command_paints_it_alone(whole, tmp_path):
    cell = json.loads((whole / "sweep.json").read_text())["cells"][4]
    python, dash_m, module, *words = shlex.split(cell["command"])
    assert (python, dash_m, module) == ("python", "-m", "nst_jax.run")
    command(*words, "--workdir", tmp_path / "alone", module="run")
    alone = images.read(tmp_path / "alone" / "final.png")
    assert np.abs(alone - paintings(whole)[cell["name"]]).max() * 255 <= 1.01
    assert np.abs(alone - paintings(whole)["1-beta=0.01-seed=2"]).max() > 0.05


def test_a_changed_sweep_is_refused_with_the_difference(tiny, whole):
    arguments = ("--config", tiny, "--workdir", whole)
    _, err = command(*arguments, "--config.alpha=3", code=2)
    assert "alpha was 1.0, is 3.0" in err
    assert len(err.splitlines()) == 1
    _, err = command(*arguments, "--axis", "seed=1, 2", code=2)
    assert "was begun with other settings" in err
    assert len(paintings(whole)) == 6


def test_eight_devices_paint_what_one_does(tiny, whole, tmp_path):
    command("--config", tiny, "--workdir", tmp_path / "8", devices=8)
    assert_equal(whole, tmp_path / "8", levels=1)


CASES = """
    c.axes = (
        axes.named(
            "case",
            {
                "good": {"seed": 1},
                "lost at once": {"alpha": 3e38},
                "lost later": {"alpha": 3e37, "init.noise": 0.0},  # content is 0 at its own picture
                "no picture": {"content": "nowhere.jpg"},
                "also good": {"seed": 2},
            },
        ),
    )
    c.beta = 0.01
    return c
"""


def test_lost_cells_and_one_without_picture_leave_the_others_alone(whole, tmp_path):
    config, workdir = tmp_path / "cases.py", tmp_path / "w"
    config.write_text(CONFIG.rpartition("    c.axes")[0] + CASES)
    _, err = command("--config", config, "--workdir", workdir, code=1)
    last = err.splitlines()[-1]
    assert last.startswith("error: 3 of 5 cells failed, such as 1-case=lost_at_once: the loss is")
    rows = [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["done", "failed", "failed", "failed", "done"]
    assert [row["steps"] for row in rows] == [6, 0, 0, 0, 6]
    assert [row["message"].partition("; ")[0] for row in rows] == [
        "",
        "the loss is not finite at step 0",
        "the loss is not finite at step 1",
        "no picture nowhere.jpg",
        "",
    ]
    here, there = paintings(workdir), paintings(whole)
    assert {*here} == {"0-case=good", "2-case=lost_later", "4-case=also_good"}
    for name, other in (
        ("0-case=good", "0-beta=0.01-seed=1"),
        ("4-case=also_good", "1-beta=0.01-seed=2"),
    ):
        assert np.abs(here[name] - there[other]).max() * 255 <= 1.01
    assert (workdir / "report.html").exists()
    _, err = command("--config", config, "--workdir", workdir, code=1)
    assert ": done, " not in err  # what failed is tried again, what is done is not


def test_a_disk_that_is_full_is_no_cells_fault(tiny, tmp_path):
    """No file may have more than 20 kB, as losses.png has: the sweep ends, and blames no cell."""
    workdir = tmp_path / "w"
    limit = 20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    _, err = command(
        "--config", tiny, "--workdir", workdir, code=2,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )  # fmt: skip
    assert err.startswith("error: cannot write ")
    assert len(err.splitlines()) == 1
    assert not list(workdir.glob("cells/*/result.json"))


def test_killed_at_any_moment_it_goes_on(tiny, whole, tmp_path):
    """Twice, one cell at once; what was finished before stays untouched."""
    workdir, rng = tmp_path / "w", random.Random(7)
    arguments = ("--config", tiny, "--workdir", workdir, "--batch=1")
    for least in (1, 4):
        process = start(*arguments)
        while len(list(workdir.glob("cells/*/result.json"))) < least and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.random() / 5)
        process.kill()
        process.communicate()
        finished = {p: p.stat().st_mtime_ns for p in workdir.glob("cells/*/result.json")}
        assert len(finished) >= least
    _, said = command(*arguments)
    assert f"resuming: {len(finished)} of 6 cells are done, 1 under way" in said
    assert all(path.stat().st_mtime_ns == before for path, before in finished.items())
    assert not list(workdir.rglob(".*.*")), "a temporary file"
    assert_equal(workdir, whole, levels=1)


def test_an_interrupt_says_how_far_it_came(tiny, tmp_path):
    workdir = tmp_path / "w"
    process = start("--config", tiny, "--workdir", workdir, "--batch=1", "--config.steps=600")
    while not (workdir / "cells" / "0-beta=0.01-seed=1" / "result.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("interrupted; 1 of 6 cells are done, and the same")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def claimed(workdir):
    """cell -> its claims, in order: the workers."""
    found = {}
    for path in sorted(workdir.glob("claims/*")):
        found.setdefault(path.stem, []).append(path.read_text())
    return found


def test_a_second_command_is_refused_and_workers_share(tiny, tmp_path):
    workdir = tmp_path / "w"
    process = start("--config", tiny, "--workdir", workdir, "--config.steps=9999")
    while not (workdir / "claims").exists():
        assert process.poll() is None
        time.sleep(0.01)
    for more in ((), ("--worker",)):
        _, err = command(
            "--config", tiny, "--workdir", workdir, "--config.steps=9999", *more, code=2
        )
        assert "another command is at work" in err
    process.kill()
    process.communicate()


def test_workers_come_and_go(tiny, whole, tmp_path):
    """Three workers: one is killed with a cell begun, one joins late, one sleeps for a while.

    The one that sleeps longer than the others' patience finds its cell taken over, or done.
    """
    workdir = tmp_path / "w"
    arguments = ("--config", tiny, "--workdir", workdir, "--batch=1", "--worker", "--patience=2")
    workers = [start(*arguments) for _ in range(2)]
    while len(list(workdir.glob("workers/*/*/metrics.jsonl"))) < 2:
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.002)
    workers[0].kill()
    workers[1].send_signal(signal.SIGSTOP)
    _, err = command(*arguments)
    workers[1].send_signal(signal.SIGCONT)
    assert "resuming: " in err
    _, err = workers[1].communicate(timeout=120)
    workers[0].communicate()
    assert workers[1].returncode == 0, err
    assert_equal(workdir, whole)
    assert {len(claims) for claims in claimed(workdir).values()} == {1, 2}
    assert not list((workdir / "workers").iterdir())
    assert (workdir / "report.html").exists()


def test_a_store_keeps_what_is_done(tiny, whole, tmp_path):
    """A folder's cells go there, and come back into a new folder; another sweep's do not."""
    shutil.copytree(whole, tmp_path / "first")
    store = tmp_path / "store"
    for name in ("first", "second"):
        _, err = command("--config", tiny, "--workdir", tmp_path / name, "--publish", store)
        assert ": done, " not in err
    assert_equal(tmp_path / "second", whole)
    assert_equal(store, whole)
    assert (store / "report.html").exists()
    arguments = ("--workdir", tmp_path / "third", "--publish", store, "--config.steps=7")
    _, err = command("--config", tiny, *arguments, code=2)
    assert "steps was 6, is 7" in err
    assert err.splitlines()[-1].endswith("name another folder with --publish")


def test_launched_workers_paint_what_one_command_does(tiny, whole, tmp_path):
    """Through submitit, on this machine."""
    workdir = tmp_path / "w"
    words = ("--launch=local", "--jobs=2", "--launch_args", "timeout_min=20", "--batch=2")
    out, err = command("--config", tiny, "--workdir", workdir, *words)
    assert out == f"{workdir / 'report.html'}\n"
    assert "submitted" in err
    assert_equal(workdir, whole)
    assert len({path.read_text() for path in workdir.glob("claims/*")}) <= 2
    _, err = command("--config", tiny, "--workdir", workdir, *words, "--config.steps=7", code=2)
    assert "was begun with other settings" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--axis", "betta=1, 2"], "Did you mean beta"),
        (["--axis", "beta=a, b"], "cell 0 (beta=a"),
        (["--axis", "beta=[]"], "axis 'beta' is empty"),
        (["--axis", "beta"], "KEY=VALUE"),
        (["--config.beta=3"], "an axis varies it"),
        (["--axis", "interpolate=2, 3", "--config.style=a.jpg,b.jpg"], "config.interpolate"),
        (["--axis", "alpha=" + ",".join(map(str, range(2000)))], "cells; a sweep has 10,000"),
        (["--workdir", "{0}"], "is not empty"),
        (["--axis", "seed=1, 2", "--axis", "seed=5"], "two axes are named 'seed'"),
        (["--worker"], "name it with --workdir"),
        (["--distributed"], "name it with --workdir"),
        (["--worker", "--patience=0", "--workdir", "{0}/w"], "patience"),
        (["--axis", "beta=1,,2"], "empty value"),
        (["--axis", "=1, 2"], "KEY=VALUE"),
        (["--axis", "optimizer={{'name': 'adam'}}, 2"], "sets the group config.optimizer"),
        (["--axis", "seed=1" + "0" * 5000 + ",,2"], "000...' has an empty value"),
    ],
)
def test_mistakes_are_one_line(arguments, said, tiny, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    words = [word.format(tmp_path) for word in arguments]
    out, err = command("--config", tiny, *words, code=2)
    assert said in err
    assert len(err.splitlines()) == 1
    assert not out
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_dry_run_writes_nothing(tiny, tmp_path):
    out, _ = command("--config", tiny, "--workdir", tmp_path / "w", "--dry_run")
    assert out.splitlines()[0].split() == ["cell", "beta", "seed", "program"]
    assert "program 1: cells 6, at once 6, memory" in out
    assert not (tmp_path / "w").exists()


IMPATIENT = """
from nst_jax import cli
from nst_jax.runs import processes
processes.MAX_WAIT_SECONDS = 0
cli.start(lambda: processes.await_listener("{}", {}))
"""


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 0), ("no.such.host.invalid", 1), ("::1", 99999)]
)
def test_process_0_must_listen(host, port):
    code = IMPATIENT.format(host, port or free_port())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"does not listen on --coordinator {host}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


DAMAGE = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cell_is_painted_again(damage, tiny, whole, tmp_path):
    """What is not as it was written is not finished; what is stays untouched."""
    shutil.copytree(whole, tmp_path / "w")
    cells = sorted((tmp_path / "w" / "cells").iterdir())
    names = "final.png", "metrics.jsonl", "config.json", "result.json"
    for cell, name in zip(cells, names, strict=False):
        DAMAGE[damage](cell / name)
    before = {path: path.stat().st_mtime_ns for cell in cells[4:] for path in cell.iterdir()}
    _, err = command("--config", tiny, "--workdir", tmp_path / "w")
    assert [f"{k}-beta" in err for k in range(6)] == [True] * 4 + [False] * 2
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert_equal(tmp_path / "w", whole, levels=1)


def test_flags_stay_with_their_values(monkeypatch, tmp_path):
    words = ["--config", "a.py:x", "--dry_run", "--config.style=a b.jpg", "-axis", "seed=1, 2"]
    monkeypatch.setattr(sys, "argv", ["sweep.py", *words])
    assert cli.typed() == [
        "--config=a.py:x", "--dry_run", "--config.style=a b.jpg", "-axis=seed=1, 2",
    ]  # fmt: skip
    (tmp_path / "flags").write_text("--config=b.py\n--config.seed=3\n")
    monkeypatch.setattr(sys, "argv", ["sweep.py", f"--flagfile={tmp_path / 'flags'}", "--dry_run"])
    assert cli.typed() == ["--config=b.py", "--config.seed=3", "--dry_run"]
