"""Feeds damaged files to what reads files: only a result, or an error of one line, may come of it.

  python scripts/fuzz.py pictures --minutes 20
  python scripts/fuzz.py weights --minutes 20
  python scripts/fuzz.py checkpoints --minutes 5
  python scripts/fuzz.py masks --minutes 5
  python scripts/fuzz.py settings --minutes 5
  python scripts/fuzz.py folders --minutes 5

pictures    PNG, JPEG, TIFF, WebP, GIF and BMP through images.read and images.read_alpha
weights     HDF5, safetensors, MATLAB, pickle and torch archives through formats.contents
checkpoints through checkpoints.read
masks       the same pictures as regions, by a file for each and by colour, through guides.read
settings    lines KEY=VALUE as --axis and --config have them, through axes.parse and the config
folders     the files of a run's and a sweep's folder, through what goes on there and the report

Small whole files are cut, spliced, and their bits, bytes and numbers changed, by a seed. Processes
of their own read them, so that one that dies, takes over 10 seconds or over 4 GB is seen; its file
is kept in --keep. Whole bombs are the business of tests; damage seldom makes one.

Exit code 1 if anything but an error of one line came of a file.
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

_MINUTES = flags.DEFINE_float("minutes", 20.0, "How long to go on.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of the damage.")
_KEEP = flags.DEFINE_string("keep", "fuzz-failures", "Folder for files that brought something out.")

BATCH = 200  # files a process reads before another takes its place
LONGEST = 10.0  # seconds for one file
MOST_MEMORY = 4 << 30  # bytes of a process
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damaged(whole: bytes, other: bytes, draw: random.Random) -> bytes:
    """A file with one to eight things done to it."""
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
        return mended(bytes(data))
    return bytes(data)


def mended(png: bytes) -> bytes:
    """A PNG with right checksums, which would else hide most damage."""
    out, at = png[:8], 8
    while at + 12 <= len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        body = png[at + 4 : at + 8 + length]
        out += png[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return out


def read_batch(name: str, seed: int, folder: str, report: Any):
    """Reads a batch of damaged files; tells of each before and after."""
    from nst_jax.errors import UserError

    resource.setrlimit(resource.RLIMIT_AS, (4 * MOST_MEMORY, 4 * MOST_MEMORY))
    make, read = TARGETS[name]
    whole, draw = make(), random.Random(seed)
    for number in range(BATCH):
        suffix, data = draw.choice(whole)
        path = Path(folder) / f"{seed}-{number}{suffix}"
        path.write_bytes(damaged(data, draw.choice(whole)[1], draw))
        report.put(("reads", str(path)))
        start = time.monotonic()
        try:
            read(path)
            came = "read"
        except UserError as error:
            came = "refused" if "\n" not in str(error) else "an error of several lines"
        except BaseException as error:
            came = f"{type(error).__name__}: {error}"
        if time.monotonic() - start > LONGEST:
            came = "too slow"
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > MOST_MEMORY:
            came = "too much memory"
        report.put((came, str(path)))
        if came in ("read", "refused"):
            path.unlink()
        if came == "too much memory":
            break  # what comes after would be blamed


def watched(name: str, seed: int, folder: str, counts: Counter) -> list[tuple[str, str]]:
    """Has a process read a batch; what came of its files that should not, with their paths."""
    context = multiprocessing.get_context("spawn")
    report = context.SimpleQueue()  # which has told all when a process dies
    child = context.Process(target=read_batch, args=(name, seed, folder, report))
    child.start()
    reading, since, failures = "", time.monotonic(), []
    while child.is_alive() or not report.empty():
        if report.empty():
            time.sleep(0.01)
            if reading and time.monotonic() - since > 2 * LONGEST:
                child.kill()
            continue
        came, path = report.get()
        reading, since = path if came == "reads" else "", time.monotonic()
        if came != "reads":
            counts[came] += 1
        if came not in ("reads", "read", "refused"):
            failures.append((came, path))
    child.join()
    if child.exitcode:
        failures.append((f"the process ended with {child.exitcode}", reading))
    return failures


def main(name: str):
    """Prints what came of the files."""
    until, seed, counts, kept = time.monotonic() + 60 * _MINUTES.value, _SEED.value, Counter(), 0
    while time.monotonic() < until:
        with tempfile.TemporaryDirectory() as folder:
            for came, path in watched(name, seed, folder, counts):
                kept += 1
                print(f"{Path(path).name}: {came}", flush=True)
                if Path(path).is_file():
                    Path(_KEEP.value).mkdir(exist_ok=True)
                    shutil.copy(path, _KEEP.value)
        seed += 1
    print(f"{name}: {counts.total()} files: {dict(counts)}; {kept} failures", flush=True)
    if kept:
        raise cli.StoppedError(f"{kept} files brought something out", 1)


if __name__ == "__main__":
    cli.start(main, TARGETS)
