"""The studio's page: drop pictures, turn knobs, watch, stop when it is good."""

import functools
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import app, ui
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response

from nst_jax.report import document, server
from nst_jax.studio import choice as choices
from nst_jax.studio import controls
from nst_jax.studio.easel import Easel
from nst_jax.studio.painter import Painter

CSS = (Path(__file__).parent / "page.css").read_text()
EXAMPLES = Path(__file__).parent / "examples"  # what looks and knobs do
THUMBNAIL_PIXELS = 256
PREVIEW_PIXELS = 640  # of the photograph under the brush
REFRESH_SECONDS = 1.0
MAX_CARDS = 200  # of the history


def build(painter: Painter, hosts: list[str]):
    """Makes the page and the addresses of its pictures.

    Args:
      painter: paints.
      hosts: names in the Host header that are answered, so that no other page reads this one (DNS
        rebinding); ["*"] for all.
    """
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    app.add_api_route("/paintings/{name}/{file:path}", functools.partial(_painting, painter))
    for place, pixels in (("uploads", THUMBNAIL_PIXELS), ("previews", PREVIEW_PIXELS)):
        app.add_api_route(f"/{place}/{{name}}", functools.partial(_upload, painter, pixels))
    app.add_static_files("/examples", EXAMPLES)
    ui.page("/", title="nst_jax studio")(functools.partial(_page, painter))


def _painting(painter: Painter, name: str, file: str) -> Response:
    """A picture in a painting's work directory, or its report."""
    if name not in painter.names():
        return Response(status_code=404)
    page = painter.folder(name) / "report.html"
    if file == page.name and page.is_file() and not page.is_symlink():
        # Whoever wrote the folder may have written the report: it is kept from this page.
        headers = {"Content-Security-Policy": "sandbox allow-scripts"}
        return Response(page.read_bytes(), media_type="text/html", headers=headers)
    try:
        kind, content = server.shown(painter.folder(name), file)
    except server.HTTPError as error:
        return Response(status_code=error.status)
    return Response(content, media_type=kind, headers={"Cache-Control": "no-store"})


def _upload(painter: Painter, pixels: int, name: str) -> Response:
    """An uploaded picture, or one of the samples, small."""
    folder = painter.root / "uploads"
    path = folder / name if (folder / name).parent == folder else Path()
    content = _small(path, pixels) if path.is_file() else None
    if content is None:
        return Response(status_code=404)
    return Response(content, media_type="image/jpeg")


@functools.lru_cache(maxsize=64)
def _small(path: Path, pixels: int) -> bytes | None:
    return document.encoded(path, pixels)


def _page(painter: Painter):
    ui.add_css(CSS)
    ui.colors(primary="#2743b8")
    dark = ui.dark_mode(None)
    samples = choices.samples(painter)
    choice = choices.first(samples)
    with ui.element("header"):
        ui.label("Studio").classes("title").props("role=heading aria-level=1")
        ui.button(icon="contrast", on_click=lambda: dark.set_value(not dark.value)).props(
            'flat round aria-label="dark or light"'
        )
    with ui.element("main").classes("studio"):
        with ui.element("section").classes("controls"):
            controls.pictures(painter, choice, samples)
            controls.knobs(choice, lambda key: easel.change(key))
        with ui.element("section").classes("easel"):
            easel = Easel(painter, choice)
    with ui.element("section").classes("history"):
        ui.label("Paintings").props("role=heading aria-level=2")
        history = ui.element("div").classes("strip")
    seen: list[Any] = []

    def refresh():
        easel.refresh()
        newest = [(name, painter.status(name)) for name in painter.names()[::-1][:MAX_CARDS]]
        if seen != newest:
            seen[:] = newest
            history.clear()
            with history:
                for name, _ in newest:
                    _card(painter, name, functools.partial(easel.show, name))

    ui.timer(REFRESH_SECONDS, refresh)


def _card(painter: Painter, name: str, show: Callable[[], None]):
    """A painting of the history."""
    with ui.element("button").on("click", show).props(f'aria-label="painting {name}"'):
        path = painter.painting(name)
        if path.exists():
            address = urllib.parse.quote(f"/paintings/{name}/{path.name}")
            address += f"?{path.stat().st_mtime_ns}"
            ui.element("img").props(f'src="{address}" alt="" loading="lazy"')
        else:
            ui.element("div").classes("blank")
        began = time.strftime("%d %b %H:%M", time.strptime(name[:15], "%Y%m%d-%H%M%S"))
        ui.label(began if painter.folder(name).name == name else painter.folder(name).name)
