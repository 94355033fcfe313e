"""The report of a sweep and of a run: data, tables, contact sheet, and what the page may hold."""

import base64
import csv
import hashlib
import html
import importlib.util
import io
import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image

import nst_jax
from nst_jax import report
from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.report import contact, document

NASTY = "</script><img src=x onerror=alert(1)>\u2028&amp;\"'"


def metrics(count, **more):
    """`count` lines, ten steps and a second apart, whose total halves."""
    rows = [
        {"step": 10 * k, "seconds": 1.0 * k, "total": 8 / 2**k, "style/gram/relu1_1": 1.0, **more}
        for k in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def fill(folder, config, picture, **result):
    """What an ended run leaves behind."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text(metrics(4))
    if picture is not None:
        images.write(folder / config["output"], picture)
    ended = {
        "status": "done",
        "message": "",
        "steps": 30,
        "seconds": 3.5,
        "steps_per_second": 10.0,
        "peak_memory_bytes": None,
        "terms": {"total": 1.0, "style/gram/relu1_1": 1.0},
        "metrics": {"lpips": 0.25},
    }
    (folder / "result.json").write_text(json.dumps(ended | result))


@pytest.fixture
def make(tmp_path, picture):
    """Makes a sweep whose cells are all done; returns its folder and its cells' folders."""

    def sweep(*axes, name="tried"):
        for one in ("content", "style"):
            if not (tmp_path / f"{one}.jpg").exists():
                images.write(tmp_path / f"{one}.jpg", picture(30, 40))
        folder, cells, axes = tmp_path / "sweep", [], dict(axes)
        for index, labels in enumerate(itertools.product(*axes.values())):
            labels = dict(zip(axes, labels, strict=True))
            cell = f"{index:04d}-" + "-".join(f"{axis}={label}" for axis, label in labels.items())
            config = {
                "content": str(tmp_path / "content.jpg"),
                "style": f"{tmp_path / 'style.jpg'}:3, {tmp_path / 'gone.jpg'}",
                "output": "final.png",
                "beta": labels.get("beta"),
                "optimizer": {"name": "adam"},
            }
            cells.append({"name": cell, "labels": labels, "command": "go", "config": config})
            fill(folder / "cells" / cell, config, picture(24, 36))
        plan = {"name": name, "cells": cells}
        plan["axes"] = [{"name": axis, "labels": labels} for axis, labels in axes.items()]
        (folder / "sweep.json").write_text(json.dumps(plan))
        return folder, [folder / "cells" / cell["name"] for cell in cells]

    return sweep


BETA, SEED = ("beta", ["0.002", "0.02", "0.2"]), ("seed", ["0", "1"])


def data_in(page):
    """The data of a page, as its script reads it."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found[1])


def size_of(uri):
    assert uri.startswith("data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))) as opened:
        return opened.size


def test_a_sweep_is_read(make, tmp_path):
    folder, _ = make(BETA, SEED)
    data = report.read(folder)
    assert (data["name"], data["kind"], data["ended"]) == ("tried", "sweep", True)
    assert data["axes"][0] == {"name": "beta", "labels": ["0.002", "0.02", "0.2"]}
    cell = data["cells"][3]
    assert cell["name"] == "0003-beta=0.02-seed=1"
    assert cell["labels"] == {"beta": "0.02", "seed": "1"}
    assert (cell["status"], cell["steps"], cell["peak_memory_bytes"]) == ("done", 30, None)
    assert cell["curve"]["step"] == [0, 10, 20, 30]
    assert cell["curve"]["terms"]["total"] == [8.0, 4.0, 2.0, 1.0]
    path = "cells/0003-beta=0.02-seed=1/final.png"
    assert cell["picture"] | {"version": 0} == {
        "path": path,
        "width": 36,
        "height": 24,
        "version": 0,
    }
    # Each picture once, whatever the number of cells; one that is gone is known to be so.
    assert [one["name"] for one in data["inputs"]] == ["content.jpg", "style.jpg", "gone.jpg"]
    assert [one["width"] for one in data["inputs"]] == [40, 40, None]
    assert (cell["content"], cell["styles"]) == (0, [1, 2])
    assert data["inputs"][1]["path"] == str(tmp_path / "style.jpg")
    json.dumps(data, allow_nan=False)


def test_a_run_is_read(tmp_path, picture):
    config = {"content": "", "style": "", "output": "final.png"}
    fill(tmp_path / "r", config, picture(20, 20), name="starry", command="python -m x")
    data = report.read(tmp_path / "r")
    assert (data["name"], data["kind"], data["axes"]) == ("starry", "run", [])
    (cell,) = data["cells"]
    assert (cell["command"], cell["picture"]["path"]) == ("python -m x", "final.png")
    assert (cell["content"], cell["styles"]) == (None, [])
    path = report.write(tmp_path / "r")
    assert path == tmp_path / "r" / "report.html"
    assert not (tmp_path / "r" / "contact_sheet.png").exists()


@pytest.mark.parametrize(
    ("style", "names"),
    [
        (["a, b.jpg", ["c.jpg", 3]], ["a, b.jpg", "c.jpg"]),
        ([["x"], {}, 3], []),
        ({"a": 1}, []),
        ([[1, 2, 3]], []),
        (7, []),
    ],
)
def test_a_style_may_be_a_list_of_names_and_pairs(style, names, tmp_path):
    fill(tmp_path / "w", {"content": "", "style": style, "output": "final.png"}, None)
    found = [one["name"] for one in report.read(tmp_path / "w")["inputs"]]
    assert [name for name in found if name] == names


def test_states_of_cells(make):
    folder, cells = make(BETA, SEED)
    (cells[0] / "result.json").unlink()
    for name in ("result.json", "metrics.jsonl", "final.png"):
        (cells[1] / name).unlink()
    fill(cells[2], {"output": "final.png"}, None, status="failed", message="it broke")
    data = report.read(folder)
    assert [cell["status"] for cell in data["cells"][:4]] == [
        "running",
        "waiting",
        "failed",
        "done",
    ]
    assert not data["ended"]
    running, waiting, failed = data["cells"][:3]
    assert (running["steps"], running["seconds"], running["terms"]["total"]) == (30, 3.0, 1.0)
    assert (waiting["steps"], waiting["picture"], waiting["terms"]) == (None, None, {})
    assert failed["message"] == "it broke"


def test_half_written_and_damaged_files_are_left_out(make):
    folder, cells = make(BETA, SEED)
    lines = metrics(2) + '{"step": "no"}\n[1]\n' + '{"step": 20, "total": NaN}\n{"step": 30, "to'
    (cells[0] / "metrics.jsonl").write_text(lines)
    (cells[0] / "result.json").write_text('{"status": "do')
    (cells[1] / "final.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (cells[2] / "metrics.jsonl").write_bytes(b"\xff\xfe\n")
    (cells[3] / "result.json").write_text(
        '{"status": "done", "steps": "many", "seconds": true, "terms": [1], "metrics": {"a": NaN}}'
    )
    data = report.read(folder)
    first, second, third, fourth = data["cells"][:4]
    assert (first["status"], first["steps"]) == ("running", 20)
    assert first["curve"]["terms"]["total"] == [8.0, 4.0, None]
    assert second["picture"] is None
    assert third["curve"] == {"step": [], "seconds": [], "terms": {}}
    assert (fourth["steps"], fourth["seconds"], fourth["metrics"]) == (None, None, {"a": None})
    assert fourth["terms"]["total"] == 1.0  # from the curve
    json.dumps(data, allow_nan=False)
    report.write(folder)


def test_pictures_named_outside_of_a_cell_are_not_shown(make, picture):
    folder, _ = make(BETA)
    images.write(folder / "secret.png", picture(8, 8))
    plan = json.loads((folder / "sweep.json").read_text())
    plan["cells"][0]["config"]["output"] = "../../secret.png"
    plan["cells"][1]["config"]["style"] = "a.jpg:0"  # no such specification
    (folder / "sweep.json").write_text(json.dumps(plan))
    cells = report.read(folder)["cells"]
    assert cells[0]["picture"] is None
    assert cells[1]["styles"] == []


def test_a_film_and_frames_stand_in_for_a_painting(make, picture):
    folder, cells = make(BETA)
    for cell in cells[:2]:
        (cell / "final.png").unlink()
    images.write_animation(cells[0] / "final.gif", [picture(10, 12), picture(10, 12)], 100)
    for step in (50, 100):
        images.write(cells[1] / "frames" / f"{step:06d}.png", picture(10, 14))
    data = report.read(folder)
    assert data["cells"][0]["picture"]["path"].endswith("final.gif")
    assert data["cells"][1]["frame"]["path"].endswith("frames/000100.png")
    shown = data_in(report.page(data, live=False))["cells"]
    assert [size_of(cell["picture"]["small"]) for cell in shown] == [(12, 10), (14, 10), (36, 24)]


def test_long_curves_are_thinned_and_keep_their_ends(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(metrics(1001, odd=1.23456789))
    curve = report.read(tmp_path)["cells"][0]["curve"]
    assert len(curve["step"]) == 200
    assert (curve["step"][0], curve["step"][-1]) == (0, 10000)
    assert np.diff(curve["step"]).max() <= 60
    assert curve["terms"]["odd"][7] == 1.2346


def test_what_is_no_sweep_and_no_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match="neither a sweep"):
        report.read(tmp_path)
    axes = '"axes": [{"name": "a", "labels": ["0", "1"]}]'
    one = '{"name": "0000", "labels": {"a": "0"}}'
    lists = ("3", "[]", f"[{one}]", f'[{one}, {{"name": "0001", "labels": {{}}}}]', "[0, 1]")
    plans = [f'{{{axes}, "cells": {cells}}}' for cells in lists]
    for text in ("{", "{}", '{"axes": [{}]}', *plans):
        (tmp_path / "sweep.json").write_text(text)
        with pytest.raises(UserError, match=r"sweep\.json is damaged"):
            report.read(tmp_path)


def test_results_are_a_row_a_cell(make):
    folder, cells = make(("steps", ["1", "2"]), SEED)
    fill(cells[1], {"output": "final.png"}, None, status="failed", message='bad, "very"\nbad')
    report.write(folder)
    with (folder / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == [
        "name",
        "steps (axis)",
        "seed",
        "status",
        "message",
        "steps",
        "seconds",
        "steps_per_second",
        "peak_memory_bytes",
        "total",
        "style/gram/relu1_1",
        "lpips",
        *(column for column in table[0] if column.startswith("config.")),
    ]
    assert [row["steps (axis)"] + row["seed"] for row in table] == ["10", "11", "20", "21"]
    assert table[1]["message"] == 'bad, "very"\nbad'
    assert (table[0]["lpips"], table[0]["peak_memory_bytes"]) == ("0.25", "")
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [list(row) for row in rows] == [list(table[0])] * 4
    assert (rows[0]["steps"], rows[0]["lpips"], rows[0]["peak_memory_bytes"]) == (30, 0.25, None)
    loaded = nst_jax.load_results(folder, str(folder))
    assert loaded == 2 * [{"folder": str(folder)} | row for row in rows]
    assert rows[1]["config.output"] == "final.png"


def test_whatever_users_write_stays_text(make, tmp_path):
    folder, cells = make(("loss", [NASTY.replace("/", ""), "gram"]), name=NASTY)
    fill(cells[0], {"output": "final.png"}, None, status="failed", message=NASTY)
    plan = json.loads((folder / "sweep.json").read_text())
    plan["cells"][1] |= {"command": NASTY}
    plan["cells"][1]["config"]["style"] = str(tmp_path / "<b>&.jpg")
    (folder / "sweep.json").write_text(json.dumps(plan))
    images.write(tmp_path / "<b>&.jpg", np.zeros((4, 4, 3), np.float32))
    for live in (False, True):
        page = report.page(report.read(folder), live)
        assert "<img" not in page
        assert "\u2028" not in page.replace(html.escape(NASTY), "")
        assert f"<title>{html.escape(NASTY)}</title>" in page
        data = data_in(page)
        assert data["name"] == data["cells"][0]["message"] == data["cells"][1]["command"] == NASTY
        assert "<b>&.jpg" in [one["name"] for one in data["inputs"]]


def test_names_that_are_no_unicode_can_be_written(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"status": "done", "name": "\udcff"}))
    assert report.write(tmp_path).read_text().count("<title>?</title>") == 1


def test_the_written_page_is_whole_and_fetches_nothing(make):
    folder, _ = make(BETA, SEED)
    page = report.write(folder).read_text()
    namespace = "http://www.w3.org/2000/svg"
    assert re.findall(r"\w+://[^\"' ]*", page) == [namespace]
    assert not re.search(r'<link rel="stylesheet"|<script[^>]* src=|url\(|@import', page)
    assert str(folder) not in page.replace(json.dumps(str(folder.parent))[1:-1], "")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy
    for element in ("script", "style"):
        text = re.search(rf"<{element}>(.*?)</{element}>", page, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy


def test_large_pictures_lie_at_the_end_of_the_page_and_inputs_once(make, tmp_path, picture):
    folder, cells = make(BETA, SEED)
    images.write(cells[0] / "final.png", picture(600, 1500))
    page = report.write(folder).read_text()
    data = data_in(page)
    assert size_of(data["cells"][0]["picture"]["small"]) == (160, 64)
    assert size_of(data["cells"][1]["picture"]["small"]) == (36, 24)  # never enlarged
    large = dict(re.findall(r'<script type="text/plain" id="([\w-]+)">(.*?)</script>', page))
    assert list(large) == ["input-0", "input-1", *(f"cell-{k}" for k in range(6))]
    assert size_of(large["cell-0"]) == (1024, 410)
    assert page.index('id="input-0"') > page.index("function pageHead")
    assert data["inputs"][0]["path"] == "" and "workdir" not in data


def test_the_live_page_holds_no_picture_and_asks_only_its_server(make):
    folder, _ = make(BETA, SEED)
    page = report.page(report.read(folder), live=True)
    assert "data:image" not in page
    assert data_in(page)["live"] is True
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "connect-src 'self'" in policy


def test_unreadable_pictures_encode_as_none(tmp_path, picture):
    images.write(tmp_path / "a.tif", picture(20, 40))
    with Image.open(io.BytesIO(document.encoded(tmp_path / "a.tif", 10))) as opened:
        assert (opened.format, opened.size) == ("JPEG", (10, 5))
    assert document.encoded(tmp_path / "none.png", 10) is None


@pytest.mark.parametrize(
    ("axes", "rows", "columns"),
    [
        ((("loss", list("abc")),), 1, 3),
        ((("loss", list("abcdefgh")),), 2, 4),
        ((BETA, SEED), 3, 2),
        ((("loss", ["gram", "w2"]), BETA, SEED), 6, 2),
    ],
)
def test_the_contact_sheet_is_laid_out_by_the_axes(make, axes, rows, columns):
    folder, cells = make(*axes)
    for index, cell in enumerate(cells):  # flat pictures, each of its own gray
        images.write(cell / "final.png", np.full((24, 36, 3), (index + 1) / 20, np.float32))
    (cells[-1] / "final.png").unlink()
    report.write(folder)
    sheet = images.read(folder / "contact_sheet.png")
    height, width = sheet.shape[:2]
    assert rows * 160 < height < rows * 160 + (rows + 4) * 60
    assert columns * 240 < width < columns * 240 + 60 * (columns + 4)
    found = np.round(sheet[..., 0] * 20, 2)
    for index in range(len(cells) - 1):
        at = np.argwhere(np.abs(found - index - 1) < 0.05)
        assert len(at) >= 160 * 240
        top, left = np.median(at, 0)
        row, column = divmod(index, columns)
        assert abs(top - (height - 8 - 80 - (rows - 1 - row) * height / (rows + 0.3))) < 90
        assert abs(left - (width - 8 - 120 - (columns - 1 - column) * 248)) < 60
    assert not (np.abs(found - len(cells)) < 0.05).sum() > 1000


def test_a_single_axis_is_wrapped():
    assert [contact.wrap(cells) for cells in (1, 6, 7, 12, 100)] == [1, 6, 4, 6, 15]


def test_a_sweep_without_paintings_has_no_contact_sheet(make):
    folder, cells = make(BETA)
    for cell in cells:
        (cell / "final.png").unlink()
    assert contact.sheet(report.read(folder)) is None
    report.write(folder)
    assert not (folder / "contact_sheet.png").exists()


def test_nothing_but_the_report_is_written(make):
    folder, _ = make(BETA)
    before = {path for path in folder.rglob("*") if path.is_file()}
    report.write(folder)
    written = {path for path in folder.rglob("*") if path.is_file()} - before
    names = {"report.html", "results.csv", "results.jsonl", "contact_sheet.png"}
    if importlib.util.find_spec("pyarrow"):
        names.add("results.parquet")
    assert {path.name for path in written} == names
    first = {path.name: path.read_bytes() for path in written}
    report.write(folder)
    assert {path.name: path.read_bytes() for path in written} == first
