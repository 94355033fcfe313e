"""Paints a photograph in the style of a painting, in one line.

  nst-jax paint me.jpg painting.jpg
  nst-jax paint me.jpg painting.jpg -o out.png --size 512 --look wild --keep_colors

Several paintings are separated by commas, with weights if wanted: a.jpg:3,b.jpg. Without -o the
painting is written beside where you are, named by both pictures. Everything else about it (log,
frames, report) is in a folder under runs/; the same command with --workdir resumes from there.
Ctrl-C stops and writes the picture so far; the last line says how to go on. `nst-jax run` has every
other control.
"""

import shlex
import shutil
from pathlib import Path

from absl import flags

from nst_jax import cli, config, files
from nst_jax.config import grammar, looks
from nst_jax.errors import StoppedError, UserError
from nst_jax.pictures import writers
from nst_jax.runs.interrupts import Interrupts

_OUTPUT = flags.DEFINE_string(
    "output", "", "Picture to write; PHOTOGRAPH-PAINTING.png if empty.", short_name="o"
)
_LOOK = flags.DEFINE_enum(
    "look",
    "classic",
    list(looks.LOOKS),
    " ".join(f"{name}: {look.what}." for name, look in looks.LOOKS.items()),
)
_SIZE = flags.DEFINE_integer("size", 512, "Longer side in pixels.", 32, 1 << 15)
_STRENGTH = flags.DEFINE_float("strength", 1.0, "Of the style: 0.3 is faint, 3 strong.", 0.0)
_STROKES = flags.DEFINE_float(
    "strokes", 1.0, "Size of the strokes; 2 are twice as large.", 0.01, 100.0
)
_KEEP_COLORS = flags.DEFINE_boolean("keep_colors", False, "Keep the photograph's colours.")
_DRAFT = flags.DEFINE_boolean("draft", False, "A quick look: one scale, 40 steps.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder to write to; a new one under runs/ if empty.")


def main(photograph: str, painting: str):
    """Knobs -> config -> run; copies the painting to --output and prints its path."""
    output = Path(_OUTPUT.value or _name(photograph, painting))
    if output.suffix.lower() not in writers.WRITERS:
        raise UserError(f"--output {output} must end in {', '.join(writers.WRITERS)}")
    for name in (photograph, *grammar.parse_pictures(painting)):
        if output.exists() and Path(name).exists() and output.samefile(name):
            raise UserError(f"--output {output} is one of the pictures; name another file")
    if not output.parent.is_dir():
        raise UserError(f"--output {output} is in no folder; make {output.parent} first")
    c = config.load(config.find("starry"))
    c.content, c.style = photograph, painting
    c.output = f"final{output.suffix.lower()}"
    knobs = {
        "look": _LOOK.value,
        "size": _SIZE.value,
        "strength": _STRENGTH.value,
        "strokes": _STROKES.value,
        "draft": _DRAFT.value,
        "keep_colors": _KEEP_COLORS.value,
    }
    experiment = config.parse(looks.turn(c, knobs))
    interrupts = Interrupts()
    from nst_jax.runs import single  # imports JAX

    command = shlex.join(["nst-jax", "paint", *cli.typed()])
    try:
        painted = single.run(experiment, output.stem, _WORKDIR.value, interrupts, command=command)
    except StoppedError as stopped:
        if stopped.painting:
            _copy(stopped.painting, output)
        raise
    _copy(painted, output)
    cli.answer(output)


def _copy(painting: Path, output: Path):
    with files.replacing(output) as temporary:
        shutil.copyfile(painting, temporary)


def _name(photograph: str, painting: str) -> str:
    """The output's name: that of the photograph and of the first painting."""
    first = next(iter(grammar.parse_pictures(painting)), "style")
    return f"{Path(photograph).stem}-{Path(first).stem}.png"


if __name__ == "__main__":
    cli.start(main, takes=(2,))
