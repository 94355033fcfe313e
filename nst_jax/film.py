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
the same command with the same --workdir resumes after them.
"""

import shlex

from absl import flags

from nst_jax import cli
from nst_jax.runs.interrupts import Interrupts

cli.define_config("Config file, e.g. configs/film.py.")
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder to write to; a new one under runs/, named by config and time, if empty."
)
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Only print frames, size, memory and time.")


def main(*pictures: str):
    """Flags -> experiment and clip -> film; prints the film's path."""
    given, name = cli.given_config(*pictures, standard="film")
    clip, experiment = cli.given_clip(given)
    interrupts = Interrupts()
    from nst_jax.runs import films  # import JAX

    if _DRY_RUN.value:
        cli.answer(films.outlook(experiment, clip))
        return
    command = shlex.join(["python", "-m", "nst_jax.film", *cli.typed()])
    cli.answer(films.run(experiment, clip, name, _WORKDIR.value, interrupts, command=command))


if __name__ == "__main__":
    cli.start(main, takes=(0, 2))
