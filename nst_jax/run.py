"""Paints a photograph in the style of a painting: one experiment, described by a config file.

  python -m nst_jax.run --config configs/starry.py
  python -m nst_jax.run --config configs/starry.py --config.content=me.jpg \\
      --config.style=painting.jpg --config.image_size=512 --config.optimizer.name=lbfgs

Any key of the config can be set with --config.KEY=VALUE; nst_jax/config.py lists them all with
their meaning. Everything is written to the work directory, and the painting's path is printed.

Exit codes: 0 painted; 1 the loss became NaN or infinite; 2 a mistake in a flag, config or file;
130 interrupted. The last good picture is kept.
"""

import contextlib
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from nst_jax import commands, config
from nst_jax.errors import UserError

if TYPE_CHECKING:
    from nst_jax.optimize import Progress

config_flags.DEFINE_config_file(
    "config", None, "Config file, e.g. configs/starry.py, or configs/starry.py:smoke to try it."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder to write to; a new one under runs/, named by config and time, if empty."
)
_PROFILE = flags.DEFINE_boolean(
    "profile", False, "Also record JAX's trace in the work directory; best with few steps."
)


def main():
    """Flags -> config -> library; prints the painting's path."""
    given, name = commands.given_config()
    print(run(config.validate(given), name, _WORKDIR.value, _PROFILE.value))


def run(c: config.Config, name: str, workdir: str, profile: bool = False) -> Path:
    """One experiment into one work directory.

    Args:
      c: a validated config.
      name: of the config, for the work directory's name.
      workdir: the folder, or "".
      profile: whether to record JAX's trace in the folder's profile/.

    Returns:
      The painting's path.

    Raises:
      UserError: a picture, the weights, the work directory or the device's memory do not serve.
      commands.StoppedError: interrupted, or not finite; names the last good picture, if any.
    """
    interrupts = commands.Interruptible()
    import jax

    from nst_jax import inputs, metrics, outputs, pyramid, report, transfer
    from nst_jax.optimize import NonFiniteLossError

    interrupts.arm()
    pictures = inputs.read(c)
    loaded = transfer.load_weights(c)
    if c.metrics:
        metrics.prepare(c)
    kept, started, seconds, painting, last, message = "", None, 0.0, None, None, "interrupted"
    measured = {}
    total = sum(scale.steps for scale in pyramid.scales(c))
    with (
        tqdm(total=total, unit="step", disable=not sys.stderr.isatty()) as bar,
        contextlib.ExitStack() as stack,
    ):
        folder = outputs.create(workdir, name)
        try:
            outputs.write_settings(folder, c, loaded)
            if profile:
                stack.enter_context(jax.profiler.trace(folder / "profile"))
            for progress in transfer.paint(c, pictures, loaded):
                interrupts.check()
                started = started or time.monotonic()
                seconds = time.monotonic() - started
                painting = outputs.record(folder, c, pictures, progress, seconds)
                last, kept = progress, f"; the picture after {progress.step} steps is {painting}"
                tell(progress, seconds, bar)
            if c.metrics and last:
                measured = metrics.measure(c, inputs.finished(c, last.image, pictures), pictures)
            message = ""
        except KeyboardInterrupt:
            raise commands.StoppedError(f"interrupted{kept}", 130) from None
        except NonFiniteLossError as error:
            message = str(error)
            raise commands.StoppedError(f"{error}{kept}", 1) from error
        except UserError as error:
            message = str(error)
            raise
        except RuntimeError as error:
            if not commands.out_of_memory(error):
                raise
            message = f"the device has too little memory for config.image_size {c.image_size}"
            raise UserError(f"{message}; choose a smaller one{kept}") from error
        finally:
            if kept:
                command = shlex.join(["python", "-m", "nst_jax.run", *commands.typed()])
                result = outputs.result(last, seconds, measured, message)
                outputs.finish(folder, c, result | {"name": name, "command": command})
                report.write(folder)
            else:
                outputs.discard(folder)
    assert painting is not None, "an optimisation yields at least its start"
    return painting


def tell(progress: "Progress", seconds: float, bar: tqdm):
    """On a terminal moves the bar; otherwise prints a line with every term of the objective."""
    terms = {name: f"{value:.4g}" for name, value in progress.terms.items()}
    if bar.disable:
        line = "  ".join(f"{name} {value}" for name, value in terms.items())
        print(f"step {progress.step}/{bar.total}  {seconds:.1f} s  {line}", file=sys.stderr)
    else:
        bar.set_postfix(loss=terms["total"])
        bar.update(progress.step - bar.n)


if __name__ == "__main__":
    commands.start(main)
