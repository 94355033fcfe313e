"""Batches of a sweep in this process: what was stopped goes on, to the bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm

from nst_jax import config, files
from nst_jax.config import axes
from nst_jax.optimize import loop
from nst_jax.pictures import images
from nst_jax.runs import batches, checkpoints, record
from nst_jax.runs.batches import Tools
from nst_jax.runs.interrupts import Interrupts
from nst_jax.transfer import prepare
from nst_jax.transfer.cache import Cache

pytestmark = pytest.mark.slow


class Stop(Interrupts):
    """A signal that comes after so many lines of a log; 0: none comes."""

    def __init__(self, monkeypatch, lines=0):
        self.seen, self.is_patient = 0, False

        def counted(*args):
            nonlocal lines
            lines -= 1
            self.seen += lines == 0
            return write(*args)

        write = record.record
        monkeypatch.setattr(record, "record", counted)

    def check(self):
        if self.seen:
            raise KeyboardInterrupt


def paint(folder, cells, interrupts):
    """Paints a batch; returns which cells failed, and why."""
    return batches.paint_batch(folder, cells, Tools(interrupts, Cache(), tqdm(disable=True)))


@pytest.fixture
def cells(tmp_path, rng):
    """Cells of two scales that differ in beta; one of 3e38 is lost."""
    for name in ("content", "style"):
        images.write(tmp_path / f"{name}.png", np.float32(rng.random((44, 36, 3))))

    def cells(optimizer, *betas):
        c = config.default()
        c.content, c.style = (str(tmp_path / f"{name}.png") for name in ("content", "style"))
        c.image_size, c.pyramid.min_size, c.pyramid.first_steps = 44, 30, 5
        c.steps, c.log_every, c.save_every = 7, 3, 3
        c.content_layers, c.style_layers = "relu2_1", "relu1_1:100, relu2_1"
        c.optimizer.name, c.seed, c.convolution = optimizer, 3, "direct"
        c.axes = (axes.each("beta", *betas),)
        return axes.cells(c)

    return cells


def left(folder, cell):
    """A cell's painting, frames, log without times, and how it ended."""
    result = json.loads((folder / "result.json").read_text())
    if not result["steps"]:
        return result["status"], result["message"], sorted(path.name for path in folder.iterdir())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    pictures = [folder / cell.experiment.output.painting, *sorted((folder / "frames").iterdir())]
    return (
        [row | {"seconds": 0} for row in rows],
        [(path.name, path.read_bytes()) for path in pictures],
        {key: result[key] for key in ("status", "message", "steps", "terms", "batch")},
        (folder / "checkpoints").exists(),
    )


@pytest.mark.parametrize(
    ("optimizer", "betas", "lines"),
    [
        ("adam", (0.01, 3e38, 1.0), 9),
        ("lbfgs", (0.01, 0.5), 7),
    ],
)
def test_a_batch_goes_on_where_it_was_stopped(
    optimizer, betas, lines, cells, vgg19, tmp_path, monkeypatch
):
    several = cells(optimizer, *betas)
    failed = paint(tmp_path / "whole", several, Stop(monkeypatch))
    assert len(failed) == (3e38 in betas)
    monkeypatch.setattr(loop, "MAX_DISPATCH_SECONDS", 0.0)  # a state after every step
    with pytest.raises(KeyboardInterrupt):
        paint(tmp_path / "again", several, Stop(monkeypatch, lines))
    first = tmp_path / "again" / several[0].name
    before = json.loads((first / "metrics.jsonl").read_text().splitlines()[0])
    assert all(int(state.name[:9]) > 0 for state in (first / "checkpoints").iterdir())
    assert checkpoints.batch(first) == [cell.name for cell in several]
    assert paint(tmp_path / "again", several, Stop(monkeypatch)) == failed
    assert json.loads((first / "metrics.jsonl").read_text().splitlines()[0]) == before
    for cell in several:
        one, other = (left(tmp_path / name / cell.name, cell) for name in ("whole", "again"))
        assert one == other


def test_a_batch_that_was_being_finished_is_finished(cells, vgg19, tmp_path, monkeypatch):
    """Stopped after the first cell's result: nothing is painted again but what the end needs."""
    several = cells("adam", 0.01, 0.1)
    paint(tmp_path / "whole", several, Stop(monkeypatch))
    finish, finished = record.finish, []

    def stopping(workdir, *rest):
        if finished:
            raise KeyboardInterrupt
        finished.append(workdir)
        finish(workdir, *rest)

    monkeypatch.setattr(record, "finish", stopping)
    with pytest.raises(KeyboardInterrupt):
        paint(tmp_path / "again", several, Stop(monkeypatch))
    monkeypatch.setattr(record, "finish", finish)
    assert record.is_finished(finished[0], several[1].experiment)
    assert finished[0].name == several[1].name  # the first has the checkpoints
    assert batches.begun(tmp_path / "again", several) == [several]
    assert batches.begun(tmp_path / "again", several[:1]) == []
    lines = []
    write = record.record
    monkeypatch.setattr(record, "record", lambda *args: (lines.append(1), write(*args))[1])
    assert paint(tmp_path / "again", several, Stop(monkeypatch)) == {}
    assert len(lines) == 2  # the last line of each
    assert batches.begun(tmp_path / "again", several) == []
    for cell in several:
        one, other = (left(tmp_path / name / cell.name, cell) for name in ("whole", "again"))
        assert one == other
    before = {path: path.stat().st_mtime_ns for path in finished[0].iterdir()}
    (tmp_path / "again" / several[0].name / "result.json").unlink()
    assert paint(tmp_path / "again", several, Stop(monkeypatch)) == {}
    assert before == {path: path.stat().st_mtime_ns for path in finished[0].iterdir()}


def test_lost_fillers_of_a_batch_are_nobodys(cells, vgg19, tmp_path, monkeypatch):
    """Of three cells on two devices the last is there twice; it is lost, and the batch goes on."""
    several = cells("adam", 0.01, 0.1, 3e38)
    expected = paint(tmp_path / "whole", several, Stop(monkeypatch))
    write = checkpoints.write

    def with_filler(workdir, progress, seconds, batch=(), lost=()):
        write(workdir, progress, seconds, batch, dict(lost) | {3: 1})

    monkeypatch.setattr(checkpoints, "write", with_filler)
    monkeypatch.setattr(loop, "MAX_DISPATCH_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        paint(tmp_path / "again", several, Stop(monkeypatch, 4))
    assert paint(tmp_path / "again", several, Stop(monkeypatch)) == expected


def test_another_batch_begins_anew(cells, vgg19, tmp_path, monkeypatch):
    """One in which a cell is missing that is finished by now, or whose folder was removed."""
    several = cells("adam", 0.01, 0.1, 1.0)
    with pytest.raises(KeyboardInterrupt):
        paint(tmp_path, several, Stop(monkeypatch, 4))
    experiment = several[0].experiment
    home, names = tmp_path / several[0].name, [cell.name for cell in several]
    pictures = prepare.load(experiment, Cache())
    assert checkpoints.newest(home, experiment, pictures, names)[0]
    found, damaged = checkpoints.newest(home, experiment, pictures, names[:2])
    assert found is None
    assert "another batch" in damaged[0]
    assert paint(tmp_path, several[:2], Stop(monkeypatch)) == {}
    for cell in several[:2]:
        assert record.is_finished(tmp_path / cell.name, cell.experiment)


def test_what_cells_have_in_common_is_looked_up_once(cells, vgg19, tmp_path, monkeypatch):
    """The commit, and the checksum of every picture."""
    asked = []
    monkeypatch.setattr(record, "git_commit", lambda: asked.append("commit") or "abc")
    missing = files.digest_or_missing
    monkeypatch.setattr(
        files, "digest_or_missing", lambda path: asked.append(Path(path).name) or missing(path)
    )
    cache = Cache()
    for cell in cells("adam", 0.01, 0.1, 1.0):
        record.write_settings(tmp_path / cell.name, cell.experiment, vgg19, cache)
    assert sorted(asked) == ["commit", "content.png", "style.png"]
    said = json.loads((tmp_path / cell.name / "environment.json").read_text())
    assert said["git_commit"] == "abc"
