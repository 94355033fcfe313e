"""Kills runs at random moments and resumes them: is the painting still the same, byte for byte?

  python scripts/soak.py
  python scripts/soak.py --kills 3 --optimizers adam

Every run paints starry.py at 48, 68 and 96 pixels. For each optimiser, one run is left alone. Then
new runs are killed (kill -9), each at a random moment of the time that the first one took, and
resumed with the same command. Their paintings and logs are compared with the first run's.

2 CPU cores: half a minute per kill. Exit code 1 if any of them differs.
"""

import json
import random
import subprocess
import tempfile
import time
from pathlib import Path

from absl import flags
from measuring import run_command

from nst_jax import cli
from nst_jax.errors import StoppedError

_KILLS = flags.DEFINE_integer("kills", 50, "Runs to kill per optimiser.", lower_bound=1)
_OPTIMIZERS = flags.DEFINE_list("optimizers", ["adam", "lbfgs"], "Optimisers to test.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the moments.")


def command(workdir: Path, optimizer: str) -> list[str]:
    """A run of a few seconds that writes a checkpoint at every log line."""
    keys = {"image_size": 96, "pyramid.min_size": 48, "log_every": 2, "save_every": 20}
    keys |= {"pyramid.first_steps": 30, "pyramid.steps": 30, "steps": 30, "convolution": "direct"}
    return run_command(workdir, keys | {"optimizer.name": optimizer, "checkpoint_every": 0.01})


def outcome(workdir: Path) -> tuple[object, ...]:
    """What must not change: the painting, the frames, the log without times; and stray files."""
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    pictures = [workdir / "final.png", *sorted((workdir / "frames").iterdir())]
    strays = [path.name for path in workdir.rglob(".*") if path.name != ".lock"]
    log = [row | {"seconds": None} for row in rows]
    return [(path.name, path.read_bytes()) for path in pictures], log, strays


def main():
    """Prints a line for every kill and a summary for every optimiser."""
    draw, different = random.Random(_SEED.value), 0
    with tempfile.TemporaryDirectory() as folder:
        for optimizer in _OPTIMIZERS.value:
            same = soak(Path(folder), optimizer, draw)
            print(f"{optimizer}: {same} of {_KILLS.value} the same", flush=True)
            different += _KILLS.value - same
    if different:
        raise StoppedError(f"{different} paintings differ", 1)


def soak(folder: Path, optimizer: str, draw: random.Random) -> int:
    """Kills and resumes runs of one optimiser; returns how many ended like the one left alone."""
    compiles, alone = folder / f"{optimizer}-compiles", folder / f"{optimizer}-alone"
    subprocess.run(command(compiles, optimizer), check=True, capture_output=True)
    start = time.monotonic()
    subprocess.run(command(alone, optimizer), check=True, capture_output=True)
    took, expected = time.monotonic() - start, outcome(alone)
    same = 0
    for number in range(_KILLS.value):
        workdir, moment = folder / f"{optimizer}-{number}", draw.random() * took
        words, quiet = command(workdir, optimizer), subprocess.DEVNULL
        with subprocess.Popen(words, stdout=quiet, stderr=quiet) as child:
            time.sleep(moment)
            child.kill()
        newest = max((workdir / "checkpoints").glob("*.state"), default=None)
        subprocess.run(words, check=True, capture_output=True)
        is_same = outcome(workdir) == expected
        same += is_same
        verdict, found = "same" if is_same else "DIFFERENT", newest.name if newest else "none"
        at = f"killed after {moment:.2f} s, checkpoint {found}"
        print(f"{optimizer} {number}: {at}: {verdict}", flush=True)
    return same


if __name__ == "__main__":
    cli.start(main)
