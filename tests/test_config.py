import dataclasses
import importlib.util
import re

import pytest
from conftest import ROOT
from ml_collections import ConfigDict

from nst_jax import config
from nst_jax.config import axes, parsing, rules
from nst_jax.config.experiment import Region, Scale, Style
from nst_jax.errors import UserError
from nst_jax.losses.content import CONTENT
from nst_jax.losses.smoothness import SMOOTHNESS
from nst_jax.losses.style import STYLE
from nst_jax.network import architecture, convolution, receptive, vgg
from nst_jax.optimize.optimizers import OPTIMIZERS
from nst_jax.optimize.options import OptimizerStatic
from nst_jax.optimize.parameterization import PARAMETERIZATIONS
from nst_jax.pictures import color, writers
from nst_jax.transfer.starts import STARTS

CONFIGS = sorted((ROOT / "configs").rglob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def painting() -> config.Config:
    """A valid config: pictures named, the rest by default."""
    c = config.default()
    c.content, c.style = "content.jpg", "style.jpg"
    return c


def assign(c, key, value):
    *parents, last = key.split(".")
    for part in parents:
        c = c[part]
    c[last] = value


def keys(c, prefix=""):
    for key, value in c.items():
        if isinstance(value, ConfigDict):
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("arg", ["", "smoke"])
def test_every_config_is_valid_and_documented(path, arg):
    module = load(path)
    cells = axes.cells(module.get_config(arg))
    command = "sweep" if path.parent.name == "ablations" else "run"
    command = "film" if path.stem == "film" else command
    assert (len(cells) > 1) == (command == "sweep")
    for cell in cells:
        assert config.flat(ConfigDict(cell.experiment.raw)).keys() == {*keys(config.default())}
    assert f"python -m nst_jax.{command} --config {path.relative_to(ROOT)}" in module.__doc__
    assert re.search(r"2 CPU cores: .*(minutes|seconds)", module.__doc__), "device and time"
    assert re.search(r"[Ll]oss", module.__doc__), "the losses to expect"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_refuses_an_unknown_argument(path):
    with pytest.raises(UserError, match="nonsense"):
        load(path).get_config("nonsense=3")


def test_content_reconstruction_takes_its_layer():
    module = load(ROOT / "configs" / "content_reconstruction.py")
    assert module.get_config("relu2_1").content_layers == "relu2_1"
    smoke = module.get_config("relu3_1,smoke")
    assert (smoke.content_layers, smoke.image_size) == ("relu3_1", 64)


def test_every_key_is_consumed_exactly_once(monkeypatch):
    """`parse` takes each key from a dictionary, in which it is then gone."""
    taken = []

    def counting(take, *rest):
        def counted(key):
            taken.append(key)
            return take(key)

        return build(counted, *rest)

    build = parsing._experiment
    monkeypatch.setattr(parsing, "_experiment", counting)
    config.parse(painting())
    assert sorted(taken) == sorted({*keys(config.default())} - {"axes"})


def test_a_key_that_nothing_reads_is_an_error(monkeypatch):
    extra = dict(parsing._defaults()) | {"unread": 1}
    monkeypatch.setattr(parsing, "_defaults", lambda: extra)
    with pytest.raises(AssertionError, match="nothing reads: unread"):
        config.parse_values(config.flat(painting()) | {"unread": 1})


def losses(c, part):
    """loss -> tap -> lambda of a config."""
    terms = getattr(config.parse(c).objective, part)
    return {term.name: dict(term.layers) for term in terms}


def test_the_losses_are_read_by_their_keys():
    c = painting()
    c.content_losses, c.content_layers = "mse:2, sum(relu1_1:3)", "relu2_1:5"
    assert losses(c, "content") == {"mse": {"relu2_1": 10.0}, "sum": {"relu1_1": 3.0}}
    c.style_losses, c.style_layers = "gram(relu3_1)", ""
    assert losses(c, "style") == {"gram": {"relu3_1": 1.0}}
    c.style_losses = "w2:0.5"
    assert losses(c, "style")["w2"] == {
        "relu1_1": 5000,
        "relu2_1": 350,
        "relu3_1": 200,
        "relu4_1": 23.5,
        "relu5_1": 160,
    }


def test_an_experiment_has_what_its_config_says():
    """Numbers, names and tuples; nothing is left to be parsed."""
    c = painting()
    c.style = "night.jpg:3, day.jpg"
    c.image_size, c.pyramid.min_size, c.pyramid.factor, c.style_scale = 256, 64, 2.0, 0.5
    c.pyramid.first_steps, c.pyramid.steps, c.steps = 7, 5, 3
    c.guides.content, c.guides.style = "sky=a.png, ground=", "codes.png; sky=b.png"
    c.guides.weights, c.normalize_network = "sky:2", "content, 'x, y.jpg'"
    c.optimizer.name, c.optimizer.memory, c.precision = "lbfgs", 5, "tensorfloat32"
    e = config.parse(c)
    assert e.inputs.content == "content.jpg"
    assert e.inputs.styles == (Style("night.jpg", 0.75), Style("day.jpg", 0.25))
    assert e.inputs.guides.content == (Region("sky", "a.png"), Region("ground", ""))
    assert e.inputs.guides.styles == ("codes.png", (Region("sky", "b.png"),))
    assert e.objective.region_weights == {"sky": 2.0}
    assert e.network.normalize == ("content", "x, y.jpg")
    assert e.scales == (Scale(64, 32, 7), Scale(128, 64, 5), Scale(256, 128, 3))
    assert (e.steps, e.size) == (15, 256)
    assert e.optimizer.static == OptimizerStatic("lbfgs", 5, "pixels", "tensorfloat32", False)
    assert e.objective.taps == ("relu4_2", "relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    assert e.files == (
        "content.jpg",
        "night.jpg",
        "day.jpg",
        "a.png",
        "codes.png",
        "b.png",
        "x, y.jpg",
    )
    assert e.raw == c.to_dict()
    with pytest.raises(dataclasses.FrozenInstanceError):
        e.seed = 1


@pytest.mark.parametrize(
    ("size", "least", "factor", "expected"),
    [
        (512, 128, 2**0.5, [128, 181, 256, 362, 512]),  # crowsonkb/style-transfer-pytorch
        (1024, 512, 2.0, [512, 1024]),  # Gatys et al. 2017
        (512, 129, 2**0.5, [181, 256, 362, 512]),
        (300, 100, 1.5, [133, 200, 300]),  # 88.9 would be next
        (64, 64, 2.0, [64]),
        (64, 0, 2.0, [64]),
    ],
)
def test_sizes_by_hand(size, least, factor, expected):
    c = painting()
    c.image_size, c.pyramid.min_size, c.pyramid.factor = size, least, factor
    assert [scale.size for scale in config.parse(c).scales] == expected


def test_interpolation_goes_from_the_first_style_to_the_second():
    c = painting()
    c.style, c.interpolate = "a.jpg, b.jpg, c.jpg:8", 3
    shares = [[s.share for s in e.inputs.styles] for e in config.parse(c).paintings()]
    assert shares == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]]


def test_a_style_may_be_a_tuple_of_names_and_pairs():
    c = painting()
    c.style = ("Claude_Monet,_Impression.jpg", ("day:2.jpg", 3))
    assert config.parse(c).inputs.styles == (
        Style("Claude_Monet,_Impression.jpg", 0.25),
        Style("day:2.jpg", 0.75),
    )
    c.style = 1e5  # what --config.style=1e5 sets
    with pytest.raises(UserError, match="Quote a name that looks like a number"):
        config.parse(c)


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (STYLE, rules.STYLE_LOSSES),
        (CONTENT, rules.CONTENT_LOSSES),
        (SMOOTHNESS, rules.TV_LOSSES),
        (vgg.POOLINGS, rules.POOLINGS),
        (vgg.PADDINGS, rules.PADDINGS),
        (color.TRANSFERS, rules.RECOLOURINGS),
        ({"style", "luminance", "recombine", *color.TRANSFERS}, rules.COLOR_MODES),
        (color.SPACES, "color.space"),
        (receptive.PROPAGATIONS, "guides.propagation"),
        (OPTIMIZERS, "optimizer.name"),
        (PARAMETERIZATIONS, "parameterization"),
        (architecture.DEPTHS, "arch"),
        (SMOOTHNESS, "tv_loss"),
        (vgg.POOLINGS, "pooling"),
        (vgg.PADDINGS, "padding"),
        (convolution.METHODS, "convolution"),
    ],
)
def test_the_config_allows_what_there_is(table, names):
    if isinstance(names, str):
        allows, text = rules.RULES[names]
        names = text.split(" or ")
        assert all(map(allows, table))
    assert set(table) == set(names)


def test_the_config_names_every_start_loss_between_layers_and_kind_of_file():
    assert {*rules.STARTS} == STARTS.keys() - {"file"}
    assert {*rules.PAIRED_LOSSES} == {name for name in STYLE if STYLE[name].neighbours > 1}
    assert {*rules.MATCHED_LOSSES} == {name for name in STYLE if STYLE[name].match is not None}
    assert {*rules.JOINT_LOSSES} == {name for name in STYLE if STYLE[name].neighbours != 1}
    for suffix in writers.WRITERS:
        assert suffix in rules.RULES["output"][1]


def test_smoke_shrinks_a_pyramid_but_adds_none():
    small = config.smoke(painting())
    assert (small.image_size, small.steps, small.pyramid.min_size) == (64, 4, 0)
    c = painting()
    c.pyramid.min_size = 128
    small = config.smoke(c).pyramid
    assert (small.min_size, small.first_steps, small.steps) == (40, 2, 2)
    config.parse(c)


BAD_VALUES = {
    "blend": ["", "mean"],
    "interpolate": [1, -2, 1001],
    "tile": [100, 64, -2, 1],
    "split": [-2],
    "film.steps": [0, 10**8],
    "film.learning_rate": [0.0, -1.0],
    "film.temporal_weight": [-1.0, float("nan")],
    "film.passes": [0, 101],
    "film.fps": [-1.0, 1001.0],
    "film.output": ["film.mov", "a/film.webm", "source.webm", ""],
    "image_size": [-5, 10**6],
    "style_scale": [0.0, -1.0, 101.0, float("nan")],
    "style_size": [-1, 10**6],
    "pyramid.min_size": [-1, 10**6],
    "pyramid.factor": [1.0, 0.5, 101.0, float("nan")],
    "pyramid.first_steps": [0, -1],
    "pyramid.steps": [0, 10**8],
    "init.noise": [-0.1, 1.5, float("nan")],
    "init.noise_kind": ["gaussian", ""],
    "side": ["width", ""],
    "resample": ["box", ""],
    "init.picture": [""],
    "arch": ["vgg11"],
    "pooling": ["median"],
    "padding": ["same", ""],
    "convolution": ["fft", ""],
    "tv_loss": ["cubic", ""],
    "alpha": [-1.0, float("nan"), float("inf")],
    "beta": [-1.0],
    "tv_weight": [-1.0],
    "guides.propagation": ["outside"],
    "color.mode": ["gray", ""],
    "color.space": ["rgb"],
    "color.photorealism": [-0.1, 1.5],
    "matting_weight": [-1.0],
    "spectrum_weight": [-1.0],
    "optimizer.name": ["adagrad", ""],
    "parameterization": ["wavelets", ""],
    "optimizer.learning_rate": [0.0, -1.0],
    "optimizer.decay": [0.0, 1.1, float("nan")],
    "optimizer.patience": [-1, 10**7 + 1],
    "optimizer.b1": [-0.1, 1.0],
    "optimizer.b2": [-0.1, 1.0, float("nan")],
    "optimizer.eps": [0.0, float("inf")],
    "optimizer.memory": [-1, 1001],
    "optimizer.average": [-0.1, 1.0],
    "steps": [0, -1],
    "seed": [-1],
    "precision": ["float16", "highest"],
    "log_every": [0],
    "checkpoint_every": [-1.0, float("nan")],
    "save_every": [-1],
    "output": ["final.gif", "folder/final.png", "final", ""],
    "bits": [0, 10, 32],
    "animation": ["film.mp4", "folder/film.gif", "losses.png", ".gif"],
    "style": ["a.jpg, a.jpg", "a.jpg:0, b.jpg:0", "a.jpg:-1", "a.jpg:nan", "a.jpg:1e39"],
    "content_layers": ["relu9_1", "relu4_2:x", "relu4_2:-1", "relu4_2, relu4_2"],
    "style_layers": ["conv1_9", "relu1_1:"],
    "content_losses": ["", " , ", "gram", "squared(relu9_1)", "squared()", "mse:x", "sum, sum"],
    "style_losses": [
        "",
        "squared",
        "gram(relu1_1",
        "gram:-1",
        "cross_gram(relu1_1)",
        "cross_gram(relu1_1:6, relu2_1:1)",  # the last layer's lambda would not be used
        "hypercolumns(relu1_1)",
        "hypercolumns(relu1_1:6, relu2_1:1, relu3_1)",
        "gram:1e20(relu1_1:1e20)",  # their product is what is used
    ],
    "guides.weights": ["sky", "sky:x", "sky:-1", "sky:1, sky:2"],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in BAD_VALUES.items() for v in vs])
def test_a_bad_value_is_one_line_that_names_the_key(key, value):
    c = painting()
    assign(c, key, value)
    with pytest.raises(UserError) as caught:
        config.parse(c)
    assert f"config.{key}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_rule_has_a_bad_value_here():
    switches = {"metrics", "tensorboard"}  # see test_a_switch_says_what_to_install
    assert set(rules.RULES) - switches <= set(BAD_VALUES)


def test_an_unknown_layer_lists_the_known():
    c = painting()
    c.arch, c.style_layers = "vgg16", "relu5_4"
    with pytest.raises(UserError, match=r"config.style_layers.* vgg16 has conv1_1.*relu5_3$"):
        config.parse(c)


# key -> what to set for its conflict -> what else the line must name.
CONFLICTS = {
    "content": ({"content": "", "style": ""}, "config.style"),
    "style_size": ({"style_size": 256, "style_scale": 2.0}, "config.style_scale"),
    "pyramid.min_size": ({"pyramid.min_size": 385}, "config.image_size"),
    "interpolate": (
        {"interpolate": 3, "style": "a.jpg, b.jpg", "pyramid.min_size": 64},
        "config.pyramid.min_size",
    ),
    "convolution": ({"convolution": "winograd", "precision": "bfloat16"}, "config.precision"),
    "tile": (
        {"tile": 96, "style_losses": "gram, cross_gram", "normalize_gradients": True},
        "cross_gram",
    ),
    "style_losses": ({"content": "", "style_losses": "gram, hypercolumns"}, "another loss"),
    "split": ({"split": 2, "parameterization": "fourier"}, "config.parameterization"),
    "optimizer.patience": ({"optimizer.patience": 5, "optimizer.name": "lbfgs"}, "L-BFGS"),
    "normalize_gradients": (
        {"normalize_gradients": True, "optimizer.name": "lbfgs"},
        "config.optimizer.name",
    ),
    "metrics": (
        {"metrics": True, "interpolate": 2, "style": "a.jpg, b.jpg"},
        "config.interpolate",
    ),
    "tensorboard": (
        {"tensorboard": True, "interpolate": 2, "style": "a.jpg, b.jpg"},
        "config.interpolate",
    ),
    "bits": ({"bits": 16, "output": "final.jpg"}, "config.output"),
    "keep_alpha": ({"keep_alpha": True, "output": "final.JPEG"}, "config.output"),
    "animation": ({"animation": "film.gif", "save_every": 0}, "config.save_every"),
    "guides.content": ({"guides.content": "sky=a.png"}, "config.guides.style"),
    "guides.weights": ({"guides.weights": "sky:2"}, "config.guides.content"),
    "color.guided": ({"color.guided": True, "color.mode": "pca"}, "config.guides"),
    "matting_weight": (
        {"matting_weight": 1.0, "content": "", "init.picture": "gray"},
        "config.content",
    ),
    "spectrum_weight": ({"spectrum_weight": 1.0}, "config.content"),
    "color.photorealism": (
        {"color.photorealism": 0.5, "content": "", "init.picture": "gray"},
        "config.content",
    ),
    "color.mode": (
        {"color.mode": "luminance", "content": "", "init.picture": "gray"},
        "config.content",
    ),
    "guides.content_weight": (
        {"guides.content_weight": "a.png", "content": "", "init.picture": "gray"},
        "config.content",
    ),
}
MORE_CONFLICTS = [
    ("axes", {"axes": (axes.each("seed", 0, 1),)}, "nst_jax.sweep"),
    ("animation", {"animation": "final.png"}, "config.output"),
    (
        "animation",
        {"animation": "film.gif", "interpolate": 2, "style": "a.jpg, b.jpg"},
        "config.interpolate",
    ),
    ("guides.content", {"guides.style": "sky=a.png"}, "config.guides.style"),
    (
        "color.guided",
        {"color.guided": True, "guides.content": "a.png", "guides.style": "b.png"},
        "config.color.mode",
    ),
    ("interpolate", {"interpolate": 2}, "config.style"),
    ("init.picture", {"content": ""}, "config.content"),
    ("init.picture", {"style": "", "init.picture": "style"}, "config.style"),
    ("init.picture", {"style": "", "init.picture": "style_statistics"}, "config.style"),
]


@pytest.mark.parametrize(
    ("key", "changes", "other"),
    [*((key, *case) for key, case in CONFLICTS.items()), *MORE_CONFLICTS],
)
def test_a_conflict_is_one_line_that_names_both_sides(key, changes, other):
    c = painting()
    for name, value in changes.items():
        assign(c, name, value)
    with pytest.raises(UserError, match=rf"^config\.{re.escape(key)}\b") as caught:
        config.parse(c)
    said = str(caught.value)
    assert other in said
    assert "\n" not in said


def test_every_conflict_is_tried_here():
    assert set(CONFLICTS) == set(rules.CONFLICTS)


AGREEMENTS = [
    {"style_size": 256},
    {"pyramid.min_size": 384},
    {"bits": 16, "output": "final.TIFF", "keep_alpha": True},
    {"animation": "film.webp"},
    {"guides.content": "sky=a.png", "guides.style": "sky=b.png", "guides.weights": "sky:0"},
    {"guides.content": "a", "guides.style": "b", "color.guided": True, "color.mode": "pca"},
    {"interpolate": 2, "style": "a.jpg, b.jpg", "save_every": 0},
    {"save_every": 15, "log_every": 10},
    {"style_losses": "gram, cross_gram(relu1_1:2, relu2_1)"},
    {"style": "", "content_losses": "mse:0", "style_losses": ""},
    {"content": "", "init.picture": "gray", "content_losses": ""},
    {"style": "", "init.picture": "style_sheet.png"},  # a file of the user's
]


@pytest.mark.parametrize("changes", AGREEMENTS, ids=str)
def test_what_agrees_is_valid(changes):
    c = painting()
    for name, value in changes.items():
        assign(c, name, value)
    config.parse(c)


def test_no_picture_at_all():
    with pytest.raises(UserError, match="both empty"):
        config.parse(config.default())


def test_a_start_that_is_not_there():
    c = painting()
    c.content = ""
    with pytest.raises(UserError, match="noise"):
        config.parse(c)
    c.init.noise = 1.0
    assert config.parse(c).inputs.start.noise == 1.0


def test_parse_arg():
    defaults = {"layer": "relu4_2", "smoke": False}
    assert config.parse_arg("", **defaults).to_dict() == defaults
    assert config.parse_arg("smoke", **defaults).smoke
    assert config.parse_arg("layer=relu1_1,smoke=False", **defaults).layer == "relu1_1"
    for bad in ("smoke=maybe", "size=3"):
        with pytest.raises(UserError, match=bad):
            config.parse_arg(bad, **defaults)
    with pytest.raises(UserError, match="fast"):
        config.parse_arg("fast", smoke=False)


def test_default_is_locked_and_suggests():
    with pytest.raises(AttributeError) as caught:
        config.default().betta = 1.0
    said = config.explain(caught.value)
    assert "\n" not in said
    assert 'Did you mean "beta"' in said


@pytest.mark.parametrize("key", ["metrics", "tensorboard"])
def test_a_switch_says_what_to_install(key, monkeypatch):
    c = painting()
    c[key] = True
    config.parse(c)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape(f'pip install -e ".[{key}]"')):
        config.parse(c)
