"""Paints a photograph in the style of a painting: one experiment, described by a config file.

  python -m nst_jax.run --config configs/starry.py
  python -m nst_jax.run --config configs/starry.py --config.content=me.jpg \\
      --config.style=painting.jpg --config.image_size=512 --config.optimizer.name=lbfgs

Any key of the config can be set with --config.KEY=VALUE; nst_jax/config.py lists them all with
their meaning. Everything is written to the work directory, and the painting's path is printed.

Exit codes: 0 painted; 1 the loss is not finite, or the device failed; 2 a mistake in a flag, config
or file; 130 interrupted (Ctrl-C), 143 asked to end (SIGTERM). The last good picture is kept, and
the same command with the same --workdir goes on where it stopped.
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

from nst_jax import cli as commands
from nst_jax import config
from nst_jax.errors import UserError

if TYPE_CHECKING:
    from nst_jax.network.weights import Weights
    from nst_jax.optimize.loop import Progress
    from nst_jax.runs.checkpoints import Found
    from nst_jax.transfer.prepare import Pictures

config_flags.DEFINE_config_file(
    "config", None, "Config file, e.g. configs/starry.py, or configs/starry.py:smoke to try it."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder to write to; a new one under runs/, named by config and time, if empty."
)
_EXTEND = flags.DEFINE_integer(
    "extend_steps", 0, "Go on with a finished run for so many steps more.", lower_bound=0
)
_PROFILE = flags.DEFINE_boolean(
    "profile", False, "Also record JAX's trace in the work directory; best with few steps."
)


RISEN = 2.0  # times its lowest that the loss must be for a remark


def main():
    """Flags -> config -> library; prints the painting's path."""
    given, name = commands.given_config()
    c, more = config.validate(given), _EXTEND.value
    if more and not _WORKDIR.value:
        raise UserError("--extend_steps goes on with a run; name its folder with --workdir")
    if more and not (Path(_WORKDIR.value) / "config.json").is_file():
        raise UserError(f"no run began in --workdir {_WORKDIR.value}; leave --extend_steps out")
    c = config.with_values(c, {"steps": c.steps + more})
    commands.answer(run(c, name, _WORKDIR.value, _PROFILE.value, more))


def run(
    c: config.Config, name: str, workdir: str, profile: bool = False, extended: int = 0
) -> Path:
    """One experiment into one work directory, in which it may have begun.

    Args:
      c: a validated config.
      name: of the config, for the work directory's name.
      workdir: the folder, or "".
      profile: whether to record JAX's trace in the folder's profile/.
      extended: how many of its steps a finished run in the folder may lack.

    Returns:
      The painting's path.

    Raises:
      UserError: a picture, the weights, the work directory or the device's memory do not serve, or
        the run in the directory has other settings.
      commands.StoppedError: interrupted, or not finite; names the last good picture, if any.
    """
    interrupts = commands.Interruptible()
    import jax

    from nst_jax import report
    from nst_jax.optimize.loop import NonFiniteLossError
    from nst_jax.runs import checkpoints
    from nst_jax.runs import record as outputs
    from nst_jax.runs import workdir as folders
    from nst_jax.transfer import metrics, pyramid
    from nst_jax.transfer import paint as transfer
    from nst_jax.transfer import prepare as inputs

    interrupts.arm()
    pictures = inputs.read(c)
    loaded = transfer.load_weights(c)
    if c.metrics:
        metrics.prepare(c)
    kept, ahead, started, seconds, painting, last = "", "", None, 0.0, None, None
    message, lowest = "interrupted", {}
    measured, clock = {}, checkpoints.Clock(c.checkpoint_every)

    def keep(at_end: bool) -> bool:
        return c.checkpoint_every > 0 and bool(at_end or clock.due() or interrupts.seen)

    total = sum(scale.steps for scale in pyramid.scales(c))
    with (
        tqdm(total=total, unit="step", disable=not sys.stderr.isatty()) as bar,
        contextlib.ExitStack() as stack,
    ):
        folder, began = folders.open_run(workdir, name)
        stack.enter_context(folders.lock(folder))
        try:
            resume, spent = None, 0.0
            if began:
                check_begun(folder, c, loaded, extended)
                if outputs.finished(folder, c):
                    commands.say("it is finished already")
                    return outputs.painting_path(folder, c)
                found = going_on(folder, c, pictures)
                resume, spent = (found.progress, found.seconds) if found else (None, 0.0)
            outputs.write_settings(folder, c, loaded)
            outputs.rewind(folder, resume.step if resume else 0)
            if profile:
                stack.enter_context(jax.profiler.trace(folder / "profile"))
            steps = transfer.paint(c, pictures, loaded, resume, keep)
            for progress in interrupts.patiently(steps, c.checkpoint_every > 0):
                started = started or time.monotonic() - spent
                seconds = time.monotonic() - started
                if progress.terms:
                    painting = outputs.record(folder, c, pictures, progress, seconds)
                    tell(progress, seconds, bar, remark(c, progress, last, lowest))
                    last, ahead = progress, ""
                    kept = f"; the picture after {progress.step} steps is {painting}"
                if progress.state:
                    with clock.writing():
                        checkpoints.write(folder, progress, seconds)
                    ahead = f", and --workdir={folder} goes on after step {progress.step}"
                    interrupts.check()
            if c.metrics and last:
                measured = metrics.measure(c, inputs.finished(c, last.image, pictures), pictures)
            message = ""
        except KeyboardInterrupt:
            raise commands.StoppedError(f"interrupted{kept}{ahead}", interrupts.code) from None
        except NonFiniteLossError as error:
            message = str(error)
            raise commands.StoppedError(f"{error}{kept}", 1) from error
        except UserError as error:
            message = str(error)
            raise UserError(f"{error}{kept}") from error
        except (RuntimeError, ValueError) as error:
            if commands.out_of_memory(error):
                message = commands.too_little_memory(c)
                raise UserError(f"{message}{kept}") from error
            message = commands.device_failed(error)
            raise commands.StoppedError(f"{message}{kept}{ahead}", 1) from error
        finally:
            if last:
                command = shlex.join(["python", "-m", "nst_jax.run", *commands.typed()])
                result = outputs.result(last, seconds, measured, message)
                # Where the run failed, that is what to tell of.
                with contextlib.suppress(*[UserError] * bool(message)):
                    outputs.finish(folder, c, result | {"name": name, "command": command})
                    report.write(folder)
            elif not began:
                folders.discard(folder)
    assert painting is not None, "an optimisation yields at least its start"
    return painting


def check_begun(folder: Path, c: config.Config, used: "Weights", extended: int):
    """Demands that the run that began in a folder is this one.

    Raises:
      UserError: it had another config, other pictures or other weights.
    """
    from nst_jax.runs import record as outputs
    from nst_jax.runs import workdir as folders

    before = folders.read_json(folder / "config.json")
    if before.get("steps") == c.steps - extended:
        before["steps"] = c.steps
    then, now = folders.read_json(folder / "environment.json"), outputs.environment(c, used)
    folders.check_same(
        folder,
        {"config": before, "pictures": then.get("pictures"), "weights": then.get("weights")},
        {"config": c.to_dict(), "pictures": now["pictures"], "weights": now["weights"]},
    )


def going_on(folder: Path, c: config.Config, pictures: "Pictures") -> "Found | None":
    """The newest checkpoint of a folder that is whole, if there is one.

    Raises:
      UserError: it is of another version of the project.
    """
    from nst_jax.runs import checkpoints

    found, damaged = checkpoints.newest(folder, c, pictures)
    for text in damaged:
        commands.say(f"a damaged checkpoint is left out: {text}")
    after = (
        f"after {found.progress.step} steps"
        if found
        else "from the start, for lack of a checkpoint"
    )
    commands.say(f"going on {after}")
    return found


def remark(
    c: config.Config, progress: "Progress", before: "Progress | None", lowest: dict[int, float]
) -> str:
    """What is odd about how the optimisation goes, with advice; "" if nothing is.

    Args:
      c: the config.
      progress, before: the newest and the one before it.
      lowest: of each scale the lowest objective so far; kept here.
    """
    total, rate = progress.terms["total"], progress.terms.get("learning_rate")
    lowest[progress.scale] = least = min(total, lowest.get(progress.scale, total))
    if (
        before
        and rate
        and rate < c.optimizer.decay**c.log_every * before.terms["learning_rate"] / 1.5
    ):
        return f"the learning rate is halved to {rate:.3g}, for the loss did not fall"
    if before and before.terms["total"] == total:
        return "unchanged: as good as it gets, or nothing that the optimiser tries is finite"
    if total > RISEN * least:
        halving = ", or config.optimizer.patience=10, which halves it"
        return (
            f"rising: the loss is {total / least:.3g} times its lowest; try a smaller "
            "config.optimizer.learning_rate" + halving * (not c.optimizer.patience)
        )
    return ""


def tell(progress: "Progress", seconds: float, bar: tqdm, remark: str):
    """On a terminal moves the bar; otherwise prints a line with every term of the objective."""
    terms = {name: f"{value:.4g}" for name, value in progress.terms.items()}
    if bar.disable:
        line = "  ".join(f"{name} {value}" for name, value in terms.items())
        commands.say(
            f"step {progress.step}/{bar.total}  {seconds:.1f} s  {line}  {remark}".rstrip()
        )
        return
    with contextlib.suppress(OSError):  # the terminal is gone
        bar.set_postfix(loss=terms["total"])
        bar.update(progress.step - bar.n)
        if remark:
            bar.write(remark, file=sys.stderr)


if __name__ == "__main__":
    commands.start(main)
