"""The painter: one painting after another on the device, in a thread, each a work directory.

    uploads/HASH          uploaded pictures, each once
    requests/NAME.json    what was asked for, how it ended, the weights as they were changed
    paintings/NAME/       the work directory, as `nst_jax.run` makes it

What a server left when it ended is painted on by the next one. Runs that a command began can be
opened. They stay where they are, and are painted on only when somebody asks for it.
"""

import contextlib
import hashlib
import itertools
import shlex
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import config, files
from nst_jax.config import looks
from nst_jax.config.experiment import Experiment, Objective
from nst_jax.errors import StoppedError, UserError, one_line
from nst_jax.pictures import images
from nst_jax.runs import workdir
from nst_jax.runs.interrupts import Interrupts

MAX_UPLOAD_BYTES = 64 << 20
BASE = "starry"  # the config that knobs turn
LOG_EVERY = 2  # steps, after which the picture on the page grows
SAVE_EVERY = 10  # steps, after which there is a picture to go back to
WAITING, PAINTING, ENDED = "waiting", "painting", "ended"
ELSEWHERE = "elsewhere"  # a command is at work there
WITHDRAWN = "it was stopped before its turn"


class Request(NamedTuple):
    """What was asked for.

    Attributes:
      content: the photograph, a file.
      style: the paintings, as `config.style` names them.
      knobs: by their names in `looks.KNOBS`.
      keys: any other keys.
      changes: weights that were changed on the way.
      more: steps beyond those of the config, by "go on".
      folder: the work directory, if a command began it; "" for one of the studio's own.
      is_wanted: whether it waits for its turn, or is painted.
      message: why it ended, if that was no success.
    """

    content: str
    style: str
    knobs: Mapping[str, Any]
    keys: Mapping[str, Any]
    changes: Mapping[str, Any]
    more: int = 0
    folder: str = ""
    is_wanted: bool = True
    message: str = ""

    def experiment(self, with_changes: bool = False) -> Experiment:
        """The experiment; its weights as they were asked for first, or as they were changed.

        Raises:
          UserError: a key or a value that cannot be.
        """
        values = config.flat(looks.turn(config.load(config.find(BASE)), self.knobs))
        values |= {"content": self.content, "style": self.style}
        values |= {"log_every": LOG_EVERY, "save_every": SAVE_EVERY, **self.keys}
        if with_changes:
            values |= self.changes
        if self.more:  # none before it was painted, with steps that are a number
            values["steps"] += self.more
        experiment = config.parse_values(values)
        config.check_still(experiment)
        return experiment

    @property
    def command(self) -> str:
        """What paints it again, without the changes on the way."""
        standard = config.flat(config.load(config.find(BASE)))
        given = config.flat(self.experiment().raw)
        keys = [f"--config.{k}={v}" for k, v in given.items() if repr(v) != repr(standard[k])]
        return shlex.join(["python", "-m", "nst_jax.run", f"--config={BASE}", *keys])


class Stop(Interrupts):
    """A request to stop that comes from a page, and from no signal."""

    def __init__(self):
        self.seen, self.is_patient = 0, False

    def arm(self):
        """Leaves the process's signals alone."""

    def ask(self):
        """Stops at the next opportunity."""
        self.seen = signal.SIGINT


class Painter:
    """Paints requests in the order in which they come.

    Args:
      root: the folder of all uploads, requests and paintings; it is made.

    Raises:
      UserError: the folder cannot be made.
    """

    def __init__(self, root: Path):
        self.root = root
        self._lock = threading.Lock()  # of all that follows, and of the files in requests/
        self._has_work = threading.Condition(self._lock)
        self._now, self._stop = "", Stop()
        self._objective: Objective | None = None
        try:
            for name in ("uploads", "requests", "paintings"):
                (root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to --workdir {root}: {error.strerror}") from None
        self._requests = dict(self._kept())
        self._waiting = [name for name, request in self._requests.items() if request.is_wanted]

    def _kept(self) -> Iterator[tuple[str, Request]]:
        """The requests in files; those that are damaged are passed over."""
        for path in sorted((self.root / "requests").glob("[0-9]*.json")):
            with contextlib.suppress(UserError, TypeError):
                yield path.stem, Request(**workdir.read_json(path))

    def start(self):
        """Begins with what an earlier server left."""
        threading.Thread(target=self._run, daemon=True).start()

    def names(self) -> list[str]:
        """All paintings, the oldest first."""
        return [*self._requests]

    def request(self, name: str) -> Request:
        """What was asked for."""
        return self._requests[name]

    def folder(self, name: str) -> Path:
        """The work directory of a painting."""
        return Path(self.request(name).folder or self.root / "paintings" / name)

    def painting(self, name: str) -> Path:
        """The picture of a painting, which need not be there yet."""
        return self.folder(name) / self.request(name).keys.get("output", "final.png")

    def status(self, name: str) -> str:
        """`PAINTING`, `WAITING`, `ENDED`, or of an opened run `ELSEWHERE`."""
        if name == self._now:
            return PAINTING
        if name in self._waiting:
            return WAITING
        opened = self.request(name).folder
        return ELSEWHERE if opened and workdir.is_locked(Path(opened)) else ENDED

    def place(self, name: str) -> int:
        """How many are painted before a painting that waits."""
        with self._lock:
            waiting = self._waiting
            return waiting.index(name) + bool(self._now) if name in waiting else 0

    def upload(self, content: bytes) -> Path:
        """Keeps a picture, under a name made of its bytes.

        Raises:
          UserError: it is too large, or no picture.
        """
        if len(content) > MAX_UPLOAD_BYTES:
            raise UserError(f"a picture has {MAX_UPLOAD_BYTES >> 20} MB at most")
        path = self.root / "uploads" / hashlib.sha256(content).hexdigest()[:16]
        if not path.exists():
            with files.replacing(path) as temporary:
                temporary.write_bytes(content)
                try:
                    images.read(temporary, 64, quiet=True)
                except UserError as error:
                    raise UserError(str(error).replace(str(temporary), "the file")) from None
        return path

    def add(self, request: Request) -> str:
        """Asks for a painting; returns its name.

        Raises:
          UserError: a key or a value that cannot be.
        """
        request.experiment()
        return self._named(request)

    def open(self, folder: Path) -> str:
        """Opens a run that a command began; returns its name.

        Raises:
          UserError: the folder holds no run, or one of another kind or version.
        """
        folder = folder.resolve()
        is_run = (folder / "config.json").is_file() and not (folder / "sweep.json").exists()
        if not is_run or (folder / "source").is_dir():  # a film has its frames there
            raise UserError(f"{folder} holds no run; name the folder that nst_jax.run printed")
        keys = config.flat(workdir.read_json(folder / "config.json"))
        content, style = keys.pop("content", ""), keys.pop("style", "")
        keys.pop("axes", None)  # of a run there are none
        request = Request(content, style, {}, keys, {}, folder=str(folder), is_wanted=False)
        try:
            request.experiment()
        except UserError as error:
            raise UserError(f"{folder}: {error}") from None
        for name, known in self._requests.items():
            if known.folder == request.folder:
                if not known.is_wanted:  # a command may have extended it
                    with self._lock:
                        self._keep(name, known._replace(keys=keys, more=0))
                return name
        return self._named(request)

    def _named(self, request: Request) -> str:
        """Keeps a new request under a name of its own, which is returned."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        with self._lock:
            numbered = (f"{stamp}-{number}" for number in itertools.count(1))
            name = next(one for one in numbered if one not in self._requests)
            self._keep(name, request)
            if request.is_wanted:
                self._put(name)
        return name

    def stop(self, name: str):
        """Keeps a painting as it is; one that waits is taken back."""
        with self._lock:
            if name == self._now:
                self._stop.ask()
            elif name in self._waiting:
                self._waiting.remove(name)
                withdrawn = self.request(name)._replace(is_wanted=False, message=WITHDRAWN)
                self._keep(name, withdrawn)

    def go_on(self, name: str, steps: int):
        """Paints a painting further: what was left, and so many steps more if nothing was."""
        result = self.folder(name) / "result.json"
        is_done = result.exists() and workdir.read_json(result).get("status") == "done"
        with self._lock:
            if name == self._now or name in self._waiting:
                return
            request = self.request(name)
            more = request.more + steps * is_done
            self._keep(name, request._replace(more=more, is_wanted=True, message=""))
            self._put(name)

    def change(self, name: str, weights: Mapping[str, Any]):
        """Changes weights of a painting; while it is painted, from the next chunk of steps on.

        Raises:
          UserError: a value that cannot be.
        """
        with self._lock:
            request = self.request(name)
            changed = request._replace(changes={**request.changes, **weights})
            objective = changed.experiment(with_changes=True).objective
            self._keep(name, changed)
            if name == self._now:
                self._objective = objective

    def _keep(self, name: str, request: Request):
        self._requests[name] = request
        files.write_json(self.root / "requests" / f"{name}.json", request._asdict())

    def _put(self, name: str):
        self._waiting.append(name)
        self._has_work.notify()

    def _run(self):
        while True:
            with self._lock:
                self._has_work.wait_for(lambda: self._waiting)
                self._now, self._stop = self._waiting.pop(0), Stop()
                self._objective, name = None, self._now
                request = self.request(name)
            message = ""
            try:
                self._paint(name, request)
            except (UserError, StoppedError) as error:
                message = str(error)
            except Exception as error:  # the next one shall be painted nevertheless
                traceback.print_exc()
                message = f"it failed: {one_line(str(error))}"
            with self._lock:
                self._now = ""
                ended = self.request(name)._replace(is_wanted=False, message=message)
                self._keep(name, ended)

    def _paint(self, name: str, request: Request):
        from nst_jax.runs import single  # imports JAX

        experiment = request.experiment()
        if request.changes:
            self.change(name, {})  # as they were when an earlier server ended
        single.run(
            experiment,
            name,
            str(self.folder(name)),
            self._stop,
            command=request.command,
            extended=request.more,
            revise=self._revision,
        )

    def _revision(self) -> Objective | None:
        """The objective that was asked for since the last chunk."""
        with self._lock:
            objective, self._objective = self._objective, None
        return objective
