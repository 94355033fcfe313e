import pytest

from nst_jax.network import architecture


def test_vgg19_has_sixteen_layers_and_vgg16_thirteen():
    assert len(architecture.conv_shapes("vgg19")) == 16
    assert len(architecture.conv_shapes("vgg16")) == 13


def test_known_shapes():
    shapes = architecture.conv_shapes("vgg19")
    assert shapes["conv1_1"] == (3, 3, 3, 64)
    assert shapes["conv4_1"] == (3, 3, 256, 512)
    assert list(shapes)[-1] == "conv5_4"
    assert sum(a * b * c * d for a, b, c, d in shapes.values()) == 20_018_880


def test_taps_come_in_network_order():
    taps = architecture.taps("vgg16")
    assert taps[:4] == ("conv1_1", "relu1_1", "conv1_2", "relu1_2")
    assert taps[-1] == "relu5_3"


@pytest.mark.parametrize(("tap", "side"), [("relu1_2", 2), ("conv3_1", 4), ("relu5_1", 16)])
def test_smallest_size(tap, side):
    assert architecture.smallest_size([tap, "relu1_1"]) == side
