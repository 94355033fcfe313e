"""Paints a photograph in the style of a painting: one experiment, described by a config file.

  python -m nst_jax.run --config configs/starry.py
  python -m nst_jax.run --config configs/starry.py --config.content=me.jpg \\
      --config.style=painting.jpg --config.image_size=512 --config.optimizer.name=lbfgs

Any key of the config can be set with --config.KEY=VALUE; nst_jax/config.py lists them all with
their meaning. Everything is written to the work directory, and the painting's path is printed.

Exit codes: 0 painted; 1 the loss became NaN or infinite; 2 a mistake in a flag, config or file;
130 interrupted. The last good picture is kept.
"""

import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from nst_jax import commands, config
from nst_jax.errors import UserError

if TYPE_CHECKING:
    from nst_jax.optimize import Progress

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, e.g. configs/starry.py, or configs/starry.py:smoke to try it."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder to write to; a new one under runs/, named by config and time, if empty."
)


def main():
    """Flags -> config -> library; prints the painting's path."""
    if _CONFIG.value is None:
        raise UserError("no config; try --config configs/starry.py, or --help")
    if not isinstance(_CONFIG.value, ConfigDict):
        try:
            _ = _CONFIG.value.steps  # a file that failed to load says so only when it is touched
        except OSError as error:
            raise UserError(config.explain(error)) from error
        except AttributeError:
            raise UserError("get_config must return a ConfigDict, as config.default() is") from None
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    print(run(config.validate(_CONFIG.value), name, _WORKDIR.value))


def run(c: config.Config, name: str, workdir: str) -> Path:
    """One experiment into one work directory.

    Args:
      c: a validated config.
      name: of the config, for the work directory's name.
      workdir: the folder, or "".

    Returns:
      The painting's path.

    Raises:
      UserError: a picture, the weights, the work directory or the device's memory do not serve.
      commands.StoppedError: interrupted, or not finite; names the last good picture, if any.
    """
    # JAX comes with these: --help need not wait for it. An interrupt would leave it half-imported.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from nst_jax import images, inputs, outputs, pyramid, transfer
    from nst_jax.optimize import NonFiniteLossError

    interrupted = threading.Event()

    def interrupt(*_):
        interrupted.set()  # remembered: raised within JAX's garbage collection, the error is lost
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)

    pictures = inputs.read(c)
    loaded = transfer.load_weights(c)
    kept, started, painting = "", None, None
    total = sum(scale.steps for scale in pyramid.scales(c))
    with tqdm(total=total, unit="step", disable=not sys.stderr.isatty()) as bar:
        folder = outputs.create(workdir, name)
        try:
            outputs.write_settings(folder, c, loaded)
            for progress in transfer.paint(c, pictures, loaded):
                if interrupted.is_set():
                    raise KeyboardInterrupt
                started = started or time.monotonic()
                seconds = time.monotonic() - started
                outputs.append_metrics(folder, progress, seconds)
                image = inputs.finished(c, progress.image, pictures)
                shape = image.shape[-3:-1]
                alpha = images.read_alpha(c.content, shape) if c.keep_alpha else None
                painting = outputs.write_painting(folder, image, c, alpha)
                kept = f"; the picture after {progress.step} steps is {painting}"
                if c.save_every and progress.step % c.save_every == 0 and not c.interpolate:
                    outputs.write_frame(folder, progress.step, image, c)
                report(progress, seconds, bar)
            if c.animation:
                outputs.animate(folder, c)
        except KeyboardInterrupt:
            raise commands.StoppedError(f"interrupted{kept}", 130) from None
        except NonFiniteLossError as error:
            raise commands.StoppedError(f"{error}{kept}", 1) from error
        except RuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) and "Out of memory" not in str(error):
                raise
            raise UserError(
                f"the device has too little memory for config.image_size {c.image_size}; "
                f"choose a smaller one{kept}"
            ) from error
        finally:
            if kept:
                outputs.plot_losses(folder)
            else:
                outputs.discard(folder)
    assert painting is not None, "an optimisation yields at least its start"
    return painting


def report(progress: "Progress", seconds: float, bar: tqdm):
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
