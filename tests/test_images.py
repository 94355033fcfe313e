import io
import struct
import time
import zlib

import numpy as np
import png
import pytest
import tifffile
from PIL import Image, ImageCms

from nst_jax.errors import UserError
from nst_jax.pictures import images, writers
from nst_jax.pictures.sizes import FILTERS, Sizing

RED, GREEN = (255, 0, 0), (0, 255, 0)
FORMATS = [(suffix, bits) for suffix, depths in images.DEPTHS.items() for bits in depths]
DEEP = [suffix for suffix, bits in FORMATS if bits == 16]
TRANSPARENT = [(suffix, bits) for suffix, bits in FORMATS if suffix in images.TRANSPARENT]


@pytest.fixture
def two_by_three() -> Image.Image:
    """Red, with a green corner at the top left."""
    image = Image.new("RGB", (3, 2), RED)
    image.putpixel((0, 0), GREEN)
    return image


def test_reads_srgb_in_unit_range(tmp_path, two_by_three):
    two_by_three.save(tmp_path / "p.png")
    image = images.read(tmp_path / "p.png")
    assert image.dtype == np.float32
    assert image.shape == (2, 3, 3)
    assert image[0, 0].tolist() == [0, 1, 0]
    assert image[1, 2].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("orientation", "shape", "corner"),
    [(1, (2, 3), (0, 0)), (3, (2, 3), (1, 2)), (6, (3, 2), (0, 1)), (8, (3, 2), (2, 0))],
)
def test_exif_orientation(tmp_path, two_by_three, orientation, shape, corner):
    exif = Image.Exif()
    exif[0x0112] = orientation
    two_by_three.save(tmp_path / "p.png", exif=exif)
    image = images.read(tmp_path / "p.png")
    assert image.shape[:2] == shape
    assert image[corner].tolist() == [0, 1, 0]


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "I;16", "F"])
def test_modes(tmp_path, mode, capsys):
    gray = Image.new("L", (4, 4), 255)
    if mode == "I;16":
        gray = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    else:
        gray = Image.new("F", (4, 4), 1.0) if mode == "F" else gray.convert(mode)
    path = tmp_path / ("p.tif" if mode in ("CMYK", "F") else "p.png")
    gray.save(path)
    np.testing.assert_allclose(images.read(path), np.ones((4, 4, 3)), atol=0.01)
    assert capsys.readouterr().err == (
        f"{path}: transparency composited on white\n" if mode in ("LA", "RGBA") else ""
    )


def test_sixteen_bits_are_kept(tmp_path):
    ramp = np.arange(0, 65536, 4096, dtype=np.uint16).reshape(4, 4) + 100
    Image.fromarray(ramp).save(tmp_path / "p.png")
    np.testing.assert_allclose(images.read(tmp_path / "p.png")[..., 1], ramp / 65535, atol=1e-6)


def test_transparency_is_composited_on_white(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (2, 2), (255, 0, 0, 255)).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(images.read(tmp_path / "clear.png"), 1)
    assert images.read(tmp_path / "opaque.png")[0, 0].tolist() == [1, 0, 0]


def with_red_and_green_exchanged(profile: bytes) -> bytes:
    swapped = bytearray(profile)
    tags = {}
    for index in range(struct.unpack(">I", profile[128:132])[0]):
        start = 132 + 12 * index
        tags[bytes(profile[start : start + 4])] = start
    swapped[tags[b"rXYZ"] : tags[b"rXYZ"] + 4] = b"gXYZ"
    swapped[tags[b"gXYZ"] : tags[b"gXYZ"] + 4] = b"rXYZ"
    return bytes(swapped)


def test_icc_profile_is_converted(tmp_path):
    """sRGB's changes nothing, one with red and green exchanged does, a damaged one is ignored."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (2, 2), (200, 100, 50)).save(tmp_path / "p.png", icc_profile=profile)
    same = images.read(tmp_path / "p.png")[0, 0] * 255
    np.testing.assert_allclose(same, (200, 100, 50), atol=1)
    swapped = with_red_and_green_exchanged(profile)
    Image.new("RGB", (2, 2), (200, 100, 50)).save(tmp_path / "q.png", icc_profile=swapped)
    np.testing.assert_allclose(images.read(tmp_path / "q.png")[0, 0] * 255, (100, 200, 50), atol=1)
    Image.new("RGB", (2, 2), (200, 100, 50)).save(tmp_path / "r.png", icc_profile=b"nonsense")
    np.testing.assert_allclose(images.read(tmp_path / "r.png")[0, 0] * 255, (200, 100, 50), atol=1)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"byteorder": ">"},
        {"compression": "zlib", "predictor": True},
        {"compression": "zlib", "byteorder": ">"},
        {"tile": (16, 16)},
    ],
)
def test_sixteen_bits_of_colour_are_kept(tmp_path, rng, how):
    stored = rng.integers(0, 65536, (20, 30, 3), np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", stored, photometric="rgb", **how)
    np.testing.assert_allclose(images.read(tmp_path / "p.tif"), stored / 65535, atol=1e-7)


def test_sixteen_bits_in_planes_are_decoded_to_eight(tmp_path, rng):
    stored = rng.integers(0, 65536, (3, 20, 30), np.uint16)
    planes = {"planarconfig": "separate", "compression": "zlib"}
    tifffile.imwrite(tmp_path / "p.tif", stored, photometric="rgb", **planes)
    image = np.moveaxis(images.read(tmp_path / "p.tif"), -1, 0)
    np.testing.assert_allclose(image, stored / 65535, atol=1 / 255)


def test_sixteen_bits_with_another_profile_are_converted(tmp_path):
    stored = np.uint16([[[200 * 257, 100 * 257, 50 * 257]]])
    swapped = with_red_and_green_exchanged(writers.SRGB)
    tifffile.imwrite(tmp_path / "p.tif", stored, photometric="rgb", iccprofile=swapped)
    np.testing.assert_allclose(images.read(tmp_path / "p.tif")[0, 0] * 255, (100, 200, 50), atol=1)


def test_sixteen_bits_are_composited_on_white(tmp_path, capsys):
    png.from_array([[1000, 2000, 65535, 0, 65535, 0, 0, 32768]], "RGBA;16").save(
        str(tmp_path / "p.png")
    )
    np.testing.assert_allclose(
        images.read(tmp_path / "p.png")[0] * 65535, [[65535] * 3, [65535, 32767, 32767]], atol=0.01
    )
    assert capsys.readouterr().err == f"{tmp_path / 'p.png'}: transparency composited on white\n"


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (GREEN, RED)]
    frames[0].save(tmp_path / "p.gif", save_all=True, append_images=frames[1:])
    assert images.read(tmp_path / "p.gif")[0, 0].tolist() == [0, 1, 0]


def test_size_means_the_longer_side(tmp_path):
    Image.new("RGB", (400, 300)).save(tmp_path / "wide.png")
    Image.new("RGB", (30, 40)).save(tmp_path / "tall.png")
    assert images.read(tmp_path / "wide.png", 100).shape == (75, 100, 3)
    assert images.read(tmp_path / "tall.png", 100).shape == (100, 75, 3)


@pytest.mark.parametrize(
    ("side", "size", "expected"),
    [
        ("long", 200, (150, 200)),
        ("short", 150, (150, 200)),
        ("height", 60, (60, 80)),
        ("area", 30, (26, 35)),  # 30 x 30 = 900 pixels; 26.0 x 34.6
    ],
)
def test_what_a_size_means(tmp_path, side, size, expected):
    Image.new("RGB", (400, 300)).save(tmp_path / "p.png")
    assert images.read(tmp_path / "p.png", size, sizing=Sizing(side)).shape == (*expected, 3)
    assert Sizing(side).fit(expected, size) == expected


@pytest.mark.parametrize("resample", FILTERS)
def test_resampling_is_pillows(resample, rng):
    """Of a float image, channel by channel, against Pillow's own name for the filter."""
    image = rng.random((37, 53, 3)).astype(np.float32)
    found = images.resize(image, (11, 17), resample)
    for channel in range(3):
        plane = Image.fromarray(image[..., channel])
        expected = plane.resize((17, 11), Image.Resampling[resample.upper()])
        np.testing.assert_array_equal(found[..., channel], np.clip(expected, 0, 1))


def test_shrinking_is_antialiased():
    board = (np.indices((64, 64)).sum(0) % 2).astype(np.float32)[..., None].repeat(3, -1)
    np.testing.assert_allclose(images.resize(board, (8, 8))[2:-2, 2:-2], 0.5, atol=0.01)


@pytest.mark.parametrize(("suffix", "bits"), FORMATS)
def test_writes_what_it_reads(tmp_path, suffix, bits, picture):
    image = images.resize(picture(9, 7), (90, 70))
    path = tmp_path / f"out{suffix}"
    images.write(path, image, '{"alpha": 1}', bits)
    lossy = suffix in (".jpg", ".jpeg", ".webp")
    step = 0.05 if lossy else 0.5001 / (2**bits - 1)
    np.testing.assert_allclose(images.read(path), image, atol=step)
    with Image.open(path) as written:
        assert written.mode == "RGB"
        note = written.info.get("nst_jax") or written.getexif().get(0x010E)
        profile = ImageCms.ImageCmsProfile(io.BytesIO(written.info["icc_profile"]))
    assert note == '{"alpha": 1}'
    assert "sRGB" in ImageCms.getProfileDescription(profile)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def stored_integers(path) -> np.ndarray:
    """What a 16-bit file holds, read by libraries that know nothing of pictures in [0, 1]."""
    if path.suffix != ".png":
        return tifffile.imread(path)
    width, height, rows, info = png.Reader(str(path)).read()
    assert info["bitdepth"] == 16
    return np.uint16([list(row) for row in rows]).reshape(height, width, info["planes"])


@pytest.mark.parametrize("suffix", DEEP)
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_are_written_to_the_last(tmp_path, rng, suffix, channels):
    pixels = rng.integers(0, 65536, (5, 7, channels), np.uint16)
    image = np.float32(pixels / 65535)
    alpha = image[..., 3] if channels == 4 else None
    path = tmp_path / f"p{suffix}"
    images.write(path, image[..., :3], "note", 16, alpha)
    np.testing.assert_array_equal(stored_integers(path), pixels)


def test_chunks_of_a_deep_png(tmp_path):
    images.write(tmp_path / "p.png", np.float32([[[0, 1, 0.25]]]), "nöte", 16)
    chunks = dict(png.Reader(str(tmp_path / "p.png")).chunks())
    assert list(chunks) == [b"IHDR", b"iCCP", b"iTXt", b"IDAT", b"IEND"]
    assert chunks[b"iTXt"] == b"nst_jax\0\0\0\0\0n\xc3\xb6te"
    # Filter 0, then red, green, blue, big-endian; 16383.75 rounds up.
    assert zlib.decompress(chunks[b"IDAT"]) == b"\0" + b"\0\0" + b"\xff\xff" + b"\x40\0"


def test_the_same_picture_gives_the_same_bytes(tmp_path, picture):
    """Whenever it is written: the profile's header and TIFF have places for the time."""

    def write_all(folder):
        for suffix, bits in FORMATS:
            images.write(folder / f"{bits}{suffix}", image, "note", bits)
        for suffix in images.ANIMATIONS:
            images.write_animation(folder / f"animation{suffix}", [image, 1 - image], 50)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    image = picture(16, 16)
    first = write_all(tmp_path)
    time.sleep(1.1)
    assert first == write_all(tmp_path)
    assert writers._srgb() == writers.SRGB


@pytest.mark.parametrize(("suffix", "bits"), TRANSPARENT)
def test_alpha_round_trip(tmp_path, rng, picture, suffix, bits):
    alpha = np.float32(rng.random((16, 24)))
    alpha[:4], alpha[-4:] = 0, 1
    path = tmp_path / f"p{suffix}"
    images.write(path, picture(16, 24), "note", bits, alpha)
    step = 0.5001 / (2**bits - 1)
    np.testing.assert_allclose(images.read_alpha(path, (16, 24)), alpha, atol=step)
    with Image.open(path) as written:
        assert written.mode == "RGBA"
        assert written.info["icc_profile"] == writers.SRGB
        np.testing.assert_allclose(np.asarray(written)[..., 3] / 255, alpha, atol=1 / 255)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_leaves_the_colours_as_they_are(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    images.write(path, np.full((2, 2, 3), 0.4, np.float32), alpha=np.zeros((2, 2), np.float32))
    with Image.open(path) as written:
        assert written.getpixel((0, 0)) == (102, 102, 102, 0)


def test_alpha_obeys_orientation_and_size(tmp_path):
    image = Image.new("RGBA", (30, 20), (*RED, 0))
    image.paste((*RED, 255), (0, 0, 15, 20))  # the left half is opaque
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter clockwise, left is up
    image.save(tmp_path / "p.png", exif=exif)
    alpha = images.read_alpha(tmp_path / "p.png", (30, 20))
    assert alpha.dtype == np.float32
    np.testing.assert_array_equal(alpha, np.repeat([[1.0], [0.0]], 15, 0).repeat(20, 1))
    small = images.read_alpha(tmp_path / "p.png", (10, 4))
    assert small.shape == (10, 4)
    assert small[0, 0] == 1
    assert small[-1, -1] == 0


def test_alpha_of_a_palette(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "one.gif", transparency=0)
    assert images.read_alpha(tmp_path / "one.gif", (1, 2)).tolist() == [[0, 1]]
    image.save(tmp_path / "many.png", transparency=bytes([51, 255]))
    np.testing.assert_allclose(images.read_alpha(tmp_path / "many.png", (1, 2)), [[0.2, 1]])


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK"])
def test_no_alpha(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "p.tif")
    assert images.read_alpha(tmp_path / "p.tif", (4, 4)) is None


@pytest.mark.parametrize("suffix", images.ANIMATIONS)
def test_animation(tmp_path, picture, suffix):
    """Frames of any size, the last one's size, the last one longer, for ever."""
    frames = [picture(8, 10), 1 - picture(16, 20), picture(32, 40)]
    path = tmp_path / f"p{suffix}"
    images.write_animation(path, frames, 200, '{"alpha": 1}')
    durations = []
    with Image.open(path) as animation:
        assert (animation.n_frames, animation.size) == (3, (40, 32))
        assert animation.info["loop"] == 0
        note = animation.info.get("nst_jax") or animation.info.get("comment", b"").decode()
        assert '{"alpha": 1}' in (note, animation.getexif().get(0x010E))
        assert ("icc_profile" in animation.info) == (suffix != ".gif")
        for index, frame in enumerate(frames):
            animation.seek(index)
            shown = np.asarray(animation.convert("RGB"), np.float32) / 255
            durations.append(animation.info["duration"])
            np.testing.assert_allclose(
                images.resize(shown, (8, 10)), images.resize(frame, (8, 10)), atol=0.2
            )
    assert durations == [200, 200, 1200]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", images.ANIMATIONS)
def test_animation_of_one_frame(tmp_path, picture, suffix):
    images.write_animation(tmp_path / f"p{suffix}", [picture(8, 8)], 100)
    assert images.read(tmp_path / f"p{suffix}").shape == (8, 8, 3)


def test_gif_has_colours_of_its_own_in_each_frame(tmp_path):
    ramp = np.linspace(0, 1, 128, dtype=np.float32)[None, :, None].repeat(8, 0)
    red, blue = ramp * np.float32([1, 0, 0]), ramp * np.float32([0, 0, 1])
    images.write_animation(tmp_path / "p.gif", [red, blue], 100)
    with Image.open(tmp_path / "p.gif") as animation:
        for index, frame in enumerate([red, blue]):
            animation.seek(index)
            shown = np.asarray(animation.convert("RGB"), np.float32) / 255
            assert np.abs(shown - frame).mean() < 0.02


BAD_WRITES = {
    "unknown suffix": ("p.gif", {}, "its name must end in .png, .jpg, .jpeg, .webp, .tif, .tiff"),
    "deep jpeg": ("p.jpg", {"bits": 16}, "with 16 bits a channel: .png, .tif, .tiff can"),
    "deep webp": ("p.webp", {"bits": 16}, "with 16 bits a channel: .png, .tif, .tiff can"),
    "12 bits": ("p.png", {"bits": 12}, "with 12 bits a channel: no suffix can"),
    "transparent jpeg": (
        "p.jpeg",
        {"alpha": np.ones((1, 2), np.float32)},
        "with transparency: .png, .webp, .tif, .tiff can",
    ),
}


@pytest.mark.parametrize("case", BAD_WRITES)
def test_what_a_format_cannot_hold_is_one_clear_line(tmp_path, case):
    name, settings, message = BAD_WRITES[case]
    with pytest.raises(UserError, match=message) as caught:
        images.write(tmp_path / name, np.zeros((1, 2, 3), np.float32), **settings)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_sides_too_long_for_the_format(tmp_path):
    line = np.zeros((1, 1 << 16, 3), np.float32)
    for suffix in (".webp", ".jpg"):
        with pytest.raises(UserError, match=rf"cannot write .*p\{suffix}"):
            images.write(tmp_path / f"p{suffix}", line)
    for suffix in (".webp", ".gif"):
        with pytest.raises(UserError, match="try another suffix"):
            images.write_animation(tmp_path / f"p{suffix}", [line, 1 - line], 100)
    assert not list(tmp_path.iterdir())


def test_animations_that_cannot_be(tmp_path, picture):
    with pytest.raises(UserError, match=r"p\.jpg: its name must end in \.gif, \.webp, \.png"):
        images.write_animation(tmp_path / "p.jpg", [picture(4, 4)], 100)
    with pytest.raises(UserError, match="no frames"):
        images.write_animation(tmp_path / "p.gif", [], 100)


def test_rounds_and_clips_instead_of_wrapping(tmp_path):
    image = np.float32([[[-0.5, 1.5, 0.5]]])
    images.write(tmp_path / "p.png", image)
    assert (images.read(tmp_path / "p.png") * 255).ravel().tolist() == [0, 255, 128]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((200, 200), 80).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def deep_tiff() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 65536, (50, 50, 3), np.uint16)
    tifffile.imwrite(buffer, noise, photometric="rgb", compression="zlib")
    return buffer.getvalue()


BAD_PICTURES = {
    "text renamed": ("p.jpg", b"This is no picture.\n", "no picture of a known format"),
    "truncated jpeg": ("p.jpg", jpeg()[:3000], "cannot read picture"),
    "truncated deep tiff": ("p.tif", deep_tiff()[:9000], "cannot read picture"),
    "empty file": ("p.png", b"", "no picture of a known format"),
    "0x0": ("p.png", png_header(0, 0), "p.png"),
    "1x1": ("p.png", png_header(1, 1), "p.png"),
    "bomb": ("p.png", png_header(60000, 60000), "too many"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_bad_pictures_are_one_clear_line(tmp_path, case):
    name, content, message = BAD_PICTURES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        images.read(tmp_path / name, 64, smallest=16)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    if "x" not in case:  # those of a size that is only too small have pixels
        with pytest.raises(UserError, match=message):
            images.read_alpha(tmp_path / name, (4, 4))


def test_postscript_is_not_run(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.eps")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.eps").read_bytes())
    with pytest.raises(UserError, match="PostScript"):
        images.read(tmp_path / "a.png")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no picture"):
        images.read(tmp_path / "none.jpg")
    with pytest.raises(UserError, match="is a folder"):
        images.read(tmp_path)


def test_too_small_says_the_smallest_size(tmp_path):
    Image.new("RGB", (40, 8)).save(tmp_path / "p.png")
    with pytest.raises(UserError, match="40x8 pixels.* 16 or more"):
        images.read(tmp_path / "p.png", 64, smallest=16)
    Image.new("RGB", (400, 40)).save(tmp_path / "strip.png")
    with pytest.raises(UserError, match="at size 64 is 64x6 pixels.* 16 or more"):
        images.read(tmp_path / "strip.png", 64, smallest=16)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4)), np.zeros((4, 4, 4)), np.full((4, 4, 3), 2.0), np.full((4, 4, 3), np.nan)],
)
def test_arrays_that_are_no_pictures(array):
    with pytest.raises(UserError, match="content"):
        images.prepare(array, None, 1, "content")
