"""What is printed while a run goes on: a progress bar on a terminal, lines elsewhere."""

import contextlib
import itertools
import sys

from tqdm import tqdm

from nst_jax.config.experiment import Experiment
from nst_jax.optimize.loop import Progress
from nst_jax.runs.driver import Standing
from nst_jax.runs.record import Entry

RISEN_FACTOR = 2.0  # times its lowest that the loss must be for a remark
SHOWN = ("total", "content", "style", "tv")  # of the terms; metrics.jsonl has all
HALVED_FACTOR = 1 / 1.5  # of the learning rate from which on it was halved, decay aside


def say(text: str):
    """Prints a line on standard error; the work goes on where nobody reads it any more."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A time in a suitable unit.

    >>> duration(40.0), duration(720.0), duration(12600.0)
    ('40 s', '12 min', '3.5 h')
    """
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


class Log:
    """Prints the progress of one experiment.

    Args:
      experiment: the experiment.
    """

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        self._bar = tqdm(
            total=experiment.steps,
            bar_format="{desc}{bar} {n_fmt}/{total_fmt} steps, {elapsed}{postfix}",
            disable=not sys.stderr.isatty(),
        )
        ends = itertools.accumulate(scale.steps for scale in experiment.scales)
        sizes = [scale.size for scale in experiment.scales[1:]]
        self._following = dict(zip(ends, sizes, strict=False))  # last step of a scale -> next size
        self._before: Entry | None = None
        self._lowest: dict[int, float] = {}
        self._first: tuple[float, float] | None = None  # seconds and work at the first line

    def __enter__(self) -> "Log":
        """Itself."""
        return self

    def __exit__(self, *_: object):
        """Closes the bar."""
        self._bar.close()

    def tell(self, progress: Progress, standing: Standing):
        """Moves the bar, or prints a line; with a remark where one is due."""
        entry = standing.last.get(0)
        if not progress.terms or entry is None or entry.step != progress.step:
            return
        note = remark(self._experiment, entry, self._before, progress.scale, self._lowest)
        self._before = entry
        height, width = progress.images.shape[-3:-1]
        left = self._left(entry.step, standing.seconds)
        following = self._following.get(entry.step)
        compiling = f"compiling for size {following} ..." if following else ""
        if self._bar.disable:
            line = "  ".join(f"{name} {entry.terms[name]:.4g}" for name in SHOWN)
            start = f"step {entry.step}/{self._bar.total}  {width}x{height}"
            say(f"{start}  {standing.seconds:.1f} s{left}  {line}  {note}".rstrip())
            if compiling:
                say(compiling)
            return
        with contextlib.suppress(OSError):  # the terminal is gone
            self._bar.set_description_str(f"{width}x{height} ", refresh=False)
            self._bar.set_postfix_str(f"loss {entry.terms['total']:.4g}{left}", refresh=False)
            self._bar.update(entry.step - self._bar.n)
            if compiling:
                self._bar.set_description_str(compiling, refresh=False)
            self._bar.refresh()
            if note:
                self._bar.write(note, file=sys.stderr)

    def _left(self, step: int, seconds: float) -> str:
        """The time that all scales together still take; "" before it can be told."""
        experiment = self._experiment
        done, whole = experiment.weighed(step), experiment.weighed(experiment.steps)
        if self._first is None:
            self._first = seconds, done
        began, begun = self._first
        if done in (begun, whole):
            return ""
        return f", {duration((seconds - began) / (done - begun) * (whole - done))} left"


def remark(
    experiment: Experiment,
    entry: Entry,
    before: Entry | None,
    scale: int,
    lowest: dict[int, float],
) -> str:
    """What is odd about how the optimisation goes, with advice; "" if nothing is.

    Args:
      experiment: the experiment.
      entry: where it stands.
      before: the entry before that.
      scale: the number of the scale.
      lowest: scale -> lowest objective so far; updated.
    """
    total, rate = entry.terms["total"], entry.terms.get("learning_rate")
    lowest[scale] = min(total, lowest.get(scale, total))
    if before and rate:
        decay = experiment.optimizer.rates.decay**experiment.output.log_every
        if rate < HALVED_FACTOR * decay * before.terms["learning_rate"]:
            return f"the learning rate is halved to {rate:.3g}, because the loss did not fall"
    if before and before.terms["total"] == total:
        return "unchanged: as good as it gets, or nothing that the optimiser tries is finite"
    if total > RISEN_FACTOR * lowest[scale]:
        advice = "try a smaller config.optimizer.learning_rate"
        if not experiment.optimizer.static.backs_off:
            advice += ", or config.optimizer.patience=10, which halves it"
        return f"rising: the loss is {total / lowest[scale]:.3g} times its lowest; {advice}"
    return ""
