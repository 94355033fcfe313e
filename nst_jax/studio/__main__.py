"""Shows a page in which pictures are painted: drop two, watch, stop when it is good.

  python -m nst_jax.studio
  python -m nst_jax.studio runs/starry-20261130-101500

Open the address that it prints; Ctrl-C stops it. Everything is kept in --workdir, each painting in
a work directory like that of nst_jax.run; what was being painted goes on when the studio is started
again. Runs that are named are opened, too. Other machines cannot reach the page unless --host
allows that.

Needs the extra `studio`: pip install "nst_jax[studio]".
"""

from pathlib import Path

from absl import flags

from nst_jax import cli
from nst_jax.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", "runs/studio", "Folder of all paintings.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
_PORT = flags.DEFINE_integer("port", 8080, "Port.", 1, 65535)
_MAX_RUNS = 1000


def main(*runs: str):
    """Serves the page until interrupted; prints the address.

    Args:
      *runs: folders of runs that a command began.
    """
    try:
        from nicegui import app, ui
    except ImportError as error:
        raise UserError(
            f'the studio needs NiceGUI ({error}); pip install "nst_jax[studio]"'
        ) from None
    from nst_jax.report import server
    from nst_jax.runs import workdir
    from nst_jax.studio import page
    from nst_jax.studio.painter import Painter

    root, host = Path(_WORKDIR.value), _HOST.value
    painter = Painter(root)
    with workdir.lock(root):
        for folder in runs:
            painter.open(Path(folder))
        own = ["127.0.0.1", "localhost", "[::1]"]
        page.build(painter, own if server.is_loopback(host) else ["*"])
        app.on_startup(painter.start)
        cli.answer(f"http://{f'[{host}]' if ':' in host else host}:{_PORT.value}/")
        ui.run(
            host=host,
            port=_PORT.value,
            title="nst_jax studio",
            show=False,
            reload=False,
            show_welcome_message=False,
            dark=None,
        )


if __name__ == "__main__":
    cli.start(main, takes=range(_MAX_RUNS))
