import json

import pytest
from PIL import Image

from nst_jax import config, files, outputs
from nst_jax.errors import UserError
from nst_jax.optimize import Progress


def test_default_folders_are_named_by_config_and_time_and_never_shared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [outputs.create("", "starry") for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(folder.parent.name == "runs" for folder in folders)
    assert all(folder.name.startswith("starry-20") for folder in folders)


def test_an_earlier_run_is_never_overwritten(tmp_path):
    outputs.create(str(tmp_path / "w"), "x")
    with pytest.raises(UserError, match="not empty"):
        outputs.create(str(tmp_path / "w"), "x")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to --workdir"):
        outputs.create(str(tmp_path / "file" / "w"), "x")


def test_metrics_are_one_json_object_a_line_and_drawn(tmp_path):
    for step, total in ((0, 9.0), (10, 3.0)):
        terms = {"total": total, "content": 0.0, "style": 2.0, "tv": 0.1, "style/gram/relu1_1": 2.0}
        outputs.append_metrics(tmp_path, Progress(step, None, terms), step * 0.12346)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[1] == {
        "step": 10,
        "seconds": 1.235,
        "total": 3.0,
        "content": 0.0,
        "style": 2.0,
        "tv": 0.1,
        "style/gram/relu1_1": 2.0,
    }
    outputs.plot_losses(tmp_path)
    with Image.open(tmp_path / "losses.png") as plot:
        assert min(plot.size) > 300
        assert len(plot.convert("RGB").getcolors(1 << 20)) > 10


def test_a_folder_deleted_under_the_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot write to --workdir"):
        outputs.append_metrics(tmp_path / "gone", Progress(0, None, {}), 0.0)
    with pytest.raises(UserError, match="cannot read --workdir"):
        outputs.plot_losses(tmp_path / "gone")


def test_settings_say_what_it_ran_on(tmp_path, vgg19):
    c = config.default()
    c.content, c.style = "a.jpg", "b.jpg"
    outputs.write_settings(tmp_path, config.validate(c), vgg19)
    assert json.loads((tmp_path / "config.json").read_text()) == c.to_dict()
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["weights"]["sha256"] == vgg19.sha256
    assert environment["packages"]["jax"][0].isdigit()
    assert environment["device"]


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("old")
    with pytest.raises(KeyError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with files.replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
