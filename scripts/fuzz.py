"""Feeds damaged files to every reader: each must return a result or a one-line error.

  python scripts/fuzz.py pictures --minutes 20
  python scripts/fuzz.py weights --minutes 20
  python scripts/fuzz.py checkpoints --minutes 5
  python scripts/fuzz.py masks --minutes 5
  python scripts/fuzz.py settings --minutes 5
  python scripts/fuzz.py folders --minutes 5

pictures    PNG, JPEG, TIFF of many layouts, WebP, GIF and BMP through images.read and
            images.read_alpha
weights     HDF5, safetensors, MATLAB, pickle and torch archives through containers.contents
            and formats.read
checkpoints through checkpoints.read
masks       the same pictures through masks.read, as one file per region and as colour-coded guides
settings    lines KEY=VALUE, as in --axis and --config, through axes.parse and config.with_values
folders     the files of a run's or a sweep's folder, through resuming and the report

Small intact files are cut, spliced, and changed bit by bit, byte by byte and number by number,
reproducibly for each --seed. They are read in child processes, so that a crash, more than 10
seconds or more than 4 GB is noticed; the file is then kept in --keep. Files built as bombs are left
to the tests, because damage seldom makes one.

Exit code 1 if a file had any other outcome.
"""

import multiprocessing
import random
import resource
import shutil
import struct
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from absl import flags
from fuzz_targets import TARGETS

from nst_jax import cli
from nst_jax.errors import StoppedError, UserError

_MINUTES = flags.DEFINE_float("minutes", 20.0, "Minutes to run.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the damage.")
_KEEP = flags.DEFINE_string("keep", "fuzz-failures", "Folder for files that fail.")

FILES_PER_PROCESS = 200
MAX_SECONDS = 10.0  # per file
MAX_BYTES = 4 << 30  # of memory, per process
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damaged(whole: bytes, other: bytes, draw: random.Random) -> bytes:
    """A file damaged in one to eight ways.

    Args:
      whole: the file.
      other: a file to splice pieces from.
      draw: chooses the damage.
    """
    data = bytearray(whole)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 4, 8))):
        at = draw.randrange(len(data) + 1) if draw.random() < 0.5 else draw.randrange(200)
        at = min(at, max(0, len(data) - 4))
        length = draw.choice((1, 2, 4, 16, 64, 512))
        match draw.randrange(8):
            case 0:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                data[at : at + 1] = bytes([(data[at] if data else 0) ^ (1 << draw.randrange(8))])
            case 2:
                order = draw.choice("<>")
                data[at : at + 4] = struct.pack(f"{order}I", draw.choice(NUMBERS))
            case 3:
                order = draw.choice("<>")
                data[at : at + 2] = struct.pack(f"{order}H", draw.choice(NUMBERS) & 0xFFFF)
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length] * draw.choice((1, 2, 50))
            case 6:
                start = draw.randrange(max(1, len(other)))
                data[at : at + length] = other[start : start + length]
            case _:
                del data[max(1, at) :]
    if data.startswith(b"\x89PNG") and draw.random() < 0.7:
        return with_checksums(bytes(data))
    return bytes(data)


def with_checksums(png: bytes) -> bytes:
    """A damaged PNG with correct checksums; wrong ones would stop readers before the damage."""
    out, at = png[:8], 8
    while at + 12 <= len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        body = png[at + 4 : at + 8 + length]
        out += png[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return out


def read_batch(name: str, seed: int, folder: str, report: Any):
    """Damages and reads a batch of files, and reports each one before and after reading it.

    Args:
      name: a key of `TARGETS`.
      seed: of the damage.
      folder: for the files; those that fail are left there.
      report: a queue of (outcome, path); the outcome "reads" comes before reading.
    """
    resource.setrlimit(resource.RLIMIT_AS, (4 * MAX_BYTES, 4 * MAX_BYTES))
    make, read = TARGETS[name]
    whole, draw = make(), random.Random(seed)
    for number in range(FILES_PER_PROCESS):
        suffix, data = draw.choice(whole)
        path = Path(folder) / f"{seed}-{number}{suffix}"
        path.write_bytes(damaged(data, draw.choice(whole)[1], draw))
        report.put(("reads", str(path)))
        start = time.monotonic()
        try:
            read(path)
            outcome = "read"
        except UserError as error:
            outcome = "refused" if "\n" not in str(error) else "an error of several lines"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"[:100]
        if time.monotonic() - start > MAX_SECONDS:
            outcome = "too slow"
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > MAX_BYTES:
            outcome = "too much memory"
        report.put((outcome, str(path)))
        if outcome in ("read", "refused"):
            path.unlink()
        if outcome == "too much memory":
            break  # the peak counts for the whole process, so the files after it would be blamed


def watched(name: str, seed: int, folder: str, counts: Counter) -> list[tuple[str, str]]:
    """Has a child process read a batch.

    Args:
      name, seed, folder: see `read_batch`.
      counts: outcome -> number of files; updated.

    Returns:
      (outcome, path) of every failure.
    """
    context = multiprocessing.get_context("spawn")
    report = context.SimpleQueue()  # writes at once: nothing is lost if the child dies
    child = context.Process(target=read_batch, args=(name, seed, folder, report))
    child.start()
    reading, since, failures = "", time.monotonic(), []
    while child.is_alive() or not report.empty():
        if report.empty():
            time.sleep(0.01)
            if reading and time.monotonic() - since > 2 * MAX_SECONDS:
                child.kill()
            continue
        outcome, path = report.get()
        reading, since = path if outcome == "reads" else "", time.monotonic()
        if outcome != "reads":
            counts[outcome] += 1
        if outcome not in ("reads", "read", "refused"):
            failures.append((outcome, path))
    child.join()
    if child.exitcode:
        failures.append((f"the process exited with {child.exitcode}", reading))
    return failures


def main(name: str):
    """Fuzzes one target until the time is up, and prints failures and counts."""
    until, seed, counts, failed = time.monotonic() + 60 * _MINUTES.value, _SEED.value, Counter(), 0
    while time.monotonic() < until:
        with tempfile.TemporaryDirectory() as folder:
            for outcome, path in watched(name, seed, folder, counts):
                failed += 1
                print(f"{Path(path).name}: {outcome}", flush=True)
                if Path(path).is_file():
                    Path(_KEEP.value).mkdir(exist_ok=True)
                    shutil.copy(path, _KEEP.value)
        seed += 1
    print(f"{name}: {counts.total()} files: {dict(counts)}; {failed} failures", flush=True)
    if failed:
        raise StoppedError(f"{failed} files failed", 1)


if __name__ == "__main__":
    cli.start(main, TARGETS)
