"""The studio's controls: fields for pictures, a brush, knobs, and the keys of the config."""

import functools
from collections.abc import Callable
from pathlib import Path

from nicegui import events, run, ui

from nst_jax.config import axes, looks, schema
from nst_jax.config.described import meanings
from nst_jax.errors import UserError
from nst_jax.studio.canvas import Canvas
from nst_jax.studio.choice import QUALITIES, STYLES, Choice
from nst_jax.studio.painter import MAX_UPLOAD_BYTES, Painter

PICTURE_TYPES = "image/*,.heic,.heif,.jxl,.tif,.tiff"
SMOOTHNESS = {"usual": None, "some": 3e7, "much": 3e8}  # tv_weight; None for the look's
# Keys that are not among all settings.
LEFT_OUT = {
    *("content", "style", "axes", "output", "animation", "init.picture", "weights"),
    *("normalize_network", "guides.content", "guides.style", "guides.content_weight"),
}
STARTS = {"the photograph": 0.0, "noise": 1.0}  # init.noise


def _image(path: str, text: str) -> ui.element:
    return ui.element("img").props(f'src="/uploads/{Path(path).name}" alt="{text}"')


def pictures(painter: Painter, choice: Choice, samples: dict[str, str]):
    """The fields for the photograph and the paintings, and the brush."""

    def take_content(path: str):
        choice.content = path
        photograph.clear()
        with photograph:
            _image(path, "the photograph")
        canvas.begin()

    def take_style(path: str):
        choice.styles.setdefault(path, 1.0)
        show_styles()

    def drop_style(path: str):
        del choice.styles[path]
        show_styles()

    def show_styles():
        paintings.clear()
        with paintings:
            for path in choice.styles:
                _style(choice, path, drop_style)
        canvas.show_paintings([*choice.styles][-1])

    photographs = {name: path for name, path in samples.items() if name not in STYLES}
    paintable = {name: path for name, path in samples.items() if name in STYLES}
    _field(painter, "Photograph", "drop a photograph, or choose one", take_content, photographs)
    photograph = ui.element("div").classes("chosen")
    _field(painter, "Painting", "drop one or several paintings", take_style, paintable, True)
    paintings = ui.element("div").classes("chosen")
    canvas = Canvas(choice)
    take_content(choice.content)
    show_styles()


def _field(
    painter: Painter,
    title: str,
    hint: str,
    take: Callable[[str], None],
    samples: dict[str, str],
    takes_several: bool = False,
):
    """A field to drop pictures on, with samples to choose from."""
    ui.label(title).props("role=heading aria-level=2")
    field = ui.upload(
        label=hint,
        multiple=takes_several,
        auto_upload=True,
        max_file_size=MAX_UPLOAD_BYTES,
        on_upload=functools.partial(_uploaded, painter, take),
        on_rejected=lambda: ui.notify("no picture, or larger than 64 MB", type="negative"),
    )
    field.props(f'accept="{PICTURE_TYPES}" flat bordered').classes("drop")
    # So that a picture can be dropped again that was left out meanwhile.
    field.on("uploaded", lambda: field.run_method("removeUploadedFiles"))
    with ui.element("div").classes("samples"):
        for name, path in samples.items():
            with ui.element("button").on("click", functools.partial(take, path)):
                _image(path, f"sample {name}")


def _style(choice: Choice, path: str, drop: Callable[[str], None]):
    """A painting that is chosen; one of several has a weight, and can be left out."""
    with ui.element("div").classes("style"):
        _image(path, "a painting")
        if len(choice.styles) > 1:
            ui.slider(min=0.05, max=1, step=0.05).bind_value(choice.styles, path).props(
                'aria-label="weight of this painting"'
            )
            ui.button(icon="close", on_click=functools.partial(drop, path)).props(
                'flat round dense aria-label="leave this painting out"'
            )


async def _uploaded(
    painter: Painter, take: Callable[[str], None], event: events.UploadEventArguments
):
    """Checks an uploaded picture; a file that is not one is reported in the page."""
    content = await event.file.read()
    try:
        path = await run.io_bound(painter.upload, content)
    except UserError as error:
        ui.notify(f"{event.file.name}: {error}", type="negative", multi_line=True)
        return
    take(str(path))


def knobs(choice: Choice, change: Callable[[str], None]):
    """The controls.

    Args:
      choice: is changed.
      change: called with its key by a control that counts while it paints, too.
    """
    own, keys = choice.knobs, choice.keys

    def set_quality(event: events.ValueChangeEventArguments):
        own.pop("draft", None)
        own.update(QUALITIES[event.value][1])

    def set_strength(event: events.ValueChangeEventArguments):
        own["strength"] = 10**event.value
        strength.set_text(f"Strength {own['strength']:.2g}")
        change("beta")

    def set_smoothness(event: events.ValueChangeEventArguments):
        keys["tv_weight"] = SMOOTHNESS[event.value]
        change("tv_weight")

    def set_start(event: events.ValueChangeEventArguments):
        keys["init.noise"] = STARTS[event.value]

    def set_look(name: str):
        own["look"] = name
        for label, card in cards.items():
            card.props(f"aria-checked={str(label == name).lower()}")

    ui.label("Look").props('id="look"')
    with ui.element("div").classes("looks").props('role="radiogroup" aria-labelledby="look"'):
        cards = {name: _look(name, look.what, set_look) for name, look in looks.LOOKS.items()}
    set_look(own["look"])
    strength = ui.label("Strength 1").props('id="strength"')
    with ui.slider(min=-1, max=1, step=0.05, value=0, on_change=set_strength).props(
        'aria-labelledby="strength"'
    ):
        _explain("How much of the painting, here 0.2, 1 and 5. It counts while it paints, too. "
                 "(beta)", "strength")  # fmt: skip
    ui.label("Size of the strokes").props('id="strokes"')
    with (
        ui.slider(min=0.5, max=2, step=0.05, value=1)
        .bind_value(own, "strokes")
        .props('label aria-labelledby="strokes"')
    ):
        _explain("Here 0.5, 1 and 2. (style_scale)", "strokes")
    labels = {name: text for name, (text, _) in QUALITIES.items()}
    with ui.select(labels, value="draft", label="Quality", on_change=set_quality):
        _explain("256, 384 or 1024 pixels. (image_size, steps, pyramid)")
    with ui.select([*SMOOTHNESS], value="usual", label="Smoothness", on_change=set_smoothness):
        _explain("Against grain: usual, some, much. It counts while it paints, too. (tv_weight)",
                 "smoothness")  # fmt: skip
    with ui.select([*STARTS], value=next(iter(STARTS)), label="Start from", on_change=set_start):
        _explain("Noise leaves the painting more freedom. (init.noise)", "start")
    with ui.switch("Keep the photograph's colours").bind_value(own, "keep_colors"):
        _explain("Only light and dark are painted. (color.mode)", "keep_colors")
    _settings(choice)


def _look(name: str, what: str, choose: Callable[[str], None]) -> ui.element:
    """A look, as a card with what it does to a portrait."""
    with ui.element("button").props('role="radio"').on("click", lambda: choose(name)) as card:
        ui.element("img").props(f'src="/examples/look-{name}.jpg" alt=""')
        ui.label(name)
        _explain(what)
    return card


def _explain(text: str, picture: str = ""):
    """A tooltip of the element in whose context it is called."""
    with ui.tooltip().props("max-width=22rem"):
        ui.label(text)
        if picture:
            ui.element("img").props(f'src="/examples/{picture}.jpg" alt="" width="320"')


def _settings(choice: Choice):
    """The keys of the schema with their meaning; what is written there wins over the knobs.

    Left out are those that the page has otherwise, and those that name files: a page must not
    read any file of the machine.
    """
    standard = schema.flat(schema.default())

    def set_key(name: str, event: events.ValueChangeEventArguments):
        choice.typed.pop(name, None)
        if event.value not in ("", None):
            is_text = isinstance(standard[name], str)
            choice.typed[name] = event.value if is_text else axes.literal(event.value)

    def show_values(event: events.ValueChangeEventArguments):
        """What holds where nothing is written."""
        values = choice.values() if event.value else {}
        for name, field in fields.items():
            field.props(f'placeholder="{values.get(name, "")}"'.replace("'", ""))

    fields = {}
    with ui.expansion("All settings", on_value_change=show_values).classes("all"):
        for name, meaning in meanings().items():
            if name in standard and name not in LEFT_OUT and not name.startswith("film."):
                set_this = functools.partial(set_key, name)
                fields[name] = ui.input(name, on_change=set_this).props("dense").tooltip(meaning)
