import ast
import importlib.util
import re

import pytest
from conftest import ROOT
from ml_collections import ConfigDict

from nst_jax import config
from nst_jax.config import axes, rules
from nst_jax.errors import UserError

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
    assert (len(cells) > 1) == (command == "sweep")
    for cell in cells:
        assert sorted(keys(ConfigDict(cell.config))) == sorted(keys(config.default()))
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


def keys_read(tree: ast.AST) -> set[str]:
    """Keys that a module reads of a config `c` or `frozen`, by name: c.group.key, or c[part].

    An alias of a group, as in o = c.optimizer, counts within the function that makes it.
    """
    seen = set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        groups = {"c": "", "frozen": ""}

        def key_of(node, groups=groups):
            """The full key, with a dot at its end where it may be a group; else None."""
            if isinstance(node, ast.Name):
                return groups.get(node.id)
            parent = key_of(node.value) if isinstance(node, ast.Attribute) else None
            return None if parent is None else f"{parent}{node.attr}."

        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                if (key := key_of(node.value)) is not None:
                    groups[node.targets[0].id] = key
            elif isinstance(node, ast.Subscript) and key_of(node.value) == "":
                seen.add(f"c[{ast.unparse(node.slice)}]")
        seen |= {key_of(node) or "" for node in ast.walk(function)}
    return {key.rstrip(".") for key in seen}


def test_every_key_is_read_outside_the_schema():
    """Also those of `config.losses(c, part)`, which reads c[f"{part}_losses"] and ..._layers."""
    seen, code = set(), ""
    for path in (ROOT / "nst_jax").rglob("*.py"):
        if path.name not in ("schema.py", "rules.py"):
            code += path.read_text()
            seen |= keys_read(ast.parse(path.read_text()))
    if "c[part]" in seen:
        seen |= {"content", "style"}
    for part in ("content", "style"):
        if f'config.losses(c, "{part}")' in code:
            seen |= {f"{part}_losses", f"{part}_layers"}
    assert not set(keys(config.default())) - seen


def test_the_losses_are_read_by_their_keys():
    c = painting()
    c.content_losses, c.content_layers = "mse:2, sum(relu1_1:3)", "relu2_1:5"
    expected = {"mse": {"relu2_1": 10.0}, "sum": {"relu1_1": 3.0}}
    assert config.losses(config.validate(c), "content") == expected
    c.style_losses, c.style_layers = "gram(relu3_1)", ""
    assert config.losses(config.validate(c), "style") == {"gram": {"relu3_1": 1.0}}
    c.style_losses = "w2:0.5"
    default = config.losses(config.validate(c), "style")["w2"]
    assert default == {
        "relu1_1": 5000,
        "relu2_1": 350,
        "relu3_1": 200,
        "relu4_1": 23.5,
        "relu5_1": 160,
    }


def test_smoke_shrinks_a_pyramid_but_adds_none():
    small = config.smoke(painting())
    assert (small.image_size, small.steps, small.pyramid.min_size) == (64, 4, 0)
    c = painting()
    c.pyramid.min_size = 128
    small = config.smoke(c).pyramid
    assert (small.min_size, small.first_steps, small.steps) == (40, 2, 2)
    config.validate(c)


BAD_VALUES = {
    "blend": ["", "mean"],
    "interpolate": [1, -2, 1001],
    "image_size": [0, -5, 10**6],
    "style_scale": [0.0, -1.0, 101.0, float("nan")],
    "style_size": [-1, 10**6],
    "pyramid.min_size": [-1, 10**6],
    "pyramid.factor": [1.0, 0.5, 101.0, float("nan")],
    "pyramid.first_steps": [0, -1],
    "pyramid.steps": [0, 10**8],
    "init.noise": [-0.1, 1.5, float("nan")],
    "init.noise_kind": ["gaussian", ""],
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
    "optimizer.name": ["adagrad", ""],
    "parameterization": ["wavelets", ""],
    "optimizer.learning_rate": [0.0, -1.0],
    "optimizer.decay": [0.0, 1.1, float("nan")],
    "optimizer.patience": [-1, 10**7 + 1],
    "optimizer.b1": [-0.1, 1.0],
    "optimizer.b2": [-0.1, 1.0, float("nan")],
    "optimizer.eps": [0.0, float("inf")],
    "optimizer.memory": [0, 1001],
    "optimizer.average": [-0.1, 1.0],
    "steps": [0, -1],
    "seed": [-1],
    "precision": ["float16", "highest"],
    "log_every": [0],
    "checkpoint_every": [-1.0, float("nan")],
    "save_every": [-1, 15],
    "output": ["final.gif", "folder/final.png", "final", ""],
    "bits": [0, 10, 32],
    "animation": ["film.mp4", "folder/film.gif", "losses.png", ".gif"],
    "style": ["a.jpg, a.jpg", "a.jpg:0, b.jpg:0", "a.jpg:-1", "a.jpg:nan", "a.jpg:1e39"],
    "content_layers": ["relu9_1", "relu4_2:x", "relu4_2:-1", "relu4_2, relu4_2"],
    "style_layers": ["conv1_9", "relu1_1:"],
    "content_losses": ["", " , ", "gram", "squared(relu9_1)", "squared()", "mse:x", "sum, sum"],
    "style_losses": ["", "squared", "gram(relu1_1", "gram:-1", "cross_gram(relu1_1)"],
    "guides.weights": ["sky", "sky:x", "sky:-1", "sky:1, sky:2"],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in BAD_VALUES.items() for v in vs])
def test_a_bad_value_is_one_line_that_names_the_key(key, value):
    c = painting()
    assign(c, key, value)
    with pytest.raises(UserError) as caught:
        config.validate(c)
    assert f"config.{key}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_rule_has_a_bad_value_here():
    switches = {"metrics", "tensorboard"}  # see test_a_switch_says_what_to_install
    assert set(rules.RULES) - switches <= set(BAD_VALUES)


def test_an_unknown_layer_lists_the_known():
    c = painting()
    c.arch, c.style_layers = "vgg16", "relu5_4"
    with pytest.raises(UserError, match=r"config.style_layers.* vgg16 has conv1_1.*relu5_3$"):
        config.validate(c)


# key -> what to set for its conflict -> what else the line must name.
CONFLICTS = {
    "content": ({"content": "", "style": ""}, "config.style"),
    "save_every": ({"save_every": 15}, "config.log_every"),
    "style_size": ({"style_size": 256, "style_scale": 2.0}, "config.style_scale"),
    "pyramid.min_size": ({"pyramid.min_size": 385}, "config.image_size"),
    "interpolate": (
        {"interpolate": 3, "style": "a.jpg, b.jpg", "pyramid.min_size": 64},
        "config.pyramid.min_size",
    ),
    "convolution": ({"convolution": "winograd", "precision": "bfloat16"}, "config.precision"),
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
    "color.mode": (
        {"color.mode": "luminance", "content": "", "init.picture": "gray"},
        "config.content",
    ),
    "guides.content_weight": (
        {"guides.content_weight": "a.png", "content": "", "init.picture": "gray"},
        "config.content",
    ),
    "axes": ({"axes": (axes.each("seed", 0, 1),)}, "nst_jax.sweep"),
}
MORE_CONFLICTS = [
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
        config.validate(c)
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
    {"style": "", "content_losses": "mse:0", "style_losses": ""},
    {"content": "", "init.picture": "gray", "content_losses": ""},
    {"style": "", "init.picture": "style_sheet.png"},  # a file of the user's
]


@pytest.mark.parametrize("changes", AGREEMENTS, ids=str)
def test_what_agrees_is_valid(changes):
    c = painting()
    for name, value in changes.items():
        assign(c, name, value)
    config.validate(c)


def test_no_picture_at_all():
    with pytest.raises(UserError, match="both empty"):
        config.validate(config.default())


def test_a_start_that_is_not_there():
    c = painting()
    c.content = ""
    with pytest.raises(UserError, match="noise"):
        config.validate(c)
    c.init.noise = 1.0
    assert config.validate(c).init.noise == 1.0


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
    config.validate(c)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape(f'pip install -e ".[{key}]"')):
        config.validate(c)
