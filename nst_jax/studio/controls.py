"""The studio's controls: fields for pictures, knobs, and every key of the config."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import events, run, ui

from nst_jax import config
from nst_jax.config import grammar, looks, schema
from nst_jax.config.described import meanings
from nst_jax.errors import UserError
from nst_jax.studio.painter import BASE, MAX_UPLOAD_BYTES, Painter, Request

PICTURE_TYPES = "image/*,.heic,.heif,.jxl,.tif,.tiff"
QUALITIES = {
    "draft": ("Draft, a quick look", {"size": 256, "draft": True}),
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


def samples(painter: Painter) -> dict[str, str]:
    """The project's own pictures, uploaded like any other: name -> file."""
    paths = [Path(config.sample_photograph()), *(config.PICTURES / f"{one}.jpg" for one in STYLES)]
    return {path.stem: str(painter.upload(path.read_bytes())) for path in paths}


def first_choice(samples: dict[str, str]) -> Choice:
    """What is chosen when a page is opened."""
    (photograph,) = (path for name, path in samples.items() if name not in STYLES)
    knobs = {"look": "classic", **QUALITIES["draft"][1]}
    return Choice(photograph, {samples[STYLES[0]]: 1.0}, knobs, {})


def _image(path: str, text: str) -> ui.element:
    return ui.element("img").props(f'src="/uploads/{Path(path).name}" alt="{text}"')


def pictures(painter: Painter, choice: Choice, samples: dict[str, str]):
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
    """Checks an uploaded picture; a file that is not one is reported in the page."""
    content = await event.file.read()
    try:
        path = await run.io_bound(painter.upload, content)
    except UserError as error:
        text = str(error).replace(str(painter.root / "uploads"), "")
        ui.notify(f"{event.file.name}: {text}", type="negative", multi_line=True)
        return
    take(str(path))


def knobs(choice: Choice, change: Callable[[], None]):
    """The controls; `change` is called by those that count while it paints, too."""
    own, keys = choice.knobs, choice.keys

    def set_quality(event: events.ValueChangeEventArguments):
        own.pop("draft", None)
        own.update(QUALITIES[event.value][1])

    def set_strength(event: events.ValueChangeEventArguments):
        own["strength"] = 10**event.value
        strength.set_text(f"Strength {own['strength']:.2g}")
        change()

    def set_smoothness(event: events.ValueChangeEventArguments):
        keys["tv_weight"] = SMOOTHNESS[event.value]
        change()

    def set_start(event: events.ValueChangeEventArguments):
        keys["init.noise"] = 1.0 if event.value == "noise" else 0.0

    ui.select(LOOK_LABELS, value="classic", label="Look").bind_value(own, "look").tooltip(
        "What the painting does to the photograph."
    )
    strength = ui.label("Strength 1").props('id="strength"')
    ui.slider(min=-1, max=1, step=0.05, value=0, on_change=set_strength).props(
        'aria-labelledby="strength"'
    ).tooltip("How much of the painting; 1 is usual. It counts while it paints, too. (beta)")
    ui.label("Size of the strokes").props('id="strokes"')
    ui.slider(min=0.5, max=2, step=0.05, value=1).bind_value(own, "strokes").props(
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
    ui.switch("Keep the photograph's colours").bind_value(own, "keep_colors").tooltip(
        "Only light and dark are painted. (color.mode)"
    )
    with ui.expansion("All settings").classes("all"):
        _settings(keys)


def _settings(keys: dict[str, Any]):
    """Every key of the schema with its meaning; what is written there wins over the knobs."""
    standard = schema.flat(config.load(config.find(BASE)))

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
