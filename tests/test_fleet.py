"""Workers of a sweep in this process: claims, takeovers, copies in a store."""

import json
import os
import threading

import pytest

from nst_jax.errors import UnwritableError, UserError
from nst_jax.report import fleet
from nst_jax.runs import claims, launch, stores
from nst_jax.runs.claims import Claims, OverruledError

HOUR = 3600


def never(folder):
    return False


def has_result(folder):
    return (folder / "result.json").exists()


def paint(worker, name, text="painted"):
    folder = worker.work / name
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(text)


def age(path):
    """Makes a file an hour older."""
    time = path.stat().st_mtime - HOUR
    os.utime(path, (time, time))


def card(worker):
    return worker.work.with_name(f"{worker.worker}.json")


def test_each_cell_is_one_workers(tmp_path):
    """Eight workers claim 300 cells at once."""
    names = [f"{k}-beta=0.{k}" for k in range(300)]
    taken, workers = [], set()

    def claim():
        with Claims(tmp_path) as worker:
            mine = [name for name in names if worker.take(name, 1)]
            assert all(fleet.worker(tmp_path, name, 1) == worker.worker for name in mine)
            taken.extend(mine)
            workers.add(worker.worker)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(workers) == 8
    assert sorted(taken) == sorted(names)
    assert fleet.claims(tmp_path) == dict.fromkeys(names, 1)


def test_what_a_worker_leaves_is_taken_over_at_once(tmp_path):
    """Its cells go to one worker, with its files; a live worker's do not."""
    with Claims(tmp_path) as first:
        assert first.take("a", 1)
        assert first.take("b", 1)
        (first.work / "b" / "checkpoints").mkdir(parents=True)
        with Claims(tmp_path) as second:
            assert second.take_over(["a", "b", "c"]) == []
            assert second.workers() == 2
    with Claims(tmp_path) as second:
        assert second.state(first.worker) == claims.GONE
        assert second.take_over(["a", "b", "c"]) == ["a", "b"]
        assert (second.work / "b" / "checkpoints").is_dir()
        assert not first.work.exists() or not list(first.work.iterdir())
        assert second.take_over(["a", "b", "c"]) == []  # they are its own
        assert fleet.claims(tmp_path) == {"a": 2, "b": 2}


def test_what_a_worker_has_published_is_not_taken_over(tmp_path):
    """It ended because all was done; another one did not know that yet."""
    with Claims(tmp_path) as other:
        with Claims(tmp_path) as first:
            for name in ("a", "b"):
                first.take(name, 1)
            paint(first, "a")
            first.publish("a", has_result)
        assert other.take_over(["a", "b"]) == ["b"]
        assert fleet.claims(tmp_path) == {"a": 1, "b": 2}


def test_a_worker_that_slept_harms_nobody(tmp_path):
    """Overruled, it finds out; a finished cell stays as it is, whoever comes second."""
    with Claims(tmp_path) as sleeper, Claims(tmp_path) as other:
        for name in ("a", "b"):
            sleeper.take(name, 1)
            paint(sleeper, name, "by the sleeper")
        age(card(sleeper))
        assert other.state(sleeper.worker) == claims.SILENT
        assert other.take_over(["a", "b"]) == ["a", "b"]
        assert (sleeper.work / "a").exists(), "it may still be at work there"
        other.publish("a", has_result)
        sleeper.check(["a", "b"])  # it has not been silent, as far as it knows
        sleeper._was_silent = True
        with pytest.raises(OverruledError):
            sleeper.check(["a", "b"])
        assert sleeper.is_overruled(["b"])
        sleeper.publish("b", has_result)
        other.publish("b", has_result)
        sleeper.publish("a", has_result)
    assert sorted(path.name for path in (tmp_path / "cells").iterdir()) == ["a", "b"]
    assert not list((tmp_path / "workers").iterdir())


def test_a_worker_has_a_heartbeat(tmp_path):
    """They come from a thread; without them, patience ends."""
    with Claims(tmp_path, patience=0.06) as worker:
        before = card(worker).stat().st_mtime_ns
        waited = threading.Event()
        for _ in range(1000):
            if card(worker).stat().st_mtime_ns > before:
                break
            waited.wait(0.01)
        assert card(worker).stat().st_mtime_ns > before


@pytest.mark.parametrize(("host", "state"), [("elsewhere", claims.LIVE), (None, claims.GONE)])
def test_a_process_of_this_machine_is_known_to_be_gone(host, state, tmp_path):
    with Claims(tmp_path) as worker, Claims(tmp_path) as gone:
        gone._file.close()  # as the system does when a process ends
        if host:
            card(gone).write_text(json.dumps({"host": host}))
        assert worker.state(gone.worker) == state
        age(card(gone))
        assert worker.state(gone.worker) == (claims.SILENT if host else claims.GONE)


def test_a_claim_that_is_being_written_is_left_alone(tmp_path):
    with Claims(tmp_path) as worker:
        empty = fleet.claim(tmp_path, "a", 1)
        empty.touch()
        assert worker.take_over(["a"]) == []
        age(empty)  # its worker died before it had written its name
        assert worker.take_over(["a"]) == ["a"]


def test_a_name_that_leads_out_of_the_folder_is_no_worker(tmp_path):
    with Claims(tmp_path):
        fleet.claim(tmp_path, "a", 1).write_text("../../etc")
        assert fleet.worker(tmp_path, "a", 1) == ""
        assert fleet.place(tmp_path, "a", 1) == tmp_path / "cells" / "a"


def test_publishing_replaces_what_is_not_whole(tmp_path):
    with Claims(tmp_path) as worker:
        (tmp_path / "cells" / "a").mkdir()
        (tmp_path / "cells" / "a" / "half.png").touch()
        paint(worker, "a")
        worker.publish("a", has_result)
    assert [path.name for path in (tmp_path / "cells" / "a").iterdir()] == ["result.json"]


def test_ten_thousand_claims_are_few_system_calls(tmp_path, monkeypatch):
    """The folder is not listed again for every claim."""
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    with Claims(tmp_path) as worker:
        for k in range(10_000):
            worker.take(f"{k}", 1)
        assert len(fleet.claims(tmp_path)) == 10_000
    assert listed == [tmp_path / "claims"]


@pytest.fixture(params=["memory://sweeps/a", "file"])
def store(request, tmp_path):
    yield stores.opened(request.param if "://" in request.param else f"{tmp_path / 'store'}")
    if "://" in request.param:
        stores.opened("memory://").files.rm("/sweeps", recursive=True)


def cell(folder):
    (folder / "frames").mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    (folder / "final.png").write_bytes(b"picture")
    (folder / "frames" / "1.png").write_bytes(b"frame")
    return folder


def contents(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_store_gives_back_what_it_got(store, tmp_path):
    assert store.cells() == set()
    assert store.plan() == {}
    one = cell(tmp_path / "cells" / "0-beta=0.5")
    store.upload(one)
    (tmp_path / "sweep.json").write_text('{"name": "a"}')
    store.upload_report(tmp_path)
    assert store.cells() == {"0-beta=0.5"}
    assert store.plan() == {"name": "a"}
    store.download("0-beta=0.5", tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(one)


def test_a_cell_that_was_copied_in_part_does_not_count(store, tmp_path, monkeypatch):
    put, sent = type(store.files).put_file, []

    def failing(self, source, target, **others):
        sent.append(target)
        if target.endswith("result.json"):
            raise ConnectionError("the network is down")
        return put(self, source, target, **others)

    monkeypatch.setattr(type(store.files), "put_file", failing)
    with pytest.raises(UnwritableError, match="network is down"):
        store.upload(cell(tmp_path / "a"))
    assert len(sent) == 3
    assert store.cells() == set()


def test_a_download_that_fails_leaves_nothing(store, tmp_path, monkeypatch):
    store.upload(cell(tmp_path / "a"))

    def failing(self, source, target, **others):
        raise ConnectionError("the network is down")

    monkeypatch.setattr(type(store.files), "get_file", failing)
    with pytest.raises(UnwritableError, match="network is down"):
        store.download("a", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_an_unknown_store_is_one_line():
    with pytest.raises(UserError, match="--publish nowhere://a: Protocol not known"):
        stores.opened("nowhere://a")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["gpus"], "write NAME=VALUE"),
        (["gpus_per_node=many"], "gpus_per_node"),
        (["no_such=1"], "no_such"),
    ],
)
def test_arguments_of_jobs_that_do_not_fit(given, said, tmp_path):
    with pytest.raises(UserError, match=said):
        launch.submit(tmp_path, [], "local", 1, given)
