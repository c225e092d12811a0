"""Images as files and as pixels: the one place that decides what becomes of odd ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from probe.core.errors import InputError
from probe.core.files import open_regular

CONVERSION = "upright by EXIF; 16 bits scaled to 8; transparency over white; RGB; version 1"
"""What `to_rgb` does; part of every image backbone's identity, to be changed together with it."""

STRIP = 200
"""Images longer than this many times their width are cut before a transform that keeps only their centre."""

FORMATS = {
    "JPEG": (".jpeg", ".jpg"), "PNG": (".png",), "WEBP": (".webp",), "TIFF": (".tif", ".tiff"), "BMP": (".bmp",),
    "GIF": (".gif",), "PPM": (".pbm", ".pgm", ".ppm"),
}  # fmt: skip
"""Decoders of Pillow that may see a file, by its content and whatever it is called, and their extensions.

Of the others, some start programs (PostScript), and most are seldom attacked by those who would mend them.
"""
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
"""Of EXIF: the entry, and its values for images that lie on their side."""
EXTENSIONS = frozenset(extension for extensions in FORMATS.values() for extension in extensions)


def read_image(source: Any, name: str) -> Image.Image:
    """Decodes an image completely; several frames give the first.

    Args:
        source: Encoded bytes, or the path of a file.
        name: What the error calls it: a file, or a file and a row.

    Raises:
        InputError: Empty, truncated, none of `FORMATS`, no regular file, or more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    hint = "mend or remove it, or set features.on_error=skip"
    try:
        # Read whole: Pillow would keep a file with several frames open.
        data = source if isinstance(source, bytes) else _read(source)
        image = Image.open(io.BytesIO(data), formats=tuple(FORMATS))
        # Pillow itself only warns up to twice the limit; a benchmark image never comes near it.
        if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{name} is a decompression bomb ({error}), expected at most {Image.MAX_IMAGE_PIXELS} pixels: {hint}"
        ) from error
    except UnidentifiedImageError as error:
        what = "is no image of the formats that are read" if data else "is empty (0 bytes)"
        raise InputError(f"{name} {what}, expected one of {', '.join(FORMATS)}: {hint}") from error
    except InputError as error:
        raise InputError(f"{error}, or set features.on_error=skip") from error
    except (OSError, ValueError, SyntaxError, EOFError, TypeError) as error:
        # Pillow's decoders raise all of these on damaged files.
        raise InputError(f"{name} cannot be decoded ({error}), expected an undamaged image: {hint}") from error
    return image


def upright_size(source: Any) -> tuple[int, int] | None:
    """Width and height of an image as it is seen, from the head of its bytes or of its file; None where that fails.

    Whether a damaged image stops a run is decided where it is decoded.
    """
    try:
        data = source if isinstance(source, bytes) else _read(source)
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION) in TURNED
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, InputError, Image.DecompressionBombError):
        return None
    return (height, width) if turned else (width, height)


def _read(path: str | Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def to_rgb(image: Image.Image) -> Image.Image:
    """An RGB image of 8 bits per channel, upright.

    Greyscale is repeated, CMYK converted, palettes resolved, transparency laid over white, and 16-bit greyscale
    scaled so that 65535 becomes 255. Floating-point and Lab pixels raise `InputError`.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return _narrow(image).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    if image.mode in ("F", "LAB"):
        raise InputError(f"an image of mode {image.mode} has no agreed RGB form: convert it to RGB first")
    return image.convert("RGB")


def require_image(row: Any, backbone: str) -> Image.Image:
    """The row as an upright RGB image; rows that are none are refused."""
    if not isinstance(row, Image.Image):
        shape = getattr(row, "shape", None)
        raise InputError(
            f"backbone {backbone} reads images, this dataset's rows are {type(row).__name__}"
            f"{'' if shape is None else f' of shape {tuple(shape)}'}: set backbone=identity"
        )
    return to_rgb(row)


def centre_of_strip(image: Image.Image) -> Image.Image:
    """The middle of an image that is over `STRIP` times as long as wide; others as they are.

    A transform that scales the shorter side and keeps the centre square sees the same square of it, to a fraction of a
    pixel; of the whole it would first make an image of gigabytes (1 x 3000 pixels become 256 x 768,000).
    """
    short, long = sorted(image.size)
    if long <= STRIP * short:
        return image
    start = (long - STRIP * short) // 2
    end = long - start  # as much from both ends: the centre stays where it is
    return image.crop((start, 0, end, short) if image.width == long else (0, start, short, end))


def _narrow(image: Image.Image) -> Image.Image:
    import numpy as np

    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise InputError(
            f"an image of mode {image.mode} has values from {pixels.min()} to {pixels.max()}, expected 0 to 65535: "
            "scale it first"
        )
    return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))
