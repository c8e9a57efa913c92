"""Images as people save them are opened upright in RGB, or rejected with a one-line error."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets_vision.example import View
from datasets_vision.images import find_images, image_size, open_image, opened, size_of
from vlm_ft.errors import DataError


def huge_png(path: Path, side: int) -> Path:
    """A header that claims side x side 1-bit pixels, and no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


def truncated_jpeg(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:900])
    return path


def text_as_jpeg(path: Path) -> Path:
    path.write_text("not a picture\n" * 20)
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def thin_png(path):
    Image.new("L", (402, 2)).save(path, "PNG")
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path, "no such image file"),
        (empty, "0 bytes"),
        (text_as_jpeg, "not a readable image"),
        (truncated_jpeg, "truncated"),
        (lambda path: huge_png(path, 20_000), "20000x20000 is more than 100000000 pixels"),
        (lambda path: huge_png(path, 12_000), "12000x12000"),
        (thin_png, "402x2 has an aspect ratio above 200"),
    ],
)
def test_an_unreadable_image_is_reported(tmp_path, make, says):
    path = make(tmp_path / "part.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's own warning of a large image would be raised
        with pytest.raises(DataError, match=says) as caught:
            open_image(path)
    assert str(caught.value).startswith(str(path))


def test_pillows_own_limit_is_unchanged(tmp_path):
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(DataError):
        open_image(text_as_jpeg(tmp_path / "a.jpg"))
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / "a.tif"
    Image.new(mode, (6, 4)).save(path)
    image = open_image(path)
    assert (image.mode, image.size, image_size(path)) == ("RGB", (6, 4), (6, 4))


def test_transparency_becomes_white(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([255, 0, 0] * 256)
    palette.save(tmp_path / "palette.png", transparency=0)
    assert open_image(tmp_path / "palette.png").getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_keep_their_range(tmp_path):
    levels = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    assert np.asarray(open_image(tmp_path / "grey.png"))[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (255, 0, 0, 0)), ("LA", (9, 90)), ("I;16", 30000), ("L", 7)])
def test_an_image_in_memory_is_converted_like_a_file(tmp_path, mode, colour):
    image, path = Image.new(mode, (6, 4), colour), tmp_path / "a.png"
    image.save(path)
    assert opened(image).tobytes() == opened(path).tobytes() == open_image(path).tobytes()
    assert size_of(image) == size_of(path) == (6, 4)


UPRIGHT = {  # what the stored rows and columns show, by EXIF orientation (EXIF 2.3, tag 0x0112)
    1: lambda stored: stored,  # top, left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.swapaxes(0, 1),  # left, top
    6: lambda stored: stored[::-1].swapaxes(0, 1),  # right, top
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),  # left, bottom
}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_turns_the_image_upright(tmp_path, suffix, orientation):
    path = tmp_path / f"photo{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    corners = np.array([["red", "lime"], ["blue", "white"]])
    stored = Image.new("RGB", (32, 16))
    for (row, column), colour in np.ndenumerate(corners):
        stored.paste(str(colour), (16 * column, 8 * row, 16 * column + 16, 8 * row + 8))
    stored.save(path, exif=exif, quality=95)
    expected = UPRIGHT[orientation](np.asarray(stored))
    found = np.asarray(open_image(path), int)
    assert found.shape == expected.shape
    assert image_size(path) == (found.shape[1], found.shape[0])
    assert np.abs(found - expected).mean() < 30  # of 255: JPEG blurs the colours at the edges


def test_images_come_in_natural_order_with_any_case_of_suffix(tmp_path):
    for name in ("b/2.JPG", "b/10.jpg", "a10.png", "a2.PNG", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == [
        "a2.PNG",
        "a10.png",
        "b/2.JPG",
        "b/10.jpg",
    ]


def test_a_crop_refers_to_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    whole, cut = open_image(tmp_path / "a.png"), View(tmp_path / "a.png", crop=(3, 5, 20, 30))
    assert open_image(cut).size == (17, 25) == image_size(cut)
    assert (np.asarray(open_image(cut)) == np.asarray(whole)[5:30, 3:20]).all()


@pytest.mark.parametrize("crop", [(0, 0, 21, 5), (-1, 0, 5, 5), (5, 0, 5, 5), (0, 9, 5, 8)])
def test_a_crop_outside_the_image_is_reported(tmp_path, crop):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    for look in (open_image, image_size):
        with pytest.raises(DataError, match="lies outside the image 20x10"):
            look(View(tmp_path / "a.png", crop=crop))


@pytest.mark.parametrize("suffix", [".gif", ".tif"])
def test_a_view_picks_the_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert [open_image(View(path, frame)).getpixel((0, 0)) for frame in range(3)] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
    ]
    assert open_image(path).getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(DataError, match="has no frame 3; its frames are 0 to 2"):
        open_image(View(path, 3))


def test_a_colour_picture_has_no_window(tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="a window does not apply to a colour picture"):
        open_image(View(tmp_path / "a.png", window="p1-p99"))


def two_halves(path: Path, size: tuple[int, int], orientation: int = 1, **save: object) -> Path:
    """Red on the left and blue on the right as the file stores it."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, **save)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("largest", [1, 5_000, 100_000, 10_000_000])
def test_a_picture_is_opened_with_at_most_the_pixels_asked_for(tmp_path, suffix, orientation, largest):
    path = two_halves(tmp_path / f"a.{suffix}", (800, 300), orientation)
    whole, shown = open_image(path), open_image(path, largest=largest)
    assert shown.width * shown.height <= largest
    assert (shown.size == whole.size) == (largest >= 800 * 300)
    if largest >= 5_000:
        assert shown.width * shown.height > 0.9 * min(largest, 800 * 300)
        assert shown.width / shown.height == pytest.approx(whole.width / whole.height, rel=0.05)  # a pixel of 40
        small = np.asarray(whole.resize(shown.size, Image.Resampling.BOX), int)
        assert np.abs(np.asarray(shown, int) - small).mean() < 6  # of 255: the resampling of one edge


def test_a_crop_of_a_large_photo_keeps_its_place(tmp_path):
    path = two_halves(tmp_path / "a.jpg", (1600, 600))
    cut = open_image(View(path, crop=(700, 0, 900, 200)), largest=10_000)
    assert cut.size == (100, 100)
    pixels = np.asarray(cut)
    assert pixels[:, :45, 0].min() > 200
    assert pixels[:, 55:, 2].min() > 200


def test_a_jpeg_is_not_fully_decoded_for_a_few_pixels(tmp_path, monkeypatch):
    """libjpeg decodes at an eighth of the sides, so the image that is converted and rotated has 1/64 of the pixels."""
    path = two_halves(tmp_path / "a.jpg", (4000, 3000))
    seen = []
    convert = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda self, *mode: seen.append(self.size) or convert(self, *mode))
    open_image(path, largest=224 * 224)
    assert max(seen) == (500, 375)


def test_a_size_is_read_from_the_header(tmp_path):
    path = two_halves(tmp_path / "a.jpg", (800, 300), orientation=6)
    path.write_bytes(path.read_bytes()[:1000])
    assert image_size(path) == (300, 800)
