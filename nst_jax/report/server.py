"""HTTP server for a live report: the page, its data and its pictures, and nothing else.

It rejects requests whose Host header names another machine. Otherwise a web page elsewhere could
read the report through its visitor's browser (DNS rebinding). No path or link leads out of the
folder.
"""

import http
import http.server
import ipaddress
import json
import re
import sys
import urllib.parse
from pathlib import Path
from typing import Any

from nst_jax.errors import UserError
from nst_jax.report import document, reading

# Suffix of a picture or film that may be served -> media type.
TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".webm": "video/webm",
}
MAX_INPUT_SIDE_PIXELS = 1024  # of a content or style picture as it is served


class HTTPError(Exception):
    """A request that is answered with an error.

    Args:
      status: the HTTP status to answer with.
    """

    def __init__(self, status: http.HTTPStatus):
        super().__init__(f"{status.value} {status.phrase}")
        self.status = status


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD requests to a `Server`."""

    protocol_version = "HTTP/1.1"

    def _server(self) -> "Server":
        """The server, by its own type."""
        assert isinstance(self.server, Server)
        return self.server

    def do_GET(self):
        """Sends what `answer` returns, or the error that it raises."""
        try:
            kind, body = self.answer()
            status = http.HTTPStatus.OK
        except HTTPError as error:
            status = error.status
            kind, body = "text/plain", f"{error}\n".encode()
        except ValueError:  # the address or the Host header cannot be parsed
            status = http.HTTPStatus.BAD_REQUEST
            kind, body = "text/plain", f"{HTTPError(status)}\n".encode()
        except UserError as error:
            status = http.HTTPStatus.INTERNAL_SERVER_ERROR
            kind, body = "text/plain; charset=utf-8", f"{error}\n".encode()
        whole = len(body)
        place = _range(self.headers.get("Range", ""), whole) if status == 200 else None
        if place is not None:  # without it, browsers do not jump within a film
            status, body = http.HTTPStatus.PARTIAL_CONTENT, body[place.start : place.stop]
        self.send_response(status)
        if place is not None:
            self.send_header("Content-Range", f"bytes {place.start}-{place.stop - 1}/{whole}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def answer(self) -> tuple[str, bytes]:
        """Finds what the request asks for.

        Returns:
          (media type, content).

        Raises:
          HTTPError: 403 if the Host header names another machine, 404 if there is no such thing.
          ValueError: the address or the Host header cannot be parsed.
          UserError: the folder no longer holds a sweep or run.
        """
        if not self._server().knows(self.headers.get("Host", "")):
            raise HTTPError(http.HTTPStatus.FORBIDDEN)
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        place, _, rest = path.removeprefix("/").partition("/")
        if path == "/":
            page = document.page(reading.read(self._server().workdir), live=True)
            return "text/html; charset=utf-8", page.encode()
        if path == "/data.json":
            return "application/json", json.dumps(reading.read(self._server().workdir)).encode()
        if place == "files":
            return shown(self._server().workdir, rest)
        if place == "inputs":
            return self._input(rest)
        raise HTTPError(http.HTTPStatus.NOT_FOUND)

    def _input(self, number: str) -> tuple[str, bytes]:
        """(media type, content) of a content or style picture, by its index in the report."""
        inputs = reading.read(self._server().workdir)["inputs"]
        if not (re.fullmatch("[0-9]{1,9}", number) and int(number) < len(inputs)):
            raise HTTPError(http.HTTPStatus.NOT_FOUND)
        path = Path(inputs[int(number)]["path"])
        encoded = document.encoded(path, MAX_INPUT_SIDE_PIXELS)
        if encoded is None:
            raise HTTPError(http.HTTPStatus.NOT_FOUND)
        return "image/jpeg", encoded

    def log_message(self, format: str, *args: object):
        """Logs nothing, because every open page sends a request every two seconds."""


def shown(workdir: Path, name: str) -> tuple[str, bytes]:
    """Reads a picture in a folder.

    Args:
      workdir: the folder.
      name: path of the picture, relative to the folder, as a client sent it.

    Returns:
      (media type, content).

    Raises:
      HTTPError: 404 if the file is not a picture, does not exist, or is outside the folder once
        links are followed.
    """
    missing = HTTPError(http.HTTPStatus.NOT_FOUND)
    if "\0" in name:
        raise missing
    path = (workdir / name).resolve()
    if path.suffix.lower() not in TYPES or not path.is_relative_to(workdir.resolve()):
        raise missing
    try:
        if not path.is_file():
            raise missing
        return TYPES[path.suffix.lower()], path.read_bytes()
    except OSError:
        raise missing from None


class Server(http.server.ThreadingHTTPServer):
    """HTTP server for the report of one folder; use it as a context manager.

    Args:
      address: (host, port) to listen on. A host other than this machine's loopback opens the report
        to the network, and then every Host header is accepted.
      workdir: the folder of a sweep or run.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], workdir: Path):
        self.workdir = workdir
        self.open_to_all = not is_loopback(address[0])
        super().__init__(address, Handler)

    def handle_error(self, request: Any, client_address: Any):
        """Reports errors, except browsers that disconnect before they have their answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def knows(self, host: str) -> bool:
        """Whether a request's Host header names this machine, so that the request is accepted.

        Args:
          host: the header, NAME or NAME:PORT.

        Raises:
          ValueError: the header cannot be parsed.
        """
        name = urllib.parse.urlsplit(f"//{host}").hostname or ""
        return self.open_to_all or is_loopback(name)


def _range(asked: str, length: int) -> range | None:
    """The bytes that a Range header asks for; None for all of them.

    >>> _range("bytes=2-4", 10), _range("bytes=7-", 10), _range("bytes=-3", 10), _range("", 10)
    (range(2, 5), range(7, 10), range(7, 10), None)
    """
    found = re.fullmatch(r"bytes=(\d{0,15})-(\d{0,15})", asked)
    if not found or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        return range(max(0, length - int(last)), length) if int(last) else None
    end = min(int(last) + 1, length) if last else length
    return range(int(first), end) if int(first) < end else None


def is_loopback(name: str) -> bool:
    """Whether a host name or address is this machine's loopback."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
