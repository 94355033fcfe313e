"""The canvas: a preview of the photograph on which one brushes where each painting goes."""

import functools
import math
from pathlib import Path
from typing import Any

from nicegui import events, ui

from nst_jax.studio import brush
from nst_jax.studio.choice import Choice

# Where the pointer is, in pixels of the picture; sent while a button is down, also beyond the edge.
POINTER = """(event) => {
  const picture = event.target;
  if (event.type === "pointerdown") picture.setPointerCapture(event.pointerId);
  if (event.type === "pointermove" && !event.buttons) return;
  const [width, height] = [picture.naturalWidth, picture.naturalHeight];
  const x = event.offsetX * width / picture.clientWidth;
  const y = event.offsetY * height / picture.clientHeight;
  emit({type: event.type, x, y, width, height});
}"""


class Canvas:
    """The brush's part of the page. It is hidden while there is one painting.

    Args:
      choice: the visitor's; its strokes are changed.
    """

    def __init__(self, choice: Choice):
        self.choice = choice
        self.painting = brush.REST  # what is brushed
        self.width = 0.12  # of the brush, as a share of the longer side
        self.points: list[tuple[float, float]] = []  # of the stroke that is being drawn
        with ui.expansion("Brush: where each painting goes").classes("brush") as self.room:
            self.colors = ui.element("div").classes("colors")
            self.colors.props('role="radiogroup" aria-label="painting to brush"')
            ui.label("Width of the brush").props('id="width"')
            ui.slider(min=0.02, max=0.4, step=0.02).bind_value(self, "width").props(
                'aria-labelledby="width"'
            )
            with ui.element("div").classes("canvas"):
                self.picture = ui.element("img").props(
                    'alt="the photograph, to draw on" draggable=false'
                )
                self.strokes = ui.html("", sanitize=False)  # made of numbers and our own colours
            for event in ("pointerdown", "pointermove", "pointerup"):
                self.picture.on(event, self._draw, js_handler=POINTER)
            with ui.element("div").classes("buttons"):
                ui.button("Undo", icon="undo", on_click=self._undo).props("flat dense")
                ui.button("Clear", icon="clear", on_click=self.begin).props("flat dense")

    def begin(self):
        """Begins without strokes, on the photograph that is chosen now."""
        self.choice.strokes.clear()
        self.points = []
        self.picture.props(f'src="/previews/{Path(self.choice.content).name}"')
        self._show()

    def show_paintings(self, chosen: str):
        """Shows what can be brushed: every painting, and the rest, which takes strokes away.

        Args:
          chosen: what is brushed from here on.
        """
        paintings = [*self.choice.styles]
        self.room.set_visibility(len(paintings) > 1)
        self.painting = chosen
        self.colors.clear()
        with self.colors:
            for path in [*paintings, brush.REST]:
                self._color(path, paintings)
        self._show()

    def _color(self, path: str, paintings: list[str]):
        """A button that chooses what is brushed."""
        chosen = str(path == self.painting).lower()
        with (
            ui.element("button")
            .props(f'role="radio" aria-checked={chosen}')
            .on("click", functools.partial(self.show_paintings, path))
        ) as button:
            if path:
                button.style(f"border-color: {brush.color_of(paintings.index(path))}")
                name = f"painting {paintings.index(path) + 1}"
                ui.element("img").props(f'src="/uploads/{Path(path).name}" alt="{name}"')
            else:
                ui.label("the rest")

    def _draw(self, event: events.GenericEventArguments):
        """Begins, lengthens or ends a stroke."""
        at: Any = event.args
        strokes = self.choice.strokes
        if at["type"] == "pointerdown":
            self.choice.preview = int(at["width"]), int(at["height"])
            self.points = []
            width = self.width * max(self.choice.preview)
            strokes.append(brush.Stroke(self.painting, width, self.points))
        if not (strokes and strokes[-1].points is self.points):
            return  # it was cleared meanwhile
        point = float(at["x"]), float(at["y"])
        if not self.points or math.dist(point, self.points[-1]) > strokes[-1].width / 8:
            self.points.append(point)
            self._show()

    def _undo(self):
        if self.choice.strokes:
            self.choice.strokes.pop()
        self._show()

    def _show(self):
        choice = self.choice
        self.strokes.set_content(brush.overlay(choice.strokes, choice.preview, [*choice.styles]))
