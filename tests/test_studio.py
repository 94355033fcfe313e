"""The studio's painter: a queue of work directories that survives its server."""

import contextlib
import io
import json
import time

import numpy as np
import pytest
from PIL import Image

from nst_jax import config
from nst_jax.errors import UserError
from nst_jax.optimize import loop
from nst_jax.pictures import images
from nst_jax.runs import single, workdir
from nst_jax.studio import brush
from nst_jax.studio.choice import Choice
from nst_jax.studio.painter import (
    ELSEWHERE,
    ENDED,
    MAX_UPLOAD_BYTES,
    PAINTING,
    WAITING,
    Painter,
    Request,
    Stop,
)

pytestmark = pytest.mark.usefixtures("quickly_compiled")

KEYS = {
    "image_size": 40,
    "pyramid.min_size": 0,
    "steps": 4,
    "content_layers": "relu2_1",
    "style_layers": "relu1_1",
    "convolution": "direct",
}


@pytest.fixture
def painter(tmp_path):
    return Painter(tmp_path / "studio")


def encoded(kind="PNG", **others):
    file = io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 256, (48, 56, 3), np.uint8)
    Image.fromarray(pixels).save(file, kind, **others)
    return file.getvalue()


def request(painter, keys=KEYS, **knobs):
    picture = str(painter.upload(encoded()))
    return Request(picture, picture, knobs, keys, {})


def until(condition, seconds=120):
    """Waits for what a thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(painter, name):
    until(lambda: painter.status(name) == ENDED)
    result = painter.folder(name) / "result.json"
    return json.loads(result.read_text()) if result.exists() else None


def test_a_picture_is_kept_once(painter):
    path = painter.upload(encoded())
    assert painter.upload(encoded()) == path
    assert painter.upload(encoded("JPEG")) != path
    assert path.parent == painter.root / "uploads"
    assert images.read(path).shape == (48, 56, 3)


@pytest.mark.parametrize(
    "content", [b"", b"no picture", encoded()[:200], bytes(MAX_UPLOAD_BYTES + 1)]
)
def test_what_is_no_picture_is_not_kept(content, painter):
    with pytest.raises(UserError):
        painter.upload(content)
    assert not list((painter.root / "uploads").iterdir())


def test_the_command_paints_it_again(painter):
    """It has what was chosen, and nothing else."""
    asked = request(painter, {"seed": 5}, look="faithful", size=300, strength=2.0)
    words = asked.command.split()
    assert words[:4] == ["python", "-m", "nst_jax.run", "--config=starry"]
    keys = dict(word.removeprefix("--config.").split("=", 1) for word in words[4:])
    assert keys.keys() == {
        "content", "style", "seed", "alpha", "beta", "image_size", "pyramid.min_size",
        "pyramid.steps", "log_every", "save_every",
    }  # fmt: skip
    c = config.load(config.find("starry"))
    assert float(keys["beta"]) == 2 * c.beta


@pytest.mark.slow
def test_paintings_are_work_directories_in_their_order(painter, vgg19):
    first, second = (painter.add(request(painter, KEYS | {"seed": k})) for k in (0, 1))
    assert [painter.status(name) for name in (first, second)] == [WAITING] * 2
    assert [painter.place(name) for name in (first, second)] == [0, 1]
    painter.start()
    assert ended(painter, second)["steps"] == 4
    assert ended(painter, first)["steps"] == 4
    assert painter.names() == [first, second]
    assert not painter.request(first).message
    folder = painter.folder(first)
    assert {"final.png", "report.html", "config.json", "frames"} <= {
        p.name for p in folder.iterdir()
    }
    for steps in (7, 10):
        painter.go_on(first, 3)
        painter.go_on(first, 3)  # a double click
        until(lambda steps=steps: ended(painter, first)["steps"] == steps)


@pytest.mark.slow
def test_stopped_changed_and_painted_on(painter, vgg19, monkeypatch):
    """A weight that is changed on the way counts, compiles nothing, and outlives the server."""
    monkeypatch.setattr(loop, "MAX_DISPATCH_SECONDS", 0.0)
    name = painter.add(request(painter, KEYS | {"steps": 3000}))
    painter.start()
    rows = painter.folder(name) / "metrics.jsonl"

    def last():
        with contextlib.suppress(OSError, ValueError, IndexError):
            return json.loads(rows.read_text().splitlines()[-1])
        return {"step": 0}

    until(lambda: last()["step"] > 4)
    with pytest.raises(UserError, match="beta"):
        painter.change(name, {"beta": -1.0})
    painter.change(name, {"beta": 1e6})
    until(lambda: last()["total"] > 1e5 * last()["style"])
    painter.stop(name)
    assert ended(painter, name)["status"] == "failed"
    assert painter.request(name).message.startswith("interrupted; the picture after")
    assert painter.status(name) == ENDED
    step = last()["step"]
    other = Painter(painter.root)
    other.start()
    assert other.status(name) == ENDED, "whoever stopped it may go on"
    other.go_on(name, 10)
    until(lambda: other.status(name) == PAINTING)
    until(lambda: last()["step"] > step)
    assert last()["total"] > 1e5 * last()["style"]
    other.stop(name)
    ended(other, name)


@pytest.mark.slow
def test_what_a_server_left_is_painted_on(painter, vgg19):
    """One that was killed leaves requests without a result."""
    name = painter.add(request(painter))
    again = Painter(painter.root)
    assert again.status(name) == WAITING
    again.start()
    assert ended(again, name)["steps"] == 4


def test_what_cannot_be_painted_is_said(painter, vgg19):
    with pytest.raises(UserError, match="alpha"):
        painter.add(request(painter, {"alpha": -1.0}))
    for key, value in {"image_size": "abc", "steps": 1.5, "no_key": 1, "film.steps": 3}.items():
        with pytest.raises(UserError, match=key):
            painter.add(request(painter, {key: value}))
    assert painter.names() == []
    asked = request(painter)
    name = painter.add(asked)
    (painter.root / "uploads").joinpath(asked.content.rpartition("/")[2]).unlink()
    painter.start()
    until(lambda: painter.status(name) == ENDED)
    assert painter.request(name).message.startswith("no picture")


def test_one_that_waits_can_be_taken_back(painter):
    name = painter.add(request(painter))
    painter.stop(name)
    assert painter.status(name) == ENDED
    assert painter.place(name) == 0
    again = Painter(painter.root)
    assert again.status(name) == ENDED
    assert again.request(name).message == "it was stopped before its turn"
    again.go_on(name, 1)
    assert Painter(painter.root).status(name) == WAITING


@pytest.fixture
def run(painter, vgg19, tmp_path):
    """A run that a command began; it has four steps."""
    asked = request(painter)
    single.run(asked.experiment(), "starry", str(tmp_path / "run"), Stop())
    return tmp_path / "run"


@pytest.mark.slow
def test_a_run_of_a_command_is_opened_and_painted_on(painter, run):
    name = painter.open(run)
    assert painter.open(run) == name
    assert painter.status(name) == ENDED
    assert painter.folder(name) == run
    assert painter.painting(name) == run / "final.png"
    before = json.loads((run / "config.json").read_text())
    opened = painter.request(name).experiment().raw
    assert json.loads(json.dumps(dict(opened))) == before
    painter.start()
    painter.go_on(name, 3)
    until(lambda: ended(painter, name)["steps"] == 7)
    assert not painter.request(name).message
    again = Painter(painter.root)
    assert again.folder(name) == run
    assert again.open(run) == name
    assert again.request(name).experiment().steps == 7
    again.go_on(name, 1)
    assert Painter(again.root).status(name) == WAITING, "asked for, so a killed server goes on"


@pytest.mark.slow
def test_an_opened_run_is_left_alone_until_somebody_asks(painter, run):
    (run / "result.json").unlink()
    name = painter.open(run)
    with workdir.lock(run):
        assert painter.status(name) == ELSEWHERE
    (run / "source").mkdir()
    with pytest.raises(UserError, match="holds no run"):
        painter.open(run)
    (run / "source").rmdir()
    again = Painter(painter.root)
    again.start()
    assert again.status(name) == ENDED
    assert again.place(name) == 0
    assert not (run / "result.json").exists()


def test_what_is_no_run_is_not_opened(painter, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        painter.open(tmp_path)
    (tmp_path / "config.json").write_text('{"stepz": 3}')
    with pytest.raises(UserError, match=str(tmp_path)):
        painter.open(tmp_path)
    assert painter.names() == []


def test_strokes_cover_what_they_should():
    """A line of width 10 from (20, 25) to (70, 25), then a dot of the rest in its middle.

    Against the distance to the line and to the dot, give or take a pixel.
    """
    line = brush.Stroke("b", 10.0, [(20, 25), (70, 25)])
    dot = brush.Stroke(brush.REST, 8.0, [(45, 25)])
    place = brush.areas([line, dot], (90, 50), ["a", "b"])
    assert place.shape == (50, 90)
    assert set(np.unique(place)) == {-1, 1}
    y, x = np.mgrid[:50, :90]
    from_line = np.hypot(x - np.clip(x, 20, 70), y - 25)
    from_dot = np.hypot(x - 45, y - 25)
    assert (place[(from_line < 4) & (from_dot > 5)] == 1).all()
    assert (place[(from_line > 6) | (from_dot < 3)] == -1).all()


WHOLE = brush.Stroke("b", 99.0, [(4, 2)])
DOT = brush.Stroke("a", 1.0, [(4, 2)])


@pytest.mark.parametrize(
    ("strokes", "paintings", "expected"),
    [
        ([], ["a", "b"], {}),
        ([WHOLE], ["b"], {}),
        ([DOT], ["a", "b"], {"rest": ["b"], "painting1": ["a"]}),
        ([DOT], ["a", "b", "c"], {"rest": ["b", "c"], "painting1": ["a"]}),
        ([WHOLE, DOT], ["a", "b"], {"rest": ["a"], "painting2": ["b"]}),
        ([WHOLE, DOT], ["a", "b", "c"], {"painting1": ["a"], "painting2": ["b"]}),
        ([DOT, WHOLE], ["a", "b"], {}),
        ([DOT], ["b", "c"], {}),
    ],
)
def test_regions_of_strokes(strokes, paintings, expected):
    found = brush.regions(strokes, (9, 5), paintings)
    assert {name: own for name, (_, own) in found.items()} == expected
    if found:
        masks = np.stack([mask for mask, _ in found.values()])
        assert (masks.sum(0) == 1).all(), "every pixel in one region"


@pytest.mark.slow
def test_each_region_is_painted_in_its_painting(painter, vgg19, tmp_path):
    """Left in a red painting, right in a blue one."""
    paths = []
    for channel in (0, 2):
        colored = np.random.default_rng(channel).random((48, 48, 3), np.float32) * 0.2
        colored[..., channel] += 0.7
        path = tmp_path / f"{channel}.png"
        images.write(path, colored)
        paths.append(str(painter.upload(path.read_bytes())))
    choice = Choice(str(painter.upload(encoded())), dict.fromkeys(paths, 1.0), {}, KEYS)
    choice.keys = KEYS | {"steps": 150, "beta": 1.0, "init.noise": 1.0, "optimizer.name": "lbfgs"}
    choice.preview = (56, 48)
    choice.strokes = [brush.Stroke(paths[1], 28.0, [(42, -20), (42, 70)])]
    name = painter.add(choice.request(painter))
    painter.start()
    ended(painter, name)
    assert not painter.request(name).message
    painting = images.read(painter.painting(name))
    left, right = painting[:, :14].mean((0, 1)), painting[:, -14:].mean((0, 1))
    assert left[0] > left[2] + 0.2
    assert right[2] > right[0] + 0.2
