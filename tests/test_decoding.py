"""What files mean: containers, layouts, tags, transparency, each against values written by hand."""

import importlib
import struct
import sys
import zlib

import numpy as np
import png
import pytest
import tifffile
from PIL import Image, ImageOps

from nst_jax.errors import UserError
from nst_jax.pictures import decoding, images, profiles


@pytest.fixture
def ramp(rng):
    """16-bit values of every size, [20, 30, 3]."""
    return rng.integers(0, 65536, (20, 30, 3), np.uint16)


def written(path, pixels, **how):
    tifffile.imwrite(path, pixels, **how)
    return path


# ---- which page


def test_the_largest_page_that_is_no_thumbnail_is_the_picture(tmp_path, rng):
    """Also behind a larger page that says it is a reduced one, as scanners' previews do."""
    pages = [np.uint8(rng.integers(0, 256, (side, side + 2, 3))) for side in (6, 24, 32)]
    with tifffile.TiffWriter(tmp_path / "p.tif") as file:
        for page, subfiletype in zip(pages, (1, 0, 1), strict=True):
            file.write(page, photometric="rgb", subfiletype=subfiletype)
    np.testing.assert_allclose(images.read(tmp_path / "p.tif") * 255, pages[1], atol=1e-4)


def test_of_equal_pages_the_first(tmp_path, rng):
    pages = np.uint8(rng.integers(0, 256, (3, 8, 9, 3)))
    written(tmp_path / "p.tif", pages, photometric="rgb")
    np.testing.assert_allclose(images.read(tmp_path / "p.tif") * 255, pages[0], atol=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_picture_below_a_page(tmp_path, rng, dtype):
    """As in pyramids and in files of cameras: the first page is small, its sub-page the picture."""
    whole = rng.integers(0, np.iinfo(dtype).max, (24, 30, 3)).astype(dtype)
    with tifffile.TiffWriter(tmp_path / "p.tif") as file:
        file.write(whole[::4, ::4], photometric="rgb", subifds=1, subfiletype=1)
        file.write(whole, photometric="rgb")
    expected = whole / np.iinfo(dtype).max
    np.testing.assert_allclose(images.read(tmp_path / "p.tif"), expected, atol=1e-6)


def test_raw_files_are_refused_with_a_way_out(tmp_path, rng):
    sensor = rng.integers(0, 4096, (24, 30), np.uint16)
    with tifffile.TiffWriter(tmp_path / "DSC_1.NEF") as file:
        file.write(np.zeros((6, 8, 3), np.uint8), photometric="rgb", subifds=1, subfiletype=1)
        file.write(sensor, photometric=32803)
    (tmp_path / "IMG_1.CR2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(100))
    (tmp_path / "1.RAF").write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(100))
    for name in ("DSC_1.NEF", "IMG_1.CR2", "1.RAF"):
        with pytest.raises(UserError, match=f"{name} is a camera's raw file.* export it as TIFF"):
            images.read(tmp_path / name)


# ---- depths and layouts


LAYOUTS = {
    "planes": lambda x: (np.moveaxis(x, -1, 0), {"planarconfig": "separate"}, x / 65535),
    "deflated planes": lambda x: (
        np.moveaxis(x, -1, 0),
        {"planarconfig": "separate", "compression": "zlib"},
        x / 65535,
    ),
    "floats": lambda x: (np.float32(x / 65535), {}, x / 65535),
    "half floats": lambda x: (np.float16(x / 65535), {}, np.float16(x / 65535)),
    "doubles": lambda x: (x / 65535, {"compression": "zlib"}, x / 65535),
    "32 bits": lambda x: (np.uint32(x) << 16, {}, x / 65536),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_colour(layout, tmp_path, ramp):
    stored, how, expected = LAYOUTS[layout](ramp)
    path = written(tmp_path / "p.tif", stored, photometric="rgb", **how)
    np.testing.assert_allclose(images.read(path), expected, atol=2e-5)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_white_may_be_zero(tmp_path, rng, bits, compression):
    stored = rng.integers(0, 1 << bits, (9, 7)).astype(f"uint{bits}")
    how = {"photometric": "miniswhite", "compression": compression}
    found = images.read(written(tmp_path / "p.tif", stored, **how))
    np.testing.assert_allclose(found[..., 1], 1 - stored / ((1 << bits) - 1), atol=1e-6)


def test_gray_of_32_bits(tmp_path, rng):
    stored = rng.integers(0, 1 << 32, (9, 7), np.uint32)
    found = images.read(written(tmp_path / "p.tif", stored, photometric="minisblack"))
    np.testing.assert_allclose(found[..., 0], stored / (2**32 - 1), atol=1e-6)


def test_gray_of_12_bits_uses_all_of_them(tmp_path):
    """Written by hand: two pixels in three bytes, 0xfff and 0x800."""
    tags = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8 + 2 + 12 * 7 + 4), (279, 4, 1, 3)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    (tmp_path / "p.tif").write_bytes(head + b"\xff\xf8\x00")
    np.testing.assert_allclose(images.read(tmp_path / "p.tif")[0, :, 0], [1, 2048 / 4095])


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_gray_with_alpha_of_16_bits(tmp_path, kind, capsys):
    """Half transparent middle gray; once with the gray multiplied by alpha."""
    gray, alpha = 0.5, 0.5
    stored = gray * alpha if kind == "assocalpha" else gray
    pixels = np.uint16(np.rint(65535 * np.array([[[stored, alpha]]])))
    path = written(tmp_path / "p.tif", pixels, photometric="minisblack", extrasamples=[kind])
    colour, opacity = decoding.decode(path)
    np.testing.assert_allclose(colour, gray, atol=1e-4)
    np.testing.assert_allclose(opacity, alpha, atol=1e-4)
    np.testing.assert_allclose(images.read(path), 0.75, atol=1e-4)
    assert "composited on white" in capsys.readouterr().err


def test_deep_pages_are_turned_upright(tmp_path, ramp):
    turned = [(274, 3, 1, 6, True)]  # a quarter clockwise: left is up
    path = written(tmp_path / "p.tif", np.float32(ramp / 65535), extratags=turned)
    np.testing.assert_allclose(images.read(path), np.rot90(ramp, -1) / 65535, atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_pillows(orientation, rng):
    pixels = np.uint8(rng.integers(0, 256, (3, 5, 3)))
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(decoding._upright(pixels, orientation), expected)


def test_signed_integers_and_unknown_layouts_are_refused_by_name(tmp_path, ramp):
    signed = written(tmp_path / "signed.tif", np.int16(ramp[..., 0] // 2))
    with pytest.raises(UserError, match=r"signed.tif holds signed integers.* 8 or 16 bits"):
        images.read(signed)
    data = written(tmp_path / "lzw.tif", np.float32(ramp / 65535)).read_bytes()
    tag = struct.pack("<HHIHH", 259, 3, 1, 1, 0)
    assert data.count(tag) == 1
    (tmp_path / "lzw.tif").write_bytes(data.replace(tag, struct.pack("<HHIHH", 259, 3, 1, 5, 0)))
    with pytest.raises(UserError, match=r"lzw.tif has a layout .*LZW, 32 bits.* without compr"):
        images.read(tmp_path / "lzw.tif")


def test_values_outside_the_range_are_refused(tmp_path, ramp):
    path = written(tmp_path / "p.tif", np.float32(ramp / 30000))
    with pytest.raises(UserError, match=r"p.tif has values outside \[0, 1\]"):
        images.read(path)


def test_a_strip_that_inflates_without_end_is_refused(tmp_path):
    pixels = np.zeros((16, 16, 3), np.float32)
    path = written(tmp_path / "p.tif", pixels, compression="zlib")
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
        place = page.tags["StripByteCounts"].valueoffset
    bomb = zlib.compress(bytes(10_000_000))
    data = bytearray(path.read_bytes()[:offset] + bomb)
    assert struct.unpack_from("<H", data, place)[0] == count
    struct.pack_into("<H", data, place, len(bomb))
    path.write_bytes(data)
    with pytest.raises(UserError, match="cannot read picture .* more pixels than it says"):
        images.read(path)


# ---- what the numbers mean


def linear_gray_profile() -> bytes:
    """An ICC profile of gray with the curve of linear light, by the specification (ICC.1:2022)."""
    curve = b"curv" + bytes(4) + struct.pack(">I", 0)  # no entries: identity
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)  # D50
    text = b"desc" + bytes(4) + struct.pack(">I", 2) + b"g\0" + bytes(78)
    parts, tags, offset = [text, white, curve], b"", 128 + 4 + 12 * 3
    for name, part in zip((b"desc", b"wtpt", b"kTRC"), parts, strict=True):
        tags += name + struct.pack(">II", offset, len(part))
        offset += len(part)
    body = struct.pack(">I", 3) + tags + b"".join(parts)
    header = bytearray(128)
    header[8:12], header[12:24] = b"\x02\x10\0\0", b"mntrGRAYXYZ "
    header[36:40] = b"acsp"
    struct.pack_into(">iii", header, 68, 63190, 65536, 54061)
    struct.pack_into(">I", header, 0, 128 + len(body))
    return bytes(header) + body


def srgb_of(light):
    """IEC 61966-2-1, written again."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_profile_of_gray_counts_at_every_depth(tmp_path, suffix, dtype):
    light = np.linspace(0.02, 1, 64).reshape(8, 8)
    stored = np.rint(light * np.iinfo(dtype).max).astype(dtype)
    Image.fromarray(stored).save(tmp_path / f"p{suffix}", icc_profile=linear_gray_profile())
    found = images.read(tmp_path / f"p{suffix}")
    expected = srgb_of(stored / np.iinfo(dtype).max)
    np.testing.assert_allclose(found, expected[..., None].repeat(3, -1), atol=2 / 255)


def with_chunks(path, pixels, *chunks):
    """An 8-bit PNG with more chunks after its header."""
    Image.fromarray(pixels).save(path)
    header, *rest = png.Reader(str(path)).chunks()
    with path.open("wb") as file:
        png.write_chunks(file, [header, *chunks, *rest])
    return path


LINEAR = (b"gAMA", struct.pack(">I", 100000))
USUAL = (b"gAMA", struct.pack(">I", 45455))
# x and y of white, red, green and blue: those of sRGB, and with red and green exchanged.
SRGB = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
SWAPPED = (b"cHRM", struct.pack(">8I", 31270, 32900, 30000, 60000, 64000, 33000, 15000, 6000))


def test_the_gamma_of_a_png(tmp_path, picture):
    pixels = images.quantized(picture(6, 5), 8)
    found = images.read(with_chunks(tmp_path / "p.png", pixels, LINEAR))
    np.testing.assert_allclose(found, srgb_of(pixels / 255), atol=1e-5)
    profile = (b"sRGB", b"\0")  # which has the last word
    for chunks in ((USUAL,), (USUAL, SRGB), (profile, LINEAR)):
        found = images.read(with_chunks(tmp_path / "p.png", pixels, *chunks))
        np.testing.assert_allclose(found, pixels / 255, atol=1e-6)


def test_the_primaries_of_a_png(tmp_path, picture):
    pixels = images.quantized(picture(6, 5), 8)
    found = images.read(with_chunks(tmp_path / "p.png", pixels, SWAPPED))
    np.testing.assert_allclose(found, pixels[..., [1, 0, 2]] / 255, atol=2e-3)


def test_wide_primaries_make_more_saturated_colours(picture):
    """Of Display P3: gray stays gray, and a red within sRGB gets redder."""
    p3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
    gray, red = np.float32([[[0.5] * 3]]), np.float32([[[0.7, 0.4, 0.4]]])
    np.testing.assert_allclose(profiles.png_to_srgb(gray, None, p3), gray, atol=1e-4)
    (found,) = profiles.png_to_srgb(red, None, p3)[0]
    assert found[0] > 0.72
    assert found[1] < 0.39


def test_cie_lab_is_converted(tmp_path):
    """L* = 100 is white, and L* = 53.4 with a* = 80, b* = 67 sRGB's red, by the definition."""
    lab = Image.new("LAB", (2, 1))
    lab.putpixel((0, 0), (255, 128, 128))
    lab.putpixel((1, 0), (round(53.24 * 2.55), 128 + 80, 128 + 67))
    lab.save(tmp_path / "p.tif")
    white, red = images.read(tmp_path / "p.tif")[0]
    np.testing.assert_allclose(white, 1, atol=0.02)
    np.testing.assert_allclose(red, [1, 0, 0], atol=0.12)


# ---- transparency


def soft_disc(side=64):
    """A dark disc with a soft edge on nothing, whose hidden pixels are white: [h, w, 4], uint8."""
    y, x = np.mgrid[:side, :side] - side / 2
    alpha = np.clip(side / 3 - np.hypot(x, y), 0, 4) / 4
    colour = np.where(alpha[..., None] > 0, [40, 40, 60], 255)
    return np.uint8(np.concatenate([colour, 255 * alpha[..., None]], -1))


def test_a_cut_out_that_keeps_its_alpha_has_no_halo(tmp_path):
    pixels = soft_disc()
    Image.fromarray(pixels).save(tmp_path / "p.png")
    filled = images.read(tmp_path / "p.png", 32, fills=True)
    np.testing.assert_allclose(filled * 255, np.full((32, 32, 3), [40, 40, 60]), atol=1)
    on_white = images.read(tmp_path / "p.png", 32)
    alpha = images.read_alpha(tmp_path / "p.png", (32, 32))
    assert alpha is not None
    edge = (alpha > 0.2) & (alpha < 1)
    assert on_white[edge].mean() > 0.3


def test_what_is_hidden_gets_the_nearest_colour(tmp_path):
    pixels = np.zeros((1, 6, 4), np.uint8)
    pixels[0, 1], pixels[0, 4] = (255, 0, 0, 255), (0, 255, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    found = images.read(tmp_path / "p.png", fills=True)[0]
    np.testing.assert_array_equal(found[:3], [[1, 0, 0]] * 3)
    np.testing.assert_array_equal(found[3:], [[0, 1, 0]] * 3)
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(tmp_path / "clear.png")
    assert images.read(tmp_path / "clear.png", fills=True).shape == (4, 4, 3)


# ---- formats that Pillow does not know


UNKNOWN = {
    "a.heic": (b"\0\0\0\x18ftypheic" + bytes(99), r"a HEIC picture; pip install"),
    "a.avif": (b"\0\0\0\x18ftypavif" + bytes(99), r"an AVIF picture; pip install|cannot read"),
    "a.jxl": (b"\xff\x0a" + bytes(99), r"a JPEG XL picture; pip install"),
    "a.svg": (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "an SVG drawing; export it as PNG"),
    "a.pdf": (b"%PDF-1.7" + bytes(99), "a PDF document; export the page"),
    "a.mp4": (b"\0\0\0\x18ftypisom" + bytes(99), "a film or sound; export a frame"),
    "a.cr3": (b"\0\0\0\x18ftypcrx " + bytes(99), "a camera's raw file"),
    "a.txt": (b"no picture", "no picture of a known format"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_formats_that_cannot_be_read_say_what_to_do(name, tmp_path, monkeypatch):
    for module in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, module, None)  # as if not installed
    content, message = UNKNOWN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        images.read(tmp_path / name)


@pytest.mark.parametrize("suffix", [".heic", ".jxl"])
def test_the_extra_formats(suffix, tmp_path, picture):
    """A picture goes through the plug-in and comes back about as it was."""
    import pillow_heif

    importlib.import_module("pillow_jxl")  # registers itself
    pixels = images.quantized(images.resize(picture(8, 9), (64, 72)), 8)
    pillow_heif.register_heif_opener()
    Image.fromarray(pixels).save(tmp_path / f"p{suffix}", quality=95)
    found = images.read(tmp_path / f"p{suffix}") * 255
    assert np.abs(found - pixels).mean() < 4


def test_profiles_of_another_colour_space_are_left_aside(tmp_path):
    gray = linear_gray_profile()
    Image.new("RGB", (4, 4), (10, 20, 30)).save(tmp_path / "p.png", icc_profile=gray)
    found = images.read(tmp_path / "p.png")
    np.testing.assert_allclose(found * 255, np.full((4, 4, 3), [10, 20, 30]), atol=1e-4)


# ---- what fuzzing found


@pytest.mark.parametrize(
    ("gamma", "primaries"),
    [
        (0.00001, None),
        (1e9, None),
        (None, (0.3127, 0.329, 0.64, 0.0, 0.3, 0.6, 0.15, 0.06)),  # y of red is 0
        (None, (0.3127, 0.329, 0.64, 0.33, 0.64, 0.33, 0.15, 0.06)),  # red is green
        (None, (40000.0, 0.3, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)),
    ],
)
def test_chunks_that_make_no_sense_are_left_aside(gamma, primaries, picture):
    colours = picture(3, 4)
    assert profiles.png_to_srgb(colours, gamma, primaries) is colours


def test_fewer_channels_than_the_tags_say(tmp_path, ramp):
    path = written(tmp_path / "p.tif", ramp, photometric="rgb")
    data = path.read_bytes()
    tag = struct.pack("<HHIHH", 277, 3, 1, 3, 0)
    assert data.count(tag) == 1
    path.write_bytes(data.replace(tag, struct.pack("<HHIHH", 277, 3, 1, 2, 0)))
    with pytest.raises(UserError, match="cannot read picture"):
        images.read(path)


def test_a_side_that_no_camera_makes_is_refused_by_the_header(tmp_path):
    Image.new("1", (1 << 18, 16)).save(tmp_path / "p.png")
    with pytest.raises(UserError, match="claims a side of 262144 pixels; 131072 are the most"):
        images.read(tmp_path / "p.png")
