"""Folds of all rows that may be learnt from, in place of validation rows that are too few to choose on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from probe.core.base import Dataset, Rows, Split, SplitProtocol
from probe.heads.shared.base import AnyHead
from probe.protocols.shared.groups import groups_of
from probe.protocols.shared.strata import with_strata
from probe.protocols.shared.tasks import ComesInTasks
from probe.protocols.shared.validation import folds_within


def chosen_on_folds(
    head: AnyHead, dataset: Dataset, protocol: SplitProtocol, split: Split, seed: int, *, apart: bool
) -> Split:
    """The split in which validation rows join the training rows, in folds, where the head says that they are too few.

    The best of ten candidates on 50 rows is mostly the luckiest. Rows of a partition of their own, rows in groups, and
    those of a head that shall not learn from them (`refit=False`) or has a teacher or tasks, stay what they are.

    Args:
        head: Unfitted.
        dataset: Of the rows.
        protocol: Of the split.
        split: As the protocol has it.
        seed: Of the run.
        apart: Whether something else wants the rows apart, a teacher or a search.
    """
    few = getattr(head.for_target(dataset.target.name), "few_validation_rows", 0)
    if split.folds is not None or not 0 < len(split.validation) < few or not getattr(head, "refit", True):
        return split
    if apart or isinstance(protocol, ComesInTasks) or groups_of(dataset) is not None:
        return split
    if {split.train.partition, split.validation.partition} != {"train"}:
        return split
    rows = np.sort(np.concatenate([split.train.indices, split.validation.indices]))
    folds = folds_within(with_strata(dataset), rows, seed)
    if folds is None:
        return split
    return replace(split, train=Rows("train", rows), validation=Rows("train", rows[:0]), folds=folds)
