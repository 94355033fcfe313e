import importlib.util
import re

import pytest
from conftest import ROOT

from nst_jax import config
from nst_jax.errors import UserError

CONFIGS = sorted((ROOT / "configs").rglob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def painting() -> config.ConfigDict:
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
        if isinstance(value, config.ConfigDict):
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("arg", ["", "smoke"])
def test_every_config_is_valid_and_documented(path, arg):
    module = load(path)
    frozen = config.validate(module.get_config(arg))
    assert sorted(keys(config.ConfigDict(frozen))) == sorted(keys(config.default()))
    assert f"python -m nst_jax.run --config configs/{path.name}" in module.__doc__
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


def test_every_key_is_read_outside_the_schema():
    sources = [p for p in (ROOT / "nst_jax").rglob("*.py") if p.name != "config.py"]
    code = "\n".join(path.read_text() for path in sources)
    dynamic = {"content", "style"}  # read as c[part]
    unread = [
        key
        for key in keys(config.default())
        if key not in dynamic and not re.search(rf"\b(c|frozen)\.{re.escape(key)}\b", code)
    ]
    assert not unread
    assert "c[part]" in code


BAD_VALUES = {
    "image_size": [0, -5, 10**6],
    "init.noise": [-0.1, 1.5, float("nan")],
    "init.picture": [""],
    "arch": ["vgg11"],
    "pooling": ["median"],
    "alpha": [-1.0, float("nan"), float("inf")],
    "beta": [-1.0],
    "tv_weight": [-1.0],
    "optimizer.name": ["sgd"],
    "optimizer.learning_rate": [0.0, -1.0],
    "optimizer.memory": [0],
    "steps": [0, -1],
    "seed": [-1],
    "precision": ["bfloat16"],
    "log_every": [0],
    "save_every": [-1, 15],
    "output": ["final.gif", "folder/final.png", "final", ""],
    "content_layers": ["", "relu9_1", "relu4_2:x", "relu4_2:-1", "relu4_2, relu4_2"],
    "style_layers": [" , ", "conv1_9"],
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
    assert set(config.RULES) <= set(BAD_VALUES)


def test_an_unknown_layer_lists_the_known():
    with pytest.raises(UserError, match=r"vgg16 has conv1_1, relu1_1.*relu5_3$"):
        config.parse_layers("relu5_4", "vgg16")


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


def test_layers_are_read_with_and_without_lambda():
    assert config.parse_layers(" relu1_1:0.2,conv3_1 ", "vgg19") == {"relu1_1": 0.2, "conv3_1": 1.0}


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
