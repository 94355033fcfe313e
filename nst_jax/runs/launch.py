"""Workers of a sweep as jobs of a cluster, through submitit (the extra `slurm`)."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nst_jax.errors import StoppedError, UserError
from nst_jax.runs.log import say

MINUTES = 240  # of a job, unless the user says otherwise; submitit's own are 5
# What submitit names the same on every cluster; all else is the cluster's own.
COMMON = ("cpus_per_task", "gpus_per_node", "mem_gb", "name", "timeout_min")


class Job:
    """A worker as submitit runs it: a command, which is asked to end when the job's time is up.

    Args:
      words: of the command, without the interpreter.
    """

    def __init__(self, words: Sequence[str]):
        self.words = [*words]
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self):
        """Runs the command.

        Raises:
          RuntimeError: it failed; its output is in the job's log.
        """
        # Slurm sends the signal to every process of a job; `checkpoint` is this one's.
        self._process = subprocess.Popen(
            [sys.executable, *self.words],
            preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
        )
        if code := self._process.wait():
            raise RuntimeError(f"the worker ended with the exit code {code}")

    def checkpoint(self) -> Any:
        """Ends the command, which writes a checkpoint, and asks for the job to be queued again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        return DelayedSubmission(Job(self.words))


def submit(folder: Path, words: Sequence[str], cluster: str, jobs: int, given: Sequence[str]):
    """Submits workers of a sweep; waits for them where the cluster is this machine.

    Args:
      folder: of the sweep; logs go to its jobs/.
      words: of a worker's command, without the interpreter.
      cluster: "slurm", or "local" for this machine.
      jobs: how many.
      given: "NAME=VALUE" each: what jobs ask for, by submitit's names, or by sbatch's.

    Raises:
      UserError: submitit is not there, or an argument cannot be used.
      StoppedError: a worker failed here.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError(
            f'--launch needs submitit ({error}); pip install "nst_jax[slurm]"'
        ) from None
    values = dict(map(_argument, given))
    named = {
        name if name in COMMON else f"{cluster}_{name}": value for name, value in values.items()
    }
    try:
        executor = submitit.AutoExecutor(folder / "jobs", cluster=cluster)
        executor.update_parameters(**{"name": folder.name, "timeout_min": MINUTES} | named)
        with executor.batch():
            submitted = [executor.submit(Job(words)) for _ in range(jobs)]
        names = [job.job_id for job in submitted]
    except (
        AssertionError,
        NameError,
        RuntimeError,
        ValueError,
        subprocess.SubprocessError,
    ) as error:
        raise UserError(f"--launch={cluster}: {error}") from None
    say(f"submitted {', '.join(names)}; their logs are in {folder / 'jobs'}")
    if cluster == "local":
        failed = [job for job in submitted if job.exception() is not None]
        if failed:
            log = failed[0].paths.stderr
            raise StoppedError(f"{len(failed)} of {jobs} workers failed; see {log}", 1)


def _argument(text: str) -> tuple[str, int | str]:
    """A name with its value.

    >>> _argument("gpus_per_node=1"), _argument("partition=a")
    (('gpus_per_node', 1), ('partition', 'a'))
    """
    name, sign, value = text.partition("=")
    if not (name.isidentifier() and sign and value):
        raise UserError(f"--launch_args {text!r}; write NAME=VALUE, NAME=VALUE")
    return name, int(value) if value.isdecimal() else value
