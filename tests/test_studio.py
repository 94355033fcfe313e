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
from nst_jax.studio.painter import ENDED, MAX_UPLOAD_BYTES, PAINTING, WAITING, Painter, Request

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
    assert [painter.place(name) for name in (first, second)] == [1, 2]
    painter.start()
    assert ended(painter, second)["steps"] == 4
    assert ended(painter, first)["steps"] == 4
    assert painter.names() == [first, second]
    assert not painter.messages
    folder = painter.folder(first)
    assert {"final.png", "report.html", "config.json", "frames"} <= {
        p.name for p in folder.iterdir()
    }
    painter.go_on(first, 3)
    until(lambda: ended(painter, first)["steps"] == 7)


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
    assert painter.messages[name].startswith("interrupted; the picture after")
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
    assert painter.names() == []
    asked = request(painter)
    name = painter.add(asked)
    (painter.root / "uploads").joinpath(asked.content.rpartition("/")[2]).unlink()
    painter.start()
    until(lambda: painter.status(name) == ENDED)
    assert painter.messages[name].startswith("no picture")


def test_one_that_waits_can_be_taken_back(painter):
    name = painter.add(request(painter))
    painter.stop(name)
    assert painter.status(name) == ENDED
    assert painter.place(name) == 0
