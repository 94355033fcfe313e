import pytest
from ml_collections import ConfigDict

from nst_jax import config
from nst_jax.config import axes
from nst_jax.errors import UserError


def swept(*found):
    c = config.sample()
    c.axes = found
    return axes.cells(c)


def values_of(cell):
    """The values of a cell's config, by their full keys."""
    return config.flat(ConfigDict(cell.experiment.raw))


def test_a_sweep_is_the_product_of_its_axes_the_last_one_fastest():
    cells = swept(
        axes.each("beta", 0.25, 2.0),
        axes.zipped({"image_size": (64, 128), "optimizer.name": ("adam", "lbfgs")}),
        axes.named("style layers", {"all": {}, "one": {"style_layers": "relu1_1"}}),
    )
    keys = "beta", "image_size", "optimizer.name", "style_layers"
    chosen = [tuple(values_of(cell)[key] for key in keys) for cell in cells]
    assert chosen == [
        (0.25, 64, "adam", ""),
        (0.25, 64, "adam", "relu1_1"),
        (0.25, 128, "lbfgs", ""),
        (0.25, 128, "lbfgs", "relu1_1"),
        (2.0, 64, "adam", ""),
        (2.0, 64, "adam", "relu1_1"),
        (2.0, 128, "lbfgs", ""),
        (2.0, 128, "lbfgs", "relu1_1"),
    ]
    third = cells[3]
    assert third.labels == {
        "beta": "0.25",
        "image_size, optimizer.name": "128, lbfgs",
        "style layers": "one",
    }
    assert third.settings == {
        "beta": 0.25,
        "image_size": 128,
        "optimizer.name": "lbfgs",
        "style_layers": "relu1_1",
    }
    assert all(values_of(cell)["axes"] == () for cell in cells)


def test_names_are_folders_in_order_and_all_different():
    cells = swept(axes.each("seed", *range(12)), axes.each("style", "a/x.jpg", "b/../y z.jpg:2"))
    names = [cell.name for cell in cells]
    assert names[:2] == ["00-seed=0-style=x", "01-seed=0-style=y_z"]
    assert names == sorted(set(names))
    long = swept(
        axes.each("style_layers", *(f"relu1_1:{k}" * 1 + ", relu2_1" * 1 for k in range(3)))
    )
    assert all(len(cell.name) <= 80 and "/" not in cell.name for cell in long)


def test_labels_tell_values_apart():
    """Short where that is enough, else whole."""
    styles = swept(axes.each("style", "a.jpg:1, b.jpg:3", "a.jpg:3, b.jpg:1"))
    assert [cell.labels["style"] for cell in styles] == ["a.jpg:1, b.jpg:3", "a.jpg:3, b.jpg:1"]
    close = swept(axes.each("beta", 1000000.0, 1000001.0))
    assert [cell.labels["beta"] for cell in close] == ["1000000.0", "1000001.0"]


@pytest.mark.parametrize(
    "given", [("beta", "seed"), ({"beta": (1.0,)},), (axes.Axis("x", ("a", "b")),)]
)
def test_what_is_no_axis_is_said(given):
    with pytest.raises(UserError, match=r"axes\.each"):
        swept(*given)


def test_a_lone_axis_stands_for_itself():
    c = config.sample()
    c.axes = axes.each("beta", 0.5, 1.0)
    assert [cell.experiment.objective.beta for cell in axes.cells(c)] == [0.5, 1.0]


def test_without_axes_there_is_one_cell():
    (cell,) = swept()
    assert cell.labels == cell.settings == {}
    assert cell.experiment == config.parse(config.sample())


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("beta=0.02, 0.2", "beta", [0.02, 0.2]),
        ("beta = 0.5", "beta", [0.5]),
        ("seed=0,1", "seed", [0, 1]),
        ("style_losses=gram, sliced", "style_losses", ["gram", "sliced"]),
        ("style_losses=gram, mrf:0.5(relu3_1, relu4_1)", "style_losses", 2),
        ("style_layers=['relu1_1, relu2_1', 'relu1_1']", "style_layers", 2),
        ("keep_alpha=True, False", "keep_alpha", [True, False]),
        ("keep_alpha=true,false", "keep_alpha", [True, False]),
        ("style_size=0, 1e2, none", "style_size", [0, 100.0, "none"]),
    ],
)
def test_axes_from_flags(text, key, values):
    axis = axes.parse(text)
    found = [value for _, ((name, value),) in axis.places if name == key]
    assert (len(found) if isinstance(values, int) else found) == values
    assert axis.name == key


MANY = tuple(
    axes.each(key, *map(float, range(1, 57)))
    for key in ("alpha", "beta", "tv_weight", "optimizer.learning_rate")
)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            (axes.each("betta", 1.0),),
            "cell 0 (betta=1): config.betta is not a key. Did you mean beta?",
        ),
        ((axes.each("beta", 1.0, "x"),), "cell 1 (beta=x)"),
        ((axes.each("beta", 1.0, -1.0),), "config.beta is -1.0; it must be 0 or more"),
        ((axes.each("optimizer.name", "adm"),), "adam or sgd or lbfgs"),
        ((axes.each("optimizer", 3),), "sets the group config.optimizer; name its keys"),
        ((axes.each("style_layers", "relu9_1"),), "unknown layer 'relu9_1'"),
        ((axes.each("beta"),), "axis 'beta' is empty"),
        ((axes.each("beta", 1.0, 1.0),), "axis 'beta' has '1.0' twice"),
        ((axes.each("beta", 1.0), axes.each("beta", 2.0)), "'beta'"),
        (
            (axes.each("beta", 1.0), axes.zipped({"seed": (1,), "beta": (2.0,)})),
            "both set config.beta",
        ),
        (MANY, "the axes make 9,834,496 cells; a sweep has 10,000 at most"),
    ],
)
def test_bad_axes_are_one_line(found, said):
    with pytest.raises(UserError) as caught:
        swept(*found)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["beta={[1]:2}", "beta=" + "(" * 500])
def test_values_that_are_no_literals(text):
    with pytest.raises(UserError):
        swept(axes.parse(text))


def test_keys_that_change_together_need_equally_many_values():
    with pytest.raises(UserError, match="beta has 2, seed has 1"):
        axes.zipped({"beta": (1.0, 2.0), "seed": (1,)})
    with pytest.raises(UserError, match="KEY=VALUE"):
        axes.parse("beta")


def test_a_folder_and_a_pattern_are_axes_of_their_pictures(tmp_path):
    for name in ("b.jpg", "a, c.PNG", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "d.jpg").mkdir()
    values = [str(tmp_path / "a, c.PNG"), str(tmp_path / "b.jpg")]
    axis = axes.pictures("content", str(tmp_path))
    assert axis.places == (("a, c", (("content", values[0]),)), ("b", (("content", values[1]),)))
    quoted = f'"{values[0]}"'
    style = axes.parse(f"style={tmp_path}/*")
    assert next(settings for _, settings in style.places) == (("style", quoted),)
    assert [label for label, _ in axes.parse(f"content={tmp_path}/*.jpg").places] == ["b"]
    (tmp_path / "[1].jpg").write_bytes(b"")
    assert axes.pictures("content", str(tmp_path / "[1].jpg")) is None
    assert axes.pictures("content", "a.jpg") is None
    with pytest.raises(UserError, match=r"config.content: there are no pictures in .*xyz"):
        axes.pictures("content", str(tmp_path / "*.xyz"))


@pytest.mark.parametrize("key", ["content", "style"])
def test_what_is_no_name_of_a_picture_is_left_to_the_parser(key):
    for value in ("x" * 5000, "\0"):
        assert axes.pictures(key, value) is None
    with pytest.raises(UserError, match=rf"cell 0 \({key}=28\): config.{key}"):
        swept(axes.parse(f"{key}=28, 256"))
