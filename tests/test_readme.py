"""Every command and every snippet of the README, at smoke size."""

import re
import shlex
import subprocess
import sys
import tomllib
import types

import PIL.Image
import pytest
from conftest import ROOT

from nst_jax import config
from nst_jax.pictures import images

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quickly_compiled")]

README = (ROOT / "README.md").read_text()
INSTALL = {
    "pip install -e .",
    'pip install -e ".[film]"',
    'pip install -e ".[test]"',
    'pip install -e ".[metrics]"',
}
COMMANDS = [
    line for block in re.findall(r"```bash\n(.*?)```", README, re.S) for line in block.splitlines()
]


SHALLOW = ["--config.content_layers=relu1_1", "--config.style_layers=relu1_1"]


@pytest.fixture
def clone(tmp_path, picture):
    """A folder that looks like the root of a clone, with a user's two pictures in it."""
    for name in ("configs", "images", "scripts", "weights"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("me", "painting"):
        images.write(tmp_path / f"{name}.jpg", picture(60, 80))
    return tmp_path


def at_smoke_size(word: str) -> str:
    """configs/x.py -> configs/x.py:smoke, configs/x.py:relu3_1 -> configs/x.py:relu3_1,smoke."""
    is_config = word in config.names() or re.match(r"configs/((presets|ablations)/)?\w+\.py", word)
    if not is_config or word.endswith("smoke"):
        return word
    return f"{word},smoke" if ":" in word else f"{word}:smoke"


@pytest.mark.parametrize("line", COMMANDS)
def test_command(line, clone):
    steps = [step.strip() for step in line.split("&&")]
    for step in steps:
        if step in INSTALL or step == "pytest":
            # The installation and the tests themselves: what runs this test has done just that.
            assert 'pip install -e ".[test]" && pytest\n' in (ROOT / ".ci" / "run").read_text()
            continue
        words = [at_smoke_size(word) for word in shlex.split(step)]
        if words[0] == "nst-jax":
            words = ["python", "-m", "nst_jax", *words[1:], "--draft", "--size=64"]
        if words[1] == "weights/convert_vgg19.py":
            words += ["--output", str(clone / "converted.h5")]
        words = [word for word in words if not word.startswith("--config.image_size")]
        if words[2].startswith("nst_jax.") and not re.search(
            "_losses|_layers|losses.py|relu", step
        ):
            words += SHALLOW
        if any("style_weight.py" in word for word in words):
            words += ["--axis", "seed=0", "--axis", "beta=0.001, 0.1"]  # of fifteen cells two
        if words[2].startswith("nst_jax.") and line != COMMANDS[0]:  # that is run at two scales
            words.append("--config.pyramid.min_size=0")
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=clone, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        if "--dry_run" in words:
            expected = "21 cells, 21 programs, about" if "sweep" in line else "whole, 4 steps"
            assert expected in done.stdout
            continue
        printed = clone / done.stdout.splitlines()[-1]
        assert printed.stat().st_size > 1000


def test_there_are_commands_to_test():
    assert COMMANDS[0] == "pip install -e . && python -m nst_jax.run --config configs/starry.py"
    assert 'pip install -e ".[test]" && pytest' in COMMANDS
    assert len(COMMANDS) >= 8


def snippets(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.S)


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_python_snippets(page, clone, monkeypatch):
    """In order, as one would type them; what only notebooks have is recorded."""
    shown = []
    notebook = types.SimpleNamespace(clear_output=lambda wait: None, display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    monkeypatch.chdir(clone)
    found = {"PIL": PIL}
    for snippet in snippets(ROOT / page):
        for size in ("image_size=256, steps=100", "image_size=256,\n    steps=100"):
            snippet = snippet.replace(size, "image_size=64, steps=2, content_layers='relu2_1'")
        exec(snippet, found)
        assert found["painting"].shape == (48, 64, 3)
    assert (clone / "painted.png").stat().st_size > 1000
    assert len(shown) == (page == "docs/python.md") * 2


def test_every_link_and_every_config_exists():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        file, _, anchor = target.partition("#")
        assert target.startswith("https://") or (ROOT / file).exists(), target
        if anchor:  # GitHub makes it from a heading
            headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(), re.M)
            assert anchor in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]
    for path in (ROOT / "configs").rglob("*.py"):
        assert f"({path.relative_to(ROOT)})" in README


def test_every_package_is_installed():
    """Named one by one, because configs and sample pictures lie beside the package."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    there = {path.parent for path in (ROOT / "nst_jax").rglob("__init__.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in there}
    beside = {"images", *(file.parent.relative_to(ROOT) for file in ROOT.glob("configs/**/*.py"))}
    names |= {f"nst_jax.{str(folder).replace('/', '.')}" for folder in beside}
    assert {*pyproject["tool"]["setuptools"]["packages"]} == names


def test_every_dependency_is_accounted_for():
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    pyproject = (ROOT / "pyproject.toml").read_text()
    for name in re.findall(r'"([A-Za-z_-]+)>=', pyproject.replace("setuptools>=", "")):
        assert re.search(rf"^\|.*\b{name}\b.*\|", contributing, re.M), name
