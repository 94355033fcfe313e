"""Ctrl-C, SIGTERM and SIGHUP while a device computes. Imports no JAX."""

import os
import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

# Functions that garbage collection calls: JAX's, and that of weakref's dictionaries.
COLLECTING = ("_xla_gc_callback", "remove")


class Interrupts:
    """Turns Ctrl-C, SIGTERM and SIGHUP into KeyboardInterrupt, also where JAX would swallow it.

    Make one before JAX is imported, because an interrupt would leave JAX half-imported; call `arm`
    after that, and `check` between two pieces of work. A second signal ends the process at once.

    Attributes:
      seen: number of the signal; 0 for none yet.
      is_patient: whether a signal only shows in `seen` and raises at the next `check`.
    """

    def __init__(self):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.seen = 0
        self.is_patient = False

    def arm(self):
        """From here on a signal raises KeyboardInterrupt."""

        def interrupt(number: int, frame: FrameType | None):
            if self.seen:
                os._exit(self.code)
            self.seen = number
            # An exception raised within a callback of garbage collection is printed and dropped.
            collects = frame is not None and frame.f_code.co_name in COLLECTING
            if not (self.is_patient or collects):
                raise KeyboardInterrupt(self.code)

        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):  # Windows has no SIGHUP
                signal.signal(getattr(signal, name), interrupt)

    @property
    def code(self) -> int:
        """The exit code by the shell's convention: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.seen

    def patiently(self, steps: Iterable[T], is_patient: bool) -> Iterator[T]:
        """Iterates; while it does, a signal waits for `check` if patient.

        Args:
          steps: pieces of work.
          is_patient: whether something is saved that makes waiting worthwhile.
        """
        try:
            for one in steps:
                if not self.is_patient:
                    self.check()
                self.is_patient = is_patient
                yield one
                del one  # it may be large
        finally:
            self.is_patient = False

    def check(self):
        """Raises KeyboardInterrupt if there was a signal."""
        if self.seen:
            raise KeyboardInterrupt(self.code)
