"""The code that reads rows is part of what features are kept under, whatever stands around the rows."""

from __future__ import annotations

import numpy as np
import pytest

from probe.core.source import features_code_of
from probe.datasets.shared.caption_rows import CaptionPartition
from probe.datasets.shared.judged_rows import JudgedPartition
from probe.datasets.shared.mask_rows import MaskPartition, MaskRows, NumberMapPartition
from probe.datasets.shared.partitions import ArrayPartition
from probe.datasets.shared.subsets import PartitionSubset
from probe.features.layout import rows_code

LABELS = np.zeros(2, dtype=np.int64)


class Own(ArrayPartition):
    """Of the user, who may keep anything under any name."""

    def __init__(self):
        super().__init__(np.zeros((2, 3, 3, 3), np.uint8), LABELS, ["a", "b"])
        self.images = self.rows


class OwnCaptions(CaptionPartition):
    """Of the user, from this package's."""


class Around:
    """A partition of the user around another one."""

    def __init__(self, whole):
        self.whole, self.labels, self.ids, self.fingerprint = whole, whole.labels, whole.ids, "x"

    def __len__(self):
        return len(self.whole)

    def __getitem__(self, row):
        return self.whole[row]


AROUND = {
    "captions": lambda rows: CaptionPartition(rows, [("a",), ()]),
    "masks": lambda rows: MaskPartition(rows, MaskRows(np.zeros((2, 3, 3), np.uint8), np.arange(2)), "x"),
    "maps": lambda rows: NumberMapPartition(rows, MaskRows(np.zeros((2, 3, 3)), np.arange(2)), "x"),
    "judgements": lambda rows: JudgedPartition(rows, np.array([False, True]), [(1, 0, 1)], []),
    "subset": lambda rows: PartitionSubset(rows, np.arange(1)),
    "subset of captions": lambda rows: PartitionSubset(CaptionPartition(rows, [("a",), ()]), np.arange(2)),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_what_stands_around_rows_hides_no_code_and_has_none_of_its_own(around):
    own = Own()
    assert rows_code(around(own)) == rows_code(own) == features_code_of(Own) != {}
    assert rows_code(around(ArrayPartition(own.rows, LABELS, own.ids))) == {}


def test_code_of_the_user_around_other_rows_counts_beside_theirs():
    own, plain = Own(), ArrayPartition(np.zeros((2, 3)), LABELS, ["a", "b"])
    assert rows_code(Around(plain)) == features_code_of(Around)
    assert rows_code(Around(own)) == {**features_code_of(Around), "within": features_code_of(Own)}
    assert rows_code(OwnCaptions(plain, [("a",), ()])) == features_code_of(OwnCaptions)
    assert rows_code(OwnCaptions(own, [("a",), ()]))["within"] == features_code_of(Own)
