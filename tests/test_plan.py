"""Which experiments share a program: what `static_of` says against the programs themselves."""

import jax
import numpy as np
import pytest
from conftest import ROOT, painted, painted_together, prepared
from test_combinations import begun, configured, program_of_experiment
from test_config import keys, load

from nst_jax import config
from nst_jax.config import axes
from nst_jax.optimize.step import chunk, initial_state, stack
from nst_jax.runs import plan
from nst_jax.transfer import estimate
from nst_jax.transfer.cache import Cache
from nst_jax.transfer.problem import aligned, own_terms, static_of

LAYERS = {"content_layers": "", "style_layers": ""}
TOGETHER = [
    {"alpha": 2.0, "beta": 0.5, "tv_weight": 3.0, "seed": 7},
    {"style_layers": "relu1_1:3, relu3_1"},
    {"style_losses": "gram:3(relu2_1)", "content_losses": "squared:0.5"},
    {"content_layers": "relu2_2, relu4_2:0"},
    {"optimizer.learning_rate": 0.1, "optimizer.b1": 0.5, "optimizer.average": 0.9},
    {"init.picture": "gray", "init.noise": 0.5},
    {"color.mode": "luminance", "color.space": "lab"},
    {"color.mode": "histogram"},
    {"color.photorealism": 0.5},
    {"output": "other.tif", "bits": 16, "save_every": 3, "metrics": True},
    {"checkpoint_every": 1.0},
    {"blend": "losses", "guides.propagation": "inside"},
    {"content": "{0}/content-left.png", "style": "{0}/style-right.png"},
    {"optimizer.decay": 0.9, "optimizer.b2": 0.9, "optimizer.eps": 1e-3},
    {"init.noise_kind": "normal", "init.noise": 0.1},
    {"resample": "bicubic"},
    {"keep_alpha": True, "tensorboard": True, "animation": "film.gif", "save_every": 3},
]
MASKS = "left={0}/%s-left.png, right={0}/%s-right.png"
GUIDED = {
    "guides.content": MASKS % ("content", "content"),
    "guides.style": MASKS % ("style", "style"),
}
TOGETHER_GUIDED = [
    {"guides.weights": "left:3"},
    {"guides.propagation": "all"},
    {"color.mode": "pca", "color.guided": True},
    {"guides.content": "left={0}/content-right.png, right={0}/content-left.png"},
]
APART = [
    {"optimizer.patience": 5},
    {"image_size": 48},
    {"side": "short"},
    {"steps": 4},
    {"log_every": 1},
    {"pyramid.min_size": 32},
    {"style_losses": "sliced"},
    {"style_losses": "gram, sliced"},
    {"content_losses": "self_similarity"},
    {"tv_loss": "absolute"},
    {"normalize_gradients": True},
    {"normalize_network": "style"},
    {"pooling": "l2"},
    {"padding": "reflect"},
    {"convolution": "winograd"},
    {"optimizer.name": "lbfgs"},
    {"optimizer.name": "lbfgs", "optimizer.memory": 3},
    {"precision": "bfloat16"},
    {"style_scale": 0.5},
    {"style_size": 40},
    {"style": "{0}/style.png, {0}/content.png"},
    {"content": "{0}/style.png"},
    {"content": "", "init.noise": 1.0},
    {"style": ""},
    {"arch": "vgg16"},
    {"weights": "other.h5"},
    {"parameterization": "fourier"},
    {"rematerialize": True},
    {"matting_weight": 1e8},
    {"spectrum_weight": 1e3, "content": "", "init.noise": 1.0},
    {"tile": 96},
    {"split": 2},
    {"pyramid.min_size": 32, "pyramid.factor": 2.0, "pyramid.first_steps": 1, "pyramid.steps": 1},
    {"guides.content_weight": "{0}/content-left.png"},
    GUIDED,
]


def test_every_key_is_tried_here():
    """A new key must say whether it is data or part of the program."""
    tried = {key for values in (*TOGETHER, *TOGETHER_GUIDED, *APART) for key in values}
    left = {key for key in keys(config.default()) if not key.startswith("film.")} - tried
    assert left == {"axes", "interpolate"}  # never of a cell


def static(c):
    return static_of(*prepared(c))


def losses(experiment, part):
    return {term.name: dict(term.layers) for term in getattr(experiment.objective, part)}


def changed(files, values):
    values = {k: v.format(files) if isinstance(v, str) else v for k, v in values.items()}
    return configured(files, **(LAYERS | values))


@pytest.mark.parametrize(
    ("base", "values"),
    [*(({}, values) for values in TOGETHER), *((GUIDED, values) for values in TOGETHER_GUIDED)],
    ids=str,
)
def test_what_is_data_runs_in_one_program(base, values, files, vgg19):
    one, other = changed(files, base), changed(files, base | values)
    assert static(one) == static(other)
    pairs = [prepared(one), prepared(other)]
    shared = aligned([experiment for experiment, _ in pairs])
    texts = {
        program_of_experiment(experiment, pictures, vgg19)
        for experiment, (_, pictures) in zip(shared, pairs, strict=True)
    }
    assert len(texts) == 1


@pytest.mark.parametrize("values", APART, ids=str)
def test_what_changes_the_program_runs_apart(values, files):
    assert static(changed(files, {})) != static(changed(files, values))


def test_what_a_network_is_normalised_by_is_shared(files):
    """The style picture as it is recoloured; and the colours matter to nothing else."""
    base = {"normalize_network": "style"}
    one = static(changed(files, base))
    for values in ({"color.mode": "luminance"}, {"style": "{0}/style-left.png"}):
        assert static(changed(files, base | values)) != one
    assert static(changed(files, base | {"beta": 3.0})) == one


@pytest.mark.slow
def test_the_way_of_convolving_is_the_configs(files, vgg19):
    """Not to the last bit the same, but nearly."""
    ends = {}
    for method in ("direct", "winograd"):
        deep = {"content_layers": "relu2_1", "style_layers": "relu3_1"}  # 256 channels
        c = changed(files, {"image_size": 32, "convolution": method} | deep)
        *_, last = painted(*prepared(c), vgg19)
        ends[method] = np.asarray(last.image)
    assert (ends["direct"] != ends["winograd"]).any()
    np.testing.assert_allclose(ends["winograd"], ends["direct"], atol=1e-3)


def test_terms_are_those_of_a_cells_own_layers(files):
    c = configured(files, style_layers="relu1_1, relu2_1", content_layers="relu2_1")
    names = [
        "total",
        "tv",
        "content/squared/relu2_1",
        "style/gram/relu1_1/sky",
        "style/gram/relu3_1",
    ]
    assert own_terms(config.parse(c).objective, names) == names[:4]


def test_work_is_that_of_the_deepest_cell(files):
    cells = [
        axes.Cell(layer, {}, {}, config.parse(configured(files, style_layers=layer)))
        for layer in ("relu1_1", "relu4_1")
    ]
    (one,), (other,) = (plan.plan(order, Cache())[0] for order in (cells, cells[::-1]))
    assert one.work == other.work


def test_a_loss_between_neighbours_runs_apart_where_its_neighbours_differ(files):
    two, three = (
        configured(files, style_losses="cross_gram", style_layers=layers)
        for layers in ("relu1_1, relu3_1", "relu1_1, relu2_1, relu3_1")
    )
    assert static(two) != static(three)


def test_layers_that_are_added_weigh_nothing(files):
    specs = ("gram(relu1_1:0.1, relu2_1:3), sliced:2(relu1_1)", "gram(relu3_1), sliced(relu2_1)")
    experiments = [
        config.parse(configured(files, style_losses=spec, style_layers="")) for spec in specs
    ]
    taps = {"gram": {"relu1_1", "relu2_1", "relu3_1"}, "sliced": {"relu1_1", "relu2_1"}}
    for before, after in zip(experiments, aligned(experiments), strict=True):
        own, wide = losses(before, "style"), losses(after, "style")
        assert {loss: set(wide[loss]) for loss in wide} == taps
        for loss in taps:
            assert {tap: value for tap, value in wide[loss].items() if value} == own[loss]
        assert losses(after, "content") == losses(before, "content")
    assert aligned(experiments[:1]) == experiments[:1]


# Ablation -> cells in each of its programs.
GROUPS = {
    "contents_by_styles": [2, 2],
    "initialisation": [12],
    "layers": [9],
    "losses": [1] * 21,
    "optimizers": [4, 1, 1, 1],
    "style_weight": [12],
}


@pytest.mark.parametrize("name", GROUPS)
def test_how_the_shipped_ablations_group_into_programs(name):
    c = load(ROOT / "configs" / "ablations" / f"{name}.py").get_config("smoke")
    programs, unusable = plan.plan(axes.cells(c), Cache())
    assert [len(one.cells) for one in programs] == GROUPS[name]
    assert not unusable


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_together_they_paint_what_they_paint_alone(optimizer, files, vgg19):
    """Different knobs, layers, starts, pictures and rates, 50 steps of Adam: within 1e-3."""
    base = {"image_size": 32, "steps": 50 if optimizer == "adam" else 6, "log_every": 25}
    if optimizer == "lbfgs":
        base["log_every"] = 3
    changes = [
        {"beta": 0.5, "style_layers": "relu1_1"},
        {"alpha": 3.0, "seed": 3, "init.noise": 0.5, "optimizer.learning_rate": 0.01},
        {"content": f"{files}/style.png", "style": f"{files}/content.png"},
    ]
    if optimizer == "adam":
        changes[1]["optimizer.average"] = 0.5
    configs = [
        configured(files, **(base | {"optimizer.name": optimizer} | values)) for values in changes
    ]
    experiments, pictures = zip(*map(prepared, configs), strict=True)
    cells = [axes.Cell(str(k), {}, {}, one) for k, one in enumerate(experiments)]
    groups = plan.plan(cells, Cache())[0]
    assert [len(one.cells) for one in groups] == [2, 1]  # the third has another shape
    for one in groups:
        places = [int(cell.name) for cell in one.cells]
        own = [experiments[k] for k in places], [pictures[k] for k in places]
        together = list(painted_together(*own, vgg19))
        for place, k in enumerate(places):
            alone = list(painted(experiments[k], pictures[k], vgg19))
            assert [p.step for p in together] == [p.step for p in alone]
            tolerance = 1e-3 if optimizer == "adam" else 2e-2  # which branches at every try
            difference = np.abs(together[-1].images[place] - alone[-1].image).max()
            assert difference < tolerance
            for name, value in alone[0].terms.items():
                assert together[0].terms[name][place] == pytest.approx(value, rel=1e-3)


@pytest.mark.slow
def test_coarse_to_fine_in_a_batch(files, vgg19):
    values = {
        "image_size": 48,
        "pyramid.min_size": 32,
        "pyramid.steps": 2,
        "pyramid.first_steps": 4,
    }
    configs = [configured(files, **values, beta=beta) for beta in (0.02, 0.5)]
    experiments, pictures = zip(*map(prepared, configs), strict=True)
    together = list(painted_together(experiments, pictures, vgg19))
    for k, experiment in enumerate(experiments):
        alone = list(painted(experiment, pictures[k], vgg19))
        assert [p.step for p in together] == [p.step for p in alone]
        np.testing.assert_array_equal(together[-1].images[k], alone[-1].image)


@pytest.mark.parametrize(
    ("count", "at_once", "sizes"),
    [(1, 4, [1]), (4, 4, [4]), (5, 4, [2, 3]), (13, 4, [3, 3, 4, 3]), (6, 1, [1] * 6)],
)
def test_batches_are_about_equally_large(count, at_once, sizes):
    parts = plan.split_evenly(range(count), at_once)
    assert sorted(map(len, parts)) == sorted(sizes)
    assert [one for part in parts for one in part] == list(range(count))


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "rematerialize"), [("adam", True), ("lbfgs", False)])
def test_work_is_about_what_xla_says(optimizer, rematerialize, files, vgg19):
    """Memory within a quarter; operations within a half, for XLA counts all of them on CPU."""
    keys = {"optimizer.name": optimizer, "rematerialize": rematerialize}
    experiment, pictures = prepared(changed(files, {"image_size": 96} | keys))
    start, network, make_problem = begun(experiment, pictures, vgg19)
    static, rates = experiment.optimizer.static, stack([experiment.optimizer.rates])
    state, problem = initial_state(static, start[None]), stack([make_problem()])
    compiled = chunk.lower(static, 1, 1, state, network, problem, rates).compile()
    memory = compiled.memory_analysis()
    asked = estimate.work(experiment, pictures.shape)
    own = memory.temp_size_in_bytes + memory.output_size_in_bytes
    assert asked.bytes == pytest.approx(own, rel=0.25)
    if optimizer == "adam" and not rematerialize:
        flops = compiled.cost_analysis()["flops"] * experiment.steps
        assert asked.operations == pytest.approx(flops, rel=0.5)
    assert asked.pixels == np.prod(pictures.shape)


@pytest.mark.parametrize(("side", "most"), [(64, 16), (128, 4), (256, 1), (512, 1), (2048, 1)])
def test_what_a_cpu_runs_at_once(side, most, monkeypatch):
    cpu = type("", (), {"platform": "cpu"})
    monkeypatch.setattr(jax, "local_devices", lambda: [cpu])
    asked = estimate.Work(side * side, side * side * 2700, 1.0)
    assert estimate.batch_size(asked) == most


@pytest.mark.parametrize(("gigabytes", "most"), [(80, 64), (1, 3), (0.1, 1)])
def test_what_a_gpu_runs_at_once(gigabytes, most, monkeypatch):
    gpu = type(
        "", (), {"platform": "gpu", "memory_stats": lambda: {"bytes_limit": gigabytes * 1e9}}
    )
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu])
    assert estimate.batch_size(estimate.Work(65536, 177_000_000, 1.0)) == most


def test_the_plan_says_which_cells_the_devices_cannot_share(files):
    c = changed(files, {"image_size": 48, "split": 2})
    cells = [axes.Cell("0-x", {"seed": "0"}, {}, config.with_values(c, {"seed": 0}))]
    programs, unusable = plan.plan(cells, Cache())
    assert not programs
    assert unusable == {"0-x": "config.split=2, but there is only 1 cpu device"}
    shared = config.with_values(c, {"split": -1})
    (program,), _ = plan.plan([cells[0]._replace(experiment=shared)] * 3, Cache(), 2)
    assert (program.at_once, program.batch) == (1, 1)


def test_the_plan_as_a_table(files):
    c = changed(files, {"image_size": 48})
    cells = [
        axes.Cell(f"{k}-x", {"loss": loss}, {}, config.with_values(c, {"style_losses": loss}))
        for k, loss in enumerate(("gram", "sliced", "gram:2"))
    ]
    missing = config.with_values(c, {"content": "nowhere.png"})
    table = plan.table([*cells, axes.Cell("3-x", {"loss": "none"}, {}, missing)], Cache(), 2)
    lines = table.splitlines()
    assert lines[:5] == [
        "cell  loss    program",
        "0     gram    1",
        "1     sliced  2",
        "2     gram:2  1",
        "3     none    none",
    ]
    assert "no picture nowhere.png" in lines[5]
    assert lines[6].startswith("program 1: cells 2, at once 2, memory ")
    assert lines[-1].startswith("4 cells, 2 programs, about ")
    assert [plan.duration(s) for s in (3.14159, 180.0, 9000.0)] == ["3.14 s", "3 min", "2.5 h"]
