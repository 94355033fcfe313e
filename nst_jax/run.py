"""Paints a photograph in the style of a painting: one experiment, described by a config file.

  python -m nst_jax.run --config configs/starry.py
  python -m nst_jax.run --config configs/starry.py --config.content=me.jpg \\
      --config.style=painting.jpg --config.image_size=512
  python -m nst_jax.run me.jpg painting.jpg

Two pictures take the place of the config's, which may then be left out. A shipped config needs no
path: --config starry. Any key of the config can be set with --config.KEY=VALUE; --config.help lists
them all with their meaning, --config.help=color those of a group. Everything is written to the work
directory, and the painting's path is printed. With --config.split=-1 and --distributed, the devices
of several processes share one picture.

Exit codes: 0 painted; 1 the loss is not finite, or the device failed; 2 a mistake in a flag, config
or file; 130 interrupted (Ctrl-C), 143 asked to end (SIGTERM). The last good picture is kept, and
the same command with the same --workdir resumes where it stopped.
"""

import shlex
from pathlib import Path

from absl import flags

from nst_jax import cli, config
from nst_jax.config import rules
from nst_jax.errors import UserError
from nst_jax.runs.interrupts import Interrupts

cli.define_config("Config file, e.g. configs/starry.py, or configs/starry.py:smoke to try it.")
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder to write to; a new one under runs/, named by config and time, if empty."
)
_EXTEND = flags.DEFINE_integer(
    "extend_steps", 0, "Resume a finished run for so many steps more.", lower_bound=0
)
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Only print size, tiles, memory and time.")
_processes = cli.define_processes("a picture")
_PROFILE = flags.DEFINE_boolean(
    "profile", False, "Record JAX's trace in the work directory; best with few steps."
)


def main(*pictures: str):
    """Flags -> experiment -> run; prints the painting's path."""
    given, name = cli.given_config(*pictures)
    experiment, more = config.parse(given), _EXTEND.value
    if more:
        _check_extension()
        experiment = config.with_values(given, {"steps": given.steps + more})
    config.check_still(experiment)
    if _DRY_RUN.value:
        from nst_jax.runs import plan
        from nst_jax.transfer.cache import Cache

        cli.answer(plan.outlook(experiment, Cache()))
        return
    shared = _processes()
    if shared and not rules.is_split(experiment):
        raise UserError(
            "processes share one picture with --config.split=-1; a sweep's are --worker's"
        )
    interrupts = Interrupts()
    from nst_jax.runs import processes, single  # import JAX

    if shared:
        processes.join(*shared)

    command = shlex.join(["python", "-m", "nst_jax.run", *cli.typed()])
    painting = single.run(
        experiment,
        name,
        _WORKDIR.value,
        interrupts,
        command=command,
        profile=_PROFILE.value,
        extended=more,
    )
    cli.answer(painting)


def _check_extension():
    if not _WORKDIR.value:
        raise UserError("--extend_steps resumes a run; name its folder with --workdir")
    if not (Path(_WORKDIR.value) / "config.json").is_file():
        raise UserError(f"no run began in --workdir {_WORKDIR.value}; leave --extend_steps out")


if __name__ == "__main__":
    cli.start(main, takes=(0, 2))
