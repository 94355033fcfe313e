"""Kills runs at random moments and has them go on: does the painting stay the same to the byte?

  python scripts/soak.py
  python scripts/soak.py --kills 3 --optimizers adam

Every run paints starry.py from 48 over 68 to 96 pixels. For each optimiser one run is left alone.
Then new ones are killed (kill -9), each at a moment drawn from the time that it took, and the same
command is given again; what it paints and logs is compared.

2 CPU cores: half a minute a kill. Exit code 1 if any differs.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from nst_jax import cli

_KILLS = flags.DEFINE_integer("kills", 50, "Runs to kill, for each optimiser.", lower_bound=1)
_OPTIMIZERS = flags.DEFINE_list("optimizers", ["adam", "lbfgs"], "Which to try.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")

ROOT = Path(__file__).parents[1]


def command(workdir: Path, optimizer: str) -> list[str]:
    """A run of some seconds that writes a checkpoint at every log line."""
    keys = {"image_size": 96, "pyramid.min_size": 48, "log_every": 2, "save_every": 20}
    keys |= {"pyramid.first_steps": 30, "pyramid.steps": 30, "steps": 30, "convolution": "direct"}
    keys |= {"optimizer.name": optimizer, "checkpoint_every": 0.01}
    words = [sys.executable, "-m", "nst_jax.run", "--config", str(ROOT / "configs" / "starry.py")]
    return [*words, f"--workdir={workdir}", *(f"--config.{k}={v}" for k, v in keys.items())]


def left(workdir: Path) -> tuple[object, ...]:
    """What must be the same: the painting, the frames, and the log but for its times."""
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    pictures = [workdir / "final.png", *sorted((workdir / "frames").iterdir())]
    strays = [path.name for path in workdir.rglob(".*") if path.name != ".lock"]
    log = [row | {"seconds": None} for row in rows]
    return [(path.name, path.read_bytes()) for path in pictures], log, strays


def main():
    """Prints a line for every kill, and one for every optimiser."""
    draw, different = random.Random(_SEED.value), 0
    with tempfile.TemporaryDirectory() as folder:
        for optimizer in _OPTIMIZERS.value:
            words = command(Path(folder) / f"{optimizer}-alone", optimizer)
            subprocess.run(words, check=True, capture_output=True)  # compiles
            start, alone = time.monotonic(), Path(folder) / f"{optimizer}-again"
            subprocess.run(command(alone, optimizer), check=True, capture_output=True)
            took, expected = time.monotonic() - start, left(alone)
            same = 0
            for number in range(_KILLS.value):
                workdir, at = Path(folder) / f"{optimizer}-{number}", draw.random() * took
                words = command(workdir, optimizer)
                quiet = subprocess.DEVNULL
                with subprocess.Popen(words, stdout=quiet, stderr=quiet) as child:
                    time.sleep(at)
                    child.kill()
                newest = max((workdir / "checkpoints").glob("*.state"), default=None)
                subprocess.run(words, check=True, capture_output=True)
                equal = left(workdir) == expected
                same += equal
                verdict = "same" if equal else "DIFFERENT"
                found = newest.name if newest else "no checkpoint"
                print(f"{optimizer} {number}: after {at:.2f} s, {found}: {verdict}", flush=True)
            print(f"{optimizer}: {same} of {_KILLS.value} the same", flush=True)
            different += _KILLS.value - same
    if different:
        raise cli.StoppedError(f"{different} paintings differ", 1)


if __name__ == "__main__":
    cli.start(main)
