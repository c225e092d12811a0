"""What a label is, as a dataset declares it: one file per target, and here what all targets answer.

Protocols, the store, records, the leaderboard and trackers ask the target of a dataset, and never look at the shape of
its labels. A new target is one new file `probe/core/targets/<name>.py` with a class of that name in capitals, such as
`OneClass` in `one_class.py`.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.errors import InputError
from probe.core.words import counted

Codes = NDArray[np.int64]
DEFAULT = "one_class"
"""Of records that name no target: they are older than the word."""
DECLARE_NUMBERS = (
    "numbers to predict are declared, by dataset.target_columns=[...] or from Python by "
    'dataset=((X, y), {"target": "number"})'
)
"""For errors of labels that are no classes, and may be meant as numbers."""
DECLARE_CAPTIONS = "set dataset.caption_columns=[<column>] (of webdataset dataset.caption_key=txt)"
"""For errors of datasets that do not say where their captions are."""
IGNORED = int(np.iinfo(np.int64).min)
"""Code of rows whose label is to be ignored; `make_dataset` leaves these rows out."""


class Target(ABC):
    """What a label is; N rows, K classes or columns.

    Attributes:
        name: How records, metrics and heads call it.
        phrase: How an error says it of a dataset: `dataset x has <phrase>`.
        exclusive: Whether each row has exactly one of the classes. Else protocols see strata in their place.
        even: Whether each stratum is a share of the rows, so that some rows of each are a draw of the whole range.
        shows_several: Whether a row shows several classes, which `shown_classes` tells.
        per_pixel: Whether each pixel of an image has a label of its own, which partitions hold beside `labels`.
        transfers: Whether labels of another dataset can be told in terms of these, for `test_on`.
        calibrates: Whether held-out rows can say how far outputs are to be believed.
        constant_head: The head that says the same of every row, the control of those that look at features.
        least_names: How many names a dataset has at least.
        learnt: Whether heads learn it from training rows; else a partition test is all that a dataset needs.
        declared: What makes a dataset say that it has it, where it takes the place of labels.
        ordered: Whether the dataset declares that classes or numbers are grades.
        ignored_phrase: What a record calls the rows that are `ignored`: `3 rows of train <phrase>`.
    """

    name: ClassVar[str]
    phrase: ClassVar[str]
    exclusive: ClassVar[bool] = False
    even: ClassVar[bool] = False
    shows_several: ClassVar[bool] = False
    per_pixel: ClassVar[bool] = False
    transfers: ClassVar[bool] = False
    calibrates: ClassVar[bool] = False
    constant_head: ClassVar[str] = "majority_class"
    least_names: ClassVar[int] = 2
    learnt: ClassVar[bool] = True
    declared: ClassVar[str] = ""
    ignored_phrase: ClassVar[str] = "with the label to ignore"
    ordered: bool = False

    def held(self, labels: ArrayLike) -> NDArray[Any]:
        """Labels as partitions hold them; by default class codes, (N,) or a column per label, as int64.

        Raises:
            InputError: They are none.
        """
        return class_codes(labels)

    def in_order(self) -> Target:
        """The same whose classes or numbers are grades, from low to high.

        Raises:
            InputError: It has none.
        """
        raise InputError(f"a dataset with {self.phrase} has no grades: leave dataset.ordered out")

    def ignored(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N,) marks the rows that a dataset leaves out for want of a label."""
        return np.zeros(len(labels), dtype=bool)

    def name_faults(self, class_names: Sequence[str]) -> list[str]:
        """What is wrong with the names of a dataset, a clause each."""
        n_names, found = len(class_names), []
        if n_names < self.least_names:
            named = f" ({', '.join(class_names)})" if n_names else ""
            found.append(f"it names {n_names} class{'es' * (n_names != 1)}{named}, at least 2 are needed")
        if len(set(class_names)) < n_names:
            twice = sorted({name for name in class_names if list(class_names).count(name) > 1})
            found.append(f"class name {twice[0]!r} stands for more than one class")
        return found

    def expected(self, class_names: Sequence[str]) -> str:
        """What a sound dataset has, and the way there, for the end of an error."""
        return (
            f"at least 2 classes, labels from 0 to {max(len(class_names) - 1, 1)} and a training row of every class: "
            "mend its labels or leave such classes out"
        )

    @abstractmethod
    def faults(self, part: str, labels: NDArray[Any], class_names: Sequence[str], ids: Sequence[str] = ()) -> list[str]:
        """What is wrong with the labels of a partition, a clause each.

        Args:
            part: Name of the partition; `train` has to tell all classes apart.
            labels: Of all its rows.
            class_names: Of the dataset.
            ids: Names of the rows, for the sentence.
        """

    @abstractmethod
    def strata(self, labels: NDArray[Any], train: NDArray[Any] | None = None) -> Codes:
        """What draws stratify by, (N,) whole numbers.

        Args:
            labels: Of some rows.
            train: Labels of the rows that say what strata there are; these rows themselves by default.
        """

    def strata_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """Of each stratum, in the order of their numbers."""
        return tuple(class_names)

    @abstractmethod
    def counts(self, labels: NDArray[Any], n_classes: int) -> Codes:
        """(K,) rows that have each class."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a record says of it beside its name."""
        return {}

    def shown_classes(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N, K) marks the classes that each row shows, of a target whose rows show several."""
        raise NotImplementedError(self.name)

    def described(self, labels: NDArray[Any], class_names: Sequence[str]) -> tuple[str, str, str]:
        """For `probe describe`: how many of what there are, the name of a line on the training rows, and the line."""
        counts = self.counts(labels, len(class_names))
        spread = f"{counts.min()} to {counts.max()}, median {np.median(counts):g}"
        return f"{len(class_names)} classes", "train / class", spread

    def fits_record(self, labels: NDArray[Any], n_classes: int) -> str:
        """Where labels that a run kept are none of its dataset: what is wrong with them; else empty."""
        outside = labels.min() < 0 or labels.max() >= n_classes
        return f"leave 0..{n_classes - 1}" if outside else ""

    def outputs(self, head: Any, X: Any, n_classes: int) -> NDArray[Any]:
        """What a fitted head says of rows, over all classes of the dataset; by default its logits (N, K)."""
        return full_width(head.logits(X), head.classes_, n_classes)

    @abstractmethod
    def shown(self, label: Any, class_names: Sequence[str]) -> str:
        """The label of a row as a reader sees it."""


def class_codes(labels: ArrayLike) -> Codes:
    """Codes (N,), or zeros and ones (N, K), as int64; numbers that are not whole are refused, not cut.

    Raises:
        InputError: Labels that are no whole numbers of 64 bits.
    """
    given = np.asarray(labels)
    if given.dtype.kind not in "iubf" and given.size:
        raise InputError(f"labels are {given.dtype}, expected class codes from 0 on: encode them first")
    if (wrong := not_whole(given)).any():
        first = given[wrong][0].item()
        raise InputError(
            f"found {counted(int(wrong.sum()), 'label')} not whole within 64 bits, the first is {first}: give "
            "class codes from 0 on"
        )
    return given.astype(np.int64)


def not_whole(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Marks the numbers that int64 does not hold as they are."""
    if labels.dtype.kind == "u":
        return labels > np.uint64(2**63 - 1)
    if labels.dtype.kind == "f":
        wrong: NDArray[np.bool_] = ~((labels == np.round(labels)) & (np.abs(labels) < 2.0**63))
        return wrong
    return np.full(labels.shape, labels.dtype.kind not in "ib")


def stored(labels: ArrayLike) -> NDArray[Any]:
    """Labels as files keep them: whole numbers of any width as int64, others as they are."""
    given = np.asarray(labels)
    return given.astype(np.int64, copy=False) if given.dtype.kind in "iub" else given


def full_width(logits: NDArray[Any], classes: Codes, n_classes: int) -> NDArray[np.float32]:
    """Logits over all classes of the dataset; a class that the head never saw gets -inf and is never predicted."""
    full = np.full((len(logits), n_classes), -np.inf, dtype=np.float32)
    full[:, classes] = logits
    return full


@cache
def named(name: str) -> Target:
    """The target of a name.

    Raises:
        InputError: There is none of this name.
    """
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if name not in known:
        raise InputError(f"target {name!r} is unknown, expected one of {', '.join(known)}: use one of them")
    kind = "".join(word.capitalize() for word in name.split("_"))
    found: Target = getattr(importlib.import_module(f"{__name__}.{name}"), kind)()
    return found


def recorded(dataset: Mapping[str, Any]) -> Target:
    """The target that a record's `dataset` names."""
    return named(str(dataset.get("target", DEFAULT)))
