"""What is printed while a run goes on: a progress bar on a terminal, lines elsewhere."""

import contextlib
import sys

from tqdm import tqdm

from nst_jax.config.experiment import Experiment
from nst_jax.optimize.loop import Progress
from nst_jax.runs.driver import Standing
from nst_jax.runs.record import Entry

RISEN_FACTOR = 2.0  # times its lowest that the loss must be for a remark
HALVED_FACTOR = 1 / 1.5  # of the learning rate from which on it was halved, decay aside


def say(text: str):
    """Prints a line on standard error; the work goes on where nobody reads it any more."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class Log:
    """Prints the progress of one experiment.

    Args:
      experiment: the experiment.
    """

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        self._bar = tqdm(total=experiment.steps, unit="step", disable=not sys.stderr.isatty())
        self._before: Entry | None = None
        self._lowest: dict[int, float] = {}

    def __enter__(self) -> "Log":
        """Itself."""
        return self

    def __exit__(self, *_: object):
        """Closes the bar."""
        self._bar.close()

    def tell(self, progress: Progress, standing: Standing):
        """Moves the bar, or prints a line with every term; with a remark where one is due."""
        entry = standing.last.get(0)
        if not progress.terms or entry is None or entry.step != progress.step:
            return
        note = remark(self._experiment, entry, self._before, progress.scale, self._lowest)
        self._before = entry
        terms = {name: f"{value:.4g}" for name, value in entry.terms.items()}
        if self._bar.disable:
            line = "  ".join(f"{name} {value}" for name, value in terms.items())
            start = f"step {entry.step}/{self._bar.total}  {standing.seconds:.1f} s"
            say(f"{start}  {line}  {note}".rstrip())
            return
        with contextlib.suppress(OSError):  # the terminal is gone
            self._bar.set_postfix(loss=terms["total"])
            self._bar.update(entry.step - self._bar.n)
            if note:
                self._bar.write(note, file=sys.stderr)


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
