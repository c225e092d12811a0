"""Images with captions: the partition that holds both, and the dataset of the one that tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Sized
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from probe.core.abilities import DigestsRows
from probe.core.base import Dataset, IntArray, Partition, digest
from probe.core.errors import InputError
from probe.core.hashing import hash_bytes
from probe.core.targets.captions import CAPTIONS, HasCaptions
from probe.core.words import counted
from probe.datasets.shared.partitions import check_lengths, make_dataset
from probe.datasets.shared.subsets import subset

Texts: TypeAlias = tuple[str, ...]
"""The captions of a row."""
COLUMN = "name the column of the captions in dataset.caption_columns"
NOTHING = ("", hash_bytes(b""))
"""Digests of a row without an image."""
TESTED = ("test", "validation", "train")
"""The first of these partitions that is there tests."""


class CaptionPartition:
    """Images, each with any number of captions.

    Args:
        images: With whatever labels.
        captions: Of each image.

    Attributes:
        labels: (N,) captions of each image.
    """

    def __init__(self, images: Partition, captions: Sequence[Texts]):
        self.images, self.captions = images, [tuple(texts) for texts in captions]
        self.labels = np.array([len(texts) for texts in self.captions], dtype=np.int64)
        check_lengths({"images": len(images), "lists of captions": len(self.captions)})
        if isinstance(images, DigestsRows):
            self.row_digests = images.row_digests

    @property
    def ids(self) -> Sequence[str]:
        """Names of the images."""
        return self.images.ids

    @cached_property
    def fingerprint(self) -> str:
        """Digest of images, ids and captions."""
        return digest([self.images.fingerprint, self.captions])

    def subset(self, rows: IntArray) -> CaptionPartition:
        """Some of the images, with their captions."""
        return CaptionPartition(subset(self.images, rows), [self.captions[row] for row in rows])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Any:
        return self.images[row]


def tested_among(parts: Iterable[str]) -> str:
    """The partition that tests, of those that a source has."""
    there = set(parts)
    return next(part for part in TESTED if part in there)


def captioned(
    name: str,
    texts: Sequence[Texts],
    images: Callable[[IntArray], Partition],
    left_out: Sequence[str] = (),
    others: Mapping[str, Sized] | None = None,
    merge: bool = False,
) -> Dataset:
    """A dataset of images with captions: the partition that tests alone.

    Args:
        name: How tables call it.
        texts: The captions of each image.
        images: Makes the partition of these, given the number of captions of each.
        left_out: What a reader of the source might expect among the rows.
        others: Rows of the partitions that the source has besides.
        merge: Rows that hold the same image, see `one_row_per_image`.
    """
    unread = [f"{counted(len(rows), 'row')} of {part}, of which none is learnt from" for part, rows in
              (others or {}).items()]  # fmt: skip
    counts = np.array([len(of_row) for of_row in texts], dtype=np.int64)
    test = CaptionPartition(images(counts), texts)
    test = one_row_per_image(test) if merge else test
    return make_dataset(name, (), {"test": test}, target=CAPTIONS, left_out=[*left_out, *unread], rows="images")


def one_row_per_image(rows: CaptionPartition) -> CaptionPartition:
    """Rows of equal content as one, at the place of the first, with the captions of all."""
    first: dict[str, int] = {}
    gathered: dict[int, list[str]] = {}
    for row, of_row in enumerate(rows.row_digests()):
        own = row if of_row in NOTHING else first.setdefault(of_row, row)
        gathered.setdefault(own, []).extend(rows.captions[row])
    if len(gathered) == len(rows):
        return rows
    texts = [tuple(of_image) for of_image in gathered.values()]
    return CaptionPartition(subset(rows.images, np.array(list(gathered), dtype=np.int64)), texts)


def check_captions_asked(merge_images: bool, word: str) -> None:
    """Refuses rows to merge where there are no captions to bring together."""
    if merge_images:
        raise InputError(
            f"dataset.merge_images is given without captions, expected dataset.{word} beside it: leave it out"
        )


def notes_of_copies(data: Dataset) -> list[str]:
    """A sentence on rows with captions whose content stands at another row too, where it is a wrong answer."""
    rows = data.partitions.get("test")
    if not (isinstance(rows, HasCaptions) and isinstance(rows, DigestsRows)):
        return []
    counts = Counter(rows.row_digests())
    n = sum(k for of_row, k in counts.items() if k > 1 and of_row not in NOTHING)
    return [
        f"{n:,} of {counted(len(rows), 'row')} have the content of another row, while a caption counts as found with "
        "its own row alone: set dataset.merge_images=true (of parquet, huggingface and webdataset), or give each image "
        "one row with all of its captions"
    ] * bool(n)


def caption_columns(there: Collection[str], asked: str | Sequence[str], source: object) -> list[str]:
    """The columns that names, or else patterns such as `caption_*`, stand for, in the order of these.

    Raises:
        InputError: There is none of a name.
    """
    patterns = [asked] if isinstance(asked, str) else list(asked)
    found = {p: [p] if p in there else [column for column in there if fnmatchcase(column, p)] for p in patterns}
    lost = [pattern for pattern, columns in found.items() if not columns]
    if lost or not patterns:
        raise InputError(
            f"{source} has the columns {', '.join(there) or 'none'}, expected {', '.join(lost) or 'a name'} among "
            "them: set dataset.caption_columns to one of them, or to several"
        )
    return list(dict.fromkeys(column for columns in found.values() for column in columns))


def texts_in(value: Any, where: str, remedy: str = COLUMN) -> Texts:
    """The captions in a cell of a table: of a text itself, of a list its texts; without those that are empty.

    Args:
        value: The cell.
        where: It stands.
        remedy: What to do about something else.

    Raises:
        InputError: It holds something else, or half of a character, which no encoding has.
    """
    given = [] if value is None else list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
    if odd := [text for text in given if not isinstance(text, str | None)]:
        raise InputError(
            f"{where} holds {str(odd[0])[:40]!r} ({type(odd[0]).__name__}), expected a text or a list of texts: "
            f"{remedy}"
        )
    texts = tuple(text.strip() for text in given if text and text.strip())
    if halves := [text for text in texts if not _can_be_written(text)]:
        raise InputError(
            f"{where} holds {halves[0][:40]!r} with half of a surrogate pair, expected characters: write it again"
        )
    return texts


def _can_be_written(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def texts_of_columns(columns: Mapping[str, Sequence[Any]], part: str) -> list[Texts]:
    """The captions of each row of a partition, those of one column after the other."""
    return [
        tuple(
            text
            for column, value in zip(columns, values, strict=True)
            for text in texts_in(value, f"column {column}, row {row} of {part},")
        )
        for row, values in enumerate(zip(*columns.values(), strict=True))
    ]


def check_no_labels(word: str, declared: bool = False, **given: Any) -> None:
    """Refuses what is said of labels or groups of rows where captions take their place.

    Args:
        word: The parameter that names the captions.
        declared: Whether the source says of itself that it has captions, and `word` is not given.
        given: Other parameters by name, of which none may say anything.
    """
    if not (odd := [name for name, value in given.items() if value is not None and value is not False]):
        return
    if declared:
        raise InputError(
            f"dataset.{odd[0]} is given, and dataset_type.txt says that the rows have captions, expected one of the "
            f"two: set dataset.label_key to the extension of the labels, such as cls, or leave dataset.{odd[0]} out"
        )
    raise InputError(
        f"dataset.{odd[0]} is given with dataset.{word}, expected one of the two: rows with captions have neither "
        "labels nor groups, leave one out"
    )
