"""The driver: paints the members of a batch, each into its folder, and keeps what was painted.

The same loop serves a run, which has one member, and a sweep: it records, writes checkpoints, and
obeys signals once there is something to resume from.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax.config.experiment import Objective
from nst_jax.network.state import NetworkState
from nst_jax.optimize.loop import NonFiniteLossError, Progress
from nst_jax.runs import checkpoints, record
from nst_jax.runs.checkpoints import Found
from nst_jax.runs.interrupts import Interrupts
from nst_jax.runs.record import Entry
from nst_jax.transfer import estimate, metrics
from nst_jax.transfer.cache import Cache
from nst_jax.transfer.paint import Job, paint
from nst_jax.transfer.prepare import finished
from nst_jax.transfer.problem import own_terms


class Member(NamedTuple):
    """An experiment and the folder that it is written to.

    Attributes:
      name: of the config, or of a sweep's cell.
      job: the experiment as it was asked for, and its pictures.
      folder: the work directory.
    """

    name: str
    job: Job
    folder: Path


@dataclasses.dataclass
class Standing:
    """Where the members of a batch stand; `drive` updates it as it goes.

    Attributes:
      last: member -> its last entry with a good picture.
      lost: place in the batch -> step at which the picture was lost.
      seconds: since the first progress, with those before a resumption.
      members: how many share that time.
      checkpoint: step of the last checkpoint; None if there is none after the last entry.
      painting: path of the first member's painting.
    """

    last: dict[int, Entry] = dataclasses.field(default_factory=dict)
    lost: dict[int, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    members: int = 1
    checkpoint: int | None = None
    painting: Path | None = None

    @property
    def share(self) -> float:
        """One member's share of the time, in seconds."""
        return self.seconds / self.members


def drive(
    members: Sequence[Member],
    jobs: Sequence[Sequence[Job]],
    network: NetworkState,
    interrupts: Interrupts,
    standing: Standing,
    *,
    found: Found | None = None,
    batch: Sequence[str] = (),
    mesh: jax.sharding.Mesh | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    revise: Callable[[], Objective | None] = lambda: None,
):
    """Paints until all steps are taken or every member is lost.

    Args:
      members: one, or the cells of a batch. The first one's folder has the checkpoints of all.
      jobs: the paintings of each member, aligned; after those of the last member there may be
        fillers, which belong to nobody.
      network: of all of them.
      interrupts: signals.
      standing: where the members stand; updated.
      found: a checkpoint to resume from.
      batch: names for the checkpoints, see `checkpoints.write`.
      mesh: devices to spread the batch over.
      on_progress: called after every progress was recorded.
      revise: see `nst_jax.transfer.paint.paint`.

    Raises:
      UserError: a folder cannot be written, a region is too small for a layer.
      KeyboardInterrupt: by a signal.
      RuntimeError, ValueError: by the device.
    """
    output = members[0].job.experiment.output
    does_checkpoint = output.checkpoint_seconds > 0
    clock, started = checkpoints.Clock(output.checkpoint_seconds), None
    ends = set(np.cumsum([scale.steps for scale in members[0].job.experiment.scales]).tolist())
    places = _places(jobs[: len(members)])
    flat = [job for own in jobs for job in own]

    def snapshot(is_last: bool) -> bool:
        return does_checkpoint and bool(is_last or clock.due() or interrupts.seen)

    steps = paint(
        flat,
        network,
        together=_together(members[0].job),
        mesh=mesh,
        resume=found.progress if found else None,
        snapshot=snapshot,
        revise=revise,
    )
    try:
        for progress in interrupts.patiently(steps, does_checkpoint):
            started = started or time.monotonic() - (found.seconds if found else 0)
            standing.seconds = time.monotonic() - started
            _note_lost(standing, progress.lost, places)
            for k, member in enumerate(members):
                due = progress.step in ends or member.job.experiment.output.is_shown(progress.step)
                if progress.terms and due and not _is_lost(standing, places[k]):
                    _record(standing, k, member, progress, places[k])
            if progress.state is not None:
                with clock.writing():
                    checkpoints.write(
                        members[0].folder, progress, standing.seconds, batch, standing.lost
                    )
                standing.checkpoint = progress.step
            on_progress(progress)
            if progress.state is not None:
                interrupts.check()
            if all(_is_lost(standing, own) for own in places):
                return
            del progress  # its state may be large
    except NonFiniteLossError as error:
        _note_lost(standing, error.lost, places)
    finally:
        interrupts.is_patient = False


def _places(jobs: Sequence[Sequence[Job]]) -> list[range]:
    """The places of every member's paintings in the batch."""
    stops = np.cumsum([len(own) for own in jobs]).tolist()
    return [range(stop - len(own), stop) for stop, own in zip(stops, jobs, strict=True)]


def _together(job: Job) -> int:
    """How many paintings of `interpolate` are computed at once; a sweep's batch is small enough."""
    if not job.experiment.interpolate:
        return 0
    return estimate.batch_size(estimate.work(job.experiment, job.pictures.shape))


def _note_lost(standing: Standing, lost: Any, places: Sequence[range]):
    """Adds the pictures that are lost by now; fillers do not count."""
    for place in (place for own in places for place in own):
        step = int(np.reshape(lost, -1)[place])
        if step >= 0:
            standing.lost.setdefault(place, step)


def _is_lost(standing: Standing, places: range) -> bool:
    return any(place in standing.lost for place in places)


def _record(standing: Standing, k: int, member: Member, progress: Progress, own: range):
    """Writes one member's share of a progress."""
    names = own_terms(member.job.experiment.objective, progress.terms)
    terms = {name: float(progress.terms[name][own.start : own.stop].mean()) for name in names}
    images = progress.images
    if len(own) < len(images):  # otherwise the slice would be a copy
        images = images[own.start : own.stop]
    entry = Entry(progress.step, terms, images)
    path = record.record(member.folder, member.job, entry, standing.share)
    if not member.job.experiment.output.metrics:  # a large picture need not stay
        entry = entry._replace(images=None)
    standing.last[k] = entry
    if k == 0:
        standing.painting, standing.checkpoint = path, None


def measured(member: Member, entry: Entry, cache: Cache) -> Mapping[str, float]:
    """The metrics of a member's last entry, if its config asks for them."""
    experiment, pictures = member.job
    if not experiment.output.metrics:
        return {}
    painting = finished(entry.images, pictures, experiment.inputs.color)[0]
    return metrics.measure(experiment, painting, pictures, cache)
