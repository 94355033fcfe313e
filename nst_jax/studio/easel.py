"""The painting that a visitor looks at: its picture, its loss, and what can be done with it."""

import contextlib
import urllib.parse
from collections.abc import Callable
from typing import Any

from nicegui import ui

from nst_jax.errors import UserError
from nst_jax.report import reading
from nst_jax.runs import workdir
from nst_jax.runs.log import duration
from nst_jax.studio.choice import Choice
from nst_jax.studio.painter import ELSEWHERE, ENDED, PAINTING, WAITING, Painter, Request

NEWEST = 1 << 30  # of all frames
MORE_STEPS = 40  # that "Go on" paints


class Easel:
    """The painting that a visitor looks at, with its controls.

    Args:
      painter: paints.
      choice: the visitor's.
    """

    def __init__(self, painter: Painter, choice: Choice):
        self.painter, self.choice = painter, choice
        self.drawn: Any = None  # what is on the page; an ended painting is not drawn again
        ui.button("Paint", icon="brush", on_click=self.paint).classes("paint")
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
            self.report = ui.link("Report", new_tab=True).classes("report")
        self.chart = ui.echart(_curve([], []), theme=None).classes("curve")
        with ui.expansion("The command that paints it again") as self.recipe:
            self.command = ui.code("", language="bash")
        self.refresh()

    def show(self, name: str):
        """Looks at a painting."""
        self.choice.shown = name
        self.back.set_value(NEWEST)
        self.refresh()

    def paint(self):
        """Asks for a painting, and looks at it."""
        self._try(lambda: self.show(self.painter.add(self.choice.request(self.painter))))

    def change(self, key: str):
        """Hands a weight that was changed to the painting that is being painted.

        Args:
          key: "beta" or "tv_weight".
        """
        name, choice = self.choice.shown, self.choice
        if not name or self.painter.status(name) != PAINTING or key in choice.typed:
            return
        request = self.painter.request(name)
        value = request.experiment().raw[key]
        if key == "beta":
            value *= choice.knobs["strength"] / request.knobs.get("strength", 1.0)
        elif choice.keys.get(key) is not None:
            value = choice.keys[key]
        self._try(lambda: self.painter.change(name, {key: value}))

    def refresh(self):
        """Draws what there is by now."""
        name = self.choice.shown
        state = self.painter.status(name) if name else ""
        has_report = bool(name) and (self.painter.folder(name) / "report.html").is_file()
        drawn = name, state, self.back.value, has_report
        if drawn == self.drawn and state in ("", ENDED):
            return
        self.drawn, cell, total = drawn, None, 0
        self.recipe.set_visibility(bool(name))
        self.report.set_visibility(has_report)
        self.report.props(f'href="/paintings/{name}/report.html"')
        with contextlib.suppress(UserError):
            if name:
                request = self.painter.request(name)
                total = request.experiment().steps
                self.command.set_content(request.command)
        with contextlib.suppress(UserError):
            cell = reading.read(self.painter.folder(name))["cells"][0] if name else None
        picture = self._picture(cell) if cell else ""
        self.status.set_text(self._said(name, state, cell, total))
        self.keep.set_visibility(state in (PAINTING, WAITING))
        self.keep.set_text("Good as it is" if state == PAINTING else "Take it back")
        self.further.set_visibility(state == ENDED)
        for button in (self.larger, self.download):
            button.set_visibility(state == ENDED and bool(picture))
        self.undo.set_visibility(bool(cell and len(cell["frames"]) > 1 and state == ENDED))
        self.image.set_visibility(bool(picture))
        self.chart.set_visibility(bool(cell and len(cell["curve"]["step"]) > 1))
        if cell and picture:
            self.image.props(f'src="/paintings/{name}/{picture}"')
            self.chart.options.update(
                _curve(cell["curve"]["step"], cell["curve"]["terms"].get("total", []))
            )
            self.chart.update()
        self.bar.set_value((cell["steps"] or 0) / total if cell and total else 0)

    def _picture(self, cell: dict[str, Any]) -> str:
        """The address of what is looked at: the newest, or an earlier frame; "" for none."""
        frames, newest = cell["frames"], cell["picture"]
        self.back.props(f"max={len(frames)}")
        if self.back.value is not None and self.back.value < len(frames):
            return urllib.parse.quote(frames[int(self.back.value)]["path"])
        return f"{urllib.parse.quote(newest['path'])}?{newest['version']}" if newest else ""

    def _said(self, name: str, state: str, cell: dict[str, Any] | None, total: int) -> str:
        """The status, as a sentence."""
        if not name:
            return "Choose a photograph and a painting, then paint."
        step = int(cell["steps"] or 0) if cell else 0
        message = self.painter.request(name).message or (cell["message"] if cell else "")
        if state == WAITING:
            before = self.painter.place(name)
            return f"waiting for {before} others" if before else "waiting for its turn"
        if state == PAINTING and not (cell and step):
            return "preparing, which takes longest the first time ..."
        if state == PAINTING and cell:
            left = duration((cell["seconds"] or 0) / step * (total - step))
            return f"painting on {self._device(name)}, step {step} of {total}, about {left} left"
        if state == ELSEWHERE:
            return f"a command is painting it, step {step} of {total}"
        if step and (message.startswith("interrupted") or (not message and step < total)):
            return f"kept after {step} steps"
        return message or f"done, {step} steps"

    def _device(self, name: str) -> str:
        """What a painting is painted on, as its environment.json says."""
        with contextlib.suppress(UserError):
            told = workdir.read_json(self.painter.folder(name) / "environment.json")
            return str(told.get("device", "")).partition(":")[0].upper()
        return ""

    def _try(self, action: Callable[[], None]):
        """Does something; a mistake is said in the page."""
        try:
            action()
        except UserError as error:
            ui.notify(str(error), type="negative", multi_line=True)

    def _stop(self):
        self._try(lambda: self.painter.stop(self.choice.shown))

    def _go_on(self):
        self.back.set_value(NEWEST)
        self._try(lambda: self.painter.go_on(self.choice.shown, MORE_STEPS))

    def _larger(self):
        """Paints on at twice the size, from the painting so far."""

        def add():
            name = self.choice.shown
            request = self.painter.request(name)
            size = request.experiment().raw["image_size"]
            start = str(self.painter.painting(name))
            keys = {**request.keys, "init.picture": start, "image_size": 2 * size}
            keys |= {"pyramid.min_size": 0, "init.noise": 0.0, "output": "final.png"}
            larger = Request(request.content, request.style, request.knobs, keys, request.changes)
            self.show(self.painter.add(larger))

        self._try(add)

    def _download(self):
        def save():
            folder = self.painter.folder(self.choice.shown)
            address = self._picture(reading.read(folder)["cells"][0])
            path = folder / urllib.parse.unquote(address.partition("?")[0])
            ui.download.content(path.read_bytes(), f"painting{path.suffix}")

        self._try(save)


def _curve(steps: list[Any], values: list[Any]) -> dict[str, Any]:
    """The loss by steps, as ECharts draws it."""
    return {
        "xAxis": {"type": "value", "name": "step"},
        "yAxis": {"type": "log", "name": "loss", "axisLabel": {"show": False}},
        "grid": {"left": 60, "right": 30, "top": 30, "bottom": 30},
        "series": [{"type": "line", "data": list(map(list, zip(steps, values, strict=False)))}],
        "animation": False,
    }
