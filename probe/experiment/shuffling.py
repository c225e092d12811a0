"""Labels that say nothing of their rows: a head that scores well with them reads more into rows than is there.

Hewitt and Liang, "Designing and Interpreting Probes with Control Tasks", 2019, arXiv 1909.03368, call the accuracy less
that of a control task the selectivity of a probe. Their control labels are a function of the word, so that they can be
learnt by heart; rows here are unlike each other, and the control task is scored on the true labels of the test rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from probe.core.base import Dataset, Split, SplitProtocol
from probe.core.errors import DoesNotFit
from probe.protocols.shared.draws import priorities
from probe.protocols.shared.tasks import ComesInTasks


def check_shuffle(protocol: SplitProtocol, *, reads_texts: bool, learnt: bool = True) -> None:
    """Refuses to shuffle labels that are read task by task, or not at all.

    Raises:
        DoesNotFit: They are.
    """
    why = ""
    if isinstance(protocol, ComesInTasks):
        why = f"protocol {protocol.name} gives its rows task by task"
    elif reads_texts:
        why = "a head that reads texts learns from no label"
    elif not learnt:
        why = "nothing is learnt from the labels of this dataset"
    if why:
        raise DoesNotFit(f"control=shuffled_labels permutes the labels of training rows, and {why}: leave it out")


def shuffle_labels(split: Split, dataset: Dataset, seed: int) -> Split:
    """The split with permuted labels of the rows that train, and of those that validate, each part by itself.

    Every class keeps its number of rows in each. Validation rows of a partition of their own keep their labels, as
    test rows do.
    """
    given = np.asarray(dataset.partitions["train"].labels) if split.train_labels is None else split.train_labels
    labels, chance = given.copy(), priorities(len(given), dataset.fingerprint, seed, "shuffled labels")
    for part in (split.train, split.validation):
        if part.partition == "train":
            labels[part.indices] = given[part.indices[np.argsort(chance[part.indices], kind="stable")]]
    return replace(split, train_labels=labels)
