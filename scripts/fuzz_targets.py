"""What `fuzz.py` damages, small files of every kind, and how commands read them."""

import contextlib
import functools
import io
import json
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nst_jax.errors import UserError


def pictures() -> list[tuple[str, bytes]]:
    """Small pictures of many kinds, each with its suffix."""
    import png
    import tifffile
    from PIL import Image

    y, x = np.mgrid[:40, :52]
    waves = np.sin(x[..., None] / [3, 5, 7, 4] + y[..., None] / 4)
    base = (127 + 120 * waves).astype(np.uint8)
    rgb, rgba = Image.fromarray(base[..., :3]), Image.fromarray(base)
    kinds: list[tuple[str, Any, dict[str, Any]]] = [
        (".png", rgb, {}),
        (".png", rgba, {"optimize": True}),
        (".png", rgb.convert("P"), {"transparency": 3}),
        (".png", Image.fromarray(base[..., 0].astype(np.uint16) * 257), {}),
        (".jpg", rgb, {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"}),
        (".jpg", rgb, {"progressive": True, "subsampling": 2}),
        (".jpg", rgb.convert("CMYK"), {}),
        (".tif", rgb, {}),
        (".tif", rgba, {"compression": "tiff_lzw"}),
        (".tif", rgb.convert("L"), {"compression": "tiff_adobe_deflate"}),
        (".webp", rgb, {}),
        (".webp", rgba, {"lossless": True}),
        (".gif", rgb, {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}),
        (".bmp", rgb, {}),
    ]
    made = []
    for suffix, image, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, Image.registered_extensions()[suffix], **options)
        made.append((suffix, buffer.getvalue()))
    deep = base.astype(np.uint16) * 257
    layouts: list[tuple[Any, dict[str, Any]]] = [
        (np.moveaxis(deep[..., :3], -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        (deep[..., :3] / np.float32(65535), {"photometric": "rgb", "compression": "zlib"}),
        (deep[..., :2], {"photometric": "minisblack", "extrasamples": ["assocalpha"]}),
        (deep[..., 0], {"photometric": "miniswhite", "tile": (16, 16)}),
    ]
    for pixels, options in layouts:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, **options)
        made.append((".tif", buffer.getvalue()))
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(base[::4, ::4, :3], photometric="rgb", subifds=1, subfiletype=1)
        file.write(deep[..., :3], photometric="rgb")
    made.append((".tif", buffer.getvalue()))
    gamma = [(b"gAMA", struct.pack(">I", 100000))]
    gamma += [
        (b"cHRM", struct.pack(">8I", *[31270, 32900, 30000, 60000, 64000, 33000, 15000, 6000]))
    ]
    header, *rest = png.Reader(bytes=made[0][1]).chunks()
    buffer = io.BytesIO()
    png.write_chunks(buffer, [header, *gamma, *rest])
    made.append((".png", buffer.getvalue()))
    return made


def read_picture(path: Path):
    """Reads a picture as a run does."""
    from nst_jax.pictures import images

    read = images.read(path, 64, smallest=16)
    assert read.dtype == np.float32 and 0 <= read.min() <= read.max() <= 1
    images.read_alpha(path, read.shape[:2])


def weights() -> list[tuple[str, bytes]]:
    """Small files in every container format of published weights, each with its suffix."""
    import h5py
    import scipy.io
    from safetensors.numpy import save

    arrays = {f"features.{k}.weight": np.full((2, 3, 3, 3), k, np.float32) for k in range(3)}
    hdf, mat = io.BytesIO(), io.BytesIO()
    with h5py.File(hdf, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(f"block1_conv1/{name}", data=array, compression="gzip")
    scipy.io.savemat(mat, {"layers": np.array([[1.0, 2.0]]), "meta": {"a": "b"}})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(arrays, 2))
        file.writestr("archive/data/0", bytes(216))
        file.writestr("archive/version", "3\n")
    return [
        (".h5", hdf.getvalue()),
        (".mat", mat.getvalue()),
        (".safetensors", save(arrays)),
        (".pkl", pickle.dumps(arrays)),
        (".pkl", pickle.dumps(arrays, 2)),
        (".pth", archive.getvalue()),
    ]


def read_weights(path: Path):
    """Reads weights as the converter does."""
    from nst_jax.network import containers, formats

    containers.contents(path)
    with contextlib.suppress(UserError):
        formats.read(path, "vgg19")  # refuses them all, but inspects their arrays first


@functools.cache
def small_run() -> tuple[Any, Any]:
    """A tiny experiment and its pictures."""
    from nst_jax import config
    from nst_jax.transfer import prepare
    from nst_jax.transfer.cache import Cache

    c = config.sample()
    c.image_size = 32
    experiment = config.parse(c)
    return experiment, prepare.load(experiment, Cache())


def checkpoints() -> list[tuple[str, bytes]]:
    """One checkpoint of the tiny experiment."""
    import jax

    from nst_jax.optimize.loop import Progress
    from nst_jax.optimize.step import initial_state
    from nst_jax.runs import checkpoints

    experiment, pictures = small_run()
    start = np.full((1, *pictures.shape, 3), 0.5, np.float32)
    state = jax.device_get(initial_state(experiment.optimizer.static, start))
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.write(Path(folder), Progress(5, state.image, {}, state=state), 1.0)
        (path,) = (Path(folder) / checkpoints.FOLDER).iterdir()
        return [(".state", path.read_bytes())]


def read_checkpoint(path: Path):
    """Reads a checkpoint as a run that resumes does."""
    from nst_jax.runs import checkpoints

    try:
        checkpoints.read(path, *small_run())
    except checkpoints.DamagedError as error:
        raise UserError(str(error)) from None


def read_mask(path: Path):
    """Reads regions as a run does: the picture as a mask, and as a colour-coded guide."""
    from nst_jax.config import grammar
    from nst_jax.pictures import masks

    shape = (40, 52)
    for text in (f"figure={path}", str(path)):
        for mask in masks.read(grammar.parse_masks(text), shape).values():
            assert mask.shape == shape and 0 <= mask.min() <= mask.max() <= 1


def settings() -> list[tuple[str, bytes]]:
    """One line for every notation of config values."""
    lines = {
        "style": "a.jpg:3, b.jpg:1",
        "content_losses": "squared, self_similarity:0.5(relu3_1)",
        "style_losses": "gram:2(relu1_1:3, relu2_1), sliced:1e-3, mrf(relu3_1, relu4_1:0.5)",
        "style_layers": "relu1_1:100, relu2_1",
        "guides.content": "sky=sky.png, ground=",
        "guides.style": "sky=a.png, ground=; sky=; ground=c.png",
        "guides.weights": "sky:0.1, ground:2",
        "normalize_network": "content, style",
        "beta": "0.002, 0.02, 2e-1",
        "image_size": "128, 256",
        "pyramid.min_size": "160",
        "optimizer.name": "['adam', 'lbfgs']",
        "output": "final.png",
    }
    return [(".txt", f"{key}={value}".encode()) for key, value in lines.items()]


def read_settings(path: Path):
    """Parses a line as the commands parse flags."""
    from nst_jax import config
    from nst_jax.config import axes, grammar

    key, _, value = path.read_text("latin-1").partition("=")
    refused = None
    for read in (
        lambda: axes.cells(with_axis(config.sample(), axes.parse(f"{key}={value}"))),
        lambda: config.with_values(config.sample(), {key: value}),
        lambda: grammar.parse_style_masks(value, 2),
        lambda: grammar.parse_region_weights(value),
    ):
        refused = refused or refusal(read)
    if refused:
        raise refused


def with_axis(c: Any, axis: Any) -> Any:
    """A config with one axis."""
    c.axes = (axis,)
    return c


def refusal(read: Callable[[], Any]) -> UserError | None:
    """The `UserError` that a call raises, if any."""
    try:
        read()
    except UserError as error:
        return error
    return None


@functools.cache
def folder_files() -> dict[str, bytes]:
    """The files of a run's and a sweep's folder, by name, as small as possible."""
    from nst_jax import config

    c = config.sample().to_dict()
    row = {"step": 10, "seconds": 1.5, "total": 4.5, "content": 2.0, "style/gram/relu1_1": 1.0}
    result = {"status": "done", "message": "", "steps": 200, "seconds": 1.5, "terms": {"total": 4}}
    cells = [
        {"name": f"{k}-beta={k}", "labels": {"beta": str(k)}, "command": "", "config": c}
        for k in range(2)
    ]
    axis = {"name": "beta", "labels": ["0", "1"]}
    contents = {
        "config.json": c,
        "environment.json": {"weights": {"sha256": "ab"}, "pictures": {"a.jpg": "cd"}},
        "result.json": result | {"sha256": {"final.png": "00"}, "metrics": {"lpips": 0.5}},
        "sweep.json": {"name": "small", "axes": [axis], "inputs": {"picture": {}}, "cells": cells},
    }
    found = {name: json.dumps(content).encode() for name, content in contents.items()}
    return found | {"metrics.jsonl": b"".join(json.dumps(row).encode() + b"\n" for _ in range(3))}


def folders() -> list[tuple[str, bytes]]:
    """The files of a folder, each with its name as the suffix."""
    return [(f".{name}", content) for name, content in folder_files().items()]


def read_folder(path: Path):
    """Reads a folder as the report does, and as a command that resumes."""
    from nst_jax import config, report
    from nst_jax.runs import record, workdir

    name = path.name.partition(".")[2]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for own in (folder, folder / "cells" / "0-beta=0", folder / "cells" / "1-beta=1"):
            own.mkdir(parents=True, exist_ok=True)
            for other, content in folder_files().items():
                if other != "sweep.json" or (name == other and own == folder):
                    (own / other).write_bytes(path.read_bytes() if other == name else content)
        report.write(folder)
        record.is_finished(folder, config.parse(config.sample()))
        before = workdir.read_json(folder / name) if name.endswith(".json") else {}
        if name == "sweep.json":
            workdir.open_sweep(str(folder), "small", json.loads(folder_files()[name]))
        elif before:
            workdir.check_same(folder, before, json.loads(folder_files()[name]))
        record.last_entry(folder)
        record.rewind(folder, 20)


# Name -> (intact files, reader).
TARGETS: dict[str, tuple[Callable[[], list[tuple[str, bytes]]], Callable[[Path], None]]] = {
    "pictures": (pictures, read_picture),
    "weights": (weights, read_weights),
    "checkpoints": (checkpoints, read_checkpoint),
    "masks": (pictures, read_mask),
    "settings": (settings, read_settings),
    "folders": (folders, read_folder),
}
