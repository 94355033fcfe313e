"""Paints a film in the style of a painting, without flicker.

  python -m nst_jax.film clip.mp4 painting.jpg
  python -m nst_jax.film --config configs/film.py --config.content=clip.mp4
  python -m nst_jax.film --config configs/film.py --config.content=numbered/ \\
      --config.film.frames=1:60 --config.film.passes=2

The content is a clip, or a folder or pattern of numbered pictures. Frames are painted in order,
each from the one before, and written as pictures and as a film into the work directory; the film's
path is printed. --config.help=film lists the keys of a film. It needs the extra `film`.

Exit codes: 0 painted; 1 the loss is not finite, or the device failed; 2 a mistake in a flag, config
or file; 130 interrupted (Ctrl-C), 143 asked to end (SIGTERM). Frames that are painted are kept, and
the same command with the same --workdir goes on after them.
"""

import shlex

import numpy as np
from absl import flags

from nst_jax import cli, config
from nst_jax.config.experiment import Experiment, Pixels
from nst_jax.errors import UserError
from nst_jax.pictures import clips
from nst_jax.pictures.clips import Clip
from nst_jax.runs.interrupts import Interrupts

cli.define_config("Config file, e.g. configs/film.py.")
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder to write to; a new one under runs/, named by config and time, if empty."
)
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Only print frames, size, memory and time.")


def main(*pictures: str):
    """Flags -> experiment and clip -> film; prints the film's path."""
    given, name = cli.given_config(*pictures, standard="film")
    clip, experiment = read_clip(given)
    interrupts = Interrupts()
    from nst_jax.runs import films  # import JAX

    if _DRY_RUN.value:
        cli.answer(films.outlook(experiment, clip))
        return
    command = shlex.join(["python", "-m", "nst_jax.film", *cli.typed()])
    cli.answer(films.run(experiment, clip, name, _WORKDIR.value, interrupts, command=command))


def read_clip(c: config.Config) -> tuple[Clip, Experiment]:
    """The clip of a config, and the experiment, whose content is its first frame.

    Raises:
      UserError: a mistake in the config, or a clip that cannot be read.
    """
    if not c.content:
        raise UserError("name a clip with --config.content, or a folder of numbered pictures")
    standin = Pixels(np.zeros((64, 64, 3), np.uint8), c.content)
    number = config.parse(c, standin).film.first  # mistakes are said before the clip is read
    clip = clips.open_clip(c.content)
    first = next(clip.frames(number), None)
    if first is None:
        raise UserError(f"{clip.name} has no frame {number}")
    return clip, config.parse(c, Pixels(first, clip.name))


if __name__ == "__main__":
    cli.start(main, takes=(0, 2))
