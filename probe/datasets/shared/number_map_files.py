"""Files that hold a number for each pixel: greyscale images of up to 32 bits, or arrays."""

from __future__ import annotations

import io
import json
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.core.base import IntArray, digest
from probe.core.errors import InputError
from probe.core.files import file_digests, open_regular, remembered
from probe.core.images import read_image, upright_size
from probe.core.targets.number_map import labels_of
from probe.core.words import counted
from probe.datasets.shared.mask_rows import MaskRows

ARRAYS = frozenset({".npy", ".npz"})
MEND = "mend this map, or remove it and its image"
DAMAGED = (
    OSError, ValueError, EOFError, KeyError, SyntaxError, tokenize.TokenError, RuntimeError, MemoryError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip
"""What reading a damaged array ends in, by where it is damaged."""


@dataclass(frozen=True)
class MapReading:
    """How the values of files become numbers.

    Attributes:
        scale: Values per unit: 1000 for millimetres that are to be metres.
        invalid: The value of pixels without a label; None where every value is a number. NaN and inf never are.
        least, most: Numbers outside have no label; None for no bound.
    """

    scale: float = 1.0
    invalid: float | None = 0.0
    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        for name in ("scale", "invalid", "least", "most"):  # 1000 and 1000.0 are one reading, under one digest
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise InputError(
                f"dataset.scale is {self.scale}, expected values per unit, above 0: set dataset.scale=1000 for "
                "millimetres that are to be metres, say"
            )
        if self.least is not None and self.most is not None and not self.least < self.most:
            raise InputError(
                f"dataset.min is {self.least:g} and dataset.max {self.most:g}, expected a range: set dataset.max above "
                "dataset.min, or one of them to null"
            )

    @property
    def facts(self) -> dict[str, Any]:
        """For the digest."""
        return asdict(self)

    def numbers(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """(H, W) numbers of what a file holds, NaN where a pixel has no label."""
        with np.errstate(over="ignore"):
            found = (values.astype(np.float64) / self.scale).astype(np.float32)
        known = np.isfinite(found)
        if self.invalid is not None:
            known &= values != self.invalid
        with np.errstate(invalid="ignore"):
            if self.least is not None:
                known &= (found >= self.least) & ((found > 0) | (self.least <= 0))
            if self.most is not None:
                known &= found <= self.most
        return np.where(known, found, np.float32(np.nan))


class FileMaps:
    """Maps in files, read when asked for."""

    def __init__(self, root: Path, names: Sequence[str], how: MapReading):
        self.root, self.names, self.how = root, list(names), how

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        return self.how.numbers(values_of(self.root / self.names[row], self.names[row]))

    def rows(self, indices: IntArray) -> MaskRows:
        """Those of some of the images."""
        return MaskRows(self, indices)

    @property
    def fingerprint(self) -> str:
        """Digest of the files and of how they are read."""
        return digest([self.how.facts, file_digests(self.root, self.names)])


def values_of(path: Path, name: str) -> NDArray[Any]:
    """(H, W) values that a file holds.

    Raises:
        InputError: It cannot be read, or holds something else; the sentence calls it by its name.
    """
    if path.suffix.lower() in ARRAYS:
        values = _array(path, name)
    else:
        try:
            image = read_image(path, name)
        except InputError as error:  # which would say that an image can be skipped
            raise InputError(f"{str(error).rpartition(': ')[0]}: {MEND}") from error
        if image.mode in ("P", "PA"):
            raise InputError(
                f"map {name} is an image of {len(image.getcolors() or ())} colours by their numbers in a palette, "
                "expected a number for each pixel: give greyscale images (PNG of 16 bits), or arrays"
            )
        values = np.asarray(image)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(0 if values.shape[0] == 1 else 2)
    if values.ndim != 2 or values.dtype.kind not in "iuf" or 0 in values.shape:
        raise InputError(
            f"map {name} holds {values.dtype} of shape {values.shape}, expected a number for each pixel (H, W): give "
            "greyscale images (PNG of 16 bits), or arrays"
        )
    return values


def _array(path: Path, name: str) -> NDArray[Any]:
    """The only array of a file of NumPy's; nothing is unpickled."""
    try:
        with open_regular(path) as file:
            data = io.BytesIO(file.read())
        if path.suffix.lower() == ".npy":
            return _numbers_in(data, name)
        with zipfile.ZipFile(data) as archive:
            held = archive.namelist()
            if len(held) == 1:
                with archive.open(held[0]) as member:
                    return _numbers_in(member, name)
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"map {name} cannot be read ({error}), expected an array of numbers: {MEND}") from error
    raise InputError(
        f"map {name} holds {len(held)} arrays ({', '.join(held[:5])}), expected one: save the numbers alone"
    )


def _numbers_in(file: IO[bytes], name: str) -> NDArray[Any]:
    """What a file .npy holds, if that is no larger than an image may be: a small archive may hold a large array."""
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, _ = header[np.lib.format.read_magic(file)](file)
    if Image.MAX_IMAGE_PIXELS is not None and math.prod(shape) > Image.MAX_IMAGE_PIXELS:
        raise InputError(
            f"map {name} holds an array of shape {shape}, expected at most {Image.MAX_IMAGE_PIXELS} pixels: {MEND}"
        )
    file.seek(0)
    found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return found


@dataclass(frozen=True)
class Looked:
    """What one look at every map of a partition shows.

    Attributes:
        labels: (N, 2) mean and count of the labelled pixels.
        pixels: Of all maps.
        faults: Clauses.
    """

    labels: NDArray[np.float64]
    pixels: int
    faults: list[str]


def look(part: str, images: Sequence[str], maps: FileMaps) -> Looked:
    """Reads every map once, in threads, or remembers what was seen of these files.

    Args:
        part: Name of the partition, for the sentence.
        images: The image files, below the same root.
        maps: Beside them.
    """
    root = maps.root

    def one(row: int) -> str:
        numbers = maps[row]
        return json.dumps([*labels_of(numbers), numbers.shape[::-1], upright_size(root / images[row])])

    def compute() -> list[str]:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return list(pool.map(one, range(len(maps))))

    what = digest(["maps of numbers", maps.names, maps.how.facts])
    told = [*map(json.loads, remembered(what, [root / name for name in (*images, *maps.names)], compute))]
    odd = [row for row, (_, _, size, own) in enumerate(told) if own and own != size]
    faults = [f"{counted(len(odd), 'map')} of {part} {_sizes(maps.names, told, odd)}"] if odd else []
    labels = np.array([[mean, pixels] for mean, pixels, _, _ in told], dtype=np.float64).reshape(-1, 2)
    return Looked(labels, sum(width * height for _, _, (width, height), _ in told), faults)


def _sizes(names: Sequence[str], told: Sequence[Sequence[Any]], odd: Sequence[int]) -> str:
    """What is wrong with maps of another size than their image."""
    size, own = (f"{width} x {height}" for width, height in told[odd[0]][2:])
    return (
        f"differ{'s' * (len(odd) == 1)} in size from the image, the first is {names[odd[0]]} ({size} pixels, its image "
        f"{own}), expected equal sizes: resize such maps without mixing numbers (nearest)"
    )


def out_of_range(looked: Mapping[str, Looked], how: MapReading) -> str:
    """Why no pixel of the training maps has a label; empty where one has."""
    if looked["train"].labels[:, 1].any():
        return ""
    why, ways = [], []
    if how.least is not None or how.most is not None:
        low, high = (f"{end if at is None else at:g}" for at, end in ((how.least, -math.inf), (how.most, math.inf)))
        why.append(f"lies in {low} to {high} once its value is divided by dataset.scale={how.scale:g}")
        ways.append("set dataset.scale to the values per unit, such as 1000 for millimetres")
        ways.append("dataset.min=null dataset.max=null")
    if how.invalid is not None:
        why.append(f"is another number than dataset.invalid={how.invalid:g}")
        ways.append("set dataset.invalid=null")
    ways.append("give maps with finite numbers")
    return f"no pixel of train {' and '.join(why) or 'is a finite number'}: {', or '.join(ways)}"
