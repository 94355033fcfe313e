"""One report over several sweeps and runs, its door, tables as Parquet, and who paints what."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import nst_jax
from nst_jax import report
from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.report import fleet, several, tables

RESULT = {"status": "done", "message": "", "steps": 30, "seconds": 3.0, "metrics": {"lpips": 0.25}}


def config(folder, **changed):
    base = {"content": str(folder / "content.png"), "style": "gone.png", "output": "final.png"}
    base |= {"beta": 0.02, "seed": 0, "steps": 40, "optimizer": {"name": "adam", "b1": 0.9}}
    return base | changed


def paint(folder, settings, shade=0.5, **result):
    """What a finished run leaves behind: a flat painting of a shade of gray."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings))
    images.write(folder / "final.png", np.full((12, 16, 3), shade, np.float32))
    rows = [{"step": 10 * k, "seconds": 1.0 * k, "total": 8 / 2**k} for k in range(4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "result.json").write_text(json.dumps(RESULT | result))
    return folder


def sweep(folder, axes, cells):
    """A sweep of finished cells: (labels, config)."""
    planned = []
    for index, (labels, settings) in enumerate(cells):
        name = f"{index}-" + "-".join(labels)
        paint(folder / "cells" / name, settings, 0.1 * (index + 1))
        labels = dict(zip(axes, labels, strict=True))
        planned.append({"name": name, "labels": labels, "steps": settings["steps"]})
        planned[-1] |= {"command": "go", "config": settings}
    listed = [{"name": axis, "labels": labels} for axis, labels in axes.items()]
    (folder / "sweep.json").write_text(json.dumps({"name": "s", "axes": listed, "cells": planned}))
    return folder


@pytest.fixture
def three(tmp_path):
    """A sweep over beta and seed, one over the optimiser, and a run."""
    images.write(tmp_path / "content.png", np.zeros((8, 8, 3), np.float32))
    betas, seeds = {"0.2": 0.2, "0.002": 0.002}, {"0": 0, "1": 1}
    first = [
        ((beta, seed), config(tmp_path, beta=betas[beta], seed=seeds[seed]))
        for beta in betas
        for seed in seeds
    ]
    a = sweep(tmp_path / "x" / "a", {"beta": [*betas], "seed": [*seeds]}, first)
    names = ("lbfgs", "adam")
    second = [((name, "p"), config(tmp_path, optimizer={"name": name})) for name in names]
    b = sweep(tmp_path / "b", {"optimizer.name": [*names], "look": ["p"]}, second)
    return a, b, paint(tmp_path / "y" / "a", config(tmp_path, beta=0.5, extra="new"))


def test_cells_lie_on_the_axes_of_all(three):
    data = several.read(three)
    assert (data["name"], data["kind"], data["ended"]) == ("x/a, b, y/a", "sweep", True)
    assert data["axes"] == [
        {"name": "sweep", "labels": ["x/a", "b", "y/a"]},
        {"name": "beta", "labels": ["0.002", "0.02", "0.2", "0.5"]},  # numbers in their order
        {"name": "seed", "labels": ["0", "1"]},
        {"name": "optimizer.name", "labels": ["adam", "lbfgs"]},
        {"name": "look", "labels": ["p", several.NONE]},
    ]
    rows = [tuple(cell["labels"].values()) for cell in data["cells"]]
    assert rows == [
        ("x/a", "0.2", "0", "adam", "\u2013"),
        ("x/a", "0.2", "1", "adam", "\u2013"),
        ("x/a", "0.002", "0", "adam", "\u2013"),
        ("x/a", "0.002", "1", "adam", "\u2013"),
        ("b", "0.02", "0", "lbfgs", "p"),
        ("b", "0.02", "0", "adam", "p"),
        ("y/a", "0.5", "0", "adam", "\u2013"),
    ]
    names = [cell["name"] for cell in data["cells"]]
    assert (names[0], names[-1]) == ("x/a/0-0.2-0", "y/a")
    assert len({*names}) == 7


def test_pictures_of_all_folders_are_found(three, tmp_path):
    data = several.read(three)
    assert [one["name"] for one in data["inputs"]] == ["content.png", "gone.png"]
    for cell, shade in zip(data["cells"], (0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.5), strict=True):
        picture = images.read(tmp_path / cell["picture"]["path"])
        assert picture.mean() == pytest.approx(shade, abs=0.01)
        assert (cell["content"], cell["styles"]) == (0, [1])
    page = report.write_several(three, tmp_path / "page.html").read_text()
    assert all(f'id="cell-{index}"' in page for index in range(7))
    assert str(tmp_path) + "/x" not in page


def test_a_value_has_the_label_that_another_sweep_gives_it(tmp_path):
    """Keys that change together are one axis; a picture has no folder and suffix."""
    both = config(tmp_path, steps=40, beta=0.123456789)
    a = sweep(
        tmp_path / "a",
        {"steps, beta": ["short"], "content": ["me"]},
        [(("short", "me"), both)],
    )
    runs = [paint(tmp_path / "r", both), paint(tmp_path / "s", both | {"steps": 7, "beta": 2.0})]
    cells = several.read([a, *runs])["cells"]
    assert [cell["labels"]["steps, beta"] for cell in cells] == ["short", "short", "7, 2"]
    assert [cell["labels"]["content"] for cell in cells] == ["me", "me", "me"]


def test_an_axis_called_sweep_stays(tmp_path):
    a = sweep(tmp_path / "a", {"sweep": ["u"]}, [(("u",), config(tmp_path))])
    data = several.read([a, paint(tmp_path / "r", config(tmp_path))])
    assert [axis["name"] for axis in data["axes"]] == ["folder", "sweep"]
    assert [cell["labels"]["sweep"] for cell in data["cells"]] == ["u", several.NONE]


def test_what_cannot_be_one_page(three, tmp_path):
    (three[2] / "source").mkdir()
    with pytest.raises(UserError, match="holds a film"):
        several.read(three)
    with pytest.raises(UserError, match="neither a sweep"):
        several.read([three[0], tmp_path])
    with pytest.raises(UserError, match="has its own report; name another place"):
        report.write_several(three[:2], three[1] / "all.html")
    assert not (three[1] / "all.html").exists()


def door(folder, *words, code=0):
    command = [sys.executable, "-m", "nst_jax.report", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == code, done.stderr
    return done.stdout or done.stderr


@pytest.mark.slow
def test_the_door(three, tmp_path):
    """Several folders make a page in the current folder, or tables too where --output is."""
    here = tmp_path / "here"
    here.mkdir()
    folders = [str(folder) for folder in three]
    assert door(here, *folders) == "report.html\n"
    assert [path.name for path in here.iterdir()] == ["report.html"]
    words = ["--workdir", folders[0], *folders[1:], "--output", "out/both.html"]
    assert door(here, *words) == "out/both.html\n"
    made = sorted(path.name for path in (here / "out").iterdir())
    assert made == ["both.html", "results.csv", "results.jsonl", "results.parquet"]
    rows = [json.loads(row) for row in (here / "out" / "results.jsonl").read_text().splitlines()]
    assert [row["sweep"] for row in rows] == ["x/a"] * 4 + ["b"] * 2 + ["y/a"]
    assert door(here, folders[1]) == f"{three[1] / 'report.html'}\n"
    assert (three[1] / "contact_sheet.png").exists()
    assert "name the folders" in door(here, code=2)
    assert door(here, "none", folders[0], code=2).startswith("error: none holds neither")


def test_pandas_reads_the_results_as_the_documentation_says(three, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    text = (Path(__file__).parent.parent / "docs" / "sweeps.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("pandas.")]
    assert len(lines) == 4
    (tmp_path / "runs").mkdir()
    for folder, name in zip(three, ("style_weight", "losses"), strict=False):
        report.write(folder)
        (tmp_path / "runs" / name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    csv, jsonl, parquet, loaded = (
        eval(line, {"pandas": pandas, "nst_jax": nst_jax}) for line in lines
    )
    assert list(csv) == list(jsonl) == list(parquet)
    assert (len(csv), len(loaded)) == (4, 6)
    assert csv["beta"].tolist() == parquet["beta"].tolist() == [0.2, 0.2, 0.002, 0.002]
    assert parquet["seed"].tolist() == [0, 1, 0, 1]
    assert parquet["config.optimizer.b1"].tolist() == [0.9] * 4
    means = {0.002: 0.25, 0.02: 0.25, 0.2: 0.25}
    assert loaded.groupby("config.beta")["lpips"].mean().to_dict() == means


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ([1, None, 3], [1, None, 3]),
        ([1, 2.5, None], [1.0, 2.5, None]),
        ([True, None], [True, None]),
        ([True, 1], ["True", "1"]),
        (["a", 1, None, [2]], ["a", "1", None, "[2]"]),
        ([2**80, 1], [str(2**80), "1"]),
        ([[1], [2, 3]], ["[1]", "[2, 3]"]),
        (["\udcff"], ["?"]),
        ([None, None], [None, None]),
    ],
)
def test_a_column_of_parquet_has_one_type(values, stored, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    tables.write_parquet(tmp_path / "a.parquet", [{"a": value} for value in values])
    read = parquet.read_table(tmp_path / "a.parquet").to_pydict()["a"]
    assert read == stored
    assert [type(one) for one in read] == [type(one) for one in stored]


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["0", "1e-05", "2.5"], [0, 1e-05, 2.5]),
        (["0", "007"], ["0", "007"]),
        (["1", "NaN"], ["1", "NaN"]),
        (["true", "1"], ["true", "1"]),
        (["adam", "1"], ["adam", "1"]),
    ],
)
def test_labels_that_are_numbers(texts, numbers):
    assert tables.numbers(texts) == numbers


def test_without_pyarrow_there_is_no_parquet(three, monkeypatch):
    folder = three[0]
    (folder / "results.parquet").write_text("of an earlier command")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    report.write(folder)
    assert (folder / "results.csv").exists()
    assert not (folder / "results.parquet").exists()


# Who paints what.


def claim(folder, name, worker, number=1):
    (folder / "claims").mkdir(exist_ok=True)
    fleet.claim(folder, name, number).write_text(worker)


def sign(folder, worker, seconds=0.0):
    """The worker's heartbeat, that many seconds ago."""
    path = folder / "workers" / f"{worker}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"host": worker.split("-")[0], "process": 7}))
    os.utime(path, (time.time() - seconds,) * 2)


def under_way(folder, worker, name, *rows):
    """Moves a cell back into its worker's hands, with (step, seconds) so far."""
    place = folder / "workers" / worker / name
    place.parent.mkdir(parents=True, exist_ok=True)
    (folder / "cells" / name).rename(place)
    (place / "result.json").unlink()
    lines = [json.dumps({"step": step, "seconds": seconds}) + "\n" for step, seconds in rows]
    (place / "metrics.jsonl").write_text("".join(lines))
    if not rows:
        (place / "metrics.jsonl").unlink()
    claim(folder, name, worker)


@pytest.fixture
def shared(tmp_path):
    """A sweep of six cells of 40 steps that workers share; the first is done."""
    cells = [((str(seed),), config(tmp_path, seed=seed)) for seed in range(6)]
    folder = sweep(tmp_path / "shared", {"seed": [str(seed) for seed in range(6)]}, cells)
    claim(folder, "0-0", "gpu-a-11-aaaa")
    return folder, [f"{seed}-{seed}" for seed in range(6)]


def test_every_cell_has_its_worker(shared):
    folder, names = shared
    under_way(folder, "gpu-a-12-bbbb", names[1], (0, 0.0), (20, 5.0))
    under_way(folder, "cpu-13-cccc", names[2], (0, 0.0))  # ended: no heartbeat
    under_way(folder, "cpu-14-dddd", names[3], (0, 0.0))  # long silent
    under_way(folder, "gpu-a-15-eeee", names[4])  # compiles
    (folder / "cells" / names[5] / "result.json").unlink()
    for path in (folder / "cells" / names[5]).iterdir():
        path.unlink()
    sign(folder, "gpu-a-12-bbbb")
    sign(folder, "cpu-14-dddd", 3 * fleet.PATIENCE_SECONDS)
    sign(folder, "gpu-a-15-eeee", 30)
    data = report.read(folder)
    assert [(cell["status"], cell["worker"]) for cell in data["cells"]] == [
        ("done", "gpu-a-11"),
        ("running", "gpu-a-12"),
        ("stopped", "cpu-13"),
        ("stopped", "cpu-14"),
        ("running", "gpu-a-15"),
        ("waiting", ""),
    ]
    assert data["workers"] == ["gpu-a-12", "gpu-a-15"]
    assert not data["ended"]


def test_a_sweep_with_stopped_cells_has_not_ended(shared):
    """Another worker may take them over at any time."""
    folder, names = shared
    under_way(folder, "cpu-13-cccc", names[1], (0, 0.0))
    data = report.read(folder)
    assert data["cells"][1]["status"] == "stopped"
    assert (data["ended"], data["seconds_left"], data["workers"]) == (False, None, [])


def test_the_newest_claim_names_the_worker(shared):
    folder, names = shared
    under_way(folder, "b-2-bbbb", names[1], (0, 0.0), (20, 5.0))
    claim(folder, names[1], "a-1-aaaa", 1)
    claim(folder, names[1], "b-2-bbbb", 2)
    sign(folder, "b-2-bbbb")
    cell = report.read(folder)["cells"][1]
    assert (cell["worker"], cell["status"], cell["steps"]) == ("b-2", "running", 20)


def test_the_time_left_at_the_present_pace(shared):
    """A batch of two at 5 + 5 steps in 2 s, and a cell at 1 step a second.

    Seconds are shares: two cells that share 2 s have 1 s each, and 5 steps a second.
    Left are 35 + 35 + 30 of the cells under way, 40 of the stopped one that begins anew, and 30 of
    one that only compiles: its worker's pace is that of what it finished before, 10 a second.
    """
    folder, names = shared
    under_way(folder, "a-1-aaaa", names[1], (0, 0.0), (5, 1.0))
    under_way(folder, "a-1-aaaa", names[2], (0, 0.0), (5, 1.0))
    under_way(folder, "b-2-bbbb", names[3], (0, 0.0), (10, 10.0))
    under_way(folder, "c-3-cccc", names[4], (10, 2.0))
    under_way(folder, "d-4-dddd", names[5])
    claim(folder, names[0], "c-3-cccc")
    for worker in ("a-1-aaaa", "b-2-bbbb", "c-3-cccc"):
        sign(folder, worker)
    left = 35 + 35 + 30 + 30 + 40
    assert report.read(folder)["seconds_left"] == pytest.approx(left / (5 + 1 + 10))
