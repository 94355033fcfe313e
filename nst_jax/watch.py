"""Shows a sweep or a run while it goes on: its report, as a page that grows.

  python -m nst_jax.watch runs/style_weight

Open the address that it prints; Ctrl-C stops it. It serves the report and its pictures, and nothing
else in the folder. Other machines cannot reach it unless --host allows that.
"""

import signal
import sys
from pathlib import Path

from absl import flags

from nst_jax import cli, report
from nst_jax.errors import UserError
from nst_jax.report.server import Server

_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a sweep or a run, if it is no argument.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
_PORT = flags.DEFINE_integer("port", 8000, "Port; 0: any free one.", 0, 65535)


def main(*folder: str):
    """Serves the report until interrupted; prints the address."""
    if bool(folder) == bool(_WORKDIR.value):
        raise UserError("name the folder of a sweep or a run once, as in runs/style_weight")
    # A shell starts background commands with SIGINT ignored; whoever sends it means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    workdir = Path(*folder or [_WORKDIR.value])
    report.read(workdir)
    try:
        server = Server((_HOST.value, _PORT.value), workdir)
    except OSError as error:
        raise UserError(
            f"cannot listen on {_HOST.value}:{_PORT.value}: {error.strerror}; try --port 0"
        ) from error
    with server:
        try:
            print(f"http://{_HOST.value}:{server.server_address[1]}/", flush=True)
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


if __name__ == "__main__":
    cli.start(main, takes=(0, 1))
