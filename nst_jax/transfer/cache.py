"""What is kept between paintings: weights, networks on the device, pictures, compiled programs.

Commands make a `Cache` of their own. `stylize` uses `SHARED`; `nst_jax.clear_cache()` empties it.
"""

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import jax

from nst_jax import files
from nst_jax.losses.targets import compute_targets
from nst_jax.optimize.step import chunk, initial_state

T = TypeVar("T")

# Kind -> how many are kept, the least recently used going first. The cells of a sweep share most of
# their pictures; a network takes 80 MB.
CAPACITIES = {
    "weights": 2,
    "network": 2,
    "judge": 2,  # networks that measure paintings
    "picture": 8,
    "digest": 1000,  # checksums of files
    "system": 1,  # versions, device and commit
}

MAX_KEPT_PIXELS = 4_000_000  # of a picture whose programs stay beside those of other sizes
MAX_STATICS = 16  # whose programs `stylize` keeps; a program takes up to 50 MB

# Of the memory maps that Linux grants a process, the share above which compiled programs go.
MAX_MAPS_SHARE = 0.5


class Cache:
    """A bounded store of what is expensive to make again, safe to share between threads."""

    def __init__(self):
        self._kept: dict[str, OrderedDict[Hashable, Any]] = {
            kind: OrderedDict() for kind in CAPACITIES
        }
        self._statics: set[Hashable] = set()
        self._lock = threading.Lock()

    def get(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under a key, made if it is not there.

        Args:
          kind: a key of `CAPACITIES`.
          key: tells it from others of its kind; of a file, its state as well as its name.
          make: makes it.
        """
        kept = self._kept[kind]
        with self._lock:
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
        made = make()
        with self._lock:
            kept[key] = made
            while len(kept) > CAPACITIES[kind]:
                kept.popitem(last=False)
        return made

    def admit_program(self, static: Hashable):
        """Notes what a program is compiled for; past `MAX_STATICS`, lets go of the programs so far.

        Args:
          static: what programs are told apart by, such as `problem.Static`.
        """
        with self._lock:
            is_full = static not in self._statics and len(self._statics) >= MAX_STATICS
            if is_full:
                self._statics.clear()
            self._statics.add(static)
        if is_full:
            drop_programs()

    def clear(self):
        """Lets go of everything."""
        with self._lock:
            self._statics.clear()
            for kept in self._kept.values():
                kept.clear()


SHARED = Cache()


def file_state(path: str | Path) -> tuple[str, int, int, int] | None:
    """A key for a file as it is now; None where it cannot be read."""
    try:
        named = files.named(path)
        state = named.stat()
    except (OSError, RuntimeError, ValueError):
        return None
    return str(named), state.st_ino, state.st_mtime_ns, state.st_size


def keep_programs():
    """Keeps compiled programs for the next process, where the commands keep theirs.

    The folder is this user's alone, below the user's cache. A folder that the caller has chosen
    with JAX_COMPILATION_CACHE_DIR or `jax_compilation_cache_dir` stays. This sets an option of JAX
    for the whole process, which is why `stylize` does not do it by itself.
    """
    options: Any = jax.config
    if not options.jax_compilation_cache_dir and (folder := files.programs_folder()):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def clear_cache():
    """Lets go of what `stylize` keeps between calls: weights, networks, pictures, programs."""
    SHARED.clear()
    drop_programs()


def drop_programs():
    """Lets go of this project's compiled programs; the caller's own stay."""
    programs: Any = (chunk, initial_state, compute_targets)
    for program in programs:
        program.clear_cache()
    gc.collect()


def drop_programs_if_large(pixels: int):
    """Lets go of this project's programs before a picture next to which their memory counts.

    Such a picture takes minutes, and compiling again seconds.
    """
    if pixels > MAX_KEPT_PIXELS:
        drop_programs()


def drop_programs_if_crowded(max_share: float = MAX_MAPS_SHARE):
    """Lets go of this project's programs before the process runs out of memory maps.

    XLA:CPU maps every kernel by itself, some 500 maps a program. At the limit of Linux, 65530 maps,
    the process would crash, after some hundred programs.

    Args:
      max_share: of the limit, from which on programs go.
    """
    try:
        maps = Path("/proc/self/maps").read_bytes().count(b"\n")
        limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    except OSError:  # another system, without such a limit
        return
    if maps > max_share * limit:
        drop_programs()
