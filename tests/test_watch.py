"""The page that grows: what the server shows, and all that it must not."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading

import pytest

from nst_jax.pictures import images
from nst_jax.report.server import Server


@pytest.fixture
def workdir(tmp_path, picture):
    """A run that is under way, and a secret beside it."""
    folder = tmp_path / "run"
    folder.mkdir()
    images.write(tmp_path / "content.png", picture(20, 30))
    images.write(folder / "final.png", picture(20, 30))
    images.write(tmp_path / "secret.png", picture(8, 8))
    config = {"content": str(tmp_path / "content.png"), "style": "gone.png", "output": "final.png"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text('{"step": 0, "seconds": 0.0, "total": 3.0}\n')
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "out").symlink_to(tmp_path)
    return folder


@pytest.fixture
def server(workdir):
    with Server(("127.0.0.1", 0), workdir) as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def ask(server, path, method="GET", host=None, part=""):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.putrequest(method, path, skip_host=host is not None)
    if host is not None:
        connection.putheader("Host", host)
    if part:
        connection.putheader("Range", part)
    connection.endheaders()
    response = connection.getresponse()
    return response, response.read()


def test_the_page_and_its_data_grow(server, workdir):
    response, body = ask(server, "/")
    assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"<!doctype html>" in body[:100].lower()
    response, body = ask(server, "/data.json")
    assert response.headers["Cache-Control"] == "no-store"
    (cell,) = json.loads(body)["cells"]
    assert (cell["status"], cell["terms"]) == ("running", {"total": 3.0})
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "seconds": 1.0, "total": 2.0}\n')
    (cell,) = json.loads(ask(server, "/data.json")[1])["cells"]
    assert cell["terms"] == {"total": 2.0}


def test_a_browser_may_ask_for_a_part_of_a_film(server, workdir):
    film = bytes(range(100))
    (workdir / "film.webm").write_bytes(film)
    response, body = ask(server, "/files/film.webm")
    assert (response.status, response.headers["Content-Type"]) == (200, "video/webm")
    assert response.headers["Accept-Ranges"] == "bytes"
    for part, first, last in (("bytes=10-19", 10, 19), ("bytes=90-", 90, 99), ("bytes=-5", 95, 99)):
        response, body = ask(server, "/files/film.webm", part=part)
        assert (response.status, body) == (206, film[first : last + 1])
        assert response.headers["Content-Range"] == f"bytes {first}-{last}/100"
    for part in ("bytes=100-", "bytes=5-4", "pages=1-2", "bytes=1-2,4-5", "bytes=-", "bytes=-0"):
        response, body = ask(server, "/files/film.webm", part=part)
        assert (response.status, body) == (200, film)


def test_pictures_of_the_run_and_its_inputs(server, workdir):
    for path in ("/files/final.png", "/files/final.png?17", "/files/%66inal.png"):
        response, body = ask(server, path)
        assert (response.status, response.headers["Content-Type"]) == (200, "image/png")
        assert body == (workdir / "final.png").read_bytes()
    response, body = ask(server, "/inputs/0?5")
    assert (response.status, body[:2]) == (200, b"\xff\xd8")
    response, body = ask(server, "/files/final.png", "HEAD")
    assert (response.status, body) == (200, b"")
    assert int(response.headers["Content-Length"]) == (workdir / "final.png").stat().st_size


@pytest.mark.parametrize(
    "path",
    [
        "/files/../secret.png",
        "/files/%2e%2e/secret.png",
        "/files/..%2fsecret.png",
        "/files//{0}/secret.png",
        "/files/link.png",
        "/files/out/secret.png",
        "/files/config.json",
        "/files/",
        "/files/none.png",
        "/files/final.png%00.png",
        "/inputs/1",  # gone
        "/inputs/2",
        "/inputs/-1",
        "/inputs/x",
        "/inputs/" + "9" * 5000,
        "/inputs/%C2%B2",
        "/secret.png",
        "/data.json/",
    ],
)
def test_nothing_else_is_there(path, server, workdir):
    response, body = ask(server, path.format(workdir.parent))
    assert response.status == 404
    assert body == b"404 Not Found\n"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example"])
def test_requests_by_another_name_are_refused(host, server):
    """A page elsewhere can make its own name point here (DNS rebinding), but not hide it."""
    assert ask(server, "/data.json", host=host)[0].status == 403


def test_a_host_that_cannot_be_parsed(server):
    assert ask(server, "/data.json", host="[")[0].status == 400


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:80"])
def test_this_machine_has_several_names(host, server):
    assert ask(server, "/data.json", host=host)[0].status == 200


def test_a_folder_that_is_gone_is_said(server, workdir):
    for name in ("config.json", "metrics.jsonl"):
        (workdir / name).unlink()
    response, body = ask(server, "/data.json")
    assert response.status == 500
    assert b"holds neither a sweep" in body
    assert ask(server, "/", "POST")[0].status == 501


def test_listening_on_an_address_of_the_network_is_open_to_it(workdir):
    with Server(("0.0.0.0", 0), workdir) as one:
        assert one.knows("me.example:8000")
    with Server(("127.0.0.1", 0), workdir) as one:
        assert not one.knows("me.example:8000")


def test_the_command_prints_its_address_and_ends_when_interrupted(workdir):
    process = subprocess.Popen(
        [sys.executable, "-m", "nst_jax.watch", "--workdir", str(workdir), "--port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    address = process.stdout.readline()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", address)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "stopped\n")


@pytest.mark.parametrize(
    "arguments", [["--workdir", "{0}"], ["--workdir", "{0}", "--port=70000"], []]
)
def test_mistakes_are_one_line(arguments, tmp_path):
    words = [word.format(tmp_path) for word in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "nst_jax.watch", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_port_that_is_taken(server, workdir):
    port = server.server_address[1]
    done = subprocess.run(
        [sys.executable, "-m", "nst_jax.watch", "--workdir", str(workdir), f"--port={port}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot listen on 127.0.0.1")
