"""Every kind of program is lowered for GPUs and TPUs, on a machine that has neither."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import network_for, prepared
from jax.sharding import AxisType, Mesh

from nst_jax import config
from nst_jax.config import rules
from nst_jax.network.tiling import ROWS
from nst_jax.optimize.step import chunk, initial_state, stack
from nst_jax.transfer.paint import placement
from nst_jax.transfer.problem import problem_of

EVERY_LOSS = {
    "style_losses": ", ".join(rules.STYLE_LOSSES),
    "content_losses": ", ".join(rules.CONTENT_LOSSES),
    "matting_weight": 1e8,
}
TILEABLE = ", ".join(name for name in rules.STYLE_LOSSES if name not in rules.WHOLE_LOSSES)
# What differs from the defaults.
PROGRAMS = [
    *({"optimizer.name": name} for name in rules.OPTIMIZERS),
    {"optimizer.patience": 5, "optimizer.average": 0.9, "tv_loss": "nine_point"},
    {"parameterization": "fourier", "tv_loss": "power", "padding": "reflect"},
    {"precision": "tensorfloat32", "pooling": "l2", "padding": "replicate"},
    {"precision": "bfloat16", "pooling": "max_ceil", "padding": "circular"},
    {"convolution": "winograd", "pooling": "average_rescaled"},
    {"rematerialize": True},
    {"normalize_gradients": True, "tv_loss": "absolute"},
    EVERY_LOSS,
    EVERY_LOSS | {"tile": 80, "style_losses": TILEABLE},
    {"tile": 80, "precision": "bfloat16", "normalize_gradients": True},
]
PLATFORMS = ("cuda", "tpu")


def lowered(values, vgg19, picture, mesh=None) -> list[str]:
    """The program of a run, as XLA gets it for each platform."""
    c = config.default()
    layers = {"style_layers": "relu1_1, relu2_1", "content_layers": "relu2_2"}
    c.update_from_flattened_dict({"image_size": 96, "convolution": "direct", **layers, **values})
    experiment, pictures = prepared(c, picture(96, 90), [picture(64, 70)])
    network = network_for(experiment, pictures, vgg19)
    static, place = experiment.optimizer.static, placement(experiment, (96, 90), mesh)

    def arguments():
        image = jnp.zeros((1, place.rows or 96, 90, 3))
        problem = problem_of(experiment, pictures, network, place)
        return initial_state(static, image), stack([problem]), stack([experiment.optimizer.rates])

    state, problem, rates = jax.eval_shape(arguments)
    traced = chunk.trace(static, 2, 1, state, network, problem, rates, shown=True)
    return [traced.lower(lowering_platforms=(name,)).as_text() for name in PLATFORMS]


@pytest.mark.slow
@pytest.mark.parametrize("values", PROGRAMS, ids=str)
def test_every_program_is_lowered_for_accelerators(values, vgg19, picture):
    multiplies = "dot_general" if "convolution" in values else "convolution"
    for text in lowered(values, vgg19, picture):
        assert f"stablehlo.{multiplies}" in text


@pytest.mark.slow
@pytest.mark.parametrize("tile", [0, 80])
def test_a_split_picture_is_lowered_for_accelerators(tile, vgg19, picture):
    mesh = Mesh(np.array(jax.devices()[:1]), (ROWS,), axis_types=(AxisType.Auto,))
    for text in lowered({"tile": tile}, vgg19, picture, mesh):
        assert "collective_permute" in text
        assert "all_gather" not in text
