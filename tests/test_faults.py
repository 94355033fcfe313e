"""What happens to a run from outside: devices, clocks, pipes; disks are in test_checkpoints."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time

import pytest
from conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quickly_compiled")]

ARGUMENTS = (
    "--config",
    f"{ROOT}/configs/starry.py:smoke",
    "--config.pyramid.min_size=0",
    "--config.optimizer.name=adam",
    "--config.log_every=1",
    "--config.save_every=0",
    "--config.content_layers=relu2_1",
    "--config.style_layers=relu1_1, relu2_1",
)

FAILING_DEVICE = """
import jax
from nst_jax.optimize import step


objective, evaluated = step.objective, []

def compute(value):
    evaluated.append(value)
    if len(evaluated) > 2:
        raise RuntimeError("lost")
    return value

def failing(image, *args):
    value = objective(image, *args)
    shape = jax.ShapeDtypeStruct((), value.dtype)
    seen = jax.pure_callback(compute, shape, jax.lax.stop_gradient(value))
    return value + 0 * jax.lax.stop_gradient(seen)

step.objective = failing
"""
CLOCK_SET_BACK = """
import itertools
import time

hours = itertools.count()
time.time = lambda: 1.7e9 - 3600 * next(hours)
"""


def started(before, workdir, more=(), **options):
    """The command in a process in which something else was run before."""
    words = ["nst_jax.run", *ARGUMENTS, *more, f"--workdir={workdir}"]
    code = f"import runpy, sys\nsys.argv = {words!r}\n{before}\n"
    code += "runpy.run_module('nst_jax.run', run_name='__main__', alter_sys=True)"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, **options)


def test_a_device_that_fails_within_the_steps(tmp_path):
    """Evaluations fail from the third on, on the device: an error of JAX's, as a lost one's."""
    process = started(FAILING_DEVICE, tmp_path / "w", stderr=subprocess.PIPE)
    said = process.communicate()[1].decode()
    assert process.returncode == 1, said
    last = said.splitlines()[-1]
    assert last.startswith("error: the device failed: INTERNAL")
    found = re.search(r"; the picture after ([12]) steps is (\S+)$", last)
    assert found, last
    assert found[2] == f"{tmp_path}/w/final.png"
    result = json.loads((tmp_path / "w" / "result.json").read_text())
    assert (result["status"], result["steps"]) == ("failed", int(found[1]))
    assert {path.name for path in (tmp_path / "w").iterdir()} >= {"final.png", "report.html"}


def test_a_clock_set_back_and_a_pipe_that_nobody_reads(tmp_path):
    """By an hour whenever it is asked; the run waits for who reads what it says, then goes on."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, b" " * size)
    os.set_blocking(write, True)
    process = started(CLOCK_SET_BACK, tmp_path / "w", stderr=write)
    os.close(write)
    log = tmp_path / "w" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not log.parent.exists() and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(1)
    waits = process.poll() is None and not log.exists()
    with os.fdopen(read) as pipe:
        said = pipe.read()
    process.communicate()
    assert waits
    assert process.returncode == 0, said
    rows = [json.loads(row) for row in log.read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[0] >= 0
    assert seconds[-1] < 600


INTERRUPTED_FILM = """
import os
import signal
import time
from nst_jax.runs import record

def interrupted(folder, experiment):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

record.animate = interrupted
"""


def test_an_interrupt_is_obeyed_while_the_film_is_written(tmp_path):
    """The painting is there; the same command resumes after the last step and writes the film."""
    workdir = tmp_path / "w"
    film = "--config.save_every=2", "--config.animation=film.gif"
    process = started(INTERRUPTED_FILM, workdir, more=film, stderr=subprocess.PIPE)
    said = process.communicate()[1].decode()
    assert process.returncode == 130, said
    last = said.splitlines()[-1]
    assert last.startswith(f"interrupted; the painting is {workdir}/final.png"), said
    assert not (workdir / "result.json").exists()
    process = started("", workdir, more=film, stderr=subprocess.PIPE)
    said = process.communicate()[1].decode()
    assert process.returncode == 0, said
    assert "resuming after 4 steps" in said
    assert (workdir / "film.gif").stat().st_size > 1000
    assert json.loads((workdir / "result.json").read_text())["status"] == "done"


def test_modules_that_only_unix_has_are_not_needed_to_import():
    code = "import sys\nfor name in ('resource', 'fcntl'): sys.modules[name] = None\n"
    code += "import nst_jax.run, nst_jax.runs.single, nst_jax.runs.record, nst_jax.network.fetch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
