"""The finished runs that an ensemble is made of: read, found to fit each other or refused by name, calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.targets import recorded
from probe.experiment.ensembles.views import Views, views_of
from probe.metrics.shared.intervals import FloatArray
from probe.results.reader import Arrays, read_predictions, read_result, read_validation

SAME = {
    "another dataset": lambda record: record["dataset"]["fingerprint"],
    "other classes": lambda record: record["dataset"]["class_names"],
    "another protocol": lambda record: [record["protocol"]["name"], record["protocol"]["parameters"]],
    "another seed": lambda record: record["seed"],
    "other training labels": lambda record: record.get("shuffle_labels", False),
    "other test rows": lambda record: record["dataset"]["test_rows"],
}
"""What members share, as a refusal calls what they do not."""


@dataclass(frozen=True)
class Member:
    """A finished run, with what it says of its test rows and of the rows that its head was chosen on."""

    folder: Path
    record: dict[str, Any]
    test: Arrays
    validation: Arrays | None

    @property
    def name(self) -> str:
        return str(self.record["run"]["name"])

    @property
    def views(self) -> Views:
        """How its predictions are combined with others."""
        return views_of(recorded(self.record["dataset"]).name, self.name)

    @property
    def label(self) -> str:
        """What a table calls it."""
        return f"{self.record['labels']['backbone']} {self.record['labels']['head']}"


def read_member(folder: str | Path) -> Member:
    """Reads a run, all of it checked.

    Raises:
        InputError: It is damaged, is an ensemble itself, has rows that none is known for, or kept no logits.
    """
    try:
        record = read_result(folder)
        member = Member(Path(folder), record, read_predictions(folder, record), read_validation(folder, record))
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    if "members" in record:
        raise InputError(f"{member.name} is an ensemble itself: give the runs that it is made of")
    if member.views.NEEDED not in member.test:
        raise InputError(f"{member.name} kept no logits: run it again with save_logits=true and force=true")
    return member


def check_same(members: Sequence[Member]) -> None:
    """Refuses runs that did not answer the same question.

    Raises:
        InputError: They are fewer than two, or two of them differ in what `SAME` names or in test rows or labels.
    """
    if len(members) < 2:
        names = ", ".join(member.name for member in members) or "none"
        raise InputError(f"an ensemble takes at least two runs, there is {names}: give more, or a wider --where")
    first = members[0]
    for member in members[1:]:
        wrong = [what for what, fact in SAME.items() if fact(first.record) != fact(member.record)]
        arrays = {"other test rows": "row", "other test labels": "label"}
        wrong += [what for what, name in arrays.items() if not np.array_equal(first.test[name], member.test[name])]
        if wrong:
            raise InputError(
                f"{member.name} has {' and '.join(dict.fromkeys(wrong))} than {first.name}, members of an ensemble "
                "answer one question: give runs of one dataset, protocol and seed"
            )


def temperatures(members: Sequence[Member]) -> list[float]:
    """What the logits of each are divided by to be log-probabilities: 1 where the head makes them so.

    For other heads that of the calibration, which saw rows that its fit did not; else it is fitted on the rows that
    the head was chosen on.

    Raises:
        InputError: Heads whose logits are none, and that have neither; all are named.
    """
    found = [_temperature(member) for member in members]
    if lacking := [member for member, value in zip(members, found, strict=True) if value is None]:
        heads = ",".join(sorted({member.record["labels"]["head"] for member in lacking}))
        raise InputError(
            f"the logits of {', '.join(member.name for member in lacking)} are no log-probabilities, and there are no "
            f"held-out rows to calibrate them by: run them with calibrate=true, leave them out (--where 'head!={heads}'"
            "), or take --kind vote"
        )
    return [float(value) for value in found if value is not None]


def _temperature(member: Member) -> float | None:
    if member.views.NEEDED != "logits" or member.record.get("log_probabilities", False):
        return 1.0
    if (known := member.record.get("calibration", {}).get("temperature")) is not None:
        return float(known)
    if member.validation is None or "logits" not in member.validation:
        return None
    return member.views.temperature(member.validation)


def views_on_test(members: Sequence[Member], scales: Sequence[float]) -> FloatArray:
    """(M, ...) of the test rows."""
    return np.stack([m.views.view(m.test, scale) for m, scale in zip(members, scales, strict=True)])


def held_out(members: Sequence[Member], scales: Sequence[float]) -> tuple[FloatArray, NDArray[Any]]:
    """Views (M, ...) and labels of the rows that all members were chosen on and not fitted on.

    Where a head chose on folds and another on the validation rows, these are the rows of both.

    Raises:
        InputError: A member kept none, which is named, or they have none in common.
    """
    kept = [member.validation or {} for member in members]
    if lacking := [m for m, arrays in zip(members, kept, strict=True) if m.views.NEEDED not in arrays]:
        heads = ",".join(sorted({member.record["labels"]["head"] for member in lacking}))
        raise InputError(
            f"{', '.join(member.name for member in lacking)} kept no predictions of validation rows, which weights are "
            f"chosen on: leave them out (--where 'head!={heads}'), or take kind mean or median"
        )
    rows = reduce(np.intersect1d, (arrays["row"] for arrays in kept))
    places = [np.intersect1d(rows, arrays["row"], return_indices=True)[2] for arrays in kept]
    labels = [arrays["label"][place] for arrays, place in zip(kept, places, strict=True)]
    if not len(rows) or any(not np.array_equal(labels[0], other) for other in labels[1:]):
        raise InputError(
            f"{', '.join(member.name for member in members)} were chosen on different rows: give members that chose "
            "on the same, or take kind mean or median"
        )
    both = [
        {name: values[place] for name, values in arrays.items()} for arrays, place in zip(kept, places, strict=True)
    ]
    views = [m.views.view(arrays, scale) for m, arrays, scale in zip(members, both, scales, strict=True)]
    return np.stack(views), labels[0]
