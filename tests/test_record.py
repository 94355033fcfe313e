import json

import numpy as np
import pytest
from PIL import Image

from nst_jax import config, files
from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.runs import record, workdir
from nst_jax.runs.record import Entry
from nst_jax.transfer.cache import Cache


def test_default_folders_are_named_by_config_and_time_and_never_shared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [workdir.open_run("", "starry") for _ in range(3)]
    assert not any(began for _, began in made)
    assert len({folder for folder, _ in made}) == 3
    assert all(folder.parent.name == "runs" for folder, _ in made)
    assert all(folder.name.startswith("starry-20") for folder, _ in made)


def test_an_earlier_run_is_never_overwritten(tmp_path):
    assert workdir.open_run(str(tmp_path / "w"), "x") == (tmp_path / "w", False)
    assert workdir.open_run(str(tmp_path / "w"), "x") == (tmp_path / "w", False)
    (tmp_path / "w" / "notes.txt").touch()
    with pytest.raises(UserError, match="not empty"):
        workdir.open_run(str(tmp_path / "w"), "x")
    (tmp_path / "w" / "config.json").touch()
    assert workdir.open_run(str(tmp_path / "w"), "x") == (tmp_path / "w", True)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to --workdir"):
        workdir.open_run(str(tmp_path / "file" / "w"), "x")


def test_metrics_are_one_json_object_a_line_and_drawn(tmp_path):
    for step, total in ((0, 9.0), (10, 3.0)):
        terms = {"total": total, "content": 0.0, "style": 2.0, "tv": 0.1, "style/gram/relu1_1": 2.0}
        record.append_metrics(tmp_path, Entry(step, terms, None), step * 0.12346)
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
    record.plot_losses(tmp_path)
    with Image.open(tmp_path / "losses.png") as plot:
        assert min(plot.size) > 300
        assert len(plot.convert("RGB").getcolors(1 << 20)) > 10


def test_a_damaged_log_is_drawn_as_far_as_it_is_whole(tmp_path):
    rows = [{"step": 0, "seconds": 0, "total": 2.0, "tv": 1}, {"step": 1, "totbl": 1, "tv": "x"}]
    lines = [*map(json.dumps, rows), '{"step": 2, "tot']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    record.plot_losses(tmp_path)
    assert (tmp_path / "losses.png").stat().st_size > 1000
    assert record.last_entry(tmp_path).step == 1
    for line in ('{"step": 1' + "0" * 400 + "}", "[" * 100_000, '{"step": null}', "7"):
        (tmp_path / "metrics.jsonl").write_text(line)
        assert record.last_entry(tmp_path) is None


def test_what_a_killed_command_was_writing_is_cleared_away(tmp_path):
    for name in ("frames/.0123456789abcdef.png", "checkpoints/.0123456789abcdef.state", ".mine"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    record.rewind(tmp_path, 0)
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == [".mine", "metrics.jsonl"]


def test_a_folder_deleted_under_the_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot write to --workdir"):
        record.append_metrics(tmp_path / "gone", Entry(0, {}, None), 0.0)
    with pytest.raises(UserError, match="cannot read --workdir"):
        record.finish(tmp_path / "gone", configured(), record.result(None, 0.0))


def test_settings_say_what_it_ran_on(tmp_path, vgg19):
    c = config.default()
    c.content, c.style = "a.jpg", "b.jpg"
    record.write_settings(tmp_path, config.parse(c), vgg19, Cache())
    assert json.loads((tmp_path / "config.json").read_text()) == c.to_dict() | {"axes": []}
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


def configured(**values):
    c = config.default()
    c.content = c.style = "picture.png"
    c.update(values)
    return config.parse(c)


def test_a_painting_is_written_as_the_config_says(tmp_path, picture):
    painting, alpha = picture(9, 12), picture(9, 12)[..., 0]
    c = configured(output="mine.tif", bits=16, keep_alpha=True)
    path = record.write_paintings(tmp_path, painting[None], c, alpha)
    assert path == tmp_path / "mine.tif"
    np.testing.assert_allclose(images.read_alpha(path, (9, 12)), alpha, atol=1 / 65535)
    record.write_paintings(tmp_path, painting[None], configured(output="deep.png", bits=16), None)
    shallow = record.write_paintings(tmp_path, painting[None], configured(output="8.png"), None)
    np.testing.assert_allclose(images.read(tmp_path / "deep.png"), painting, atol=0.51 / 65535)
    error = np.abs(images.read(shallow) - painting).max()
    assert 1e-3 < error < 0.51 / 255
    with Image.open(shallow) as written:
        assert json.loads(written.info["nst_jax"])["output"] == "8.png"


def test_several_paintings_are_numbered_and_a_film(tmp_path, picture):
    paintings = np.stack([picture(9, 12) for _ in range(3)])
    c = configured(output="all.png", interpolate=3, style="a.jpg, b.jpg")
    film = record.write_paintings(tmp_path, paintings, c, None)
    assert film == tmp_path / "all.gif"
    assert {path.name for path in tmp_path.iterdir()} == {"all", "all.gif"}
    for number, painting in enumerate(paintings, 1):
        written = images.read(tmp_path / "all" / f"{number:04d}.png")
        np.testing.assert_allclose(written, painting, atol=0.51 / 255)
    with Image.open(film) as opened:
        assert (opened.n_frames, opened.size, opened.info["duration"]) == (3, (12, 9), 120)


@pytest.mark.parametrize("name", ["film.gif", "film.webp", "film.png"])
def test_frames_of_every_scale_become_a_film_in_order(name, tmp_path):
    """Frames of one gray each, the first of half the size; step 1000 after step 40."""
    c = configured(animation=name)
    for step, side in ((0, 8), (40, 16), (1000, 16)):
        record.write_frame(tmp_path, step, np.full((side, side, 3), step / 1000, np.float32), c)
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [
        "000000.png",
        "000040.png",
        "001000.png",
    ]
    record.animate(tmp_path, c)
    with Image.open(tmp_path / name) as film:
        assert (film.n_frames, film.size) == (3, (16, 16))
        for frame, expected in enumerate((0, 10.2, 255)):
            film.seek(frame)
            assert np.asarray(film.convert("L")).mean() == pytest.approx(expected, abs=3)


def test_tensorboard_reads_the_terms_and_the_painting(tmp_path, picture):
    """Parsed anew from the file: records of length, checksum, event and checksum."""
    from tensorboardX.proto.event_pb2 import Event

    c = configured(tensorboard=True)
    for step in (0, 5):
        terms = {"total": 3.0 - step / 5, "content": 1.0}
        record.append_metrics(tmp_path, Entry(step, terms, None), step * 2.0)
    images.write(tmp_path / "final.png", picture(9, 12))
    record.finish(tmp_path, c, record.result(None, 10.0))
    (path,) = tmp_path.glob("events.out.tfevents.*")
    data, events = path.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    values = [(e.step, v.tag, v.simple_value, e.wall_time) for e in events for v in e.summary.value]
    scalars = {(step, tag): value for step, tag, value, _ in values if tag != "painting"}
    assert scalars == {
        (0, "total"): 3.0,
        (5, "total"): 2.0,
        (0, "content"): 1.0,
        (5, "content"): 1.0,
    }
    times = {step: seconds for step, tag, _, seconds in values if tag == "total"}
    assert times[5] - times[0] == pytest.approx(10)
    (image,) = (v.image for e in events for v in e.summary.value if v.tag == "painting")
    assert (image.height, image.width) == (9, 12)
