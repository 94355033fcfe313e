import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from nst_jax import images
from nst_jax.errors import UserError

RED, GREEN = (255, 0, 0), (0, 255, 0)


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


def test_icc_profile_is_converted(tmp_path):
    """sRGB's changes nothing, one with red and green exchanged does, a damaged one is ignored."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (2, 2), (200, 100, 50)).save(tmp_path / "p.png", icc_profile=profile)
    same = images.read(tmp_path / "p.png")[0, 0] * 255
    np.testing.assert_allclose(same, (200, 100, 50), atol=1)
    swapped = bytearray(profile)
    tags = {}
    for index in range(struct.unpack(">I", profile[128:132])[0]):
        start = 132 + 12 * index
        tags[bytes(profile[start : start + 4])] = start
    swapped[tags[b"rXYZ"] : tags[b"rXYZ"] + 4] = b"gXYZ"
    swapped[tags[b"gXYZ"] : tags[b"gXYZ"] + 4] = b"rXYZ"
    Image.new("RGB", (2, 2), (200, 100, 50)).save(tmp_path / "q.png", icc_profile=bytes(swapped))
    np.testing.assert_allclose(images.read(tmp_path / "q.png")[0, 0] * 255, (100, 200, 50), atol=1)
    Image.new("RGB", (2, 2), (200, 100, 50)).save(tmp_path / "r.png", icc_profile=b"nonsense")
    np.testing.assert_allclose(images.read(tmp_path / "r.png")[0, 0] * 255, (200, 100, 50), atol=1)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (GREEN, RED)]
    frames[0].save(tmp_path / "p.gif", save_all=True, append_images=frames[1:])
    assert images.read(tmp_path / "p.gif")[0, 0].tolist() == [0, 1, 0]


def test_size_means_the_longer_side(tmp_path):
    Image.new("RGB", (400, 300)).save(tmp_path / "wide.png")
    Image.new("RGB", (30, 40)).save(tmp_path / "tall.png")
    assert images.read(tmp_path / "wide.png", 100).shape == (75, 100, 3)
    assert images.read(tmp_path / "tall.png", 100).shape == (100, 75, 3)


def test_shrinking_is_antialiased():
    board = (np.indices((64, 64)).sum(0) % 2).astype(np.float32)[..., None].repeat(3, -1)
    np.testing.assert_allclose(images.resize(board, (8, 8))[2:-2, 2:-2], 0.5, atol=0.01)


@pytest.mark.parametrize("suffix", images.WRITERS)
def test_writes_what_it_reads(tmp_path, suffix, picture):
    image = images.resize(picture(9, 7), (90, 70))
    path = tmp_path / f"out{suffix}"
    images.write(path, image, '{"alpha": 1}')
    lossless = suffix in (".png", ".tif", ".tiff")
    np.testing.assert_allclose(images.read(path), image, atol=0.003 if lossless else 0.05)
    with Image.open(path) as written:
        note = written.info.get("nst_jax") or written.getexif().get(0x010E)
    assert note == '{"alpha": 1}'
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


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


BAD_PICTURES = {
    "text renamed": ("p.jpg", b"This is no picture.\n", "no picture of a known format"),
    "truncated jpeg": ("p.jpg", jpeg()[:3000], "cannot read picture"),
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
    with pytest.raises(UserError, match="64 pixels long, is 64x6 pixels.* 16 or more"):
        images.read(tmp_path / "strip.png", 64, smallest=16)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4)), np.zeros((4, 4, 4)), np.full((4, 4, 3), 2.0), np.full((4, 4, 3), np.nan)],
)
def test_arrays_that_are_no_pictures(array):
    with pytest.raises(UserError, match="content"):
        images.prepare(array, None, 1, "content")
