"""One film into one work directory, in which it may have begun.

    source/000001.png   the frames that are painted, at the painting's size
    frames/000001.png   their paintings
    pass_1/000001.png   those of the passes before the last, with config.film.passes
    film.webm           the film (named by config.film.output), and source.webm beside it
    metrics.jsonl       one JSON object a line: step (the frame, counted on over all passes),
                        seconds, the terms of its objective, and the share of its pixels that
                        were known
    flicker.jsonl       of every frame of the film: how far it is from the one before after warping,
                        and how far the source's frames are

besides config.json, environment.json, result.json and report.html, as of a still picture
(`nst_jax.runs.record`). A frame is there when its picture and its line are. Killed and resumed, a
film has the same frames to the byte, because each starts from the files of those before it.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import files, report
from nst_jax.config.experiment import Experiment
from nst_jax.config.experiment import Film as FilmSettings
from nst_jax.errors import StoppedError, UserError
from nst_jax.network.weights import Weights
from nst_jax.optimize.loop import NonFiniteLossError
from nst_jax.pictures import clips, images
from nst_jax.pictures.clips import Clip
from nst_jax.pictures.images import Picture
from nst_jax.report.reading import INTERRUPTED
from nst_jax.runs import plan, record, workdir
from nst_jax.runs.interrupts import Interrupts
from nst_jax.runs.log import SHOWN, duration, say
from nst_jax.runs.record import Entry
from nst_jax.transfer import estimate, failures, frames, networks, prepare
from nst_jax.transfer.cache import Cache
from nst_jax.transfer.frames import Film, Frame
from nst_jax.transfer.settings import own_settings

LINE_SECONDS = 5.0  # between two lines of the log
REPORT_SUFFIX = ".webm"  # of the films that the report plays: every browser can


class Folder(NamedTuple):
    """Where the frames of a film are kept.

    Attributes:
      path: the work directory.
      passes: over the film.
    """

    path: Path
    passes: int

    def source(self, number: int) -> Path:
        """A frame of the clip, at the painting's size."""
        return self.path / "source" / f"{number:06d}.png"

    def painting(self, number: int, turn: int) -> Path:
        """A frame's painting after a pass, both counted from 1."""
        name = "frames" if turn == self.passes else f"pass_{turn}"
        return self.path / name / f"{number:06d}.png"


@own_settings()
def run(
    experiment: Experiment,
    clip: Clip,
    name: str,
    folder: str,
    interrupts: Interrupts,
    *,
    command: str = "",
) -> Path:
    """Paints a film, or resumes it.

    Args:
      experiment: whose content is the clip's first frame.
      clip: whose frames are painted.
      name: of the config, for the name of the work directory.
      folder: the work directory, or "".
      interrupts: signals; armed here, after JAX is imported.
      command: what to type to paint it again, for the report.

    Returns:
      The film's path.

    Raises:
      UserError: a picture, the clip, the weights or the work directory cannot be used, or the film
        in the directory has other settings. Frames that are painted stay.
      StoppedError: interrupted, not finite, or the device failed.
    """
    interrupts.arm()
    jax.devices()  # a device that is not there is said before anything is written
    frames.check(experiment)
    cache = Cache()
    used = networks.load_weights(experiment.network, cache)
    film = frames.prepared(experiment, cache)
    path, began = workdir.open_run(folder, name)
    with workdir.lock(path):
        environment = _environment(experiment, clip, used, cache)
        if began:
            before = workdir.read_json(path / "config.json")
            record.check_begun(path, before, experiment.raw, environment)
            if _is_finished(path, experiment):
                say("it is finished already")
                return path / experiment.film.output
        try:
            files.write_json(path / "environment.json", environment)
            files.write_json(path / "config.json", dict(experiment.raw))
            result = {"name": name, "command": command}
            return _paint(film, clip, Folder(path, experiment.film.passes), interrupts, result)
        finally:
            if not began and not (path / "metrics.jsonl").exists():
                workdir.discard(path)


@own_settings()
def outlook(experiment: Experiment, clip: Clip) -> str:
    """What `film --dry_run` prints: frames, size, memory and time, estimated.

    Raises:
      UserError: a picture cannot be used, or the device has too little memory.
    """
    frames.check(experiment)
    settings, cache = experiment.film, Cache()
    shape = prepare.load(experiment, cache).shape
    failures.check_memory(experiment, shape)
    count = clip.frames_from(settings.first, settings.last)
    asked, network = estimate.work(experiment, shape), experiment.network
    one = asked.operations / plan.measure_speed(network.precision, network.convolution)
    sizes = sum((scale.size / experiment.size) ** 2 for scale in experiment.scales)
    share = settings.steps * sizes / experiment.weighed(experiment.steps)  # of the first frame's
    seconds = one * (1 + (count * settings.passes - 1) * share)
    return (
        f"{_plural(count)} of {shape[1]}x{shape[0]} pixels, {settings.passes} "
        f"pass{'es' * (settings.passes > 1)}, memory {asked.bytes / 1e9:.2g} GB besides weights, "
        f"about {duration(seconds)} on {jax.local_devices()[0].device_kind}, without compilation"
    )


def _environment(experiment: Experiment, clip: Clip, used: Weights, cache: Cache) -> dict[str, Any]:
    environment = record.environment(experiment, used, cache)
    pictures = {name: record.digest(name, cache) for name in clip.files}
    return environment | {"pictures": environment["pictures"] | pictures}


def _paint(
    film: Film, clip: Clip, folder: Folder, interrupts: Interrupts, ending: dict[str, str]
) -> Path:
    """Paints the frames that are not there yet, and finishes the film."""
    path, painting = folder.path, folder.path / film.experiment.film.output
    files.clear(path)
    done = _done(folder)
    record.rewind(path, done + 1)
    say(f"writing to {path}; Ctrl-C keeps the frames so far, and --workdir resumes")
    if done:
        say(f"resuming after {_plural(done)}")
    entry, measured = record.last_entry(path), {}
    progress = _Progress(film.experiment.film, clip, done, _seconds(path))
    try:
        for entry in _frames(film, clip, folder, done):
            record.append_metrics(path, entry, progress.seconds)
            progress.tell(entry)
            interrupts.check()
        if entry is None:
            raise UserError(f"{clip.name} has no frame {film.experiment.film.first}")
        measured = _finish(film, clip, folder, entry.step)
    except BaseException as error:
        stopped, message = _explained(error, film, folder, interrupts, entry)
        _write_result(path, entry, progress.seconds, {}, ending, message)
        raise stopped from error
    _write_result(path, entry, progress.seconds, measured, ending)
    say(f"report: {report.write(path)}")
    return painting


def _is_finished(path: Path, experiment: Experiment) -> bool:
    """Whether a folder holds a whole film."""
    result = path / "result.json"
    there = result.is_file() and (path / experiment.film.output).is_file()
    return there and workdir.read_json(result).get("status") == "done"


def _plural(count: int) -> str:
    """The number and its noun: 1 frame, 2 frames."""
    return f"{count} frame{'s' * (count != 1)}"


def _explained(
    error: BaseException, film: Film, folder: Folder, interrupts: Interrupts, entry: Entry | None
) -> tuple[BaseException, str]:
    """What to raise for an error, with what is kept; and the message for result.json."""
    kept = ""
    if entry is not None:
        kept = f"; {_plural(entry.step)} are kept, and --workdir={folder.path} resumes"
    if isinstance(error, KeyboardInterrupt):
        return StoppedError(f"interrupted{kept}", interrupts.code), INTERRUPTED
    if isinstance(error, NonFiniteLossError):
        return StoppedError(f"{error}{kept}", 1), str(error)
    if isinstance(error, RuntimeError | ValueError):
        error = failures.explained(error, film.experiment)
    if isinstance(error, StoppedError):
        return StoppedError(f"{error}{kept}", error.code), str(error)
    if isinstance(error, UserError):
        return UserError(f"{error}{kept}"), str(error)
    return error, INTERRUPTED


def _write_result(
    path: Path,
    entry: Entry | None,
    seconds: float,
    measured: dict[str, float],
    ending: dict[str, str],
    message: str = "",
):
    """Writes result.json; of a film that stopped as well, as far as the disk lets it."""
    if entry is None:
        return
    result = record.result(entry, seconds, measured, message)
    with contextlib.suppress(UserError) if message else contextlib.nullcontext():
        files.write_json(path / "result.json", result | ending)


def _seconds(path: Path) -> float:
    """How long the frames so far took."""
    rows = [*record.read_rows(path)]
    return float(rows[-1].get("seconds", 0.0)) if rows else 0.0


def _where(step: int, count: int) -> tuple[int, int]:
    """The pass and the frame of a step, all counted from 1: every second pass runs backwards."""
    turn, place = divmod(step - 1, count)
    return turn + 1, (count - place if turn % 2 else place + 1)


def _painted(folder: Folder) -> int:
    """How many frames the first pass has painted so far."""
    count = 0
    while folder.painting(count + 1, 1).is_file():
        count += 1
    return count


def _done(folder: Folder) -> int:
    """How many steps are there, picture and line."""
    count, done = _painted(folder), 0
    for row in record.read_rows(folder.path):
        if row["step"] != done + 1 or not count:
            break
        turn, number = _where(done + 1, count)
        if turn > folder.passes or not folder.painting(number, turn).is_file():
            break
        done += 1
    return done


def _frames(film: Film, clip: Clip, folder: Folder, done: int) -> Iterator[Entry]:
    """Paints and writes the frames that are not there yet, pass by pass."""
    settings = film.experiment.film
    count = min(done, _painted(folder))
    last = settings.last or float("inf")
    sources = clip.frames(settings.first + count) if settings.first + count <= last else iter(())
    for source in sources:
        count += 1
        images.write(folder.source(count), frames.fitted(film, source))
        yield _painted_frame(film, folder, 1, count, count, count)
        if settings.first + count > last:
            break
    for step in range(max(done, count) + 1, count * settings.passes + 1):
        yield _painted_frame(film, folder, *_where(step, count), step, count)


def _painted_frame(
    film: Film, folder: Folder, turn: int, number: int, step: int, count: int
) -> Entry:
    """Paints a frame and writes it.

    Args:
      film: what all frames have in common.
      folder: where they are.
      turn: the pass.
      number: of the frame.
      step: of the frame, counted on over all passes.
      count: of all frames, or of those so far.
    """
    behind = 1 if turn % 2 else -1  # in a pass backwards, the frames that follow are done already
    others = [number - behind * back for back in film.experiment.film.long_term]
    known = [
        Frame(_read(folder.source(other)), _read(folder.painting(other, turn)))
        for other in others
        if 1 <= other <= count
    ]
    own = _read(folder.painting(number, turn - 1)) if turn > 1 else None
    painted = frames.paint_frame(film, _read(folder.source(number)), known, own)
    images.write(folder.painting(number, turn), painted.painting)
    return Entry(step, painted.terms | {"known": painted.known}, None)


def _read(path: Path) -> Picture:
    return images.read(path, quiet=True)


class _Progress:
    """Logs how far the film is, every few seconds.

    Args:
      settings: of the film.
      clip: it is painted from.
      done: steps that are there already.
      before: how long they took, in seconds.
    """

    def __init__(self, settings: FilmSettings, clip: Clip, done: int, before: float):
        self._total = clip.frames_from(settings.first, settings.last) * settings.passes
        self._done, self._before = done, before
        self._began = self._said = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the film began, without breaks."""
        return self._before + time.monotonic() - self._began

    def tell(self, entry: Entry):
        """Prints a line, if there was none for a while."""
        now = time.monotonic()
        if now - self._said < LINE_SECONDS and entry.step != self._total:
            return
        self._said = now
        each = (now - self._began) / (entry.step - self._done)
        left = (self._total - entry.step) * each
        ahead = f", {duration(left)} left" if left > 0 else ""
        total = f"/{self._total}" if self._total else ""
        shown = "  ".join(f"{name} {entry.terms[name]:.4g}" for name in SHOWN)
        say(f"frame {entry.step}{total}  {self.seconds:.1f} s{ahead}  {shown}")


def _finish(film: Film, clip: Clip, folder: Folder, steps: int) -> dict[str, float]:
    """Writes the films, and measures how much they flicker.

    Returns:
      metric -> value.
    """
    settings, path = film.experiment.film, folder.path
    count = steps // settings.passes
    numbers = range(1, count + 1)
    fps = settings.fps or clip.fps
    say("writing the film ...")
    paintings = [folder.painting(number, settings.passes) for number in numbers]
    names = dict.fromkeys((settings.output, f"film{REPORT_SUFFIX}"))  # the report plays the latter
    for name in names:
        clips.write(path / name, paintings, fps)
    clips.write(path / f"source{REPORT_SUFFIX}", map(folder.source, numbers), fps)
    _add_sound(clip, path / settings.output, paintings, settings)
    rows, ratios = [], []
    before: Frame | None = None
    for number, painting in zip(numbers, paintings, strict=True):
        now = Frame(_read(folder.source(number)), _read(painting))
        ratios.append(float(now.painting.mean() / max(now.source.mean(), 1e-6)))
        if before is not None:
            rows.append(frames.flicker(before, now))
        before = now
    with files.replacing(path / "flicker.jsonl") as temporary:
        lines = [
            json.dumps({"frame": number, "painting": _known(own), "source": _known(source)})
            for number, (own, source) in enumerate(rows, 2)
        ]
        temporary.write_text("".join(f"{line}\n" for line in lines))
    return {
        "warp_error": frames.warp_error(rows),
        "brightness_drift": float(np.max(np.abs(np.array(ratios) / ratios[0] - 1))),
        "loss": float(np.mean(_last_totals(path, count))),
    }


def _known(value: float) -> float | None:
    """A number as JSON has it; None for NaN, where nothing is reliable."""
    return value if np.isfinite(value) else None


def _last_totals(path: Path, count: int) -> list[float]:
    """The objective of every frame after the last pass."""
    return [row["total"] for row in record.read_rows(path)][-count:]


def _add_sound(clip: Clip, film: Path, paintings: list[Path], settings: FilmSettings):
    """Gives the film the clip's sound and H.264, where the system has ffmpeg; else says so."""
    is_mp4 = film.suffix.lower() == ".mp4"
    source, fps, sound = clip.files[0], settings.fps or clip.fps, None
    if source == clip.name and fps == clip.fps:  # a film, at its own speed
        start = (settings.first - 1) / fps
        sound = source, start, start + len(paintings) / fps
    elif not is_mp4:
        return
    if not clips.has_ffmpeg():
        lacks = "is MPEG-4, and without sound" if is_mp4 else "is without sound"
        say(f"{film.name} {lacks}; H.264 and sound need ffmpeg on this system")
    elif trouble := clips.finish(film, paintings[0].parent, fps, sound):
        say(f"{film.name} is without sound: ffmpeg says {trouble}")
