"""What a config may hold: names to choose from, the range of every key, what excludes what.

Plain tables. `nst_jax.config.parsing` goes through them.
"""

from collections.abc import Callable, Iterable
from importlib import util
from pathlib import Path
from typing import Any

from nst_jax.config.experiment import Experiment
from nst_jax.config.grammar import MAX_WEIGHT
from nst_jax.network import architecture
from nst_jax.pictures import writers
from nst_jax.pictures.sizes import FILTERS, SIDES

# Content loss -> its layers where a config names none.
CONTENT_LOSSES = dict.fromkeys(
    ("squared", "mse", "half_sum", "sum", "self_similarity", "amplify"), "relu4_2"
)

# Style loss -> its layers where a config names none. Equal lambdas would not do: activations differ
# in size from layer to layer. With those of "gram" every layer counts about the same. Those of the
# other losses give every layer the gradient with respect to the pixels that it has with "gram"
# halfway through a painting.
STYLE_LOSSES = {
    "gram": "relu1_1:100, relu2_1:1, relu3_1:0.3, relu4_1:0.003, relu5_1:1",
    "gram_mse": "relu1_1:25, relu2_1:0.25, relu3_1:0.075, relu4_1:0.00075, relu5_1:0.25",
    "gram_johnson": "relu1_1:1e5, relu2_1:4000, relu3_1:5000, relu4_1:200, relu5_1:65000",
    "gram_keras": "relu1_1:0.22, relu2_1:0.009, relu3_1:0.011, relu4_1:0.00046, relu5_1:2.6",
    "gram_normalized": "relu1_1:3e8, relu2_1:8e8, relu3_1:3e8, relu4_1:9e8, relu5_1:5e7",
    "shifted_gram": "relu3_1:0.3, relu4_1:0.003",
    "cross_gram": "relu1_1:6, relu2_1:0.3, relu3_1:0.02, relu4_1:0.03, relu5_1",
    "cross_covariance": "relu1_1:1.5, relu2_1:0.2, relu3_1:0.015, relu4_1:0.07, relu5_1",
    "mean_variance": "relu1_1:14000, relu2_1:2300, relu3_1:1300, relu4_1:220, relu5_1:1000",
    "cmd": "relu1_1:4e6, relu2_1:2e6, relu3_1:1.2e6, relu4_1:2.4e6, relu5_1:2.3e6",
    "mmd_linear": "relu1_1:26000, relu2_1:3500, relu3_1:2300, relu4_1:350, relu5_1:3600",
    "mmd_polynomial": "relu1_1:100, relu2_1:1, relu3_1:0.3, relu4_1:0.003, relu5_1:1",
    "mmd_gaussian": "relu1_1:2e7, relu2_1:1e8, relu3_1:3e8, relu4_1:5e8, relu5_1:1.5e8",
    "w2": "relu1_1:1e4, relu2_1:700, relu3_1:400, relu4_1:47, relu5_1:320",
    "w2_crowsonkb": "relu1_1:1e4, relu2_1:660, relu3_1:340, relu4_1:44, relu5_1:310",
    "sliced": "relu1_1:1e4, relu2_1:1200, relu3_1:800, relu4_1:130, relu5_1:900",
    "histogram": "relu1_1:3400, relu2_1:460, relu3_1:480, relu4_1:140, relu5_1:840",
    "remd": "relu1_1:5e6, relu2_1:6e6, relu3_1:1e7, relu4_1:4e7, relu5_1:1.2e7",
    "nnst": "relu1_1:2e6, relu2_1:2e6, relu3_1:5e6, relu4_1:2.5e7, relu5_1:1.2e7",
    "hypercolumns": "relu1_1:1e8, relu1_2, relu2_1, relu2_2, relu3_1, relu3_2, relu3_3, relu4_1, "
    "relu4_2, relu4_3",
    "mrf": "relu3_1:50, relu4_1:13",
}
LOSSES = {"content": CONTENT_LOSSES, "style": STYLE_LOSSES}
PAIRED_LOSSES = ("cross_gram", "cross_covariance")  # compare each layer with the next one
MATCHED_LOSSES = ("hypercolumns",)  # match each position of the content with one of the style
# Losses that see several layers together -> which of them, by depth, have no lambda of their own.
JOINT_LOSSES = {
    **{name: slice(-1, None) for name in PAIRED_LOSSES},
    **{name: slice(1, None) for name in MATCHED_LOSSES},
}
WHOLE_LOSSES = ("shifted_gram", *MATCHED_LOSSES)  # see positions that are far from each other
TV_LOSSES = ("squared", "absolute", "nine_point", "power")
POOLINGS = ("max", "max_ceil", "average", "l2", "average_rescaled", "l2_rescaled")
PADDINGS = ("zero", "reflect", "replicate", "circular", "replicate_first")
MIN_TILE = 80  # pixels
PARAMETERIZATIONS = ("pixels", "fourier")
OPTIMIZERS = ("adam", "sgd", "lbfgs")
PROPAGATIONS = ("simple", "inside", "all")
STARTS = ("content", "style", "gray", "mean", "style_statistics")  # other values are files
NOISES = ("uniform", "near_mean", "normal")
COLOR_MODES = {
    "style": "the style's colours",
    "luminance": "paint in gray, then take the content's chroma",
    "recombine": "paint in colour, then take the content's chroma",
    "cholesky": "recolour the style like the content before painting, linearly",
    "pca": "the same, along principal axes",
    "symmetric": "the same, with the least change of colours",
    "histogram": "the same, with the whole histogram of the content's colours",
}
# What other programs call it -> the key here, and what to know.
ALIASES = {
    "content_weight": "alpha",
    "style_weight": "beta",
    "tv": "tv_weight",
    "total_variation_weight": "tv_weight",
    "learning_rate": "optimizer.learning_rate",
    "lr": "optimizer.learning_rate",
    "step_size": "optimizer.learning_rate",
    "optimiser": "optimizer.name",
    "iterations": "steps",
    "num_iterations": "steps",
    "n_iterations": "steps",
    "max_iter": "steps",
    "num_steps": "steps",
    "epochs": "steps",
    "content_image": "content",
    "content_path": "content",
    "input": "content",
    "style_image": "style",
    "style_images": "style",
    "style_path": "style",
    "styles": "style",
    "style_blend_weights": "style (a.jpg:3, b.jpg:1)",
    "style_interpolation_weights": "style (a.jpg:3, b.jpg:1)",
    "output_image": "output (a file name; its folder is --workdir)",
    "output_path": "output (a file name; its folder is --workdir)",
    "output_dir": "output (a file name; its folder is --workdir)",
    "original_colors": "color.mode=luminance",
    "preserve_colors": "color.mode=luminance",
    "preserve_color": "color.mode=luminance",
    "keep_colors": "color.mode=luminance",
    "photo": "color.photorealism",
    "photorealism": "color.photorealism",
    "photorealistic": "color.photorealism",
    "color_transfer": "color.mode",
    "size": "image_size",
    "max_size": "image_size",
    "imsize": "image_size",
    "img_size": "image_size",
    "width": "image_size (of the longer side)",
    "height": "image_size and side=height",
    "init_image": "init.picture",
    "init_type": "init.picture",
    "noise_ratio": "init.noise",
    "init_noise": "init.noise",
    "model": "arch",
    "model_file": "weights",
    "model_weights": "weights",
    "pooling_type": "pooling",
    "pool": "pooling",
    "random_seed": "seed",
    "print_iter": "log_every",
    "save_iter": "save_every",
    "checkpoint_iterations": "save_every",
    "masks": "guides.content",
    "content_mask": "guides.content",
    "style_mask": "guides.style",
    "style_masks": "guides.style",
    "pyramid_size": "pyramid.min_size",
    "min_scale": "pyramid.min_size",
    "layer_weights": "style_layers",
}
# Keys that Python callers have no use for: `stylize` returns what the commands write.
COMMAND_KEYS = (
    "output",
    "bits",
    "keep_alpha",
    "metrics",
    "tensorboard",
    "animation",
    "save_every",
    "checkpoint_every",
    "film.frames",
    "film.fps",
    "film.output",
    "axes",
)
# The key that is meant where Python callers give a value to a group.
GROUP_KEYS = {"color": "color.mode", "init": "init.picture", "optimizer": "optimizer.name"}
FILE_LISTS = ("guides.content", "guides.style", "normalize_network")  # hold names of files
HIGHER_IS_BETTER = ("ssim", "edge_ssim")  # of the metrics; of the others, lower is
RECOLOURINGS = ("cholesky", "pca", "symmetric", "histogram")  # of the style, before painting


def _not_negative(value: float) -> bool:
    return 0 <= value <= MAX_WEIGHT


def _positive(value: float) -> bool:
    return 0 < value <= MAX_WEIGHT


def _one_of(*allowed: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in allowed, " or ".join(allowed)


def _share(value: float) -> bool:
    return 0 <= value < 1


def _needs(package: str, extra: str) -> tuple[Callable[[Any], bool], str]:
    """The rule of a switch that needs the package of an extra."""
    there = f'False unless its package is installed: pip install -e ".[{extra}]"'
    return lambda value: not value or util.find_spec(package) is not None, there


def _file_name(value: str, suffixes: Iterable[str]) -> bool:
    named = value == Path(value).name != "losses.png"
    return named and Path(value).suffix.lower() in suffixes


# Key -> (whether a value is allowed, what is allowed).
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "blend": _one_of("targets", "losses"),
    "interpolate": (lambda v: v == 0 or 2 <= v <= 1000, "0, or 2 to 1000 paintings"),
    "side": _one_of(*SIDES),
    "resample": _one_of(*FILTERS),
    "image_size": (lambda v: 0 <= v <= 1 << 15, "1 to 32768 pixels, or 0 for the picture's own"),
    "style_scale": (lambda v: 0.01 <= v <= 100, "0.01 to 100"),
    "style_size": (lambda v: 0 <= v <= 1 << 15, "0 to 32768 pixels"),
    "pyramid.min_size": (lambda v: 0 <= v <= 1 << 15, "0 to 32768 pixels"),
    "pyramid.factor": (lambda v: 1.1 <= v <= 100, "1.1 to 100"),
    "pyramid.first_steps": (lambda v: 1 <= v <= 10**7, "1 to 10 million"),
    "pyramid.steps": (lambda v: 1 <= v <= 10**7, "1 to 10 million"),
    "init.picture": (bool, f"{', '.join(STARTS)} or a file"),
    "init.noise": (lambda v: 0 <= v <= 1, "0 to 1"),
    "init.noise_kind": _one_of(*NOISES),
    "arch": _one_of(*architecture.DEPTHS),
    "pooling": _one_of(*POOLINGS),
    "padding": _one_of(*PADDINGS),
    "convolution": _one_of("auto", "direct", "winograd"),
    "tv_loss": _one_of(*TV_LOSSES),
    "alpha": (_not_negative, "0 or more"),
    "beta": (_not_negative, "0 or more"),
    "tv_weight": (_not_negative, "0 or more"),
    "matting_weight": (_not_negative, "0 or more"),
    "spectrum_weight": (_not_negative, "0 or more"),
    "guides.propagation": _one_of(*PROPAGATIONS),
    "color.mode": _one_of(*COLOR_MODES),
    "color.space": _one_of("yuv", "yiq", "lab"),
    "color.photorealism": (lambda v: 0 <= v <= 1, "0 to 1"),
    "optimizer.name": _one_of(*OPTIMIZERS),
    "parameterization": _one_of(*PARAMETERIZATIONS),
    "optimizer.learning_rate": (_positive, "above 0"),
    "optimizer.decay": (lambda v: 0 < v <= 1, "above 0, 1 at most"),
    "optimizer.patience": (lambda v: 0 <= v <= 10**7, "0 to 10 million"),
    "optimizer.b1": (_share, "0 to below 1"),
    "optimizer.b2": (_share, "0 to below 1"),
    "optimizer.eps": (_positive, "above 0"),
    "optimizer.memory": (lambda v: 0 <= v <= 1000, "0 to 1000"),
    "optimizer.average": (_share, "0 to below 1"),
    "steps": (lambda v: 1 <= v <= 10**7, "1 to 10 million"),
    "seed": (lambda v: 0 <= v < 1 << 32, "0 to 2^32 - 1"),
    "tile": (
        lambda v: v in (-1, 0) or (v >= MIN_TILE and v % 16 == 0),
        "-1, 0, or a multiple of 16 from 80 on",
    ),
    "split": (lambda v: -1 <= v <= 10**6, "-1, 0, or a number of devices"),
    "precision": _one_of("float32", "tensorfloat32", "bfloat16"),
    "log_every": (lambda v: 1 <= v <= 10**7, "1 to 10 million"),
    "checkpoint_every": (_not_negative, "0 or more seconds"),
    "save_every": (lambda v: v >= 0, "0 or more"),
    "output": (
        lambda v: _file_name(v, writers.WRITERS),
        f"a file name in --workdir, not losses.png, ending in {', '.join(writers.WRITERS)}",
    ),
    "bits": (lambda v: v in (8, 16), "8 or 16"),
    "metrics": _needs("dm_pix", "metrics"),
    "tensorboard": _needs("tensorboardX", "tensorboard"),
    "film.steps": (lambda v: 1 <= v <= 10**7, "1 to 10 million"),
    "film.learning_rate": (_positive, "above 0"),
    "film.temporal_weight": (_not_negative, "0 or more"),
    "film.passes": (lambda v: 1 <= v <= 100, "1 to 100"),
    "film.fps": (lambda v: 0 <= v <= 1000, "0 to 1000"),
    "film.output": (
        lambda v: _file_name(v, writers.FILM_CODECS) and Path(v).stem != "source",
        f"a file name in --workdir, not source, ending in {', '.join(writers.FILM_CODECS)}",
    ),
    "animation": (
        lambda v: not v or _file_name(v, writers.ANIMATIONS),
        f"empty, or a file name ending in {', '.join(writers.ANIMATIONS)}",
    ),
}


# Key -> (whether it excludes another key, what to say after its name); the first that does is told.
CONFLICTS: dict[str, tuple[Callable[[Experiment], Any], str]] = {
    "content": (
        lambda e: e.inputs.content is None and not e.inputs.styles,
        "and config.style are both empty; name a picture",
    ),
    "pyramid.min_size": (
        lambda e: e.raw["pyramid"]["min_size"] > e.size,
        "is above config.image_size; the pyramid's smallest scale cannot be larger than its last; "
        "0 means a single scale",
    ),
    "style_size": (
        lambda e: e.raw["style_size"] and e.raw["style_scale"] != 1,
        "and config.style_scale both say how large the style picture is; give one of them",
    ),
    "interpolate": (
        lambda e: e.interpolate and e.raw["pyramid"]["min_size"],
        "and config.pyramid.min_size exclude each other; set one of them to 0",
    ),
    "normalize_gradients": (
        lambda e: e.objective.normalize_gradients and e.optimizer.static.name == "lbfgs",
        "leaves no function whose slope L-BFGS could follow; choose config.optimizer.name=adam",
    ),
    "optimizer.patience": (
        lambda e: e.optimizer.static.backs_off and e.optimizer.static.name == "lbfgs",
        "halves a learning rate, but L-BFGS has none and finds its step lengths; leave it at 0",
    ),
    "tile": (
        lambda e: e.network.tile > 0 and untileable(e),
        f"cannot be with the style losses {', '.join(WHOLE_LOSSES)}, or with both "
        f"config.normalize_gradients and a style loss of two layers ({', '.join(PAIRED_LOSSES)}), "
        "which need the whole picture at once; leave it at -1, or leave those out",
    ),
    "split": (
        lambda e: (
            is_split(e)
            and (
                untileable(e)
                or e.interpolate
                or e.raw["parameterization"] == "fourier"
                or e.objective.matting_weight
                or e.objective.spectrum_weight
            )
        ),
        "divides one picture among devices, but config.interpolate, "
        "config.parameterization=fourier, config.matting_weight, config.spectrum_weight, the style "
        f"losses {', '.join(WHOLE_LOSSES)}, and config.normalize_gradients together with a style "
        f"loss of two layers ({', '.join(PAIRED_LOSSES)}) need it whole; leave it at 0, or leave "
        "those out",
    ),
    "convolution": (
        lambda e: e.network.convolution == "winograd" and e.network.precision == "bfloat16",
        "is winograd, which loses all digits in config.precision=bfloat16; choose auto",
    ),
    "metrics": (
        lambda e: e.output.metrics and e.interpolate,
        "measures one painting, but config.interpolate makes several; leave one of them out",
    ),
    "tensorboard": (
        lambda e: e.output.tensorboard and e.interpolate,
        "shows one painting, but config.interpolate makes several; leave one of them out",
    ),
    "bits": (
        lambda e: e.output.bits not in writers.DEPTHS[_suffix(e)],
        "is 16, which config.output cannot hold; name a .png or .tif file",
    ),
    "keep_alpha": (
        lambda e: (
            e.output.keep_alpha
            and not (isinstance(e.inputs.content, str) and _suffix(e) in writers.TRANSPARENT)
        ),
        "needs a config.content file to take the transparency from, and a config.output that can "
        "hold it: a .png, .webp or .tif file",
    ),
    "animation": (
        lambda e: (
            e.output.animation
            and (
                not e.output.save_every or e.output.animation == e.output.painting or e.interpolate
            )
        ),
        "is a film of frames/: it needs config.save_every above 0, config.interpolate 0, and "
        "a name other than config.output",
    ),
    "guides.content": (
        lambda e: bool(e.inputs.guides.content) != any(e.inputs.guides.styles),
        "and config.guides.style need each other: a region of the output and where its style is; "
        'config.guides.style="sky=" gives a region sky the whole style picture',
    ),
    "guides.weights": (
        lambda e: e.objective.region_weights and not e.inputs.guides.content,
        "weighs the regions of config.guides.content, which is empty",
    ),
    "color.guided": (
        lambda e: (
            e.inputs.color.guided
            and not (e.inputs.guides.content and e.inputs.color.mode in RECOLOURINGS)
        ),
        f"needs config.guides, and config.color.mode one of {', '.join(RECOLOURINGS)}",
    ),
    "color.mode": (
        lambda e: e.inputs.color.mode != "style" and e.inputs.content is None,
        "takes the colours of config.content, which is empty; name a picture",
    ),
    "color.photorealism": (
        lambda e: e.inputs.color.photorealism and e.inputs.content is None,
        "takes the detail of config.content, which is empty; name a picture",
    ),
    "matting_weight": (
        lambda e: e.objective.matting_weight and e.inputs.content is None,
        "keeps the edges of config.content, which is empty; name a picture",
    ),
    "spectrum_weight": (
        lambda e: (
            e.objective.spectrum_weight
            and not (
                e.inputs.content is None
                and len(e.inputs.styles) == 1
                and all(scale.size == scale.style_size for scale in e.scales)
            )
        ),
        "keeps the periods of a texture: it needs one config.style, as large as the output, and "
        "config.content empty",
    ),
    "style_losses": (
        lambda e: e.inputs.content is None and is_matched(e),
        f"with {', '.join(MATCHED_LOSSES)} matches config.content with the style, and it is empty; "
        "name a picture or choose another loss",
    ),
    "guides.content_weight": (
        lambda e: e.inputs.content_weight and e.inputs.content is None,
        "weighs config.content, which is empty; name a picture",
    ),
}


def is_split(e: Experiment) -> bool:
    """Whether several devices share a picture."""
    return e.network.split not in (0, 1)


def untileable(e: Experiment) -> bool:
    """Whether the objective cannot be computed tile by tile."""
    whole = any(term.name in WHOLE_LOSSES for term in e.objective.style)
    return whole or (e.objective.normalize_gradients and is_paired(e))


def is_matched(e: Experiment) -> bool:
    """Whether a loss matches positions of the content with those of the style."""
    return any(term.name in MATCHED_LOSSES for term in e.objective.style)


def is_paired(e: Experiment) -> bool:
    """Whether a loss compares layers with the next ones."""
    return any(term.name in PAIRED_LOSSES for term in e.objective.style)


def _suffix(e: Experiment) -> str:
    return Path(e.output.painting).suffix.lower()
