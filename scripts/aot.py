"""Compiles the program of a config for accelerators that are not there, and says what it takes.

  pip install -e ".[aot]"
  python scripts/aot.py
  python scripts/aot.py --config configs/starry.py --topologies v5p:2x2x1 --sizes 2048 --chips 1,4

  pip install -e ".[aot-cuda]"
  python scripts/aot.py --topologies h100:8 --sizes 2048

It is the program of a run, compiled for a square painting and style picture of that many pixels, by
the compiler of the accelerator (`libtpu` needs no TPU, XLA's for CUDA no card). Nothing is run:
memory is what the compiler reserves on each chip, for arguments, results and temporaries;
operations and milliseconds of a step are the compiler's own estimates, where it makes them. With
several chips, each has some of the rows, and what they wait for each other is not in the time. For
an H100 the memory is less than what a run takes: convolutions are cuDNN's, which chooses its
scratch memory on the card. There are no estimates of operations and time there.

2 CPU cores: half a minute to 5 minutes for each line of the table.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from absl import flags
from measuring import sizes

from nst_jax import cli, config
from nst_jax.errors import UserError

if TYPE_CHECKING:
    import jax

    from nst_jax.config.experiment import Experiment

cli.define_config("Config file; starry if left out.")
_TOPOLOGIES = flags.DEFINE_list(
    "topologies",
    ["v5e:2x4"],
    "Chips and how they are connected, as TPUs name them; or h100:8 for as many cards.",
)
_CHIPS = flags.DEFINE_list("chips", ["1", "4", "8"], "How many chips share the picture.")
flags.declare_key_flag("sizes")

# Memory of a chip: https://cloud.google.com/tpu/docs/system-architecture-tpu-vm
GIGABYTES = {"v5e": 16, "v5p": 95, "v6e": 32, "h100": 80}
# Clock of a TPU: its peak in bfloat16 over the size of its matrix units. Austin et al. 2025, "How
# to Scale Your Model" (https://jax-ml.github.io/scaling-book/tpus).
GIGAHERTZ = {"v5e": 1.5, "v5p": 1.75, "v6e": 1.75}
# The limits of an H100 SXM, as XLA's compiler asks for them: NVIDIA's H100 white paper, and compute
# capability 9.0 in the CUDA programming guide.
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
# What the compiler would ask of a machine that has a TPU.
NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


class Compiled(NamedTuple):
    """What a compiler says of a program.

    Attributes:
      gigabytes: of a chip's memory.
      operations: floating-point operations of a step and of the terms for the log on a chip, times
        1e12, loops over tiles counted once; NaN if it does not say.
      cycles: of a step on a chip; 0 if it does not say.
      collectives: operation -> how often it is in the program.
      seconds: that it took to compile.
    """

    gigabytes: float
    operations: float
    cycles: int
    collectives: Counter[str]
    seconds: float


def main():
    """Prints the table."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    for name, value in NO_TPU.items():
        os.environ.setdefault(name, value)
    c, _ = cli.given_config() if flags.FLAGS["config"].value else (starry(), "")
    names = f"{'chips':<12}{'pixels':>7}{'tile':>6}{'GB':>8}{'fits':>6}{'TFLOP':>8}{'ms':>8}"
    print(f"{names}  collectives")
    for topology in _TOPOLOGIES.value:
        for size in sizes(512, 1024, 2048, 8192):
            for chips in map(int, _CHIPS.value):
                print(line(c, topology, size, chips), flush=True)


def starry() -> config.Config:
    """The shipped config."""
    return config.load(config.find("starry"))


def line(c: config.Config, topology: str, size: int, chips: int) -> str:
    """A line of the table."""
    from nst_jax.transfer import estimate, failures

    kind = topology.partition(":")[0]
    label = f"{chips} {kind}"
    if kind not in GIGABYTES:
        raise UserError(f"--topologies {topology}; there are {', '.join(GIGABYTES)}")
    most = GIGABYTES[kind]
    values = {"image_size": size, "pyramid.min_size": 0, "convolution": "direct", "split": chips}
    tile = estimate.tile(config.with_values(c, values), (size, size), most * 1e9)
    experiment = config.with_values(c, values | {"tile": tile})
    try:
        done = compiled(experiment, topology, size, chips, most * 1e9)
    except Exception as error:
        if not failures.is_out_of_memory(error):
            raise
        return f"{label:<12}{size:>7}{tile or 'whole':>6}{'':>8}{'no':>6}"
    collectives = ", ".join(f"{n} {name}" for name, n in sorted(done.collectives.items())) or "none"
    fits = "yes" if done.gigabytes <= most else "no"
    # XLA counts a loop over tiles once.
    operations = "" if tile else f"{done.operations:.3g}"
    milliseconds = f"{done.cycles / GIGAHERTZ[kind] / 1e6:.3g}" if done.cycles else ""
    return (
        f"{label:<12}{size:>7}{tile or 'whole':>6}{done.gigabytes:>8.3g}{fits:>6}"
        f"{operations:>8}{milliseconds:>8}  {collectives} ({done.seconds:.0f} s)"
    )


def compiled(
    experiment: "Experiment", topology: str, size: int, chips: int, available: float
) -> Compiled:
    """Compiles a run's program for chips that are not there.

    Args:
      experiment: the experiment.
      topology: as of --topologies.
      size: side of the painting in pixels.
      chips: how many share the rows.
      available: memory of a chip in bytes.

    Raises:
      UserError: there is no such topology, or it has fewer chips.
      jax.errors.JaxRuntimeError: by the compiler, for want of memory for example.
    """
    import jax

    from nst_jax.optimize.step import chunk

    jax.config.update("jax_enable_compilation_cache", False)  # it cannot be read without a chip
    try:
        found = chips_of(topology)
    except Exception as error:
        raise UserError(f"--topologies {topology}: {error}") from error
    if chips > len(found):
        raise UserError(f"--chips {chips}, but {topology} has {len(found)}")
    devices = np.array(found[:chips])
    mesh = jax.sharding.Mesh(devices, ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    static, *arguments = shapes(experiment, size, mesh if chips > 1 else None, available)
    start = time.monotonic()
    program = chunk.lower(static, 10, *placed(arguments, mesh), shown=True).compile()
    memory: Any = program.memory_analysis()
    reserved = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    cost: Any = program.cost_analysis() or {}  # none for CUDA
    text = program.as_text() or ""
    names = re.findall(rf" ({'|'.join(COLLECTIVES)})(?:-start)?\(", text)
    return Compiled(
        reserved / 1e9,
        cost.get("flops", np.nan) / 1e12,
        cycles_of_a_step(text),
        Counter(names),
        time.monotonic() - start,
    )


def cycles_of_a_step(program: str) -> int:
    """The compiler's estimate for the loop over the steps, once; 0 where it makes none.

    Every instruction has its own cycles. A loop over tiles counts as often as it runs, the loop
    over steps, whose length is not known, once.

    Args:
      program: the text of a compiled program.
    """
    computations: dict[str, list[str]] = {}
    own: list[str] = []
    for line in program.splitlines():
        if header := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            own = computations.setdefault(header[1], [])
        own.append(line)

    def cycles(name: str) -> int:
        total = 0
        for line in computations[name]:
            if found := re.search(r'"estimated_cycles":"(\d+)"', line):
                total += int(found[1])
            if loop := re.search(r" while\(.*body=%?([\w.\-]+)", line):
                times = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
                total += (int(times[1]) if times else 1) * cycles(loop[1])
        return total

    bodies = re.findall(r" while\((?!.*known_trip_count).*body=%?([\w.\-]+)", program)
    return max(map(cycles, bodies), default=0)


def chips_of(topology: str) -> Sequence[Any]:
    """The chips of a topology, none of which has to be there."""
    from jax.experimental import topologies

    kind, _, count = topology.partition(":")
    if kind == "h100":
        found = topologies.get_topology_desc(
            kind, platform="cuda", target_config=H100, topology=f"1x1x{count or 1}"
        )
    else:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    return found.devices


def shapes(experiment: "Experiment", size: int, mesh: Any, available: float) -> tuple[Any, ...]:
    """The static part, and the shapes of `chunk`'s other arguments."""
    import jax
    import jax.numpy as jnp

    from nst_jax.optimize.step import initial_state, stack
    from nst_jax.transfer import networks, paint, problem
    from nst_jax.transfer.cache import SHARED
    from nst_jax.transfer.prepare import Pictures

    blank = np.broadcast_to(np.float32(0), (size, size, 3))
    pictures = Pictures((size, size), blank, (blank,) * len(experiment.inputs.styles))
    network = networks.load_network(experiment, pictures, SHARED)
    static = experiment.optimizer.static
    paint.check_split(experiment, (size, size), mesh)
    place = paint.placement(experiment, (size, size), mesh)

    def traced() -> tuple[Any, Any]:
        given = problem.problem_of(experiment, pictures, network, place, available)
        image = jnp.zeros((1, place.rows or size, size, 3))
        return initial_state(static, image), stack([given])

    state, given = jax.eval_shape(traced)
    rates = jax.eval_shape(lambda: stack([experiment.optimizer.rates]))
    return static, jax.ShapeDtypeStruct((), np.int32), state, network, given, rates


def placed(arguments: list[Any], mesh: "jax.sharding.Mesh") -> list[Any]:
    """The same shapes, on the devices of a mesh."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    from nst_jax.losses.arguments import spread
    from nst_jax.optimize.placement import shardings

    count, state, network, given, rates = arguments

    def at(leaf: Any, sharding: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    def everywhere(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: at(leaf, NamedSharding(mesh, PartitionSpec())), tree)

    def by_rows(leaf: Any, spec: Any) -> Any:
        return at(leaf, NamedSharding(mesh, PartitionSpec(None, *spec)))

    if mesh.size == 1:
        return [everywhere(tree) for tree in arguments]
    return [
        everywhere(count),
        jax.tree.map(at, state, shardings(mesh, state, state.image.shape)),
        everywhere(network),
        jax.tree.map(by_rows, given, spread(given, 1)),
        everywhere(rates),
    ]


if __name__ == "__main__":
    cli.start(main)
