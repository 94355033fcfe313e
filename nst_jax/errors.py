"""The errors that a command answers with one line."""


class UserError(Exception):
    """A user's mistake: in a file, a flag, a config, a picture or the weights.

    The text is one line: what is wrong, where, and what to do. Commands print it and exit with the
    code 2; nothing half-written is left behind.
    """

    def __init__(self, text: str):
        super().__init__(" ".join(text.split()))  # one line, whatever the name of a file holds


class UnwritableError(UserError):
    """A file cannot be written: the disk is full, or the folder is gone."""


class VersionError(UserError):
    """A file was written by another version of the project, which can read it."""


class StoppedError(Exception):
    """A command ended early.

    Attributes:
      code: the exit code.
    """

    def __init__(self, text: str, code: int):
        super().__init__(text)
        self.code = code
