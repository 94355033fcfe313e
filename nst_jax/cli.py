"""How every command opens and closes: flags, one-line errors, exit codes."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from nst_jax import config, files
from nst_jax.errors import StoppedError, UserError, one_line


def start(main: Callable[..., None], choices: Collection[str] = ()):
    """Parses the flags and runs `main`; a mistake is answered with one line and the exit code 2.

    Args:
      main: the command.
      choices: allowed values of the command's one argument, which `main` gets; () for no argument.
    """

    def guarded(argv: list[str]):
        words = argv[1:]
        if choices and (len(words) != 1 or words[0] not in choices):
            fail(f"give one argument: {', '.join(choices)}; see --help")
        if words and not choices:
            fail(
                f"unexpected argument {words[0]!r}; several style pictures are separated by "
                "commas, as in --config.style=a.jpg,b.jpg; see --help"
            )
        logging.set_verbosity(logging.WARNING)  # JAX warns about every backend that is missing
        keep_programs()
        try:
            main(*words)
        except UserError as error:
            fail(error)
        except StoppedError as stopped:
            fail(stopped, stopped.code)
        except RuntimeError as error:
            if "Unable to initialize backend" not in str(error):
                raise
            fail(f"JAX finds no such device: {error}; leave JAX_PLATFORMS out for those it finds")
        except KeyboardInterrupt as stopped:
            fail("interrupted", *stopped.args or (130,))

    app.run(guarded, flags_parser=_parse)


def define_config(text: str):
    """Defines the flag --config, also for files below a folder with a colon in its name.

    Args:
      text: its help.
    """
    config_flags.DEFINE_config_file("config", None, text)
    parser: Any = flags.FLAGS["config"].parser
    parse = parser.parse

    def parse_any(value: str) -> Any:
        file, arguments = split_config(value)
        if ":" not in file:
            return parse(value)
        return config.load(Path(file), *arguments).lock()  # ml_collections splits at any colon

    parser.parse = parse_any


def split_config(text: str) -> tuple[str, list[str]]:
    """A config file and what follows the colon after it, if there is one.

    >>> split_config("configs/starry.py:smoke"), split_config("C:/a.py")
    (('configs/starry.py', ['smoke']), ('C:/a.py', []))
    """
    if found := re.match(r"(.*?\.py)(?::(.*))?$", text):
        return found[1], [] if found[2] is None else [found[2]]
    file, *arguments = text.split(":", 1)
    return file, arguments


def keep_programs():
    """Lets JAX keep compiled programs for the next command, in a folder of this user alone.

    JAX_COMPILATION_CACHE_DIR names another folder; an empty value keeps nothing. Small programs are
    kept, too: a start has some thirty, which take a second to compile.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (folder := files.programs_folder()):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def given_config() -> tuple[config.Config, str]:
    """The config that --config names, with its overrides, not parsed yet; and the file's name.

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
            raise UserError(
                "get_config must return a ConfigDict, such as config.default()"
            ) from None
    file, _ = split_config(config_flags.get_config_filename(flags.FLAGS["config"]))
    return given, Path(file).stem


def typed() -> list[str]:
    """The command's own flags, with those of a --flagfile, each as one word: --config=x."""
    words: list[str] = []
    for word in flags.FLAGS.read_flags_from_files(sys.argv[1:]):
        if words and not word.startswith("-") and "=" not in words[-1]:
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def answer(text: object):
    """Prints the result of a command on standard output.

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


def fail(message: object, code: int = 2) -> NoReturn:
    """Prints an error as one line and exits.

    With a code other than 2 an optimisation was under way. The process then ends at once, because
    Python would wait for the steps that the device still computes.
    """
    with contextlib.suppress(OSError):
        print(f"error: {one_line(str(message))}", file=sys.stderr, flush=True)
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
