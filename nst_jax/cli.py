"""How every command starts and ends: flags, one-line errors, exit codes."""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from nst_jax import config, files
from nst_jax.errors import UserError

T = TypeVar("T")


class StoppedError(Exception):
    """The work ended early; the text says why and what is kept, `code` is the exit code."""

    def __init__(self, text: str, code: int):
        super().__init__(text)
        self.code = code


def start(main: Callable[..., None], choices: Collection[str] = ()):
    """Parses the flags and runs `main`; a mistake is one line, and exit code 2.

    Where there are choices, the command's one argument must be among them, and `main` gets it.
    """

    def guarded(argv: list[str]):
        words = argv[1:]
        if choices and (len(words) != 1 or words[0] not in choices):
            fail(f"give one argument: {', '.join(choices)}; see --help")
        if words and not choices:
            fail(f"unexpected argument {words[0]!r}; see --help")
        logging.set_verbosity(logging.WARNING)  # JAX tells of every backend that is not there
        keep_programs()
        try:
            main(*words)
        except UserError as error:
            fail(error)
        except StoppedError as stopped:
            fail(stopped, stopped.code)
        except KeyboardInterrupt as stopped:
            fail("interrupted", *stopped.args or (130,))

    app.run(guarded, flags_parser=_parse)


def keep_programs():
    """Lets JAX keep what it compiles, for the next command: in a folder of this user alone.

    Programs in it are run as they are, so that nobody else may write there. Whoever sets
    JAX_COMPILATION_CACHE_DIR decides; an empty value keeps nothing.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or not hasattr(os, "getuid"):
        return
    folder = files.user_cache() / "programs"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except OSError:
        return  # it is only slower without
    if state.st_uid == os.getuid() and not state.st_mode & 0o022:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)


def given_config() -> tuple[config.Config, str]:
    """What --config names with its overrides, not validated yet, and the file's name.

    Raises:
      UserError: there is none, or it does not load.
    """
    given = flags.FLAGS["config"].value
    if given is None:
        raise UserError("no config; try --config configs/starry.py, or --help")
    if not isinstance(given, ConfigDict):
        try:
            _ = given.steps  # a file that failed to load says so only when it is touched
        except OSError as error:
            raise UserError(config.explain(error)) from error
        except AttributeError:
            raise UserError("get_config must return a ConfigDict, as config.default() is") from None
    return given, Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem


def typed() -> list[str]:
    """The command's own flags, also those of a --flagfile, each as one word: --config=x."""
    words: list[str] = []
    for word in flags.FLAGS.read_flags_from_files(sys.argv[1:]):
        if words and not word.startswith("-") and "=" not in words[-1]:
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


class Interruptible:
    """Turns Ctrl-C, SIGTERM and SIGHUP into KeyboardInterrupt, also where JAX swallows that.

    Made before JAX is imported, for an interrupt would leave it half-imported; `arm` is called
    after that, and `check` between two pieces of work. A second signal ends the process at once.

    Attributes:
      seen: number of the signal; 0: none yet.
      patient: whether a signal only shows in `seen` and raises at the next `check`.
    """

    def __init__(self):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.seen = 0
        self.patient = False

    def arm(self):
        """From here on an interrupt raises."""

        def interrupt(number: int, frame: FrameType | None):
            if self.seen:
                os._exit(self.code)
            self.seen = number
            # Raised within JAX's garbage collection, the error would be lost, and told of.
            collects = frame is not None and frame.f_code.co_name == "_xla_gc_callback"
            if not (self.patient or collects):
                raise KeyboardInterrupt(self.code)

        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):  # Windows has no SIGHUP
                signal.signal(getattr(signal, name), interrupt)

    @property
    def code(self) -> int:
        """The exit code, as shells have it: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.seen

    def patiently(self, steps: Iterable[T], patient: bool) -> Iterator[T]:
        """The steps of some work; from the first on a signal is obeyed by `check`, if patient."""
        for one in steps:
            if not self.patient:
                self.check()
            self.patient = patient
            yield one

    def check(self):
        """Raises KeyboardInterrupt if there was an interrupt."""
        if self.seen:
            raise KeyboardInterrupt(self.code)


def too_little_memory(c: config.Config) -> str:
    """What to say of an experiment that a device cannot hold."""
    other = "" if c.rematerialize else ", or --config.rematerialize=True, which takes about half"
    return (
        f"the device has too little memory for config.image_size {c.image_size}; "
        f"choose a smaller one{other}"
    )


# How XLA's errors begin. At the dispatch of a program JAX leaves them ValueErrors.
STATUS = re.compile(
    "(ABORTED|CANCELLED|DATA_LOSS|DEADLINE_EXCEEDED|FAILED_PRECONDITION|INTERNAL|OUT_OF_RANGE|"
    "RESOURCE_EXHAUSTED|UNAVAILABLE|UNKNOWN): "
)


def out_of_memory(error: Exception) -> bool:
    """Whether XLA failed for want of memory."""
    return "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def device_failed(error: Exception) -> str:
    """What to say of any other failure of a device, as one that was lost; raises what is none."""
    import jax

    if not isinstance(error, jax.errors.JaxRuntimeError) and not STATUS.match(str(error)):
        raise error
    return f"the device failed: {str(error).strip().partition(chr(10))[0][:300]}"


def answer(text: object):
    """Prints what a command is asked for on standard output.

    Raises:
      UserError: it cannot be written.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python tries once more at its end
        raise UserError(
            f"cannot write to standard output: {error.strerror}; it is {text}"
        ) from error


def say(text: str):
    """Prints a line on standard error; the work goes on where nobody reads it any more."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def fail(message: object, code: int = 2) -> NoReturn:
    """Prints an error as one line and leaves.

    At once where an optimisation was under way: Python would wait for the steps that the device
    still computes.
    """
    say(f"error: {' '.join(str(message).split())}")
    if code != 2:
        os._exit(code)
    sys.exit(code)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except SystemExit:  # absl leaves with 1 after --help
        sys.exit(0)
    except flags.Error as error:
        fail(config.explain(ValueError(str(error))))
    except Exception as error:  # whatever a config file raises
        fail(config.explain(error))
