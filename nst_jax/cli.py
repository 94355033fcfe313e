"""How every command opens and closes: flags, one-line errors, exit codes."""

import contextlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from nst_jax import config, files
from nst_jax.config.experiment import Experiment, Pixels
from nst_jax.errors import StoppedError, UserError, no_device, one_line

if TYPE_CHECKING:
    from nst_jax.pictures.clips import Clip

SIGNALLED = 128  # exit codes above it say which signal ended the command


def start(main: Callable[..., None], choices: Collection[str] = (), takes: Collection[int] = (0,)):
    """Parses the flags and runs `main`; a mistake is answered with one line and the exit code 2.

    Args:
      main: the command; gets the arguments that are no flags.
      choices: allowed values of its one argument; () for any.
      takes: how many arguments it may have.
    """

    def guarded(argv: list[str]):
        words = argv[1:]
        if choices and (len(words) != 1 or words[0] not in choices):
            fail(f"give one argument: {', '.join(choices)}; see --help")
        if not choices and len(words) not in takes:
            _refuse(words, takes)
        logging.set_verbosity(logging.WARNING)  # JAX warns about every backend that is missing
        keep_programs()
        try:
            main(*words)
        except UserError as error:
            fail(error)
        except StoppedError as stopped:
            fail(stopped, stopped.code)
        except RuntimeError as error:
            line = no_device(error)
            if line is None:
                raise
            fail(line)
        except KeyboardInterrupt as stopped:
            fail("interrupted", *stopped.args or (130,))

    app.run(guarded, flags_parser=_parse)


def _refuse(words: list[str], takes: Collection[int]):
    """Says that there are too many or too few arguments."""
    several = "several style pictures are separated by commas, as in "
    if 2 not in takes:
        fail(f"unexpected argument {words[0]!r}; {several}--config.style=a.jpg,b.jpg; see --help")
    fail(
        f"give two pictures, a photograph and a painting, not {' '.join(words) or 'none'}; "
        f"{several}a.jpg,b.jpg; see --help"
    )


def define_config(text: str):
    """Defines the flag --config, also for files below a folder with a colon in its name.

    Args:
      text: its help.
    """
    config_flags.DEFINE_config_file("config", None, text)
    parser: Any = flags.FLAGS["config"].parser
    parse = parser.parse

    def parse_any(value: str) -> Any:
        name, arguments = split_config(value)
        file = str(config.find(name))
        if ":" not in file:
            return parse(":".join([file, *arguments]))
        return config.load(Path(file), *arguments).lock()  # ml_collections splits at any colon

    parser.parse = parse_any


def define_processes(what: str) -> Callable[[], tuple[str, int, int] | None]:
    """Defines the flags by which several processes find each other.

    Args:
      what: they share.

    Returns:
      Gives the coordinator, the number of processes and the number of this one; None for a process
      alone. Raises `UserError` for flags that do not fit.
    """
    distributed = flags.DEFINE_boolean(
        "distributed", False, f"Share {what} with processes that Slurm, Open MPI or TPUs name."
    )
    coordinator = flags.DEFINE_string(
        "coordinator", "", "host:port of process 0, where nothing names the other processes."
    )
    processes = flags.DEFINE_integer("processes", 0, "Number of processes.", lower_bound=0)
    process = flags.DEFINE_integer("process", 0, "Number of this process, from 0.", lower_bound=0)

    def given() -> tuple[str, int, int] | None:
        is_shared = distributed.value or coordinator.value
        if is_shared and not flags.FLAGS["workdir"].value:
            raise UserError(f"processes that share {what} need its folder; name it with --workdir")
        if not coordinator.value and (processes.value or process.value):
            raise UserError(
                "--processes and --process need --coordinator, the HOST:PORT of process 0"
            )
        return (coordinator.value, processes.value, process.value) if is_shared else None

    return given


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


def given_config(*pictures: str, standard: str = "starry") -> tuple[config.Config, str]:
    """The config that --config names, with its overrides, not parsed yet; and the file's name.

    Args:
      *pictures: a content and a style picture, to take the place of the config's.
      standard: the shipped config that is the default of --config with them.

    Raises:
      UserError: there is none, or it does not load.
    """
    given = flags.FLAGS["config"].value
    if pictures and given is None:
        c = config.load(config.find(standard))
        c.content, c.style = pictures
        return c, Path(pictures[0]).stem
    if given is None:
        raise UserError("no config; try --config starry, or --help")
    if not isinstance(given, ConfigDict):
        try:
            _ = given.steps  # a file that failed to load says so only when it is touched
        except OSError as error:
            raise UserError(config.explain(error)) from error
        except AttributeError:
            raise UserError(
                "get_config must return a ConfigDict, such as config.default()"
            ) from None
    if pictures:
        _check_given_once()
        given.content, given.style = pictures
    file, _ = split_config(config_flags.get_config_filename(flags.FLAGS["config"]))
    return given, Path(file).stem


def given_clip(c: config.Config) -> tuple["Clip", Experiment]:
    """The clip that a config names, and the experiment, whose content is its first frame.

    Raises:
      UserError: a mistake in the config, or a clip that cannot be read.
    """
    from nst_jax.pictures import clips  # only films need it

    if not c.content:
        raise UserError("name a clip with --config.content, or a folder of numbered pictures")
    standin = Pixels(np.zeros((64, 64, 3), np.uint8), c.content)
    number = config.parse(c, standin).film.first  # mistakes are said before the clip is read
    clip = clips.open_clip(c.content)
    first = next(clip.frames(number), None)
    if first is None:
        raise UserError(f"{clip.name} has no frame {number}")
    return clip, config.parse(c, Pixels(first, clip.name))


def _check_given_once():
    """Checks that pictures which are arguments are not keys as well.

    Raises:
      UserError: they are.
    """
    keys = {"--config.content", "--config.style"}
    if keys & {word.partition("=")[0] for word in sys.argv}:
        raise UserError(
            "give the pictures as two arguments or as keys, not both; several style pictures are "
            "separated by commas, as in --config.style=a.jpg,b.jpg"
        )


def typed() -> list[str]:
    """The command's own flags, with those of a --flagfile, each as one word: --config=x."""
    words: list[str] = []
    for word in flags.FLAGS.read_flags_from_files(sys.argv[1:]):
        if words and not word.startswith("-") and _wants_value(words[-1]):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _wants_value(word: str) -> bool:
    """Whether a word is a flag whose value is the next word."""
    if not word.startswith("-") or "=" in word:
        return False
    name = word.lstrip("-")
    return name not in flags.FLAGS or not flags.FLAGS[name].boolean


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
    """Prints an error as one line and exits; that somebody stopped the command is no error.

    With a `StoppedError`, or a code other than 2, an optimisation was under way. The process then
    ends at once, because Python would wait for the steps that the device still computes.
    """
    with contextlib.suppress(OSError):
        kind = "" if code > SIGNALLED else "error: "
        print(kind + one_line(str(message)), file=sys.stderr, flush=True)
    if code != 2 or isinstance(message, StoppedError):
        os._exit(code)
    sys.exit(code)


def _parse(argv: list[str]) -> list[str]:
    argv = _with_default_config(argv)
    asked = next((word for word in argv[1:] if word.partition("=")[0] == "--config.help"), "")
    try:
        if asked:
            answer(config.described(asked.partition("=")[2]))
            sys.exit(0)
        return flags.FLAGS(argv)
    except UserError as error:
        fail(error)
    except SystemExit:  # absl leaves with 1 after --help
        sys.exit(0)
    except flags.Error as error:
        fail(config.explain(ValueError(_plainly(str(error)))))
    except Exception as error:  # whatever a config file raises
        fail(config.explain(error))


def _with_default_config(argv: list[str]) -> list[str]:
    """The arguments with --config=starry where two pictures and keys are given without a config."""
    names = [word.partition("=")[0].lstrip("-") for word in argv[1:] if word.startswith("-")]
    pictures = [
        word
        for before, word in itertools.pairwise(argv)
        if not word.startswith("-") and not _takes_value(before)
    ]
    has_keys = any(name.startswith("config.") and name != "config.help" for name in names)
    if "config" in flags.FLAGS and "config" not in names and has_keys and len(pictures) == 2:
        return [argv[0], "--config=starry", *argv[1:]]
    return argv


def _takes_value(word: str) -> bool:
    """Whether the next word is the value of this one, as in --workdir FOLDER."""
    name = word.lstrip("-")
    if not word.startswith("-") or "=" in word:
        return False
    return name.startswith("config.") or (name in flags.FLAGS and not flags.FLAGS[name].boolean)


def _plainly(text: str) -> str:
    """What absl says of a flag, without Python's words, and with a way out."""
    if "Unknown command line flag 'config." in text:
        return (
            f"{text.partition('.')[0]}.KEY': this command takes no keys of a config; `nst-jax run "
            "--config starry PHOTOGRAPH PAINTING --config.KEY=VALUE` does"
        )
    text = re.sub(r"invalid literal for int\(\) with base 10: ", "not a whole number: ", text)
    return text.replace("could not convert string to float: ", "not a number: ")
