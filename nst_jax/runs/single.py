"""One experiment into one work directory, in which it may have begun."""

import contextlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from nst_jax import report
from nst_jax.config.experiment import Experiment, Objective
from nst_jax.errors import StoppedError, UserError
from nst_jax.network.weights import Weights
from nst_jax.optimize.lbfgs import pairs_of
from nst_jax.optimize.loop import NonFiniteLossError
from nst_jax.report.reading import INTERRUPTED
from nst_jax.runs import checkpoints, driver, processes, record, workdir
from nst_jax.runs.checkpoints import Found
from nst_jax.runs.driver import Member, Standing
from nst_jax.runs.interrupts import Interrupts
from nst_jax.runs.log import Log, say
from nst_jax.transfer import estimate, failures, metrics, networks, prepare
from nst_jax.transfer.cache import Cache
from nst_jax.transfer.paint import Job, check_split, paint, rows_mesh
from nst_jax.transfer.settings import own_settings


@own_settings()
def run(
    experiment: Experiment,
    name: str,
    folder: str,
    interrupts: Interrupts,
    *,
    command: str = "",
    profile: bool = False,
    extended: int = 0,
    revise: Callable[[], Objective | None] = lambda: None,
) -> Path:
    """Runs an experiment, or resumes it.

    Args:
      experiment: the experiment.
      name: of the config, for the name of the work directory.
      folder: the work directory, or "".
      interrupts: signals; armed here, after JAX is imported.
      command: what to type to run it again, for the report.
      profile: whether to record JAX's trace in the folder's profile/.
      extended: how many of its steps a finished run in the folder may lack.
      revise: see `nst_jax.transfer.paint.paint`.

    Returns:
      The painting's path.

    Raises:
      UserError: a picture, the weights, the work directory or the device's memory cannot be used,
        or the run in the directory has other settings.
      StoppedError: interrupted, not finite, or the device failed; names the last good picture.
    """
    interrupts.arm()
    jax.devices()  # a device that is not there is said before anything is written
    cache, standing = Cache(), Standing()
    if jax.process_index():
        return _follow(experiment, Path(folder), interrupts, cache)
    with contextlib.ExitStack() as stack:
        with processes.ready():
            job = _load(experiment, cache)
            used = networks.load_weights(experiment.network, cache)
            if experiment.output.metrics:
                metrics.prepare(experiment, cache)
            path, began = workdir.open_run(folder, name)
            member = Member(name, job, path)
            stack.enter_context(workdir.lock(path))
            if not began:
                stack.callback(lambda: standing.last or workdir.discard(path))
            else:
                _check_begun(member, used, extended, cache)
                if record.is_finished(path, experiment):
                    say("it is finished already")
                    return record.painting_path(path, experiment)
            say(f"writing to {path}; Ctrl-C keeps the picture so far, and --workdir resumes")
            found = _resumed(member) if began else None
            record.write_settings(path, experiment, used, cache)
            record.rewind(path, found.progress.step if found else 0)
        if profile:
            stack.enter_context(jax.profiler.trace(path / "profile"))
        ending = {"name": name, "command": command}
        return _paint(member, interrupts, standing, found, ending, cache, revise)


def _load(experiment: Experiment, cache: Cache) -> Job:
    """The experiment and its pictures.

    Raises:
      UserError: a picture cannot be used, or the devices cannot compute a painting of its size.
    """
    mesh = rows_mesh(experiment)
    pictures = prepare.load(experiment, cache)
    check_split(experiment, pictures.shape, mesh)
    failures.check_memory(experiment, pictures.shape)
    return Job(experiment, pictures)


def _follow(experiment: Experiment, folder: Path, interrupts: Interrupts, cache: Cache) -> Path:
    """Computes this process's share of a picture that process 0 paints and keeps.

    As in process 0, a signal takes effect at the next checkpoint, which it asks for.

    Returns:
      The painting's path.

    Raises:
      StoppedError: the device failed or has too little memory, or the picture is lost.
      UserError: a process cannot begin.
      KeyboardInterrupt: by a signal.
    """
    with processes.ready():
        job = _load(experiment, cache)
        painting = record.painting_path(folder, experiment)
        if (folder / "config.json").is_file() and record.is_finished(folder, experiment):
            return painting
        found, _ = checkpoints.newest(folder, experiment, job.pictures)
    network = networks.load_network(experiment, job.pictures, cache)
    keeps = experiment.output.checkpoint_seconds > 0
    steps = paint(
        [job],
        network,
        mesh=rows_mesh(experiment),
        resume=found.progress if found else None,
        snapshot=lambda is_last: keeps and bool(interrupts.seen),
    )
    try:
        for progress in interrupts.patiently(steps, keeps):
            if progress.state is not None:
                interrupts.check()
            del progress  # its state may be large
    except NonFiniteLossError as error:
        raise StoppedError(str(error), 1) from error
    except UserError as error:
        raise StoppedError(str(error), 2) from error
    except (RuntimeError, ValueError) as error:
        failed = failures.explained(error, experiment)
        raise StoppedError(str(failed), 2 if isinstance(failed, UserError) else 1) from error
    return painting


def _paint(
    member: Member,
    interrupts: Interrupts,
    standing: Standing,
    found: Found | None,
    ending: dict[str, str],
    cache: Cache,
    revise: Callable[[], Objective | None],
) -> Path:
    """Paints and finishes a member; whatever happens, what was painted is kept and described."""
    experiment, pictures = member.job
    try:
        if tile := estimate.tile(experiment, pictures.shape):
            needed = estimate.work(experiment, pictures.shape).bytes / 1e9
            say(f"in tiles of {tile} pixels, about {needed:.1f} GB")
            if estimate.recomputes_content(experiment, pictures.shape, tile):
                say("content targets are recomputed at every step, which saves memory")
        if (devices := estimate.devices(experiment)) > 1:
            say(f"on {devices} devices, each with some of the rows")
        optimizer = experiment.optimizer.static
        if optimizer.name == "lbfgs" and not optimizer.memory:
            pairs = pairs_of(0, math.prod(pictures.shape))
            if pairs != pairs_of(0, 0):
                say(f"L-BFGS keeps {pairs} pairs at this size; config.optimizer.memory is for more")
        say("compiling, which takes longest the first time ...")
        with Log(experiment) as log:
            network = networks.load_network(experiment, pictures, cache)
            jobs = [Job(one, pictures) for one in experiment.paintings()]
            driver.drive(
                [member],
                [jobs],
                network,
                interrupts,
                standing,
                found=found,
                mesh=rows_mesh(experiment),
                on_progress=lambda progress: log.tell(progress, standing),
                revise=revise,
            )
        if standing.lost:
            raise NonFiniteLossError(np.array([*standing.lost.values()]))
        values = driver.measured(member, standing.last[0], cache)
    except BaseException as error:
        stopped = _explained(error, member, standing, interrupts, ending["command"])
        _finish(member, standing, {}, str(stopped[1]), ending, is_failed=True)
        raise stopped[0] from error
    assert standing.painting is not None, "an optimisation yields at least its start"
    try:
        _finish(member, standing, values, "", ending)
    except KeyboardInterrupt:
        raise StoppedError(
            f"interrupted; the painting is {standing.painting}, and the same command with "
            f"--workdir={member.folder} finishes the rest",
            interrupts.code,
            standing.painting,
        ) from None
    return standing.painting


def _explained(
    error: BaseException, member: Member, standing: Standing, interrupts: Interrupts, command: str
) -> tuple[BaseException, str]:
    """What to raise for an error, with what is kept; and the message for result.json.

    Args:
      error: what happened.
      member: the run.
      standing: where it stands.
      interrupts: signals.
      command: what was typed; "" from Python.
    """
    kept = ahead = ""
    if standing.painting is not None:
        kept = f"; the picture after {standing.last[0].step} steps is {standing.painting}"
    elif isinstance(error, KeyboardInterrupt):
        kept = " before there was a picture"
    if standing.checkpoint is not None:
        again = f"--workdir={member.folder}"
        if command:
            again = f"`{command if '--workdir' in command else f'{command} {again}'}`"
        ahead = f", and {again} resumes after step {standing.checkpoint}"
    if isinstance(error, KeyboardInterrupt):
        text = f"interrupted{kept}{ahead}"
        return StoppedError(text, interrupts.code, standing.painting), INTERRUPTED
    if isinstance(error, NonFiniteLossError):
        return StoppedError(f"{error}{kept}", 1), str(error)
    if isinstance(error, RuntimeError | ValueError):
        error = failures.explained(error, member.job.experiment)
    if isinstance(error, StoppedError):
        return StoppedError(f"{error}{kept}{ahead}", error.code), str(error)
    if isinstance(error, UserError):
        # Python's exit would wait for other processes, which wait for this one.
        text, shares = f"{error}{kept}", jax.process_count() > 1
        return StoppedError(text, 2) if shares else UserError(text), str(error)
    return error, INTERRUPTED


def _finish(
    member: Member,
    standing: Standing,
    values: Mapping[str, float],
    message: str,
    ending: dict[str, str],
    is_failed: bool = False,
):
    """Writes result.json and the report; where the run failed, that is what to report instead."""
    if not standing.last:
        return
    result = record.result(standing.last[0], standing.seconds, values, message)
    with contextlib.suppress(UserError) if is_failed else contextlib.nullcontext():
        record.finish(member.folder, member.job.experiment, result | ending)
        page = report.write(member.folder)
        if not is_failed:
            say(f"report: {page}")


def _check_begun(member: Member, used: Weights, extended: int, cache: Cache):
    """Checks that the run which began in a folder is this one.

    Raises:
      UserError: it had another config, other pictures or other weights.
    """
    experiment, path = member.job.experiment, member.folder
    before = workdir.read_json(path / "config.json")
    steps, begun = experiment.raw["steps"], before.get("steps")
    if isinstance(begun, int) and 0 <= steps - begun <= extended:
        before["steps"] = steps
    environment = record.environment(experiment, used, cache)
    record.check_begun(path, before, experiment.raw, environment)


def _resumed(member: Member) -> Found | None:
    """The newest whole checkpoint of a folder, if there is one.

    Raises:
      VersionError: another version of the project wrote it.
    """
    experiment, pictures = member.job
    found, damaged = checkpoints.newest(member.folder, experiment, pictures)
    for text in damaged:
        say(f"skipping a damaged checkpoint: {text}")
    if found:
        say(f"resuming after {found.progress.step} steps")
    else:
        say("starting again: there is no checkpoint")
    return found
