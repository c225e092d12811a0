"""Codes of pixels as mask files hold them: numbers, palettes, colours, and what each of them stands for."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from probe.core.errors import InputError
from probe.core.targets.mask import mask_dtype
from probe.core.texts import read_text

NUMBERED = ("1", "L", "P", "I", "LA")
COLOURED = ("RGB", "RGBA", "RGBX")
LARGEST = 2**16 - 2
LINE = re.compile(r"(\d+)\s+(?:(\d+)\s+(\d+)\s+)?(\S.*)")
"""Of a palette: a number, or three of a colour, and a name."""
ASK = "dataset.palette='{background: [0, 0, 0], road: [128, 64, 128]}' (or numbers in place of colours)"
Ignored = int | str | Sequence[int | str] | None


class Palette(NamedTuple):
    """What stands for each class: numbers, or colours as 256^2 red + 256 green + blue."""

    names: list[str]
    values: list[int]
    coloured: bool


@dataclass(frozen=True)
class MaskReading:
    """How the pixels of mask files become codes of classes.

    Attributes:
        names: Of the classes, in the order of their codes.
        values: What stands for each class in the files.
        ignored: What stands for no class.
        coloured: Whether these are colours.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    ignored: tuple[int, ...]
    coloured: bool

    @property
    def facts(self) -> list[Any]:
        """What makes other codes of the same file."""
        return [list(self.values), list(self.ignored), self.coloured]

    def codes(self, image: Image.Image, name: str) -> NDArray[Any]:
        """(H, W) codes of a mask; a pixel of a value that stands for nothing has no label."""
        raw = raw_values(image, self.coloured, name)
        unlabelled = np.iinfo(mask_dtype(len(self.values))).max
        if not self.coloured:
            table = np.full(LARGEST + 2, unlabelled, dtype=mask_dtype(len(self.values)))
            table[list(self.values)] = np.arange(len(self.values))
            return table[raw.clip(-1, LARGEST + 1)]  # the last entry, for what is below and above
        order = np.argsort(self.values)
        known = np.array(self.values)[order]
        places = np.searchsorted(known, raw).clip(max=len(known) - 1)
        found = order.astype(mask_dtype(len(self.values)))[places]
        found[known[places] != raw] = unlabelled
        return found

    def counts(self, found: Mapping[int, int]) -> list[int]:
        """(K,) pixels of each class, from those of each value."""
        return [found.get(value, 0) for value in self.values]

    def unknown(self, found: Mapping[int, int]) -> list[int]:
        """The values of a mask that stand neither for a class nor for none."""
        return sorted(found.keys() - set(self.values) - set(self.ignored))

    def shown(self, value: int) -> str:
        """A value as people read it."""
        return str(list(unpacked(value))) if self.coloured else str(value)


def raw_values(image: Image.Image, coloured: bool, name: str) -> NDArray[np.int64]:
    """(H, W) what a mask holds: numbers, of palettes the indices; or colours, of palettes theirs.

    Raises:
        InputError: A mask of colours where numbers are wanted, or of a mode that is neither.
    """
    image = ImageOps.exif_transpose(image)
    numbered = image.mode in NUMBERED or image.mode.startswith("I;16")
    if not numbered and image.mode not in COLOURED:
        raise InputError(f"mask {name} is of mode {image.mode}, expected whole numbers or colours: save it as PNG")
    if coloured:
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), dtype=np.int64), 2, 0)
        return (red << 16) | (green << 8) | blue
    if not numbered:
        found = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
        told = ", ".join(map(str, found.tolist())) if len(found) <= 8 else f"{len(found):,} of them"
        raise InputError(
            f"mask {name} is an image of colours ({told}) and not of codes, expected to know what each colour stands "
            f"for: set {ASK}"
        )
    pixels = np.asarray(image, dtype=np.int64)
    return pixels[..., 0] if pixels.ndim == 3 else pixels


def value_counts(raw: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values of a mask in ascending order, and the pixels of each."""
    if raw.size and 0 <= raw.min() <= raw.max() <= LARGEST:  # many times faster than sorting
        counts = np.bincount(raw.ravel())
        return np.flatnonzero(counts), counts[counts > 0]
    return np.unique(raw, return_counts=True)


def unpacked(value: int) -> tuple[int, int, int]:
    """Red, green and blue."""
    return value >> 16, value >> 8 & 255, value & 255


def read_palette(asked: Any) -> Palette | None:
    """A palette as it is given: names with numbers or colours, or a text file with a line `128 64 128 road` for each.

    Raises:
        InputError: It is neither, mixes numbers and colours, or one value stands for two classes.
    """
    if asked is None:
        return None
    pairs = _lines(asked) if isinstance(asked, str) else list(asked.items()) if isinstance(asked, Mapping) else []
    names, found = [str(name) for name, _ in pairs], [_value(value) for _, value in pairs]
    if not pairs or None in found or len({coloured for _, coloured in found if found}) > 1:  # type: ignore[misc]
        raise InputError(
            f"palette is {str(asked)[:80]!r}, expected for each class a number, or for each a colour of three numbers "
            f"from 0 to 255: set {ASK}, or name a text file with a line `128 64 128 road` for each class"
        )
    values = [value for value, _ in found]  # type: ignore[misc]
    twice = next((name for name, value in zip(names, values, strict=True) if values.count(value) > 1), None)
    if twice is not None:
        raise InputError(f"what stands for class {twice} in the palette stands for another one too: mend the palette")
    return Palette(names, values, found[0][1])  # type: ignore[index]


def _lines(file: str) -> list[tuple[str, Any]]:
    path = Path(file).expanduser()
    if not path.is_file():
        return []
    text = read_text(path, None, "save it as UTF-8")
    lines = [line.strip() for line in io.StringIO(text, newline=None) if line.strip() and line.strip()[0] != "#"]
    found = [LINE.fullmatch(line) for line in lines]
    return [
        (line, None) if m is None else (m[4], int(m[1]) if m[2] is None else [int(m[1]), int(m[2]), int(m[3])])
        for line, m in zip(lines, found, strict=True)
    ]


def _value(given: Any) -> tuple[int, bool] | None:
    """A number, or a colour as one, and whether it is one; None of what is neither."""
    if isinstance(given, int) and not isinstance(given, bool):
        return (given, False) if 0 <= given <= LARGEST else None
    parts = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
    if len(parts) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in parts):
        return None
    return (parts[0] << 16) | (parts[1] << 8) | parts[2], True


def reading(
    in_train: Sequence[int], class_names: Sequence[str] | None, palette: Palette | None, ignore_label: Ignored
) -> MaskReading:
    """What stands for which class.

    Args:
        in_train: The values of the training masks, in ascending order.
        class_names: Of the numbers from 0 on, in ascending order, without those that are ignored.
        palette: What stands for each class, in place of such names.
        ignore_label: Numbers, or names, of pixels that are not to be counted. A number for which the palette has a
            class is that class.
    """
    asked = [] if ignore_label is None else [ignore_label] if isinstance(ignore_label, int | str) else [*ignore_label]
    numbers = {one for one in asked if isinstance(one, int)}
    if palette is None:
        palette = _numbered(in_train, class_names, numbers)
    elif class_names is not None:
        raise InputError("class_names and palette are both given, the palette names the classes too: leave one out")
    left_out = {one for one in asked if isinstance(one, str)}
    if unknown := sorted(left_out - set(palette.names)):
        raise InputError(
            f"dataset.ignore_label names {', '.join(unknown)}, expected a class ({', '.join(palette.names[:10])}) or a "
            "number: mend it"
        )
    kept = [i for i, name in enumerate(palette.names) if name not in left_out]
    ignored = {value for i, value in enumerate(palette.values) if i not in kept}
    ignored |= set() if palette.coloured else numbers - set(palette.values)
    return MaskReading(
        tuple(palette.names[i] for i in kept),
        tuple(palette.values[i] for i in kept),
        tuple(sorted(ignored)),
        palette.coloured,
    )


def _numbered(in_train: Sequence[int], class_names: Sequence[str] | None, ignored: set[int]) -> Palette:
    """Classes by number: those that are named, else those that train has, which are to be all from the first on."""
    free = (number for number in itertools.count() if number not in ignored)
    there = [value for value in in_train if value not in ignored]
    values = list(itertools.islice(free, len(there) if class_names is None else len(class_names)))
    if class_names is None and values != there:
        listed = ", ".join(map(str, there[:8])) + (", ..." if len(there) > 8 else "")
        raise InputError(
            f"the masks of train hold the codes {listed}, expected all from {values[0] if values else 0} on without a "
            "gap: say what each stands for with dataset.palette='{background: 0, object: 255}', name all classes in "
            "dataset.class_names, or leave codes out with dataset.ignore_label=[...]"
        )
    return Palette(list(class_names or map(str, values)), values, False)
