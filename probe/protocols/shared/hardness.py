"""How hard each row is: to earlier runs that were fitted without it, or by a column of the dataset."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.results.reader import read_predictions, read_result, walk
from probe.results.schema import RESULT

ADVICE = "run probe -m protocol=cross_validation protocol.fold=0,1,2,3,4 and protocol=full with one name and seed"


def read_hardness(folder: Path, dataset: Dataset) -> dict[str, NDArray[np.float64]]:
    """Hardness of every row of train and test: the mean of 1 - label probability over the runs below a folder, 0..1.

    Runs of protocol cross_validation test rows of train that they were not fitted on, one fold each; runs of protocol
    full, or of any other that keeps test apart, test rows of test.

    Raises:
        InputError: No run below the folder is of this dataset, or some rows were tested by none of them.
    """
    sizes = {name: len(dataset.partitions.get(name, ())) for name in ("train", "test")}
    total, n = ({name: np.zeros(size) for name, size in sizes.items()} for _ in range(2))
    others = set()
    for run in sorted(os.path.join(folder, relative) for relative, names in walk(str(folder)) if RESULT in names):
        try:
            result = read_result(run)
            arrays = read_predictions(run, result)
        except InputError as error:
            raise InputError(f"{run} cannot tell how hard rows are: {error}") from error
        own = result["dataset"]["fingerprint"] == dataset.fingerprint and "test_on" not in result["dataset"]
        if not own or "label_probability" not in arrays:
            others.add(result["dataset"]["name"])
            continue
        partition = "test" if "test" in result["features"] else "train"
        total[partition][arrays["row"]] += 1.0 - arrays["label_probability"].astype(np.float64)
        n[partition][arrays["row"]] += 1
    missing = {name: int((counts == 0).sum()) for name, counts in n.items()}
    if any(missing.values()):
        seen = f" (there are runs of {', '.join(sorted(others))}, or of other rows)" if others else ""
        raise InputError(
            f"the runs below {folder} tell nothing of {missing['train']} of {sizes['train']} rows of train and "
            f"{missing['test']} of {sizes['test']} rows of test of dataset {dataset.name}{seen}: {ADVICE}"
        )
    return {name: total[name] / n[name] for name in sizes}


def own_hardness(dataset: Dataset, of_test: bool) -> dict[str, NDArray[np.float64]]:
    """Hardness of every row of train, and of test where asked for, as the partitions' attribute `hardness` has it.

    Raises:
        InputError: A partition has none.
    """
    wanted = ("train", "test") if of_test else ("train",)
    found = {name: getattr(dataset.partitions[name], "hardness", None) for name in wanted}
    missing = [name for name, values in found.items() if values is None]
    if missing:
        raise InputError(
            f"protocol.hardness is null, but dataset {dataset.name} has no hardness of its own for "
            f"{' and '.join(missing)}: name its column or array, such as dataset.hardness_column, or set "
            "protocol.hardness to a folder of runs"
        )
    return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}
