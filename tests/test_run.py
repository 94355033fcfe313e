"""The command, as a user runs it: in a process of its own, by its exit code and its output."""

import dataclasses
import fcntl
import json
import os
import pickle
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import jax
import numpy as np
import pytest
from conftest import ROOT, run_command
from PIL import Image
from test_images import jpeg, png_header

from nst_jax import cli, config
from nst_jax.config.experiment import Scale
from nst_jax.errors import UserError
from nst_jax.network import fetch
from nst_jax.pictures import images
from nst_jax.runs import log, single
from nst_jax.runs.interrupts import Interrupts
from nst_jax.runs.record import Entry
from nst_jax.transfer import failures

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quickly_compiled")]

# At one scale, to compile less; the README's commands run it whole.
STARRY = ("--config", f"{ROOT}/configs/starry.py:smoke", "--config.pyramid.min_size=0")
SHALLOW = (
    "--config.content_layers=relu2_1",
    "--config.style_layers=relu1_1, relu2_1",
)


def command(*arguments, **how):
    """Runs the command to its end and returns (standard output, standard error)."""
    return run_command("nst_jax.run", *arguments, **how)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """One run of the default config at smoke size: its work directory, and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "first"
    quickly = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # as in `quickly_compiled`
    return workdir, *command(*STARRY, "--workdir", workdir, **quickly)


def test_time_left_counts_larger_pictures_as_more_work():
    experiment = config.parse(config.load(ROOT / "configs" / "starry.py"))
    scales = Scale(100, 100, 10), Scale(200, 200, 5)
    experiment = dataclasses.replace(experiment, scales=scales)
    assert [experiment.weighed(step) for step in (0, 4, 10, 12, 15)] == [0, 1, 2.5, 4.5, 7.5]


def test_leaves_everything_in_the_work_directory(smoke):
    workdir, out, err = smoke
    assert out == f"{workdir / 'final.png'}\n"
    assert "step 4/4" in err
    lines = [line for line in err.splitlines() if line.startswith("step ")]
    assert all(f"  {term} " in line for line in lines for term in ("total", "content", "style"))
    assert all("  55x64  " in line and len(line) <= 120 for line in lines)
    assert f"writing to {workdir}; Ctrl-C" in err
    assert f"report: {workdir / 'report.html'}" in err
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert rows[2]["total"] < rows[0]["total"]
    assert json.loads((workdir / "config.json").read_text())["image_size"] == 64
    assert json.loads((workdir / "environment.json").read_text())["weights"]["arch"] == "vgg19"
    assert [p.name for p in sorted((workdir / "frames").iterdir())] == [
        "000000.png",
        "000002.png",
        "000004.png",
    ]
    with Image.open(workdir / "final.png") as painting:
        assert max(painting.size) == 64
        assert json.loads(painting.info["nst_jax"])["steps"] == 4
    assert (workdir / "losses.png").stat().st_size > 1000
    assert (workdir / "report.html").stat().st_size > 10_000
    result = json.loads((workdir / "result.json").read_text())
    assert (result["status"], result["steps"], result["metrics"]) == ("done", 4, {})
    assert result["terms"] == {k: v for k, v in rows[2].items() if k not in ("step", "seconds")}
    assert result["command"].startswith("python -m nst_jax.run --config=")


def test_remarks_on_how_it_goes():
    c = config.sample()
    c.optimizer.decay, c.log_every = 0.9, 2
    experiment, lowest = config.parse(c), {}

    def at(total, rate=None):
        return Entry(0, {"total": total} | ({"learning_rate": rate} if rate else {}), None)

    def remark(entry, before, scale=0):
        return log.remark(experiment, entry, before, scale, lowest)

    first, second = at(100.0, 0.1), at(90.0, 0.081)
    assert remark(first, None) == ""
    assert remark(second, first) == ""
    assert "halved to 0.0328" in remark(at(90.0, 0.0328), second)
    assert remark(at(90.0), at(90.0)).startswith("unchanged")
    assert remark(at(179.0), second) == ""
    risen = remark(at(270.0), second)
    assert risen.startswith("rising: the loss is 3 times its lowest;")
    assert "config.optimizer.patience" in risen
    assert remark(at(270.0), second, scale=1) == ""


def test_a_device_that_fails_is_one_line():
    error = jax.errors.JaxRuntimeError("INTERNAL: the device is lost\nat kernel 7")
    experiment = config.parse(config.sample())
    found = failures.explained(error, experiment)
    assert (str(found), found.code) == ("the device failed: INTERNAL: the device is lost", 1)
    full = failures.explained(RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), experiment)
    assert "too little memory for config.image_size 384" in str(full)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        failures.explained(RuntimeError("a mistake of ours"), experiment)


def test_same_seed_same_bytes(smoke, tmp_path):
    command(*STARRY, "--workdir", tmp_path / "again")
    assert (tmp_path / "again" / "final.png").read_bytes() == (smoke[0] / "final.png").read_bytes()


def test_default_work_directory_is_a_new_folder_under_runs(tmp_path):
    out, _ = command(
        *STARRY, *SHALLOW, "--config.output=painting.webp", "--config.save_every=0", cwd=tmp_path
    )
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("starry-20")
    assert out == f"runs/{folder.name}/painting.webp\n"
    with Image.open(folder / "painting.webp") as painting:
        assert painting.format == "WEBP"
    assert not (folder / "frames").exists()


def test_help_reads_well_and_is_quick():
    began = time.monotonic()
    out, _ = command("--help")
    assert time.monotonic() - began < 20  # a hang, not a benchmark
    assert "python -m nst_jax.run --config configs/starry.py" in out
    assert "--workdir" in out


def test_help_does_not_wait_for_jax():
    code = (
        "import sys; sys.argv = ['run', '--help']\n"
        "import atexit; atexit.register(lambda: print('jax' in sys.modules))\n"
        "import runpy; runpy.run_module('nst_jax.run', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


MISTAKES = {
    "a name of other programs": ((*STARRY, "--config.style_weight=3"), "here it is config.beta"),
    "such a name in a group": (
        (*STARRY, "--config.optimizer.lr=3"),
        "here it is config.optimizer.learning_rate",
    ),
    "a key as a flag": ((*STARRY, "--content=a.jpg"), "give --config.content"),
    "such a name as a flag": ((*STARRY, "--content_weight=5"), "give --config.alpha"),
    "pictures without a comma": ((*STARRY, "--config.style", "a.jpg", "b.jpg"), "a.jpg,b.jpg"),
    "a path as output": ((*STARRY, "--config.output=elsewhere/o.png"), "a file name in --workdir"),
    "a device that is not there": ((*STARRY,), "JAX finds no such device"),
    "a mistake below a colon": (("--config", "12:30/c.py", "--config.steps=0"), "config.steps"),
    "missing picture": ((*STARRY, "--config.content=none.jpg"), "none.jpg"),
    "no config": ((), "--config starry"),
    "missing config": (("--config", "none.py"), "none.py"),
    "unknown flag": ((*STARRY, "--wrkdir=x"), "workdir"),
    "unknown argument": ((*STARRY, "extra"), "extra"),
    "unknown config argument": (("--config", f"{ROOT}/configs/starry.py:smok"), "smok"),
    "unknown config key": ((*STARRY, "--config.betta=1"), 'Did you mean "beta"'),
    "wrong type": ((*STARRY, "--config.steps=many"), "many"),
    "negative size": ((*STARRY, "--config.image_size=-5"), "image_size"),
    "empty loss list": ((*STARRY, "--config.style_losses="), "style_losses is empty"),
    "unknown layer": ((*STARRY, "--config.style_layers=relu6_1"), "relu5_1"),
    "zero iterations": ((*STARRY, "--config.steps=0"), "steps"),
    "broken config": (("--config", "broken.py"), "undefined"),
    "wrong type in a config": (("--config", "type.py"), "steps"),
    "no get_config": (("--config", "text.py"), "get_config"),
    "no config returned": (("--config", "none_at_all.py"), "get_config must return"),
    "a key too few": (("--config", "few.py"), "config.alpha is missing"),
    "a folder as config": (("--config", "folder"), "folder"),
    "a group of keys": ((*STARRY, "--config.optimizer=lbfgs"), "--config.optimizer.KEY=VALUE"),
    "a reserved name": ((*STARRY, "--config.output=losses.png"), "losses.png"),
    "two sizes of the style": (
        (*STARRY, "--config.style_size=64", "--config.style_scale=2"),
        "config.style_size and config.style_scale",
    ),
    "16 bits in a jpeg": (
        (*STARRY, "--config.bits=16", "--config.output=final.jpg"),
        "config.bits is 16, which config.output",
    ),
    "transparency of no picture": (
        (*STARRY, "--config.content=", "--config.init.picture=gray", "--config.keep_alpha"),
        "config.content",
    ),
}


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    """A folder full of bad files."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "folder").mkdir()
    (folder / "text.jpg").write_text("no picture")
    (folder / "truncated.jpg").write_bytes(jpeg()[:3000])
    (folder / "0x0.png").write_bytes(png_header(0, 0))
    Image.new("RGB", (1, 1)).save(folder / "1x1.png")
    Image.new("RGB", (400, 10)).save(folder / "strip.png")
    (folder / "bomb.png").write_bytes(png_header(60000, 60000))
    (folder / "corrupted.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(1000))
    (folder / "broken.py").write_text("def get_config():\n    return undefined\n")
    start = "from nst_jax import config\ndef get_config():\n    c = config.default()\n"
    (folder / "type.py").write_text(f"{start}    c.steps = '3'\n    return c\n")
    (folder / "few.py").write_text(f"{start}    c.unlock()\n    del c.alpha\n    return c\n")
    (folder / "12:30").mkdir()
    sample = "from nst_jax import config\ndef get_config():\n    return config.sample()\n"
    (folder / "12:30" / "c.py").write_text(sample)
    (folder / "none_at_all.py").write_text(f"{start}    return {{}}\n")
    (folder / "text.py").write_text("hello = 1\n")
    return folder


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(case, mistakes, monkeypatch):
    arguments, message = MISTAKES[case]
    weights = ROOT / "weights" / "vgg19.h5"
    before = set(mistakes.rglob("*"))
    if case == "a device that is not there":
        monkeypatch.setenv("JAX_PLATFORMS", "nowhere")
    _, err = command(*(a.format(weights) for a in arguments), code=2, cwd=mistakes)
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert set(mistakes.rglob("*")) - before <= {mistakes / "__pycache__"} | set(
        (mistakes / "__pycache__").glob("*")
    )


FILES = {  # what is found with JAX in the process: values of keys, and the message
    "folder as picture": ({"content": "folder"}, "is a folder"),
    "text as picture": ({"content": "text.jpg"}, "text.jpg"),
    "truncated jpeg": ({"style": "truncated.jpg"}, "truncated.jpg"),
    "0x0": ({"content": "0x0.png"}, "0x0.png"),
    "1x1": ({"content": "1x1.png"}, "16 or more"),
    "too small for the deepest layer": ({"content": "strip.png"}, "16 or more"),
    "decompression bomb": ({"content": "bomb.png"}, "too many"),
    "missing weights": ({"weights": "none.h5"}, "none.h5"),
    "corrupted weights": ({"weights": "corrupted.h5"}, "corrupted.h5"),
    "weights of another network": (
        {"arch": "vgg16", "content_layers": "relu4_2", "weights": str(fetch.default_path("vgg19"))},
        "holds vgg19",
    ),
    "a url as picture": ({"content": "https://h/a.jpg"}, "download"),
    "a name too long": ({"content": "x" * 300}, "picture"),
    "a region without a partner": (
        {"guides.content": "sky=", "guides.style": "sea="},
        "'sky' of config.guides.content has no partner in config.guides.style; it has sea",
    ),
    "unwritable workdir": ({}, "--workdir"),
    "a folder in use": ({}, "not empty"),
}
FOLDERS = {"unwritable workdir": "text.jpg/w", "a folder in use": "."}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_used_is_one_line(case, mistakes, monkeypatch, vgg19):
    """The command prints the error, and nothing is written."""
    monkeypatch.chdir(mistakes)
    monkeypatch.setattr(Interrupts, "arm", lambda self: None)
    values, message = FILES[case]
    c, before = config.smoke(config.sample()), set(mistakes.rglob("*"))
    c.update_from_flattened_dict(values)
    with pytest.raises(UserError) as raised:
        single.run(config.parse(c), "name", FOLDERS.get(case, "w"), Interrupts())
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert set(mistakes.rglob("*")) == before


def test_a_pickle_that_tries_to_run_code_is_refused_by_the_converter(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    arguments = ["--source", str(tmp_path / "evil.pth"), "--output", str(tmp_path / "out.h5")]
    done = subprocess.run(
        [sys.executable, ROOT / "weights" / "convert_vgg19.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["evil.pth"]


def test_a_non_finite_loss_exits_with_1_and_keeps_the_last_good_picture(tmp_path):
    """Content weighs nothing at the photograph itself, and more than float32 holds one step on."""
    workdir = tmp_path / "w"
    adam = "--config.optimizer.name=adam"  # L-BFGS takes such a step back
    _, err = command(*STARRY, *SHALLOW, adam, "--config.alpha=3e37", "--workdir", workdir, code=1)
    last = err.splitlines()[-1]
    assert last.startswith("error: the loss is not finite at step 1;")
    assert last.endswith(f"the picture after 0 steps is {workdir / 'final.png'}")
    first = images.read(workdir / "frames" / "000000.png")
    np.testing.assert_array_equal(images.read(workdir / "final.png"), first)
    result = json.loads((workdir / "result.json").read_text())
    assert (result["status"], result["steps"]) == ("failed", 0)
    assert result["message"].startswith("the loss is not finite")


def test_a_loss_that_never_was_finite_leaves_nothing(tmp_path):
    _, err = command(*STARRY, *SHALLOW, "--config.beta=3e38", "--workdir", tmp_path / "w", code=1)
    assert "the loss is not finite at step 0" in err
    assert "picture" not in err.splitlines()[-1]
    assert not (tmp_path / "w").exists()


def test_an_interrupt_before_the_first_step_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "nst_jax.run", *STARRY, *SHALLOW, "--workdir", str(tmp_path / "w")],
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (tmp_path / "w" / "config.json").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert err.endswith("\ninterrupted before there was a picture\n")
    assert not (tmp_path / "w").exists()


def test_an_interrupt_keeps_the_picture_so_far_and_says_so(tmp_path):
    workdir = tmp_path / "w"
    arguments = [
        *STARRY,
        *SHALLOW,
        "--config.steps=100000",
        "--config.save_every=0",
        "--workdir",
        workdir,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "nst_jax.run", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "step 6/" in line:
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate()
    assert process.returncode == 130
    assert "interrupted; the picture after" in err
    assert str(workdir / "final.png") in err
    assert "Traceback" not in err
    with Image.open(workdir / "final.png") as painting:
        painting.load()


def test_on_a_terminal_a_bar_shows_the_loss_and_the_time_left(tmp_path):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "nst_jax.run", *STARRY, *SHALLOW, "--workdir", str(tmp_path / "w")],
        stderr=slave,
        stdout=subprocess.PIPE,
    ) as process:
        os.close(slave)
        seen = b""
        while select.select([master], [], [], 120)[0]:
            try:
                seen += os.read(master, 4096)
            except OSError:  # the other end has closed
                break
        assert process.wait() == 0
    os.close(master)
    text = seen.decode()
    assert "4/4" in text
    assert "55x64 " in text
    assert "loss " in text
    assert " left" in text
    assert "step 4/4 " not in text


@pytest.fixture(scope="module")
def cutout(tmp_path_factory):
    """A photograph whose left half is transparent, and two style pictures."""
    folder = tmp_path_factory.mktemp("cutout")
    y, x = np.mgrid[:48, :64]
    waves = np.uint8(127 + 120 * np.sin(x[..., None] / [3, 5, 7] + y[..., None] / 4))
    alpha = np.uint8(255 * (x >= 32))[..., None]
    Image.fromarray(np.concatenate([waves, alpha], -1)).save(folder / "content.png")
    Image.fromarray(waves[::-1]).save(folder / "first.png")
    Image.fromarray(255 - waves[:, ::-1]).save(folder / "second.png")
    return folder


def test_16_bits_transparency_a_film_and_scales_in_one_command(cutout, tmp_path):
    """Scales of 45 and 64: 2 steps and 4."""
    workdir = tmp_path / "w"
    out, err = command(
        *STARRY,
        *SHALLOW,
        f"--config.content={cutout}/content.png",
        f"--config.style={cutout}/first.png:3, {cutout}/second.png",
        "--config.bits=16",
        "--config.keep_alpha",
        "--config.animation=film.webp",
        "--config.pyramid.min_size=45",
        "--config.pyramid.first_steps=2",
        "--config.color.mode=recombine",
        "--config.tensorboard",
        "--profile",
        "--workdir",
        workdir,
    )
    assert out == f"{workdir / 'final.png'}\n"
    assert "step 6/6" in err
    assert "composited" not in err
    assert len(list(workdir.glob("events.out.tfevents.*"))) == 1
    assert len(list(workdir.glob("profile/**/*.xplane.pb"))) == 1
    header = (workdir / "final.png").read_bytes()[16:26]
    assert struct.unpack(">IIBB", header) == (64, 48, 16, 6)  # 16 bits, colour with alpha
    alpha = images.read_alpha(workdir / "final.png", (48, 64))
    np.testing.assert_array_equal(alpha[:, :30], 0)
    np.testing.assert_array_equal(alpha[:, 34:], 1)
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert len(list((workdir / "frames").iterdir())) == 4
    with Image.open(workdir / "film.webp") as film:
        assert (film.format, film.n_frames, film.size) == ("WEBP", 4, (64, 48))
    with Image.open(workdir / "frames" / "000000.png") as frame:
        assert frame.size == (45, 34)


def test_paintings_between_two_styles_are_numbered_and_a_film(cutout, tmp_path):
    workdir = tmp_path / "w"
    arguments = (
        *STARRY,
        *SHALLOW,
        "--config.optimizer.name=adam",
        f"--config.content={cutout}/content.png",
        f"--config.style={cutout}/first.png, {cutout}/second.png",
        "--config.interpolate=3",
        "--workdir",
        workdir,
    )
    out, err = command(*arguments)
    assert out == f"{workdir / 'final.gif'}\n"
    assert "step 4/4" in err
    assert sorted(path.name for path in (workdir / "final").iterdir()) == [
        "0001.png",
        "0002.png",
        "0003.png",
    ]
    first, middle, last = (images.read(path) for path in sorted((workdir / "final").iterdir()))
    assert first.shape == middle.shape == last.shape == (48, 64, 3)
    assert np.abs(first - last).max() > np.abs(first - middle).max() > 0.02
    with Image.open(workdir / "final.gif") as film:
        assert (film.n_frames, film.size) == (3, (64, 48))
    assert not (workdir / "frames").exists()
    again, said = command(*arguments)
    assert again == out
    assert said.endswith("it is finished already\n")


def test_programs_are_kept_for_the_next_command_in_a_private_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "nst_jax" / "programs"
    command(*STARRY, *SHALLOW, "--workdir", tmp_path / "w")
    assert len(list(folder.iterdir())) > 10
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path, monkeypatch):
    """What lies there would be run."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "nst_jax" / "programs"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    cli.keep_programs()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    folder.chmod(0o700)
    cli.keep_programs()
    assert os.environ.pop("JAX_COMPILATION_CACHE_DIR") == str(folder)
