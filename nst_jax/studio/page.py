"""The studio's page: drop pictures, turn knobs, watch, stop when it is good."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import app, events, run, ui
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response

from nst_jax import config
from nst_jax.config import grammar, looks, schema
from nst_jax.config.described import meanings
from nst_jax.errors import UserError
from nst_jax.report import document, reading, server
from nst_jax.runs.log import duration
from nst_jax.studio.painter import ENDED, MAX_UPLOAD_BYTES, PAINTING, WAITING, Painter, Request

CSS = (Path(__file__).parent / "page.css").read_text()
THUMBNAIL_PIXELS = 256
REFRESH_SECONDS = 1.0
NEWEST = 1 << 30  # of all frames
PICTURE_TYPES = "image/*,.heic,.heif,.jxl,.tif,.tiff"
QUALITIES = {
    "draft": ("Draft, under a minute", {"size": 256, "draft": True}),
    "good": ("Good", {"size": 384}),
    "print": ("Print, slow", {"size": 1024}),
}
SMOOTHNESS = {"none": 0.0, "some": 1e5, "much": 1e6}
STYLES = ("starry", "ember")  # the project's own paintings
LOOK_LABELS = {name: f"{name}: {look.what}" for name, look in looks.LOOKS.items()}


@dataclasses.dataclass
class Choice:
    """What one visitor has chosen.

    Attributes:
      content: the photograph.
      styles: painting -> weight.
      knobs: by their names in `looks.KNOBS`.
      keys: any other keys of the config.
      shown: the name of the painting that is looked at; "" for none.
    """

    content: str
    styles: dict[str, float]
    knobs: dict[str, Any]
    keys: dict[str, Any]
    shown: str = ""

    def request(self) -> Request:
        """The request for a painting."""
        style = ", ".join(f"{grammar.quoted(path)}:{w:g}" for path, w in self.styles.items())
        return Request(self.content, style, self.knobs, self.keys, {})


def build(painter: Painter, hosts: list[str]):
    """Makes the page and the addresses of its pictures.

    Args:
      painter: paints.
      hosts: names in the Host header that are answered, so that no other page reads this one (DNS
        rebinding); ["*"] for all.
    """
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    app.add_api_route("/paintings/{name}/{file:path}", functools.partial(_painting, painter))
    app.add_api_route("/uploads/{name}", functools.partial(_thumbnail, painter))
    ui.page("/", title="nst_jax studio")(functools.partial(_page, painter))


def _painting(painter: Painter, name: str, file: str) -> Response:
    """A picture in a painting's work directory."""
    if name not in painter.names():
        return Response(status_code=404)
    try:
        kind, content = server.shown(painter.folder(name), file)
    except server.HTTPError as error:
        return Response(status_code=error.status)
    return Response(content, media_type=kind, headers={"Cache-Control": "no-store"})


def _thumbnail(painter: Painter, name: str) -> Response:
    """A picture that was brought, or one of the project's own, small."""
    folder = painter.root / "uploads"
    path = folder / name if (folder / name).parent == folder else Path()
    content = _small(path) if path.is_file() else None
    if content is None:
        return Response(status_code=404)
    return Response(content, media_type="image/jpeg")


@functools.lru_cache(maxsize=64)
def _small(path: Path) -> bytes | None:
    return document.encoded(path, THUMBNAIL_PIXELS)


def _page(painter: Painter):
    ui.add_css(CSS)
    ui.colors(primary="#2743b8")
    dark = ui.dark_mode(None)
    samples = _samples(painter)
    choice = Choice(samples["grace_hopper"], {samples["starry"]: 1.0}, {"look": "classic"}, {})
    choice.knobs |= QUALITIES["draft"][1]
    with ui.element("header"):
        ui.label("Studio").classes("title").props("role=heading aria-level=1")
        ui.button(icon="contrast", on_click=lambda: dark.set_value(not dark.value)).props(
            'flat round aria-label="dark or light"'
        )
    with ui.element("main").classes("studio"):
        with ui.element("section").classes("controls"):
            _pictures(painter, choice, samples)
            _knobs(choice, lambda: easel.change())
            ui.button("Paint", icon="brush", on_click=lambda: easel.paint()).classes("paint")
        with ui.element("section").classes("easel"):
            easel = Easel(painter, choice)
    with ui.element("section").classes("history"):
        ui.label("Paintings").props("role=heading aria-level=2")
        history = ui.element("div").classes("strip")
    seen: list[Any] = []

    def refresh():
        easel.refresh()
        names = painter.names()[::-1][:60]
        if seen != [names, painter.status(choice.shown) if choice.shown else ""]:
            seen[:] = [names, painter.status(choice.shown) if choice.shown else ""]
            history.clear()
            with history:
                for name in names:
                    _card(painter, name, functools.partial(easel.show, name))

    ui.timer(REFRESH_SECONDS, refresh)


def _samples(painter: Painter) -> dict[str, str]:
    """The project's own pictures, as if they had been brought: name -> file."""
    paths = [Path(config.sample_photograph()), *(config.PICTURES / f"{one}.jpg" for one in STYLES)]
    return {path.stem: str(painter.upload(path.read_bytes())) for path in paths}


def _image(path: str, text: str) -> ui.element:
    return ui.element("img").props(f'src="/uploads/{Path(path).name}" alt="{text}"')


def _pictures(painter: Painter, choice: Choice, samples: dict[str, str]):
    """The fields for the photograph and the paintings."""

    def field(title: str, hint: str, take: Callable[[str], None], names: list[str]):
        ui.label(title).props("role=heading aria-level=2")
        ui.upload(
            label=hint,
            auto_upload=True,
            max_file_size=MAX_UPLOAD_BYTES,
            on_upload=functools.partial(_uploaded, painter, take),
            on_rejected=lambda: ui.notify("no picture, or larger than 64 MB", type="negative"),
        ).props(f'accept="{PICTURE_TYPES}" flat bordered').classes("drop")
        with ui.element("div").classes("samples"):
            for name in names:
                with ui.element("button").on("click", functools.partial(take, samples[name])):
                    _image(samples[name], f"sample {name}")

    def take_content(path: str):
        choice.content = path
        photograph.clear()
        with photograph:
            _image(path, "the photograph")

    def take_style(path: str):
        choice.styles.setdefault(path, 1.0)
        show_styles()

    def drop_style(path: str):
        if len(choice.styles) > 1:
            del choice.styles[path]
        show_styles()

    def show_styles():
        paintings.clear()
        with paintings:
            for path in choice.styles:
                with ui.element("div").classes("style"):
                    _image(path, "a painting")
                    if len(choice.styles) > 1:
                        ui.slider(min=0, max=1, step=0.05).bind_value(choice.styles, path).props(
                            'aria-label="weight of this painting"'
                        )
                        ui.button(icon="close", on_click=functools.partial(drop_style, path)).props(
                            'flat round dense aria-label="leave this painting out"'
                        )

    photographs = [name for name in samples if name not in STYLES]
    field("Photograph", "drop a photograph, or choose one", take_content, photographs)
    photograph = ui.element("div").classes("chosen")
    field("Painting", "drop one or several paintings", take_style, [*STYLES])
    paintings = ui.element("div").classes("chosen")
    take_content(choice.content)
    show_styles()


async def _uploaded(
    painter: Painter, take: Callable[[str], None], event: events.UploadEventArguments
):
    """Checks a picture that was brought; what is none is said in the page."""
    content = await event.file.read()
    try:
        path = await run.io_bound(painter.upload, content)
    except UserError as error:
        text = str(error).replace(str(painter.root / "uploads"), "")
        ui.notify(f"{event.file.name}: {text}", type="negative", multi_line=True)
        return
    take(str(path))


def _knobs(choice: Choice, change: Callable[[], None]):
    """The controls; `change` is called by those that count while it paints, too."""
    knobs, keys = choice.knobs, choice.keys

    def set_quality(event: events.ValueChangeEventArguments):
        knobs.pop("draft", None)
        knobs.update(QUALITIES[event.value][1])

    def set_strength(event: events.ValueChangeEventArguments):
        knobs["strength"] = 10**event.value
        strength.set_text(f"Strength {knobs['strength']:.2g}")
        change()

    def set_smoothness(event: events.ValueChangeEventArguments):
        keys["tv_weight"] = SMOOTHNESS[event.value]
        change()

    def set_start(event: events.ValueChangeEventArguments):
        keys["init.noise"] = 1.0 if event.value == "noise" else 0.0

    ui.select(LOOK_LABELS, value="classic", label="Look").bind_value(knobs, "look").tooltip(
        "What the painting does to the photograph."
    )
    strength = ui.label("Strength 1").props('id="strength"')
    ui.slider(min=-1, max=1, step=0.05, value=0, on_change=set_strength).props(
        'aria-labelledby="strength"'
    ).tooltip("How much of the painting; 1 is usual. It counts while it paints, too. (beta)")
    ui.label("Size of the strokes").props('id="strokes"')
    ui.slider(min=0.5, max=2, step=0.05, value=1).bind_value(knobs, "strokes").props(
        'label aria-labelledby="strokes"'
    ).tooltip("2 are twice as large. (style_scale)")
    labels = {name: text for name, (text, _) in QUALITIES.items()}
    ui.select(labels, value="draft", label="Quality", on_change=set_quality).tooltip(
        "Pixels and steps: 256, 384 or 1024 pixels. (image_size, steps, pyramid)"
    )
    ui.select(
        {name: name for name in SMOOTHNESS}, value="none", label="Smoothness",
        on_change=set_smoothness,
    ).tooltip("Against grain. It counts while it paints, too. (tv_weight)")  # fmt: skip
    ui.select(
        {"photo": "the photograph", "noise": "noise"}, value="photo", label="Start from",
        on_change=set_start,
    ).tooltip("Noise leaves the painting more freedom. (init.noise)")  # fmt: skip
    ui.switch("Keep the photograph's colours").bind_value(knobs, "keep_colors").tooltip(
        "Only light and dark are painted. (color.mode)"
    )
    with ui.expansion("All settings").classes("all"):
        _settings(keys)


def _settings(keys: dict[str, Any]):
    """Every key of the schema with its meaning; what is written there wins over the knobs."""
    standard = schema.flat(config.load(config.find("starry")))

    def set_key(name: str, event: events.ValueChangeEventArguments):
        keys.pop(name, None)
        if event.value not in ("", None):
            keys[name] = _typed(event.value, standard[name])

    for name, meaning in meanings().items():
        if name in standard and name not in ("content", "style", "axes", "output"):
            ui.input(
                name, placeholder=str(standard[name]), on_change=functools.partial(set_key, name)
            ).props("dense").tooltip(meaning)


def _typed(text: str, standard: Any) -> Any:
    """What was typed, as the type of the key's default, if it can be read so."""
    if isinstance(standard, bool):
        return text.lower() in ("true", "yes", "1")
    with contextlib.suppress(ValueError):
        if isinstance(standard, int | float):
            return type(standard)(text)
    return text


def _card(painter: Painter, name: str, show: Callable[[], None]):
    """A painting of the history."""
    with ui.element("button").on("click", show).props(f'aria-label="painting {name}"'):
        path = painter.folder(name) / "final.png"
        if path.exists():
            address = f"/paintings/{name}/{path.name}?{path.stat().st_mtime_ns}"
            ui.element("img").props(f'src="{address}" alt="" loading="lazy"')
        else:
            ui.element("div").classes("blank")
        ui.label(time.strftime("%d %b %H:%M", time.strptime(name[:15], "%Y%m%d-%H%M%S")))


class Easel:
    """The painting that a visitor looks at, with its controls.

    Args:
      painter: paints.
      choice: the visitor's.
    """

    def __init__(self, painter: Painter, choice: Choice):
        self.painter, self.choice = painter, choice
        self.status = ui.label().props('role="status" aria-live="polite"')
        self.bar = ui.linear_progress(value=0, show_value=False).props('aria-label="progress"')
        self.image = ui.element("img").classes("painting").props('alt="the painting"')
        with ui.element("div").classes("undo") as self.undo:
            ui.label("Go back to").props('id="undo"')
            self.back = ui.slider(min=0, max=1, value=1, step=1).props(
                'snap markers aria-labelledby="undo"'
            )
        with ui.element("div").classes("buttons"):
            self.keep = ui.button("Good as it is", icon="check", on_click=self._stop)
            self.further = ui.button("Go on", icon="more_time", on_click=self._go_on)
            self.larger = ui.button("Larger", icon="zoom_out_map", on_click=self._larger)
            self.download = ui.button("Save", icon="download", on_click=self._download)
        self.chart = ui.echart(_curve([], []), theme=None).classes("curve")
        with ui.expansion("The command that paints it again"):
            self.command = ui.code("", language="bash")
        self.refresh()

    def show(self, name: str):
        """Looks at a painting."""
        self.choice.shown = name
        self.back.set_value(NEWEST)
        self.refresh()

    def paint(self):
        """Asks for a painting, and looks at it."""
        self._try(lambda: self.show(self.painter.add(self.choice.request())))

    def change(self):
        """Hands the weights that were changed to the painting that is being painted."""
        name = self.choice.shown
        if not name or self.painter.status(name) != PAINTING:
            return
        factor = self.choice.knobs.get("strength", 1.0)
        weights = looks.KNOBS["strength"](config.load(config.find("starry")), factor)
        keys = {key: self.choice.keys[key] for key in ("tv_weight",) if key in self.choice.keys}
        self._try(lambda: self.painter.change(name, {**weights, **keys}))

    def refresh(self):
        """Draws what there is by now."""
        name = self.choice.shown
        state = self.painter.status(name) if name else ""
        cell = None
        with contextlib.suppress(UserError):
            cell = reading.read(self.painter.folder(name))["cells"][0] if name else None
        self.status.set_text(self._said(name, state, cell))
        self.keep.set_visibility(state in (PAINTING, WAITING))
        for button in (self.further, self.larger, self.download):
            button.set_visibility(state == ENDED and bool(cell and cell["picture"]))
        self.undo.set_visibility(bool(cell and len(cell["frames"]) > 1 and state == ENDED))
        if not name:
            self.image.set_visibility(False)
            self.chart.set_visibility(False)
            return
        picture = self._picture(cell) if cell else None
        self.image.set_visibility(bool(picture))
        self.chart.set_visibility(bool(cell and len(cell["curve"]["step"]) > 1))
        if cell and picture:
            self.image.props(f'src="/paintings/{name}/{picture}"')
            self.chart.options.update(
                _curve(cell["curve"]["step"], cell["curve"]["terms"]["total"])
            )
            self.chart.update()
        with contextlib.suppress(UserError):
            request = self.painter.request(name)
            self.command.set_content(request.command)
            steps = request.experiment().steps
            self.bar.set_value((cell["steps"] or 0) / steps if cell else 0)

    def _picture(self, cell: dict[str, Any]) -> str:
        """The picture that is looked at: the newest, or an earlier frame; "" if there is none."""
        frames, newest = cell["frames"], cell["picture"]
        self.back.props(f"max={len(frames)}")
        if self.back.value is not None and self.back.value < len(frames):
            return frames[int(self.back.value)]["path"]
        return f"{newest['path']}?{newest['version']}" if newest else ""

    def _said(self, name: str, state: str, cell: dict[str, Any] | None) -> str:
        """The status, as a sentence."""
        if not name:
            return "Choose a photograph and a painting, then paint."
        step = int(cell["steps"] or 0) if cell else 0
        message = self.painter.messages.get(name, "")
        if state == WAITING:
            before = self.painter.place(name) - 1
            return f"waiting for {before} others" if before > 0 else "waiting for its turn"
        if state == PAINTING and not (cell and step):
            return "preparing, which takes longest the first time ..."
        if state == PAINTING and cell:
            total = self.painter.request(name).experiment().steps
            left = duration((cell["seconds"] or 0) / step * (total - step))
            return f"painting, step {step} of {total}, about {left} left"
        kept = message.startswith("interrupted")
        return f"kept after {step} steps" if kept else message or f"done, {step} steps"

    def _try(self, action: Callable[[], None]):
        """Does something; a mistake is said in the page."""
        try:
            action()
        except UserError as error:
            ui.notify(str(error), type="negative", multi_line=True)

    def _stop(self):
        self.painter.stop(self.choice.shown)

    def _go_on(self):
        self._try(lambda: self.painter.go_on(self.choice.shown, 40))

    def _larger(self):
        """Paints on at twice the size, from the painting so far."""
        name = self.choice.shown
        request = self.painter.request(name)
        size = request.experiment().raw["image_size"]
        start = self.painter.folder(name) / "final.png"
        keys = {**request.keys, "init.picture": str(start), "image_size": 2 * size}
        keys |= {"pyramid.min_size": 0, "init.noise": 0.0}
        larger = request._replace(keys=keys, more=0)
        self._try(lambda: self.show(self.painter.add(larger)))

    def _download(self):
        cell = reading.read(self.painter.folder(self.choice.shown))["cells"][0]
        ui.download(f"/paintings/{self.choice.shown}/{self._picture(cell)}", "painting.png")


def _curve(steps: list[Any], values: list[Any]) -> dict[str, Any]:
    """The loss by steps, as ECharts draws it."""
    return {
        "xAxis": {"type": "value", "name": "step"},
        "yAxis": {"type": "log", "name": "loss", "axisLabel": {"show": False}},
        "grid": {"left": 60, "right": 30, "top": 30, "bottom": 30},
        "series": [{"type": "line", "data": list(map(list, zip(steps, values, strict=False)))}],
        "animation": False,
    }
