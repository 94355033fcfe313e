"""The painter: one painting after another on the device, in a thread, each a work directory.

    uploads/HASH.jpg      uploaded pictures, each once
    requests/NAME.json    what was asked for, and the weights as they were changed on the way
    paintings/NAME/       the work directory, as `nst_jax.run` makes it

What a server left when it ended is painted on by the next one. Runs that a command began can be
opened; they stay where they are, and are painted on only when somebody asks for it.
"""

import contextlib
import hashlib
import itertools
import json
import queue
import shlex
import signal
import threading
import time
import traceback
from collections.abc import Mapping
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
      is_withdrawn: whether somebody stopped it before its turn.
    """

    content: str
    style: str
    knobs: Mapping[str, Any]
    keys: Mapping[str, Any]
    changes: Mapping[str, Any]
    more: int = 0
    folder: str = ""
    is_withdrawn: bool = False

    def experiment(self, with_changes: bool = False) -> Experiment:
        """The experiment; its weights as they were asked for first, or as they were changed.

        Raises:
          UserError: a key or a value that cannot be.
        """
        c = looks.turn(config.load(config.find(BASE)), self.knobs)
        c.content, c.style = self.content, self.style
        c.log_every, c.save_every = LOG_EVERY, SAVE_EVERY
        c.update_from_flattened_dict(dict(self.keys))
        if with_changes:
            c.update_from_flattened_dict(dict(self.changes))
        return config.with_values(c, {"steps": c.steps + self.more})

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
    """

    def __init__(self, root: Path):
        self.root = root
        self.messages: dict[str, str] = {}  # name -> why it ended, if that was no success
        self._queue: queue.Queue[str] = queue.Queue()
        self._waiting: list[str] = []
        self._now: str = ""
        self._stop = Stop()
        self._objective: Objective | None = None
        self._lock = threading.Lock()
        for name in ("uploads", "requests", "paintings"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self._opened: dict[str, Path] = {}  # name -> folder of a run that a command began
        for name in self.names():
            with contextlib.suppress(UserError):
                request = self.request(name)
                if request.folder:
                    self._opened[name] = Path(request.folder)
                if request.is_withdrawn:
                    self.messages[name] = WITHDRAWN

    def start(self):
        """Begins with what an earlier server left."""
        for name in self.names():
            if self.status(name) == WAITING and name not in self._waiting:
                self._put(name)
        threading.Thread(target=self._run, daemon=True).start()

    def names(self) -> list[str]:
        """All paintings, the oldest first."""
        return sorted(path.stem for path in (self.root / "requests").glob("[0-9]*.json"))

    def folder(self, name: str) -> Path:
        """The work directory of a painting."""
        return self._opened.get(name, self.root / "paintings" / name)

    def painting(self, name: str) -> Path:
        """The picture of a painting, which need not be there yet.

        Raises:
          UserError: its request is damaged.
        """
        return self.folder(name) / self.request(name).keys.get("output", "final.png")

    def request(self, name: str) -> Request:
        """What was asked for.

        Raises:
          UserError: it is gone, or damaged.
        """
        try:
            return Request(**json.loads((self.root / "requests" / f"{name}.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"the request of {name} is damaged: {error}") from None

    def status(self, name: str) -> str:
        """`WAITING`, `PAINTING`, `ENDED` or `ELSEWHERE`.

        It has ended where a result.json says how. One that was opened has ended, too, where no
        command is at work.
        """
        if name == self._now:
            return PAINTING
        if name in self._waiting:
            return WAITING
        folder = self.folder(name)
        if (folder / "result.json").exists() or name in self.messages:
            return ENDED
        if name not in self._opened:
            return WAITING
        return ELSEWHERE if workdir.is_locked(folder) else ENDED

    def place(self, name: str) -> int:
        """How many are painted before a painting that waits."""
        return self._waiting.index(name) + 1 if name in self._waiting else 0

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
                images.read(path, 64, quiet=True)
            except UserError:
                path.unlink(missing_ok=True)
                raise
        return path

    def add(self, request: Request) -> str:
        """Asks for a painting; returns its name.

        Raises:
          UserError: a key or a value that cannot be.
        """
        request.experiment()
        name = self._named(request)
        self._put(name)
        return name

    def open(self, folder: Path) -> str:
        """Opens a run that a command began; returns its name.

        Raises:
          UserError: the folder holds no run, or one of another kind or version.
        """
        folder = folder.resolve()
        for name, opened in self._opened.items():
            if opened == folder:
                return name
        if not (folder / "config.json").is_file() or (folder / "sweep.json").exists():
            raise UserError(f"{folder} holds no run; name the folder that nst_jax.run printed")
        keys = config.flat(workdir.read_json(folder / "config.json"))
        content, style = keys.pop("content", ""), keys.pop("style", "")
        request = Request(content, style, {}, keys, {}, folder=str(folder))
        try:
            config.check_still(request.experiment())
        except UserError as error:
            raise UserError(f"{folder}: {error}") from None
        name = self._named(request)
        self._opened[name] = folder
        return name

    def _named(self, request: Request) -> str:
        """Keeps a new request under a name of its own, which is returned."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        with self._lock:
            taken = {*self.names()}
            numbered = (f"{stamp}-{number}" for number in itertools.count(1))
            name = next(one for one in numbered if one not in taken)
            self._keep(name, request)
        return name

    def stop(self, name: str):
        """Keeps a painting as it is; one that waits is not begun."""
        if name == self._now:
            self._stop.ask()
        elif name in self._waiting:
            self._waiting.remove(name)
            self.messages[name] = WITHDRAWN
            self._keep(name, self.request(name)._replace(is_withdrawn=True))

    def go_on(self, name: str, steps: int):
        """Paints a painting further: what was left, and so many steps more if nothing was."""
        request = self.request(name)._replace(is_withdrawn=False)
        result = self.folder(name) / "result.json"
        if result.exists() and workdir.read_json(result).get("status") == "done":
            request = request._replace(more=request.more + steps)
        self._keep(name, request)
        self.messages.pop(name, None)
        self._put(name)

    def change(self, name: str, weights: Mapping[str, Any]):
        """Changes weights of a painting; while it is painted, from the next chunk of steps on.

        Raises:
          UserError: a value that cannot be.
        """
        request = self.request(name)
        changed = request._replace(changes={**request.changes, **weights})
        objective = changed.experiment(with_changes=True).objective
        self._keep(name, changed)
        if name == self._now:
            self._objective = objective

    def _keep(self, name: str, request: Request):
        files.write_json(self.root / "requests" / f"{name}.json", request._asdict())

    def _put(self, name: str):
        self._waiting.append(name)
        self._queue.put(name)

    def _run(self):
        while True:
            name = self._queue.get()
            if name not in self._waiting:
                continue  # it was stopped before its turn
            self._stop, self._now = Stop(), name
            self._waiting.remove(name)
            try:
                self._paint(name)
            except (UserError, StoppedError) as error:
                self.messages[name] = str(error)
            except Exception as error:  # the next one shall be painted nevertheless
                traceback.print_exc()
                self.messages[name] = f"it failed: {one_line(str(error))}"
            finally:
                self._now = ""

    def _paint(self, name: str):
        from nst_jax.runs import single  # imports JAX

        request = self.request(name)
        experiment = request.experiment()
        self._objective = (
            request.experiment(with_changes=True).objective if request.changes else None
        )
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
        objective, self._objective = self._objective, None
        return objective
