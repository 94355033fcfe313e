"""The errors that a command answers with one line."""

from pathlib import Path

MAX_LETTERS = 400  # of a message


def one_line(text: str) -> str:
    """A text on one line of `MAX_LETTERS` at most, its middle left out where it is longer.

    >>> one_line("a  name")
    'a name'
    """
    line = " ".join(text.split())
    if len(line) <= MAX_LETTERS:
        return line
    half = (MAX_LETTERS - 5) // 2
    return f"{line[:half]} ... {line[-half:]}"


class UserError(Exception):
    """A user's mistake: in a file, a flag, a config, a picture or the weights.

    The text is one line (`one_line`): what is wrong, where, and what to do. Commands print it and
    exit with the code 2; nothing half-written is left behind.
    """

    def __init__(self, text: str):
        super().__init__(one_line(text))


class UnwritableError(UserError):
    """A file cannot be written: the disk is full, or the folder is gone."""


class VersionError(UserError):
    """A file was written by another version of the project, which can read it."""


class StoppedError(Exception):
    """A command ended early.

    Attributes:
      code: the exit code.
      painting: the picture so far; None if there is none.
    """

    def __init__(self, text: str, code: int, painting: Path | None = None):
        super().__init__(text)
        self.code = code
        self.painting = painting


def no_device(error: Exception) -> UserError | None:
    """The line for JAX's error about a device that is not there; None for any other error."""
    if "Unable to initialize backend" not in str(error):
        return None
    return UserError(
        f"JAX finds no such device: {error}; leave JAX_PLATFORMS out for those it finds"
    )
