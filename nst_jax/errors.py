"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A user's mistake: in a file, a flag, a config, a picture or the weights.

    Its text is one line that says what is wrong, where, and what to do. Commands print it and exit
    with code 2; nothing half-written stays behind.
    """

    def __init__(self, text: str):
        super().__init__(" ".join(text.split()))  # one line, whatever a file's name holds


class UnwritableError(UserError):
    """A file cannot be written: the disk is full, or the folder is gone. Nothing can be kept."""


class VersionError(UserError):
    """A file is of another version of the project, which can read it."""
