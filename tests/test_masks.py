"""Guides against hand-made masks, and against a network of sums that shows who sees which pixel."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from nst_jax.errors import UserError
from nst_jax.network import architecture, receptive
from nst_jax.pictures import masks

# The layers as Simonyan & Zisserman list them: C a convolution, P a pooling.
LAYERS = {"vgg16": "CCPCCPCCCPCCCPCCC", "vgg19": "CCPCCPCCCCPCCCCPCCCC"}
TAPS = [
    *[("vgg19", tap) for tap in ("conv1_1", "relu2_1", "relu3_1", "relu3_4", "conv4_2")],
    *[("vgg19", tap) for tap in ("relu5_1", "relu5_4")],
    *[("vgg16", tap) for tap in ("relu1_2", "conv2_2", "relu4_1", "relu5_1", "conv5_3")],
]
EVERY_TAP = [(arch, tap) for arch in LAYERS for tap in architecture.taps(arch)]
RED, BLUE, GRAY = (255, 0, 0), (0, 0, 255), (128, 128, 128)


def spread(pixels: np.ndarray, arch: str, tap: str) -> np.ndarray:
    """Pixels [n, h, w] through sums in place of convolutions and poolings, up to a tap.

    Nothing cancels, so the result is positive exactly where a positive pixel is seen.
    """
    block, index = int(tap[4]), int(tap[6:])
    layers = "P".join([*LAYERS[arch].split("P")[: block - 1], "C" * index])
    for layer in layers:
        height, width = pixels.shape[1:]
        if layer == "P":
            even = pixels[:, : height // 2 * 2, : width // 2 * 2]
            pixels = sum(even[:, i::2, j::2] for i in (0, 1) for j in (0, 1))
        else:
            padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1)))
            pixels = sum(
                padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
            )
    return np.asarray(pixels)


@pytest.mark.parametrize(("arch", "tap"), TAPS)
def test_receptive_fields(arch, tap):
    """One pixel lit in each row in turn: a position answers if and only if its field has it."""
    height = 301
    lit = np.zeros((height, height, 17))
    lit[np.arange(height), np.arange(height), 5] = 1
    seen = spread(lit, arch, tap).any(-1)
    stride, first, last = receptive.receptive_field(tap, arch)
    row, position = np.indices(seen.shape)
    expected = (position * stride + first <= row) & (row <= position * stride + last)
    np.testing.assert_array_equal(seen, expected)
    assert seen[:, height // 2 // stride].sum() == last - first + 1  # one field lies inside


def test_receptive_fields_by_hand():
    assert receptive.receptive_field("relu1_1", "vgg19") == (1, -1, 1)
    assert receptive.receptive_field("conv1_2", "vgg19") == (1, -2, 2)
    assert receptive.receptive_field("relu2_1", "vgg16") == (2, -4, 5)


@pytest.mark.parametrize("shape", [(217, 449), (31, 47), (16, 16)])
@pytest.mark.parametrize(("arch", "tap"), TAPS)
def test_inside_and_all_are_who_sees_what(rng, arch, tap, shape):
    height, width = shape
    mask = np.zeros((height, width), bool)
    mask[: height // 2, : width // 3] = True
    mask[:, 5 * width // 8 :] = True
    mask[rng.integers(height, size=3), rng.integers(width // 8, size=3)] ^= True  # specks and holes
    for region in (mask, ~mask):
        inside = ~(spread(~region[None] * 1.0, arch, tap)[0] > 0)
        seen = spread(region[None] * 1.0, arch, tap)[0] > 0
        guide = np.float32(region)
        np.testing.assert_array_equal(receptive.propagate(guide, tap, arch, "inside"), inside)
        np.testing.assert_array_equal(receptive.propagate(guide, tap, arch, "all"), seen)


def test_who_sees_what_is_not_all_or_nothing():
    """The masks of the test above do tell positions apart, even at the deepest tap."""
    mask = np.zeros((217, 449), np.float32)
    mask[:, 5 * 449 // 8 :] = 1
    for how in ("inside", "all"):
        assert np.unique(receptive.propagate(mask, "relu5_4", "vgg19", how)).tolist() == [0, 1]


@pytest.mark.parametrize("how", receptive.PROPAGATIONS)
def test_where_pooling_rounds_up_the_last_position_sees_the_last_rows(how):
    mask = np.zeros((23, 37), np.float32)
    mask[20:] = 1  # the sixth row of relu3_2 sees rows 20 to 22, and none below
    seen = receptive.propagate(mask, "relu3_2", "vgg19", how, rounds_up=True)
    assert seen.shape == (6, 10)
    assert (seen[5] == (how != "inside")).all()
    assert (seen[0] == 0).all()


def test_simple_is_the_mean_of_the_block(rng):
    mask = rng.random((23, 37), np.float32)
    simple = receptive.propagate(mask, "relu3_2", "vgg19", "simple")
    assert simple.shape == (5, 9)
    for i, j in np.ndindex(5, 9):
        mean = sum(float(mask[4 * i + k, 4 * j + m]) for k in range(4) for m in range(4)) / 16
        assert simple[i, j] == pytest.approx(mean, abs=1e-6)
    np.testing.assert_array_equal(receptive.propagate(mask, "conv1_2", "vgg19", "simple"), mask)


@pytest.mark.parametrize(("arch", "tap"), EVERY_TAP)
def test_inside_is_least_and_all_is_most(rng, arch, tap):
    mask = rng.random((75, 93), np.float32)
    mask[:40, :50] = 0.3  # where they agree, rounding must not part them
    inside = receptive.propagate(mask, tap, arch, "inside")
    simple = receptive.propagate(mask, tap, arch, "simple")
    seen = receptive.propagate(mask, tap, arch, "all")
    assert (mask.min() <= inside).all()
    assert (inside <= simple).all()
    assert (simple <= seen).all()
    assert (seen <= mask.max()).all()
    side = 2 ** (int(tap[4]) - 1)
    assert inside.shape == simple.shape == seen.shape == (75 // side, 93 // side)
    assert inside.dtype == simple.dtype == seen.dtype == np.float32


@pytest.mark.parametrize("how", receptive.PROPAGATIONS)
@pytest.mark.parametrize(("arch", "tap"), EVERY_TAP)
def test_the_whole_picture_stays_whole(arch, tap, how):
    whole = np.ones((35, 50), np.float32)
    np.testing.assert_array_equal(receptive.propagate(whole, tap, arch, how), 1)


SLIPS = {
    "content alone": (
        lambda: masks.check_partners(["house", "sky"], [["house"], ["ground"]]),
        "region 'sky' of config.guides.content has no partner in config.guides.style; "
        "it has house, ground$",
    ),
    "style alone": (
        lambda: masks.check_partners([], [[], ["sky"]]),
        "region 'sky' of config.guides.style has no partner in config.guides.content; it has none$",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_slips_are_one_clear_line(slip):
    call, message = SLIPS[slip]
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_partners_may_be_in_any_style_picture():
    masks.check_partners([], [])
    masks.check_partners(["sky", "house"], [["house"], [], ["sky", "house"]])


def save(path, rows) -> str:
    """Saves an array of gray levels or colours, 0 to 255; returns the path as configs have it."""
    Image.fromarray(np.uint8(rows)).save(path)
    return str(path)


def test_named_masks(tmp_path):
    sky = save(tmp_path / "sky.png", [[255, 255, 0], [51, 0, 0]])
    found = masks.read({"sky": sky, "rest": ""}, (2, 3))
    assert list(found) == ["sky", "rest"]
    assert all(mask.dtype == np.float32 for mask in found.values())
    np.testing.assert_allclose(found["sky"], [[1, 1, 0], [0.2, 0, 0]], atol=1e-6)
    np.testing.assert_array_equal(found["rest"], np.ones((2, 3)))
    assert masks.read({}, (2, 3)) == {}


def test_masks_are_stretched(tmp_path):
    """From another aspect and size: halves stay halves, gray stays gray, and nothing rings."""
    left = save(tmp_path / "left.png", [[255] * 4 + [0] * 4] * 2)
    gray = save(tmp_path / "gray.png", np.full((3, 5), 102))
    found = masks.read({"left": left, "gray": gray}, (40, 64))
    np.testing.assert_array_equal(found["left"][:, :26], 1)
    np.testing.assert_array_equal(found["left"][:, 38:], 0)
    assert (np.diff(found["left"][0]) <= 0).all()
    np.testing.assert_allclose(found["left"] + found["left"][:, ::-1], 1, atol=1e-6)
    np.testing.assert_allclose(found["gray"], 0.4, atol=1e-6)


def test_shrunk_masks_are_antialiased(tmp_path):
    board = save(tmp_path / "board.png", np.indices((64, 64)).sum(0) % 2 * 255)
    np.testing.assert_allclose(masks.read({"board": board}, (8, 8))["board"], 0.5, atol=0.02)


def test_black_masks(tmp_path):
    black = save(tmp_path / "night.png", np.zeros((4, 4)))
    with pytest.raises(
        UserError, match=r"region 'sky': \S+night.png is black or transparent every"
    ) as caught:
        masks.read({"house": "", "sky": black}, (4, 4))
    assert "\n" not in str(caught.value)


def test_missing_masks(tmp_path):
    for files in ({"sky": str(tmp_path / "none.png")}, str(tmp_path / "none.png")):
        with pytest.raises(UserError, match="no picture .*none.png"):
            masks.read(files, (4, 4))


def test_colours_are_regions(tmp_path):
    """Three, and a line of a fourth colour that belongs to the nearest of them."""
    rows = np.zeros((20, 30, 3))
    rows[:, :15], rows[:, 15:], rows[14:, 22:] = RED, BLUE, GRAY
    rows[3, 2:9] = (200, 30, 30)
    found = masks.read(save(tmp_path / "guide.png", rows), (20, 30))
    expected = {name: np.zeros((20, 30)) for name in ("#ff0000", "#0000ff", "#808080")}
    expected["#ff0000"][:, :15] = 1
    expected["#0000ff"][:, 15:] = 1
    expected["#0000ff"][14:, 22:] = 0
    expected["#808080"][14:, 22:] = 1
    assert found.keys() == expected.keys()
    for name, mask in found.items():
        assert mask.dtype == np.float32
        np.testing.assert_array_equal(mask, expected[name])


def test_a_region_covers_half_a_percent(tmp_path):
    """Counted in squares of four: 9 x 9 pixels hold 64 of them, 8 x 8 only 49, of 10000."""
    for side, count in ((8, 1), (9, 2)):
        rows = np.full((100, 100, 3), RED)
        rows[50 : 50 + side, 20 : 20 + side] = BLUE
        assert len(masks.read(save(tmp_path / "guide.png", rows), (9, 9))) == count


def drawing(scale: int) -> Image.Image:
    """Red ground, a blue slope and a gray disc on 128 x 96 pixels; antialiased by `scale`."""
    image = Image.new("RGB", (128 * scale, 96 * scale), RED)
    draw = ImageDraw.Draw(image)
    draw.polygon([(xy[0] * scale, xy[1] * scale) for xy in ((0, 0), (127, 0), (0, 60))], fill=BLUE)
    draw.ellipse([60 * scale, 50 * scale, 110 * scale, 90 * scale], fill=GRAY)
    return image.resize((128, 96), Image.Resampling.BOX)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_jpeg_noise_and_soft_edges_make_no_regions(tmp_path, quality):
    drawing(1).save(tmp_path / "exact.png")
    drawing(8).save(tmp_path / "soft.png")
    drawing(8).save(tmp_path / "noisy.jpg", quality=quality)
    exact = masks.read(str(tmp_path / "exact.png"), (96, 128))
    assert set(exact) == {"#ff0000", "#0000ff", "#808080"}
    for name in ("soft.png", "noisy.jpg"):
        found = masks.read(str(tmp_path / name), (96, 128), exact)
        assert found.keys() == exact.keys()
        for region, mask in found.items():
            assert np.abs(mask - exact[region]).mean() < 0.02


def test_a_partner_lends_its_name(tmp_path):
    """Only to a colour close to its own."""
    path = save(tmp_path / "guide.png", [[(250, 4, 2)] * 9] * 9)
    assert list(masks.read(path, (9, 9))) == ["#fa0402"]
    assert list(masks.read(path, (9, 9), ["sky", "#0000ff", "#ff0000"])) == ["#ff0000"]
    assert list(masks.read(path, (9, 9), ["#d20000", "#fa2902"])) == ["#fa0402"]


def test_colour_masks_get_soft_edges_and_share_every_pixel(tmp_path):
    path = str(tmp_path / "guide.png")
    drawing(1).save(path)
    found = masks.read(path, (31, 50))
    np.testing.assert_allclose(sum(found.values()), 1, atol=1e-6)
    for mask in found.values():
        assert mask.shape == (31, 50)
        assert mask.min() == 0
        assert mask.max() == 1
        assert 0.02 < ((mask > 0.1) & (mask < 0.9)).mean() < 0.2


def test_a_picture_of_too_many_colours_is_refused_at_once(tmp_path):
    codes = np.arange(1 << 19)
    pixels = np.stack([codes >> 11, codes >> 3 & 255, codes & 7], -1).reshape(512, 1024, 3)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "smooth.png")
    with pytest.raises(UserError, match="it has 524288 colours"):
        masks.read(str(tmp_path / "smooth.png"), (32, 64))


def test_pictures_that_are_no_colour_coded_guides(tmp_path, rng):
    noise = rng.integers(256, size=(64, 64, 3))
    steps = np.stack(np.meshgrid([0, 60, 120, 180], [0, 85, 170], [0, 85, 170]), -1)
    tiles = steps.reshape(6, 6, 3).repeat(8, 0).repeat(8, 1)  # 36 colours
    for name, rows, count in (("noise.png", noise, 0), ("tiles.png", tiles, 36)):
        message = f"{name} is not a colour-coded guide: it has {count} plain"
        with pytest.raises(UserError, match=message) as caught:
            masks.read(save(tmp_path / name, rows), (8, 8))
        assert "\n" not in str(caught.value)
    assert len(masks.read(save(tmp_path / "fewer.png", tiles[:40, :48]), (8, 8))) == 30


# ---- transparency


BOX = np.zeros((24, 32), np.float32)
BOX[6:18, 10:22] = 1


def with_alpha(path, colour):
    """A mask file whose box is opaque, with these colours everywhere."""
    colour = np.broadcast_to(np.uint8(colour), (24, 32, 3))
    alpha = np.uint8(255 * BOX)[..., None]
    Image.fromarray(np.concatenate([colour, alpha], -1)).save(path)
    return str(path)


@pytest.mark.parametrize("colour", ["white", "black", "photo"])
def test_what_is_transparent_is_outside(colour, tmp_path, rng, capsys):
    """White on nothing, black on nothing, and a cut-out: the region is what is opaque."""
    photo = rng.integers(0, 256, (24, 32, 3))
    path = with_alpha(tmp_path / "m.png", {"white": 255, "black": 0, "photo": photo}[colour])
    np.testing.assert_allclose(masks.read({"figure": path}, (24, 32))["figure"], BOX, atol=1e-6)
    assert not capsys.readouterr().err


def test_alpha_multiplies_a_gray_mask(tmp_path):
    half = np.full((24, 32, 1), 255)
    half[:, :16] = 0  # painted black: outside, although opaque
    path = with_alpha(tmp_path / "m.png", half)
    expected = BOX * (np.arange(32) >= 16)
    np.testing.assert_allclose(masks.read({"figure": path}, (24, 32))["figure"], expected)
    opaque = np.concatenate([half.repeat(3, -1), np.full((24, 32, 1), 255)], -1)
    Image.fromarray(np.uint8(opaque)).save(tmp_path / "opaque.png")
    found = masks.read({"figure": str(tmp_path / "opaque.png")}, (24, 32))["figure"]
    np.testing.assert_array_equal(found, np.broadcast_to(np.arange(32) >= 16, (24, 32)))


def test_what_is_transparent_belongs_to_no_colour(tmp_path):
    path = with_alpha(tmp_path / "m.png", (255, 0, 0))
    found = masks.read(path, (24, 32))
    assert list(found) == ["#ff0000"]
    np.testing.assert_allclose(found["#ff0000"], BOX)


def test_a_mask_of_another_shape_is_stretched_and_says_so(tmp_path, capsys):
    path = str(tmp_path / "m.png")
    Image.fromarray(np.uint8(255 * BOX)).save(path)
    masks.read({"figure": path}, (12, 16))
    masks.read({"figure": path}, (481, 640))
    assert not capsys.readouterr().err
    masks.read({"figure": path}, (32, 24))
    said = capsys.readouterr().err
    assert said == f"{path}: a mask of 32x24 pixels is stretched to 24x32, another aspect ratio\n"


def test_masks_of_0_and_1_are_refused_and_not_painted_in_the_dark(tmp_path):
    path = str(tmp_path / "labels.png")
    Image.fromarray(np.uint8(BOX)).save(path)
    with pytest.raises(UserError, match=r"labels.png is black .*, or nearly; .* \(255, where"):
        masks.read({"figure": path}, (24, 32))


def test_masks_of_floats_are_within_the_range(tmp_path):
    path = str(tmp_path / "m.tif")
    Image.fromarray(np.float32(2 * BOX)).save(path)
    for files in ({"figure": path}, path):
        with pytest.raises(UserError, match=r"m.tif has values outside \[0, 1\]"):
            masks.read(files, (24, 32))
