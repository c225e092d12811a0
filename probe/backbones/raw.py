"""Rows without a network, what backbones are held against: pixels of an image, counts of words, steps of a series."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from probe.backbones.shared.series import require_series
from probe.core.base import Batch, IntArray
from probe.core.errors import InputError
from probe.core.images import CONVERSION, require_image
from probe.core.ragged import Ragged
from probe.core.texts import Text

LARGEST = 32
WORD = re.compile(r"\w+")
READS = ("images", "texts", "series")
LOWER_BITS = 2**31 - 1


class RawInput:
    """Gives `pooled`: pixels of an image, at most 32 x 32, how often each word stands in a text, or a series as it is.

    Of an image the largest square is cut from its centre and, where it is larger than `size`, scaled down to it:
    (3 s s,) values from 0 to 1, channel by channel. Words of a text are runs of letters, digits and underscores in
    lower case, of a pair those of both; each is counted in the place that its CRC-32 names modulo `n_words`, so that no
    vocabulary is learnt. Of texts it gives `token_ids` too, the CRC-32 of each word without its highest bit; a text
    without words has the one of the empty word. Of a series (T, C) the steps follow each other, (T C,) values.
    Vectors of numbers are read as they are by `backbone=identity`.

    Args:
        rows: `images`, `texts` or `series`.
        size: Largest side in pixels, at most 32. Smaller images keep their own, which then has to be one for all.
        n_words: Places to count words in.
        n_steps: Steps of a series: longer ones are cut, zeros follow shorter ones; null where all are of one length.
    """

    name = "raw"
    n_prefix_tokens = 0
    n_parameters = 0
    control: ClassVar[str] = "raw_input"

    def __init__(self, rows: str = "images", size: int = LARGEST, n_words: int = 4096, n_steps: int | None = None):
        wrong = []
        if rows not in READS:
            wrong.append(f"rows is {rows!r}, expected {', '.join(READS[:-1])} or {READS[-1]}")
        if not 1 <= size <= LARGEST:
            wrong.append(f"size is {size}, expected 1 to {LARGEST} pixels")
        if n_words < 1:
            wrong.append(f"n_words is {n_words}, expected at least 1")
        if n_steps is not None and n_steps < 1:
            wrong.append(f"n_steps is {n_steps}, expected at least 1")
        if wrong:
            raise InputError(f"{'; '.join(wrong)}: change the parameters of backbone raw")
        self.reads, self.size, self.n_words, self.n_steps = rows, size, n_words, n_steps
        self.ragged = ("token_ids",) if rows == "texts" else ()
        self.kinds = ("pooled", *self.ragged)

    def identity(self) -> dict[str, Any]:
        """Facts that determine every feature."""
        facts: dict[str, dict[str, Any]] = {
            "images": {
                "crop": "largest centred square", "size": self.size, "interpolation": "box", "conversion": CONVERSION
            },
            "texts": {"words": WORD.pattern, "case": "lower", "places": "crc32", "n_words": self.n_words},
            "series": {"order": "step by step", "n_steps": self.n_steps},
        }  # fmt: skip
        architecture = {"family": "raw", "version": 1, "rows": self.reads}
        return {"architecture": architecture, "preprocessing": facts[self.reads]}

    def transform(self, row: Any) -> Tensor:
        """One image or series as a float32 vector, one text as the CRC-32 of its words, (T,) int64."""
        if self.reads == "images":
            return self._pixels(row)
        if self.reads == "series":
            return self._steps(row)
        if not isinstance(row, str | Text):
            raise InputError(f"backbone raw of texts reads texts, this row is {type(row).__name__}: set "
                             "backbone.rows=images, or backbone=identity for numbers")  # fmt: skip
        return torch.tensor([zlib.crc32(word.encode()) for word in _words(row)], dtype=torch.int64)

    def words_of(self, ids: IntArray, rows: Iterable[Any]) -> list[str]:
        """Of each id the first word of the texts that has it."""
        known: dict[int, str] = {}
        for word in (word for row in rows for word in _words(row)):
            known.setdefault(zlib.crc32(word.encode()) & LOWER_BITS, word)
        return [known.get(i, "") for i in ids.tolist()]

    def _steps(self, row: Any) -> Tensor:
        series = require_series(row, self.name)
        if self.n_steps is not None:
            series = np.pad(series[: self.n_steps], ((0, max(0, self.n_steps - len(series))), (0, 0)))
        return torch.from_numpy(series.reshape(-1).astype(np.float32))

    def _pixels(self, row: Any) -> Tensor:
        image = require_image(row, self.name)
        side = min(self.size, *image.size)
        image = ImageOps.fit(image, (side, side), Image.Resampling.BOX)
        return torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1).reshape(-1) / np.float32(255))

    def check_lengths(self, least: int, most: int) -> None:
        """Refuses series of several lengths, unless `n_steps` says how many to read."""
        if least < most and self.n_steps is None:
            raise InputError(
                f"series have {least} to {most} steps, backbone raw needs one length for all: set "
                f"backbone.n_steps={most}"
            )

    def collate(self, rows: Sequence[Tensor]) -> Batch:
        """Images or series of one width as a batch; words of texts one text after the other."""
        if self.reads == "texts":
            return {"words": torch.cat(list(rows)), "lengths": torch.tensor([len(row) for row in rows])}
        widths = {len(row) for row in rows}
        if len(widths) > 1 and self.reads == "series":
            raise InputError(
                f"series have {min(widths)} to {max(widths)} values, backbone raw needs one length for all: set "
                "backbone.n_steps to the steps of the longest one"
            )
        if len(widths) > 1:
            sides = sorted(round((width / 3) ** 0.5) for width in widths)
            raise InputError(
                f"the smaller sides of the images are {sides[0]} to {sides[-1]} pixels, backbone raw needs one size "
                f"for all: set backbone.size={sides[0]}"
            )
        return torch.stack(list(rows))

    def extract(self, batch: Any, kinds: Sequence[str]) -> dict[str, Any]:
        """The batch itself, or counts and ids of its words."""
        if unknown := sorted(set(kinds) - set(self.kinds)):
            raise InputError(f"backbone raw gives {list(self.kinds)}, not {unknown}: use a head that reads these")
        made = {"pooled": self._counts, "token_ids": self._ids}
        return {kind: made[kind](batch) if self.reads == "texts" else batch for kind in kinds}

    def _counts(self, batch: Mapping[str, Tensor]) -> Tensor:
        lengths, words = batch["lengths"], batch["words"]
        rows = torch.repeat_interleave(torch.arange(len(lengths), device=words.device), lengths)
        counts = torch.bincount(rows * self.n_words + words % self.n_words, minlength=len(lengths) * self.n_words)
        return counts.view(len(lengths), self.n_words).float()

    def _ids(self, batch: Mapping[str, Tensor]) -> Ragged:
        parts = batch["words"].split(batch["lengths"].tolist())
        rows = [part & LOWER_BITS if len(part) else part.new_zeros(1) for part in parts]
        return Ragged(torch.cat(rows), torch.tensor([len(row) for row in rows]))

    def to(self, device: str) -> RawInput:
        """Nothing to move: rows are not computed with."""
        return self


def _words(row: str | Text) -> list[str]:
    text = row if isinstance(row, str) else f"{row.text} {row.pair or ''}"
    return WORD.findall(text.lower())
