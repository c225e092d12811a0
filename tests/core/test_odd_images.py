"""Odd and damaged image files on their way from a folder to features."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from probe.backbones.tiny import TinyBackbone
from probe.core.errors import InputError
from probe.datasets import folder
from probe.features.store import FeatureStore

GREY = np.random.default_rng(0).integers(0, 256, (24, 24), dtype=np.uint8)
UPRIGHT = np.repeat(GREY[..., None], 3, axis=2)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(side=40_000):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown upright after a quarter turn clockwise
    return encode(Image.fromarray(np.rot90(UPRIGHT)), exif=exif)


def cmyk():
    pixels = np.zeros((24, 24, 4), np.uint8)
    pixels[..., 3] = 255 - GREY
    return encode(Image.frombytes("CMYK", (24, 24), pixels.tobytes()), "TIFF")


SOUND = {
    "rgb.png": encode(Image.fromarray(UPRIGHT)),
    "greyscale.png": encode(Image.fromarray(GREY)),
    "opaque.png": encode(Image.fromarray(UPRIGHT).convert("RGBA")),
    "palette.png": encode(Image.fromarray(GREY).convert("P")),
    "sixteen bits.png": encode(Image.fromarray(GREY.astype(np.uint16) * 257)),
    "rotated.png": rotated(),
    "cmyk.tif": cmyk(),
    "frames.gif": encode(Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.new("L", (24, 24))]),
}
NOISE = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
DAMAGED = {
    "empty.png": (b"", "is empty"),
    "text.jpg": (b"this is no image", "is no image of the formats that are read"),
    "truncated.jpg": (encode(Image.fromarray(NOISE), "JPEG")[:1500], "cannot be decoded"),
    "bomb.png": (bomb(), "is a decompression bomb"),
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / "set" / part / name).mkdir(parents=True)
            (tmp_path / "set" / part / name / "plain.png").write_bytes(encode(Image.new("L", (8, 8), ord(name))))
    return tmp_path / "set"


def features(root, **options):
    store = FeatureStore(root.parent / "features")
    backbone = TinyBackbone(pretrained=False)
    return store.get(backbone, folder.load(str(root)), "train", ["pooled"], device="cpu", progress=False, **options)


def test_every_sound_kind_gives_the_features_of_its_rgb_form(root):
    for name, data in SOUND.items():
        (root / "train/a" / name).write_bytes(data)
    found = features(root)
    rows = {row_id.rpartition("/")[2]: found.arrays["pooled"][i] for i, row_id in enumerate(found.ids)}
    assert found.valid.all()
    for name in SOUND:
        # CMYK is converted within one grey level; the others are the same pixels.
        np.testing.assert_allclose(rows[name], rows["rgb.png"], atol=0.02 if name == "cmyk.tif" else 1e-6)
    assert np.abs(rows["plain.png"] - rows["rgb.png"]).max() > 0.05


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_stops_the_extraction_by_name(root, name):
    data, text = DAMAGED[name]
    (root / "train/b" / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"train/b/{name}.*{text}.*on_error=skip"):
        features(root)


def test_damaged_files_are_skipped_on_request_and_no_others(root):
    for name, (data, _) in DAMAGED.items():
        (root / "train/a" / name).write_bytes(data)
    found = features(root, on_error="skip", n_workers=1)
    left_out = {row_id.rpartition("/")[2] for row_id, valid in zip(found.ids, found.valid, strict=True) if not valid}
    assert left_out == set(DAMAGED)


def test_what_stands_in_for_a_damaged_file_moves_no_bit_of_the_others(root):
    for name, data in SOUND.items():
        (root / "train/a" / name).write_bytes(data)
    whole = features(root)
    (root / "train/a/greyscale.png").write_bytes(b"damaged")
    holed = features(root, on_error="skip")
    assert holed.valid.sum() == len(whole.ids) - 1
    np.testing.assert_array_equal(holed.arrays["pooled"][:][holed.valid], whole.arrays["pooled"][:][holed.valid])
