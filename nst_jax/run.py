"""Paints a photograph in the style of a painting: one experiment, described by a config file.

  python -m nst_jax.run --config configs/starry.py
  python -m nst_jax.run --config configs/starry.py --config.content=me.jpg \\
      --config.style=painting.jpg --config.image_size=512 --config.optimizer.name=lbfgs

Any key of the config can be set with --config.KEY=VALUE; nst_jax/config.py lists them all with
their meaning. Everything is written to the work directory, and the painting's path is printed.

Exit codes: 0 painted; 1 the loss became NaN or infinite; 2 a mistake in a flag, config or file;
130 interrupted. The last good picture is kept.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags
from tqdm import tqdm

from nst_jax import config
from nst_jax.errors import UserError

if TYPE_CHECKING:
    from nst_jax.optimize import Progress

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, e.g. configs/starry.py, or configs/starry.py:smoke to try it."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder to write to; a new one under runs/, named by config and time, if empty."
)


class StoppedError(Exception):
    """The optimisation ended before its last step; the text says why and what is kept."""

    def __init__(self, reason: BaseException, kept: str):
        interrupted = isinstance(reason, KeyboardInterrupt)
        super().__init__(f"{'interrupted' if interrupted else reason}; {kept}")
        self.code = 130 if interrupted else 1


def run(c: config.Config, name: str, workdir: str) -> Path:
    """One experiment into one work directory.

    Args:
      c: a validated config.
      name: of the config, for the work directory's name.
      workdir: the folder, or "".

    Returns:
      The painting's path.

    Raises:
      UserError: a picture, the weights or the work directory cannot be used.
      StoppedError: interrupted, or not finite; the last good picture is written.
    """
    from nst_jax import outputs, transfer, weights  # JAX with them: --help need not wait for it
    from nst_jax.optimize import NonFiniteLossError

    pictures = transfer.read_pictures(c)
    loaded = transfer.load_weights(weights.find(c.weights, c.arch), c.arch)
    folder = outputs.create(workdir, name)
    outputs.write_settings(folder, c, loaded)
    painting = folder / c.output
    progress, started, stopped = None, None, None
    with tqdm(total=c.steps, unit="step", disable=not sys.stderr.isatty()) as bar:
        try:
            for progress in transfer.paint(c, pictures, loaded):
                started = started or time.monotonic()
                seconds = time.monotonic() - started
                outputs.append_metrics(folder, progress, seconds)
                report(progress, seconds, bar)
                if c.save_every and progress.step % c.save_every == 0:
                    frame = folder / "frames" / f"{progress.step:06d}.png"
                    outputs.write_picture(frame, progress.image, c)
        except (KeyboardInterrupt, NonFiniteLossError) as reason:
            stopped = reason
    if progress is not None:
        outputs.write_picture(painting, progress.image, c)
        outputs.plot_losses(folder)
    if stopped is not None:
        kept = (
            f"the picture after {progress.step} steps is {painting}" if progress else "no picture"
        )
        raise StoppedError(stopped, kept)
    return painting


def report(progress: "Progress", seconds: float, bar: tqdm):
    """On a terminal moves the bar; otherwise prints a line with every term of the objective."""
    terms = {name: f"{value:.4g}" for name, value in progress.terms.items()}
    if bar.disable:
        line = "  ".join(f"{name} {value}" for name, value in terms.items())
        print(f"step {progress.step}/{bar.total}  {seconds:.1f} s  {line}", file=sys.stderr)
    else:
        bar.set_postfix(loss=terms["total"], content=terms["content"], style=terms["style"])
        bar.update(progress.step - bar.n)


def fail(message: object, code: int = 2) -> NoReturn:
    """Prints an error as one line and leaves."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(code)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags and loads the config; whatever goes wrong here is the user's to mend."""
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            fail(f"unexpected argument {rest[1]!r}; see --help")
        if _CONFIG.value is None:
            fail("no --config; try --config configs/starry.py, or --help")
        _ = _CONFIG.value.steps  # a file that failed to load says so only when it is touched
    except SystemExit as leaving:  # absl leaves with 1 after --help
        sys.exit(leaving.code if isinstance(leaving.code, int) and leaving.code > 1 else 0)
    except flags.Error as error:
        fail(error)
    except Exception as error:
        fail(config.explain(error))
    return rest


def main(argv: list[str]):
    """Flags -> config -> library -> exit code."""
    del argv
    logging.set_verbosity(logging.WARNING)  # JAX tells of every backend that is not there
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    try:
        print(run(config.validate(_CONFIG.value), name, _WORKDIR.value))
    except UserError as error:
        fail(error)
    except StoppedError as error:
        fail(error, error.code)
    except KeyboardInterrupt:
        fail("interrupted", 130)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
