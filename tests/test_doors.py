"""The command line as a newcomer meets it: what there is, one line to paint, keys explained."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, run_command
from PIL import Image

from nst_jax import config
from nst_jax.config import looks
from nst_jax.errors import UserError
from nst_jax.network import fetch
from nst_jax.pictures import images


def nst_jax(*words, **how):
    """Runs `python -m nst_jax`."""
    return run_command("nst_jax", *words, **how)


@pytest.fixture
def pair(tmp_path, picture):
    for name in ("photograph", "painting"):
        images.write(tmp_path / f"{name}.png", picture(64, 48))
    return tmp_path / "photograph.png", tmp_path / "painting.png"


@pytest.mark.slow
def test_without_arguments_it_says_what_there_is():
    out, _ = nst_jax()
    assert all(f"nst-jax {door}" in out for door in ("paint", "run", "sweep", "watch", "fetch"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pant",), "did you mean paint?"),
        (("xyz",), "there are paint, run"),
        (("paint", "me.jpg"), "give two pictures, a photograph and a painting, not me.jpg"),
        (("paint", "a.jpg", "b.jpg", "-o", "out.bmp"), "must end in .png"),
        (("paint", "a.jpg", "b.jpg", "-o", "nowhere/out.png"), "make nowhere first"),
        (("paint", "a.jpg", "b.jpg", "--look=pop"), "classic"),
        (("paint", "a.jpg", "b.jpg"), "no picture a.jpg"),
        (("paint", "a.jpg", "b.jpg", "--config.beta=3"), "`nst-jax run --config starry PHOTO"),
        (("paint", "a.jpg", "b.jpg", "--size=large"), "not a whole number: 'large'"),
        (("run", "a.jpg"), "give two pictures"),
        (("watch",), "name the folder of a sweep or a run once"),
        (("watch", "a", "--workdir=b"), "name the folder of a sweep or a run once"),
        (("run", "--config", "stary"), "Shipped are content_reconstruction, film, gatys, starry"),
        (("run", "--config.help=optimiser"), "the groups are color"),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path):
    out, err = nst_jax(*words, code=2, cwd=tmp_path)
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_every_shipped_config_is_found_by_its_name():
    out, _ = nst_jax("configs")
    assert out.split() == config.names()
    assert {"starry", "presets/crowsonkb", "ablations/style_weight"} <= {*out.split()}
    for name in config.names():
        assert config.find(name) == ROOT / "configs" / f"{name}.py"


def test_a_file_comes_before_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "starry").touch()
    assert config.find("starry") == Path("starry")


def test_every_key_is_explained():
    """Each has a line of its own, with its default; tables are spelt out."""
    text = config.described()
    for key, value in config.flat(config.default()).items():
        assert f"{key} = {value!r}\n" in text
    assert "a key of" not in text
    assert '"lanczos", "bicubic", "bilinear", "nearest"' in " ".join(text.split())
    for block in text.split("\n    ")[1:]:
        assert block.strip(), "a key without a meaning"


def test_a_group_is_explained_alone():
    lines = [line for line in config.described("color").splitlines() if line[0] != " "]
    names = ["color.mode", "color.space", "color.guided", "color.photorealism"]
    assert [line.split()[0] for line in lines] == names
    assert config.described("optimizer.b1").startswith("optimizer.b1 = 0.9\n")
    assert config.described("optim").startswith("optimizer.name = ")
    with pytest.raises(UserError, match="no key begins with 'colr'"):
        config.described("colr")


def test_knobs_set_the_keys_that_they_name():
    c = config.load(config.find("starry"))
    beta = c.beta
    looks.turn(c, {"size": 700, "strength": 3.0, "strokes": 2.0, "keep_colors": True})
    assert (c.image_size, c.pyramid.min_size) == (700, 350)
    assert c.beta == pytest.approx(3 * beta)
    assert (c.style_scale, c.color.mode) == (2.0, "luminance")


@pytest.mark.parametrize("look", looks.LOOKS)
def test_every_look_is_an_experiment(look):
    plain = config.load(config.find("starry"))
    c = looks.turn(config.load(config.find("starry")), {"look": look})
    config.parse(c)
    assert (config.flat(c) == config.flat(plain)) == (look == "classic")


@pytest.mark.slow
def test_a_painting_never_replaces_its_pictures(pair, tmp_path):
    before = pair[0].read_bytes()
    _, err = nst_jax("paint", *pair, "-o", "photograph.png", "--size=64", code=2, cwd=tmp_path)
    assert "--output photograph.png is one of the pictures; name another file" in err
    assert (pair[0].read_bytes(), len([*tmp_path.iterdir()])) == (before, 2)


@pytest.mark.slow
def test_a_dry_run_says_what_a_run_would_take(tmp_path):
    out, _ = nst_jax("run", "--config=starry", "--config.tile=80", "--dry_run", cwd=tmp_path)
    assert out.startswith("273x320 pixels, tiles of 80, 140 steps at 3 sizes, memory 0.")
    assert "without compilation and metrics" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_pictures_and_keys_need_no_config(pair):
    spaced = ("--workdir", "painted", "--config.seed", "3")  # values are no pictures
    _, err = nst_jax("run", *pair, *spaced, "--config.image_size=8", code=2)
    assert "config.pyramid.min_size is above config.image_size" in err


@pytest.mark.slow
def test_one_line_paints(pair, tmp_path, quickly_compiled):
    out, _ = nst_jax("paint", *pair, "--size=64", "--draft", "--look", "wild", cwd=tmp_path)
    assert out == "photograph-painting.png\n"
    painting = images.read(tmp_path / "photograph-painting.png")
    assert painting.shape == (64, 48, 3)
    (workdir,) = (tmp_path / "runs").iterdir()
    assert (
        Image.open(workdir / "final.png").tobytes() == Image.open(tmp_path / out.strip()).tobytes()
    )
    again = ("paint", *pair, "--size=64", "--draft", "--look=wild", "--workdir", workdir)
    _, err = nst_jax(*again, "-o", "other.png", cwd=tmp_path)
    assert "finished already" in err
    assert (tmp_path / "other.png").exists()


@pytest.mark.slow
def test_an_installed_wheel_paints_from_an_empty_folder(tmp_path, quickly_compiled):
    """With a shipped config, its pictures, and weights in the user's cache."""
    wheels, installed, empty = (tmp_path / name for name in ("wheels", "installed", "empty"))
    pip = [sys.executable, "-m", "pip", "--quiet"]
    source = tmp_path / "source"  # a build leaves files beside what it builds
    for folder in ("nst_jax", "configs", "images"):
        kept = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=kept)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / file, source / file)
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, source], check=True)
    (wheel,) = wheels.iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"nst_jax/configs/{name}.py" for name in config.names()} <= {*names}
    assert {f"nst_jax/studio/examples/look-{name}.jpg" for name in looks.LOOKS} <= {*names}
    subprocess.run([*pip, "install", "--no-deps", "--target", installed, wheel], check=True)
    weights = fetch.find("", "vgg19")
    (tmp_path / "cache" / "nst_jax").mkdir(parents=True)
    shutil.copyfile(weights, tmp_path / "cache" / "nst_jax" / "vgg19.h5")
    empty.mkdir()
    out, _ = nst_jax(
        "run", "--config", "starry:smoke", "--workdir=painted",
        cwd=empty, PYTHONPATH=str(installed), XDG_CACHE_HOME=str(tmp_path / "cache"),
    )  # fmt: skip
    assert out == "painted/final.png\n"
    assert images.read(empty / "painted" / "final.png").shape == (64, 55, 3)
    assert str(installed) in (empty / "painted" / "config.json").read_text()
