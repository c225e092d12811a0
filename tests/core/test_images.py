import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.core.errors import InputError
from probe.core.images import EXTENSIONS, centre_of_strip, read_image, require_image, to_rgb

ROOT = Path(__file__).parents[2]


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def roundtrip(image: Image.Image, kind: str = "PNG", **options) -> np.ndarray:
    rgb = to_rgb(read_image(encode(image, kind, **options), "a"))
    assert rgb.mode == "RGB"
    return np.asarray(rgb)


def test_rgb_passes_untouched():
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    np.testing.assert_array_equal(roundtrip(Image.fromarray(pixels)), pixels)


def test_greyscale_is_repeated():
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    np.testing.assert_array_equal(roundtrip(Image.fromarray(grey)), np.repeat(grey[..., None], 3, axis=2))


def test_black_and_white_becomes_0_and_255():
    assert set(roundtrip(Image.fromarray(np.eye(4, dtype=bool))).ravel()) == {0, 255}


def test_16_bits_are_scaled_to_8():
    wide = np.array([[0, 257, 65535]], dtype=np.uint16)
    np.testing.assert_array_equal(roundtrip(Image.fromarray(wide))[..., 0], [[0, 1, 255]])


def test_32_bits_beyond_16_are_refused():
    with pytest.raises(InputError, match="values from 0 to 70000, expected 0 to 65535"):
        to_rgb(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)))


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_modes_without_an_agreed_rgb_form_are_refused(mode):
    with pytest.raises(InputError, match=f"mode {mode} has no agreed RGB form"):
        to_rgb(Image.new(mode, (2, 2)))


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 10)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_over_white(mode, alpha, expected):
    colour = (10, 10, 10, alpha) if mode == "RGBA" else (10, alpha)
    assert set(roundtrip(Image.new(mode, (2, 2), colour)).ravel()) == {expected}


def test_palette_gives_its_colours():
    image = Image.new("RGB", (2, 1), (200, 30, 40)).quantize(4)
    assert image.mode == "P"
    np.testing.assert_array_equal(roundtrip(image), [[[200, 30, 40]] * 2])


def test_transparent_palette_entry_lies_over_white():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([9, 9, 9, 50, 60, 70])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(roundtrip(image, transparency=0), [[[255, 255, 255], [50, 60, 70]]])


def test_cmyk_is_converted():
    white_and_black = Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], dtype=np.uint8), mode=None)
    cmyk = Image.frombytes("CMYK", (2, 1), white_and_black.tobytes())
    rgb = roundtrip(cmyk, "TIFF")
    np.testing.assert_array_equal(rgb, [[[255] * 3, [0] * 3]])


def test_exif_rotation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown upright after a quarter turn clockwise
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    rgb = roundtrip(Image.fromarray(pixels), "PNG", exif=exif)
    assert rgb.shape == (3, 2, 3)
    np.testing.assert_array_equal(rgb[..., 0], [[0, 255], [0, 0], [0, 0]])


def test_zero_bytes_are_named_with_file_and_row():
    with pytest.raises(InputError, match=r"train/a\.jpg \(row 3\) is empty \(0 bytes\), expected one of JPEG"):
        read_image(b"", "train/a.jpg (row 3)")


def test_text_is_no_image():
    with pytest.raises(
        InputError, match=r"a is no image of the formats that are read, expected one of JPEG, .*on_error=skip"
    ):
        read_image(b"hello, world, this is text", "a")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_truncated_file_is_refused(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    with pytest.raises(InputError, match=r"^a "):
        read_image(data[: len(data) // 2], "a")


def test_decompression_bomb_is_refused_before_decoding():
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    for side in (10_000, 40_000):  # where Pillow warns, and where it refuses
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        with pytest.raises(InputError, match=r"decompression bomb.*expected at most"):
            read_image(data, "a")


def test_rows_that_are_no_images_are_refused_with_the_fix():
    with pytest.raises(InputError, match=r"backbone tiny reads images.*ndarray of shape \(3,\): set backbone=identity"):
        require_image(np.zeros(3), "tiny")


@pytest.mark.parametrize(
    ("size", "kept"), [((3000, 1), (200, 1)), ((1, 3001), (1, 201)), ((400, 2), (400, 2)), ((9, 9), (9, 9))]
)
def test_the_middle_of_a_strip_stays_where_it_is(size, kept):
    length = max(size)
    values = np.arange(length).reshape(size[::-1] if min(size) == 1 else (1, length))
    image = Image.fromarray(values.astype(np.int32)) if min(size) == 1 else Image.new("L", size)
    found = centre_of_strip(image)
    assert found.size == kept
    if min(size) == 1:
        assert np.asarray(found).mean() == (length - 1) / 2


def test_every_extension_that_loaders_list_is_decoded_by_a_format_of_the_list():
    for extension in EXTENSIONS:
        data = encode(Image.new("L", (2, 2), 255), Image.registered_extensions()[extension])
        assert to_rgb(read_image(data, f"a{extension}")).size == (2, 2)


@pytest.mark.parametrize("name", ["a.eps", "a.png"])
def test_no_other_decoder_sees_a_file_whatever_it_is_called(tmp_path, name, monkeypatch):
    """PostScript would start a program."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("Ghostscript was started"))
    others = {"EPS", "PDF", "ICO", "TGA", "PCX", "SGI", "ICNS", "DDS", "XBM", "MSP", "SPIDER"}
    for kind in sorted(others & Image.SAVE.keys()):
        data = encode(Image.new("L" if kind != "MSP" and kind != "XBM" else "1", (16, 16)), kind)
        (tmp_path / name).write_bytes(data)
        for source in (data, tmp_path / name):
            with pytest.raises(InputError, match="is no image of the formats that are read"):
                read_image(source, name)


def test_a_fifo_called_png_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png is a fifo, expected a regular file: remove it.*on_error=skip"):
        read_image(tmp_path / "a.png", "a.png (row 0)")


def test_images_are_opened_in_one_place():
    opening = [
        path
        for path in (ROOT / "probe").rglob("*.py")
        if re.search(r"Image\.open\(|decode_image|imread", path.read_text())
    ]
    assert opening == [ROOT / "probe/core/images.py"]
