"""How every command starts and ends: flags, one-line errors, exit codes."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags, logging

from nst_jax import config
from nst_jax.errors import UserError


class StoppedError(Exception):
    """The work ended early; the text says why and what is kept, `code` is the exit code."""

    def __init__(self, text: str, code: int):
        super().__init__(text)
        self.code = code


def start(main: Callable[[], None]):
    """Parses the flags and runs `main`; a mistake is one line, and exit code 2."""

    def guarded(argv: list[str]):
        if len(argv) > 1:
            fail(f"unexpected argument {argv[1]!r}; see --help")
        logging.set_verbosity(logging.WARNING)  # JAX tells of every backend that is not there
        try:
            main()
        except UserError as error:
            fail(error)
        except StoppedError as stopped:
            fail(stopped, stopped.code)
        except KeyboardInterrupt:
            fail("interrupted", 130)

    app.run(guarded, flags_parser=_parse)


def fail(message: object, code: int = 2) -> NoReturn:
    """Prints an error as one line and leaves.

    At once where an optimisation was under way: Python would wait for the steps that the device
    still computes.
    """
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
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
