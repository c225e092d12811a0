"""1,000 training rows, as in VTAB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probe.core.base import Dataset, Rows, Split
from probe.core.errors import InputError
from probe.protocols.shared.checks import all_rows
from probe.protocols.shared.draws import priorities

N_TRAIN, N_VALIDATION = 800, 200


@dataclass(frozen=True)
class Vtab1k:
    """Draws 800 rows to train and 200 to validate from train, at random and not stratified.

    A class may be left without a training row, as in the source; its test rows then count as errors.
    Source: X. Zhai et al., "A Large-scale Study of Representation Learning with the Visual Task Adaptation
    Benchmark", 2019, arXiv 1910.04867. Departs from it: the source fixes one draw (another seed here is another
    draw), and takes the 200 from a validation partition where there is one.
    """

    name: ClassVar[str] = "vtab1k"
    by_class: ClassVar[bool] = False

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        n = len(dataset.partitions["train"])
        if n < N_TRAIN + N_VALIDATION:
            raise InputError(
                f"vtab1k draws {N_TRAIN} + {N_VALIDATION} training rows, dataset {dataset.name} has {n}: "
                "take protocol full, or few_shot"
            )
        order = np.argsort(priorities(n, dataset.fingerprint, seed, "train"), kind="stable")
        train, validation = np.sort(order[:N_TRAIN]), np.sort(order[N_TRAIN : N_TRAIN + N_VALIDATION])
        return Split(Rows("train", train), Rows("train", validation), all_rows(dataset, "test"))
