"""The painting that a visitor looks at: its picture, its loss, and what can be done with it."""

import contextlib
from collections.abc import Callable
from typing import Any

from nicegui import ui

from nst_jax import config
from nst_jax.config import looks
from nst_jax.errors import UserError
from nst_jax.report import reading
from nst_jax.runs import workdir
from nst_jax.runs.log import duration
from nst_jax.studio.controls import Choice
from nst_jax.studio.painter import BASE, ELSEWHERE, ENDED, PAINTING, WAITING, Painter

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

    def change(self):
        """Hands the weights that were changed to the painting that is being painted."""
        name = self.choice.shown
        if not name or self.painter.status(name) != PAINTING:
            return
        factor = self.choice.knobs.get("strength", 1.0)
        weights = looks.KNOBS["strength"](config.load(config.find(BASE)), factor)
        keys = {key: self.choice.keys[key] for key in ("tv_weight",) if key in self.choice.keys}
        self._try(lambda: self.painter.change(name, {**weights, **keys}))

    def refresh(self):
        """Draws what there is by now."""
        name = self.choice.shown
        state = self.painter.status(name) if name else ""
        drawn = name, state, self.back.value
        if drawn == self.drawn and state in ("", ENDED):
            return
        self.drawn, cell, total = drawn, None, 0
        with contextlib.suppress(UserError):
            if name:
                request = self.painter.request(name)
                total = request.experiment().steps
                self.command.set_content(request.command)
        with contextlib.suppress(UserError):
            cell = reading.read(self.painter.folder(name))["cells"][0] if name else None
        self.status.set_text(self._said(name, state, cell, total))
        self.keep.set_visibility(state in (PAINTING, WAITING))
        for button in (self.further, self.larger, self.download):
            button.set_visibility(state == ENDED and bool(cell and cell["picture"]))
        self.report.set_visibility(bool(name) and self._has_report(name))
        self.report.props(f'href="/paintings/{name}/report.html"')
        self.undo.set_visibility(bool(cell and len(cell["frames"]) > 1 and state == ENDED))
        self.recipe.set_visibility(bool(name))
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
                _curve(cell["curve"]["step"], cell["curve"]["terms"].get("total", []))
            )
            self.chart.update()
        self.bar.set_value((cell["steps"] or 0) / total if cell and total else 0)

    def _picture(self, cell: dict[str, Any]) -> str:
        """The picture that is looked at: the newest, or an earlier frame; "" if there is none."""
        frames, newest = cell["frames"], cell["picture"]
        self.back.props(f"max={len(frames)}")
        if self.back.value is not None and self.back.value < len(frames):
            return frames[int(self.back.value)]["path"]
        return f"{newest['path']}?{newest['version']}" if newest else ""

    def _said(self, name: str, state: str, cell: dict[str, Any] | None, total: int) -> str:
        """The status, as a sentence."""
        if not name:
            return "Choose a photograph and a painting, then paint."
        step = int(cell["steps"] or 0) if cell else 0
        message = self.painter.messages.get(name, "") or (cell["message"] if cell else "")
        if state == WAITING:
            before = self.painter.place(name) - 1
            return f"waiting for {before} others" if before > 0 else "waiting for its turn"
        if state == PAINTING and not (cell and step):
            return "preparing, which takes longest the first time ..."
        if state == PAINTING and cell:
            left = duration((cell["seconds"] or 0) / step * (total - step))
            return f"painting on {self._device(name)}, step {step} of {total}, about {left} left"
        if state == ELSEWHERE:
            return f"a command is painting it, step {step} of {total}"
        if message.startswith("interrupted") or (cell and step < total and not message):
            return f"kept after {step} steps"
        return message or f"done, {step} steps"

    def _device(self, name: str) -> str:
        """What a painting is painted on, as its environment.json says."""
        with contextlib.suppress(UserError):
            told = workdir.read_json(self.painter.folder(name) / "environment.json")
            return str(told.get("device", "")).partition(":")[0].upper()
        return ""

    def _has_report(self, name: str) -> bool:
        return (self.painter.folder(name) / "report.html").is_file()

    def _try(self, action: Callable[[], None]):
        """Does something; a mistake is said in the page."""
        try:
            action()
        except UserError as error:
            ui.notify(str(error), type="negative", multi_line=True)

    def _stop(self):
        self.painter.stop(self.choice.shown)

    def _go_on(self):
        self._try(lambda: self.painter.go_on(self.choice.shown, MORE_STEPS))

    def _larger(self):
        """Paints on at twice the size, from the painting so far."""
        name = self.choice.shown
        request = self.painter.request(name)
        size = request.experiment().raw["image_size"]
        start = self.painter.painting(name)
        keys = {**request.keys, "init.picture": str(start), "image_size": 2 * size}
        keys |= {"pyramid.min_size": 0, "init.noise": 0.0}
        larger = request._replace(keys=keys, more=0, folder="")
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
