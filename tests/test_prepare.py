"""What a run starts from: sizes by hand, mistakes in one line, colours before and after."""

import numpy as np
import pytest
from conftest import prepared
from PIL import Image

from nst_jax import config
from nst_jax.config import rules
from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.transfer import prepare
from nst_jax.transfer.cache import Cache

SHALLOW = {"style_layers": "relu1_1, relu2_1", "content_layers": "relu2_1"}


def configured(**values):
    """A config of flat keys."""
    c = config.default()
    c.update_from_flattened_dict(SHALLOW | {"image_size": 64} | values)
    return c


def pictures_of(c, content, styles):
    """The pictures of a config whose content and styles are arrays."""
    return prepared(c, content, styles)[1]


@pytest.fixture
def masks(tmp_path):
    """Masks of the left and the right half, of a dot, and of nothing; by name, as paths."""
    drawn = {name: np.zeros((48, 64, 3), np.float32) for name in ("left", "right", "dot")}
    drawn["left"][:, :32] = drawn["right"][:, 32:] = drawn["dot"][20:24, 20:24] = 1
    for name, mask in drawn.items():
        images.write(tmp_path / f"{name}.png", mask)
    return {name: tmp_path / f"{name}.png" for name in drawn}


# ---- sizes


@pytest.mark.parametrize(
    ("values", "full", "half"),
    [
        ({}, (64, 48), (32, 24)),
        ({"style_scale": 0.5}, (32, 24), (16, 12)),
        ({"style_scale": 1.5}, (96, 72), (48, 36)),
        ({"style_size": 40}, (40, 30), (40, 30)),
    ],
)
def test_the_style_has_its_size_at_each_scale(values, full, half, picture):
    """Of a portrait of 80x60 in the style column of 64x48; the content is a landscape of 64x40."""
    c = configured(**values, **{"pyramid.min_size": 32, "pyramid.factor": 2.0})
    experiment, pictures = prepared(c, picture(50, 80), [picture(80, 60)])
    small, whole = (prepare.at_scale(pictures, scale) for scale in experiment.scales)
    assert pictures.shape == (40, 64)
    assert small.shape == (20, 32)
    assert pictures.styles[0].shape == (*full, 3)
    assert small.styles[0].shape == (*half, 3)
    assert whole is pictures


def test_everything_of_the_output_has_its_size_at_each_scale(masks, picture, tmp_path):
    images.write(tmp_path / "start.png", picture(20, 30))
    both = f"left={masks['left']}, right={masks['right']}"
    c = configured(
        **{
            "guides.content": both,
            "guides.style": both,
            "guides.content_weight": str(masks["left"]),
            "init.picture": str(tmp_path / "start.png"),
            "color.mode": "recombine",
            "pyramid.min_size": 32,
            "pyramid.factor": 2.0,
        }
    )
    experiment, pictures = prepared(c, picture(40, 64), [picture(64, 48)])
    for found, shape, style in (
        (pictures, (40, 64), (64, 48)),
        (prepare.at_scale(pictures, experiment.scales[0]), (20, 32), (32, 24)),
    ):
        for one in (found.content, found.start, found.photo):
            assert one.shape == (*shape, 3)
        assert found.content_weight.shape == shape
        assert {name: mask.shape for name, mask in found.regions.items()} == {
            "left": shape,
            "right": shape,
        }
        assert {mask.shape for mask in found.style_regions[0].values()} == {style}
        middle = shape[1] // 2
        assert (found.regions["left"][:, : middle - 1] == 1).all()
        assert (found.regions["left"][:, middle + 1 :] == 0).all()
        np.testing.assert_allclose(found.regions["left"] + found.regions["right"], 1, atol=1e-5)


def test_without_content_the_first_style_has_the_size(picture):
    c = configured(**{"init.picture": "gray"})
    pictures = pictures_of(c, None, [picture(64, 48), picture(20, 64)])
    assert pictures.content is None
    assert pictures.shape == (64, 48)
    assert [style.shape for style in pictures.styles] == [(64, 48, 3), (20, 64, 3)]


@pytest.mark.parametrize(("size", "least", "scale"), [(256, 128, 0.25), (100, 70, 0.5)])
def test_a_texture_has_one_shape_at_each_scale(size, least, scale, picture, tmp_path):
    """Whatever the style's own size is rounded to: masks, start and output agree to the pixel."""
    images.write(tmp_path / "mask.png", picture(20, 30))
    images.write(tmp_path / "style.png", picture(707, 1000))
    mask = str(tmp_path / "mask.png")
    c = configured(
        **{
            "style": str(tmp_path / "style.png"),
            "image_size": size,
            "style_scale": scale,
            "pyramid.min_size": least,
            "init.picture": mask,
            "guides.content": f"all={mask}",
            "guides.style": "all=",
        }
    )
    experiment, pictures = prepared(c)
    for one in experiment.scales:
        sized = prepare.at_scale(pictures, one)
        assert max(sized.shape) == one.size
        assert sized.shape == prepare.shape_at(pictures, one)
        assert sized.start.shape == (*sized.shape, 3)
        assert sized.regions["all"].shape == sized.shape


def test_taps_are_those_of_pictures_that_there_are():
    taps = config.parse(
        configured(content="a.png", style="b.png", style_losses="gram, sliced(relu3_1, relu1_1)")
    ).objective.taps
    assert taps == ("relu2_1", "relu1_1", "relu3_1")
    assert config.parse(configured(content="a.png")).objective.taps == ("relu2_1",)


def test_a_name_that_was_split_is_hinted_at():
    c = configured(**{"style": "Monet,_Impression.jpg", "init.noise": 1.0})
    message = r"""no picture \S+; a name .* quoted: --config.style='"Monet,_Impression.jpg"'"""
    with pytest.raises(UserError, match=message):
        prepared(c)


# ---- mistakes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"guides.content": "left={left}, right={right}", "guides.style": "left={left}"},
            "region 'right' of config.guides.content has no partner in config.guides.style",
        ),
        (
            {"guides.content": "left={left}", "guides.style": "left={left}, dot={dot}"},
            "region 'dot' of config.guides.style has no partner in config.guides.content",
        ),
        (
            {
                "guides.content": "left={left}",
                "guides.style": "left={left}",
                "guides.weights": "left:1, lft:2",
            },
            "config.guides.weights names a region 'lft'; there are left",
        ),
        (
            {"guides.content": "left=none.png", "guides.style": "left={left}"},
            "config.guides.content: ",
        ),
        (
            {"guides.content": "left={left}", "guides.style": "left={left}; left={left}"},
            "config.guides.style: guides for 2 style pictures, and there are 1",
        ),
        ({"pyramid.min_size": 1}, "choose a larger config.pyramid.min_size"),
        ({"guides.content_weight": "none.png"}, "none.png"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(values, message, masks, picture):
    values = {
        key: value.format(**masks) if isinstance(value, str) else value
        for key, value in values.items()
    }
    with pytest.raises(UserError) as caught:
        pictures_of(configured(**values), picture(48, 64), [picture(48, 64)])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- colours

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def test_luminance_paints_in_gray(picture):
    """The style's luminance gets the content's mean and deviation (Gatys et al. 2017, 5.2)."""
    content = np.float32(0.4 + 0.2 * picture(48, 64))
    pictures = pictures_of(configured(**{"color.mode": "luminance"}), content, [picture(48, 64)])
    for one in (pictures.content, *pictures.styles):
        np.testing.assert_allclose(one, one[..., :1].repeat(3, -1), atol=1e-6)
    np.testing.assert_allclose(pictures.content[..., 0], content @ LUMA, atol=1e-3)
    assert pictures.styles[0].mean() == pytest.approx((content @ LUMA).mean(), abs=5e-3)
    assert pictures.styles[0].std() == pytest.approx((content @ LUMA).std(), abs=5e-3)
    np.testing.assert_allclose(pictures.photo, content, atol=1e-6)


def test_recombine_leaves_the_pictures_as_they_are(picture):
    content, style = picture(48, 64), picture(64, 48)
    plain = pictures_of(configured(), content, [style])
    pictures = pictures_of(configured(**{"color.mode": "recombine"}), content, [style])
    assert plain.photo is None
    np.testing.assert_array_equal(pictures.content, plain.content)
    np.testing.assert_array_equal(pictures.styles[0], plain.styles[0])
    np.testing.assert_array_equal(pictures.photo, plain.content)


@pytest.mark.parametrize("mode", ["luminance", "recombine"])
@pytest.mark.parametrize("several", [False, True])
def test_finished_has_its_own_luminance_and_the_contents_chroma(mode, several, picture):
    """R - Y and B - Y are U and V but for factors. Near gray, so that nothing is cut off."""
    c = configured(**{"color.mode": mode})
    content = np.float32(0.4 + 0.2 * picture(48, 64))
    experiment, pictures = prepared(c, content, [picture(48, 64)])
    paintings = np.stack([np.float32(0.4 + 0.2 * picture(48, 64)) for _ in range(2)])
    paintings = paintings if several else paintings[0]
    found = prepare.finished(paintings, pictures, experiment.inputs.color)
    assert found.shape == paintings.shape
    np.testing.assert_allclose(found @ LUMA, paintings @ LUMA, atol=2e-3)
    for channel in (0, 2):
        ours = found[..., channel] - found @ LUMA
        theirs = np.broadcast_to(content[..., channel] - content @ LUMA, ours.shape)
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_finished_is_the_painting_itself_where_colours_are_the_styles(picture):
    c = configured()
    painting = picture(48, 64)
    experiment, pictures = prepared(c, picture(48, 64), [picture(48, 64)])
    found = prepare.finished(painting, pictures, experiment.inputs.color)
    np.testing.assert_array_equal(found, painting)


def test_finished_has_as_much_detail_of_the_photograph_as_is_asked(picture):
    c = configured(**{"color.photorealism": 1.0})
    painting, content = (np.float32(0.4 + 0.2 * picture(48, 64)) for _ in range(2))
    experiment, pictures = prepared(c, content, [picture(48, 64)])
    found = prepare.finished(painting, pictures, experiment.inputs.color)
    expected = content + painting.mean((0, 1)) - content.mean((0, 1))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("mode", rules.RECOLOURINGS)
def test_recoloured_styles_have_the_contents_mean_colour(mode, picture):
    """Near gray, so that nothing is cut off; every recolouring carries at least the mean over."""
    content, style = (np.float32(0.4 + 0.2 * picture(48, 64)) for _ in range(2))
    pictures = pictures_of(configured(**{"color.mode": mode}), content, [style])
    wanted = content.mean((0, 1))
    np.testing.assert_allclose(pictures.styles[0].mean((0, 1)), wanted, atol=2e-3)
    np.testing.assert_array_equal(pictures.content, content)
    assert pictures.photo is None


def test_guided_recolouring_goes_region_by_region(masks, picture):
    """The content is red on the left and blue on the right; the style's regions are swapped."""
    content = np.float32(0.1 * picture(48, 64))
    content[:, :32, 0] += 0.7
    content[:, 32:, 2] += 0.7
    c = configured(
        **{
            "guides.content": f"red={masks['left']}, blue={masks['right']}",
            "guides.style": f"red={masks['right']}, blue={masks['left']}",
            "color.mode": "histogram",
            "color.guided": True,
        }
    )
    (style,) = pictures_of(c, content, [picture(48, 64)]).styles
    for half, channel in ((np.s_[:, 34:], 0), (np.s_[:, :30], 2)):
        means = style[half].mean((0, 1))
        assert means.argmax() == channel
        assert means[channel] > 0.6
        assert np.delete(means, channel).max() < 0.2


def test_content_that_keeps_its_alpha_is_filled_and_other_content_composited(tmp_path):
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, 32:] = (200, 100, 50, 255)
    images.write(tmp_path / "s.png", np.full((64, 64, 3), 0.5, np.float32))
    Image.fromarray(pixels).save(tmp_path / "c.png")
    cache = Cache()  # one for both: the picture is kept in either form
    for keeps, expected in ((True, np.array([200, 100, 50]) / 255), (False, 1)):
        c = configured(content=str(tmp_path / "c.png"), style=str(tmp_path / "s.png"))
        c.keep_alpha = keeps
        content = prepare.load(config.parse(c), cache).content
        np.testing.assert_allclose(content[:, 0], np.broadcast_to(expected, (64, 3)), atol=1e-5)


def test_content_that_is_enlarged_is_said_in_one_line(tmp_path, picture, capsys):
    images.write(tmp_path / "c.png", picture(30, 40))
    images.write(tmp_path / "s.png", picture(30, 40))
    pair = {"content": str(tmp_path / "c.png"), "style": str(tmp_path / "s.png")}
    prepare.load(config.parse(configured(**pair)), Cache())
    said = capsys.readouterr().err
    assert said == f"{pair['content']}: 40x30 pixels, enlarged to 64x48\n"
