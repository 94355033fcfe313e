"""Serves a report that grows, and the pictures that it shows, and nothing else.

Requests that call this machine by another name are refused, or a web page elsewhere could read the
report through its visitor's browser; and no path or link leads out of the folder.
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

TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
}
LONGEST = 1024  # side of a content or style picture as it is shown, in pixels


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD for one folder."""

    protocol_version = "HTTP/1.1"

    def _server(self) -> "Server":
        assert isinstance(self.server, Server)
        return self.server

    def do_GET(self):
        """Answers with what `answer` finds, or with the error that it raises."""
        try:
            kind, body = self.answer()
            code = http.HTTPStatus.OK
        except ValueError:  # an address or a Host that cannot be parsed
            code = http.HTTPStatus.BAD_REQUEST
            kind, body = "text/plain", f"{code.value} {code.phrase}\n".encode()
        except LookupError as error:
            code = http.HTTPStatus(error.args[0])
            kind, body = "text/plain", f"{code.value} {code.phrase}\n".encode()
        except UserError as error:
            code = http.HTTPStatus.INTERNAL_SERVER_ERROR
            kind, body = "text/plain; charset=utf-8", f"{error}\n".encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def answer(self) -> tuple[str, bytes]:
        """(type, content) of what the request asks for.

        Raises:
          LookupError: with the HTTP status: not here, or not for this client.
          UserError: the folder is no longer a sweep or run.
        """
        if not self._server().knows(self.headers.get("Host", "")):
            raise LookupError(http.HTTPStatus.FORBIDDEN)
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
        raise LookupError(http.HTTPStatus.NOT_FOUND)

    def _input(self, number: str) -> tuple[str, bytes]:
        """A content or style picture, by its place among the report's inputs."""
        inputs = reading.read(self._server().workdir)["inputs"]
        if not (re.fullmatch("[0-9]{1,9}", number) and int(number) < len(inputs)):
            raise LookupError(http.HTTPStatus.NOT_FOUND)
        encoded = document.encoded(Path(inputs[int(number)]["path"]), LONGEST)
        if encoded is None:
            raise LookupError(http.HTTPStatus.NOT_FOUND)
        return "image/jpeg", encoded

    def log_message(self, format: str, *args: object):
        """Says nothing: a page asks every two seconds."""


def shown(workdir: Path, name: str) -> tuple[str, bytes]:
    """(type, content) of a picture in a folder.

    Raises:
      LookupError: 404: no picture, not there, or not in the folder once links are followed.
    """
    missing = LookupError(http.HTTPStatus.NOT_FOUND)
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
    """Serves one folder.

    Args:
      address: (host, port) to listen on.
      workdir: the folder.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], workdir: Path):
        self.workdir = workdir
        self.open_to_all = not _is_loopback(address[0])
        super().__init__(address, Handler)

    def handle_error(self, request: Any, client_address: Any):
        """Says nothing of a browser that left before its answer came."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def knows(self, host: str) -> bool:
        """Whether a request's Host header names this machine as its user does."""
        name = urllib.parse.urlsplit(f"//{host}").hostname or ""
        return self.open_to_all or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
