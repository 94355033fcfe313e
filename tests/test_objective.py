import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from conftest import STYLE_TAPS, knobs_for, network_of, problem_for

from nst_jax.losses.arguments import GuideWeights, ObjectiveStatic
from nst_jax.losses.objective import breakdown, objective
from nst_jax.losses.smoothness import SMOOTHNESS, whole
from nst_jax.network.receptive import receptive_field
from nst_jax.network.state import features

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LAMBDAS = {"relu1_1": 0.5, "relu2_1": 0.1, "relu3_1": 0.3, "relu4_1": 0.002, "relu5_1": 0.7}
TAPS = (*STYLE_TAPS, "relu4_2", "relu2_2")
CONTENT = {"relu4_2": 0.8, "relu2_2": 0.2}
KNOBS = knobs_for(CONTENT, LAMBDAS, alpha=2.0, beta=0.05, tv=1e5)

slope_of = jax.jit(jax.value_and_grad(objective))
terms_of = jax.jit(breakdown)


@pytest.fixture(scope="module")
def network(vgg19):
    return network_of(vgg19, TAPS)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_value_and_gradient_equal_numpys_in_float64(pooling, vgg19, pixels):
    network = network_of(vgg19, TAPS, pooling=pooling)
    image, content, style = pixels(38, 34), pixels(38, 34), pixels(45, 33)
    problem = problem_for(network, content, style, KNOBS)
    (value, gradient), terms = jax.jit(
        lambda *given: (jax.value_and_grad(objective)(*given), breakdown(*given))
    )(image, network, problem)
    expected, slope, (j_content, j_style, tv) = reference.objective(
        image, content, style, vgg19, CONTENT, LAMBDAS, 2.0, 0.05, 1e5, pooling
    )
    assert value == pytest.approx(expected, rel=1e-4)
    assert terms["content"] == pytest.approx(j_content, rel=1e-4)
    assert terms["style"] == pytest.approx(j_style, rel=1e-4)
    assert terms["tv"] == pytest.approx(tv, rel=1e-4)
    difference = np.linalg.norm(gradient - slope) / np.linalg.norm(slope)
    assert difference < 1e-4


def test_weights_baked_into_a_program_are_an_error(network):
    """The guard that the whole suite runs under does fire."""
    image = jnp.zeros((16, 16, 3))
    with pytest.raises(UserWarning, match="constants were captured"):
        jax.jit(lambda x: features(network, x)["relu5_1"])(image)


def test_reference_gradient_is_the_slope_of_its_value(vgg19, rng, pixels):
    """The yardstick itself, against finite differences."""
    image, content, style = pixels(18, 17), pixels(18, 17), pixels(16, 20)
    arguments = (vgg19, CONTENT, LAMBDAS, 2.0, 0.05, 1e5)
    _, gradient, _ = reference.objective(image, content, style, *arguments)
    direction = rng.normal(size=image.shape)
    step = 1e-6
    up, down = (
        reference.objective(np.float64(image) + s * direction, content, style, *arguments)[0]
        for s in (step, -step)
    )
    assert (gradient * direction).sum() == pytest.approx((up - down) / (2 * step), rel=1e-4)


@pytest.mark.slow
def test_content_gradient_is_zero_at_the_content_image(network, pixels):
    content = pixels(32, 32)
    knobs = KNOBS._replace(beta=0.0, smoothness={"squared": 0.0})
    problem = problem_for(network, content, content, knobs)
    value, gradient = slope_of(content, network, problem)
    _, elsewhere = slope_of(1 - content, network, problem)
    assert value == pytest.approx(0, abs=1e-6)
    assert jnp.abs(gradient).max() < 1e-6 * jnp.abs(elsewhere).max()


def test_terms_add_up(network, pixels):
    image, content, style = pixels(32, 32), pixels(32, 32), pixels(32, 32)
    problem = problem_for(network, content, style, KNOBS)
    terms = terms_of(image, network, problem)
    for part, loss, lambdas in (("content", "squared", CONTENT), ("style", "gram", LAMBDAS)):
        layers = sum(lambdas[tap] * terms[f"{part}/{loss}/{tap}"] for tap in lambdas)
        assert terms[part] == pytest.approx(float(layers), rel=1e-6)
    total = 2.0 * terms["content"] + 0.05 * terms["style"] + 1e5 * terms["tv"]
    assert terms["total"] == pytest.approx(float(total), rel=1e-6)


@pytest.mark.slow
def test_a_lambda_of_zero_switches_a_layer_off(network, pixels):
    image, content, style = pixels(32, 32), pixels(32, 32), pixels(32, 32)
    without = {tap: value for tap, value in LAMBDAS.items() if tap != "relu4_1"}
    values = []
    for lambdas in (without, LAMBDAS | {"relu4_1": 0.0}):
        knobs = KNOBS._replace(style={"gram": lambdas})
        values.append(
            float(slope_of(image, network, problem_for(network, content, style, knobs))[0])
        )
    assert values[0] == pytest.approx(values[1], rel=1e-6)


SHALLOW = ("relu1_1", "relu2_1", "relu2_2")
STYLE, WANTED = {"relu1_1": 0.5, "relu2_1": 0.1}, {"relu2_2": 0.8}
SMALL = knobs_for(WANTED, STYLE, beta=0.05, tv=1e3)


@pytest.fixture(scope="module")
def shallow(vgg19):
    return network_of(vgg19, SHALLOW)


def at_taps(mask) -> dict[str, jnp.ndarray]:
    """Weights that sum to 1 at the style taps, from a mask [h, w]: its even pixels, scaled."""
    masks = {"relu1_1": mask, "relu2_1": mask[::2, ::2], "relu2_2": mask[::2, ::2]}
    return {tap: jnp.asarray(m / m.sum(), jnp.float32) for tap, m in masks.items()}


def half(height, width, column):
    """1 to the left of a column."""
    return np.float32(np.arange(width) < column) * np.ones((height, 1), np.float32)


def same(one, other):
    """Two results of `slope_of` agree."""
    assert one[0] == pytest.approx(float(other[0]), rel=1e-5)
    scale = float(jnp.abs(other[1]).max())
    np.testing.assert_allclose(one[1], other[1], atol=1e-5 * scale)


@pytest.mark.slow
def test_guides_of_ones_change_nothing(shallow, pixels):
    image, content, style = pixels(16, 18), pixels(16, 18), pixels(20, 14)
    losses = {"gram": STYLE, "mmd_polynomial": STYLE}
    plain = problem_for(shallow, content, style, SMALL._replace(style=losses))
    guided = problem_for(
        shallow,
        content,
        style,
        SMALL._replace(style=losses, regions={"all": 1.0}),
        guides=GuideWeights({"relu2_2": jnp.ones((8, 9))}, {"all": at_taps(np.ones((16, 18)))}),
        style_regions=({"all": at_taps(np.ones((20, 14)))},),
    )
    same(slope_of(image, shallow, guided), slope_of(image, shallow, plain))


@pytest.fixture
def two_regions(shallow, pixels):
    """Image, arguments: the left two thirds and the right third, each with half of the style."""
    image, content, style = pixels(16, 36), pixels(16, 36), pixels(16, 24)
    left, own = half(16, 36, 24), half(16, 24, 12)
    problem = problem_for(
        shallow,
        content,
        style,
        knobs_for(style=STYLE | {"relu2_2": 0.3}, alpha=0.0, regions=("left", "right")),
        guides=GuideWeights({}, {"left": at_taps(left), "right": at_taps(1 - left)}),
        style_regions=({"left": at_taps(own), "right": at_taps(1 - own)},),
    )
    return image, problem


def weighing(problem, **regions):
    """The arguments with other weights of the regions."""
    return problem._replace(knobs=problem.knobs._replace(regions=regions))


def test_a_region_has_no_slope_where_it_does_not_see(two_regions, shallow):
    image, problem = two_regions
    _, gradient = slope_of(image, shallow, weighing(problem, left=1.0, right=0.0))
    stride, _, last = receptive_field("relu2_2", "vgg19")
    seen = stride * (24 // 2 - 1) + last  # by the last position of the region
    assert seen < 33
    assert (gradient[:, seen + 1 :] == 0).all()
    assert (gradient[:, seen] != 0).any()
    _, gradient = slope_of(image, shallow, weighing(problem, left=0.0, right=1.0))
    _, first, _ = receptive_field("relu2_2", "vgg19")
    assert (gradient[:, : 24 + first] == 0).all()
    assert (gradient[:, 24 + first] != 0).any()


def test_regions_add_up_with_their_weights(two_regions, shallow):
    image, problem = two_regions
    both, left, right = (
        slope_of(image, shallow, weighing(problem, left=a, right=b))
        for a, b in ((2, 0.5), (1, 0), (0, 1))
    )
    same(both, (2 * left[0] + 0.5 * right[0], 2 * left[1] + 0.5 * right[1]))
    terms = terms_of(image, shallow, weighing(problem, left=2.0, right=0.5))
    lambdas = STYLE | {"relu2_2": 0.3}
    assert {name for name in terms if "/" in name} == {
        f"style/gram/{tap}/{region}" for tap in lambdas for region in ("left", "right")
    }
    by_hand = sum(
        weight * lambdas[tap] * terms[f"style/gram/{tap}/{region}"]
        for tap in lambdas
        for region, weight in (("left", 2), ("right", 0.5))
    )
    assert terms["style"] == pytest.approx(float(by_hand), rel=1e-5)


def test_a_guided_gram_target_is_that_of_the_cut_out_piece(shallow, pixels):
    """Gatys et al. 2017, equation 4: of a region's positions alone, as if it were the picture."""
    style = pixels(16, 24)
    seen = np.float64(jax.jit(features)(shallow, style)["relu1_1"])
    piece = seen[:, :10].reshape(-1, 64)
    knobs = knobs_for(style={"relu1_1": 1.0}, regions=("left",))
    regions = ({"left": at_taps(half(16, 24, 10))},)
    problem = problem_for(shallow, None, style, knobs, style_regions=regions)
    ((share, target),) = problem.targets.style["gram"]["relu1_1"]["left"]
    assert share == 1
    np.testing.assert_allclose(target, piece.T @ piece / len(piece), rtol=1e-4)


def test_content_counts_where_its_weight_says(shallow, pixels):
    image, content = pixels(16, 36), pixels(16, 36)
    knobs = knobs_for(WANTED)
    weight = half(8, 18, 12)
    problem = problem_for(
        shallow, content, (), knobs, (), GuideWeights({"relu2_2": jnp.asarray(weight)}, {})
    )
    value, gradient = slope_of(image, shallow, problem)
    _, _, last = receptive_field("relu2_2", "vgg19")
    assert (gradient[:, 2 * 11 + last + 1 :] == 0).all()
    assert (gradient[:, 2 * 11 + last] != 0).any()
    now, wanted = (np.float64(jax.jit(features)(shallow, x)["relu2_2"]) for x in (image, content))
    squares = (now - wanted)[:, :12] ** 2
    assert value == pytest.approx(0.8 * squares.sum() / (4 * now.size), rel=1e-4)
    whole = problem._replace(guides=GuideWeights({"relu2_2": jnp.ones((8, 18))}, {}))
    same(
        slope_of(image, shallow, whole),
        slope_of(image, shallow, problem._replace(guides=GuideWeights({}, {}))),
    )


@pytest.mark.parametrize("blend", ["targets", "losses"])
def test_a_style_of_share_zero_does_not_count(blend, shallow, pixels):
    image, content, styles = pixels(16, 18), pixels(16, 18), [pixels(20, 14), pixels(16, 16)]
    alone = slope_of(image, shallow, problem_for(shallow, content, styles[0], SMALL))
    for pair, shares in ((styles, (1, 0)), (styles[::-1], (0, 1))):
        same(
            slope_of(
                image, shallow, problem_for(shallow, content, pair, SMALL, shares, blend=blend)
            ),
            alone,
        )


@pytest.mark.slow
def test_mixed_losses_are_the_mean_of_the_objectives(shallow, pixels):
    image, content, styles = pixels(16, 18), pixels(16, 18), [pixels(20, 14), pixels(16, 16)]
    knobs = SMALL._replace(style={"gram": STYLE, "mmd_linear": {"relu2_1": 3.0}})
    mixed = problem_for(shallow, content, styles, knobs, (0.3, 0.7), blend="losses")
    first, second = (
        slope_of(image, shallow, problem_for(shallow, content, s, knobs)) for s in styles
    )
    same(
        slope_of(image, shallow, mixed),
        (0.3 * first[0] + 0.7 * second[0], 0.3 * first[1] + 0.7 * second[1]),
    )


def test_mixed_targets_are_the_mean_of_the_grams(shallow, pixels):
    styles = [pixels(20, 14), pixels(16, 16)]
    problem = problem_for(shallow, None, styles, SMALL._replace(content={}), (0.3, 0.7))
    for tap in STYLE:
        grams = []
        for style in styles:
            a = np.float64(jax.jit(features)(shallow, style)[tap])
            a = a.reshape(-1, a.shape[-1])
            grams.append(a.T @ a / len(a))
        ((share, target),) = problem.targets.style["gram"][tap][""]
        assert share == 1
        np.testing.assert_allclose(target, 0.3 * grams[0] + 0.7 * grams[1], rtol=1e-4, atol=1e-4)


def test_a_region_takes_the_styles_that_have_it(shallow, pixels):
    """Of three styles with shares 0.2, 0.3, 0.5, the last two have the region: 0.375, 0.625."""
    styles = [pixels(16, 16), pixels(16, 18), pixels(20, 16)]
    knobs = knobs_for(style={"relu1_1": 1.0}, regions=("a", "b"))
    regions = [{"b": at_taps(half(*styles[0].shape[:2], 8))}]
    regions += [{"a": at_taps(half(*style.shape[:2], 8))} for style in styles[1:]]
    shares, found = (0.2, 0.3, 0.5), {}
    for blend in ("targets", "losses"):
        problem = problem_for(
            shallow, None, styles, knobs, shares, style_regions=tuple(regions), blend=blend
        )
        found[blend] = problem.targets.style["gram"]["relu1_1"]
    (_, mixed), *none = found["targets"]["a"]
    one, other = found["losses"]["a"]
    assert not none
    assert (float(one[0]), float(other[0])) == pytest.approx((0.375, 0.625))
    np.testing.assert_allclose(mixed, 0.375 * one[1] + 0.625 * other[1], rtol=1e-5)
    assert [float(share) for share, _ in found["losses"]["b"]] == [1]


def test_losses_add_up(shallow, pixels):
    """ "mse" is four times "squared", "gram_mse" four times "gram"."""
    image, content, style = pixels(16, 18), pixels(16, 18), pixels(20, 14)
    double = {tap: 2 * value for tap, value in STYLE.items()}
    several = SMALL._replace(
        content={"squared": WANTED, "mse": {"relu2_2": 1.6}},
        style={"gram": STYLE, "gram_mse": double},
        smoothness={"squared": 400.0, "absolute": 0.0},
    )
    ninefold = SMALL._replace(alpha=9.0, beta=0.45, smoothness={"squared": 400.0})
    same(
        slope_of(image, shallow, problem_for(shallow, content, style, several)),
        slope_of(image, shallow, problem_for(shallow, content, style, ninefold)),
    )
    terms = terms_of(image, shallow, problem_for(shallow, content, style, several))
    assert {name for name in terms if "/" in name} == {
        "content/squared/relu2_2",
        "content/mse/relu2_2",
        *(f"style/{loss}/{tap}" for loss in ("gram", "gram_mse") for tap in STYLE),
    }


@pytest.mark.slow
def test_normalized_gradients_weigh_layers_by_their_lambdas_alone(shallow, pixels):
    """At each layer the gradient is scaled before the network's: its L1 norm is lambda."""
    image, content, style = pixels(16, 18), pixels(16, 18), pixels(20, 14)
    plain = problem_for(shallow, content, style, SMALL)
    problem = plain._replace(static=ObjectiveStatic(normalize_gradients=True))
    (value, gradient), (expected, _) = (
        slope_of(image, shallow, problem),
        slope_of(image, shallow, plain),
    )
    assert value == pytest.approx(float(expected), rel=1e-5)
    taps, pull = jax.vjp(lambda x: features(shallow, x), image)
    wanted = {tap: np.zeros(seen.shape) for tap, seen in taps.items()}
    target = np.float64(features(shallow, content)["relu2_2"])
    wanted["relu2_2"] = 0.8 * normalized(np.float64(taps["relu2_2"]) - target)
    for tap, weight in STYLE.items():
        a = np.float64(taps[tap])
        flat = a.reshape(-1, a.shape[-1])
        ((_, gram),) = plain.targets.style["gram"][tap][""]
        slope = flat @ (flat.T @ flat / len(flat) - np.float64(gram))
        wanted[tap] = 0.05 * weight * normalized(slope).reshape(a.shape)
    (slope,) = pull({tap: jnp.asarray(part, jnp.float32) for tap, part in wanted.items()})
    smoothness = jax.grad(lambda x: SMOOTHNESS["squared"](whole(x)))(image)
    slope = slope + 1e3 * smoothness
    np.testing.assert_allclose(gradient, slope, atol=1e-4 * float(jnp.abs(slope).max()))


def normalized(gradient):
    return gradient / np.abs(gradient).sum()


def test_a_normalized_gradient_of_nothing_is_nothing(shallow, pixels):
    """The painting is the photograph: its content term has no slope, and divides by no zero."""
    image, style = pixels(16, 18), pixels(20, 14)
    problem = problem_for(shallow, image, style, SMALL._replace(beta=0.0, smoothness={}))
    problem = problem._replace(static=ObjectiveStatic(normalize_gradients=True))
    _, gradient = slope_of(image, shallow, problem)
    assert jnp.abs(gradient).max() == 0
