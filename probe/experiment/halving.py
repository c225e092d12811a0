"""`search=halving`: many settings of a head on few rows, the better third of them on three times as many, and so on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from probe.core.arrays import rows_of
from probe.core.base import IntArray, Split
from probe.core.errors import DoesNotFit, InputError
from probe.experiment.identity import head_name
from probe.heads.shared.abilities import FitsOnFolds
from probe.heads.shared.base import AnyHead
from probe.protocols.shared.draws import priorities, ranks_in_class
from probe.protocols.shared.tasks import ComesInTasks

HALVING = "halving"
ETA = 3
"""What is divided by and multiplied with from rung to rung."""
FEWEST = 4
"""Candidates of which it spares anything."""
ROWS_PER_CLASS = 2
"""Fewest rows of a rung."""
Candidate = dict[str, Any]


@dataclass(frozen=True)
class Rung:
    """How many candidates are fitted on how many rows."""

    n_candidates: int
    n_rows: int

    @property
    def cost(self) -> int:
        """Rows that are fitted on, over all candidates."""
        return self.n_candidates * self.n_rows


def check_search(
    search: str | None, head: AnyHead, *, exclusive: bool, protocol: Any, teacher: bool, calibrate: bool
) -> None:
    """Refuses a search that there is not, or a head that has nothing to search by it.

    Raises:
        InputError, DoesNotFit: It is refused.
    """
    if search is None:
        return
    if search != HALVING:
        raise InputError(f"search is {search!r}, expected {HALVING} or null: set one of them")
    others = {
        "several labels or numbers per row": not exclusive, "a teacher": teacher, "calibrate=true": calibrate,
        f"protocol {getattr(protocol, 'name', '')}, whose rows come task by task,": isinstance(protocol, ComesInTasks),
        "a head that compares cells": isinstance(head, FitsOnFolds), "a head that reads texts": head.reads_texts,
    }  # fmt: skip
    if said := [what for what, true in others.items() if true]:
        raise DoesNotFit(f"search=halving does not go with {' and '.join(said)}: leave it out")
    if len(candidates(head)) < FEWEST:
        raise DoesNotFit(
            f"head {head_name(head)} has {len(candidates(head))} candidates in "
            f"{', '.join(head.searches.values()) or 'no list of parameters'}, search=halving wants {FEWEST} or more: "
            "list more values, or leave it out"
        )


def check_validates(search: str | None, split: Split, protocol: Any) -> None:
    """Refuses a draw that leaves no rows to choose on.

    Raises:
        InputError: It leaves none.
    """
    if search is not None and not len(split.validation):
        raise InputError(
            f"search=halving chooses on validation rows, protocol {protocol.name} leaves none here: set "
            "protocol=holdout, or leave search out"
        )


def candidates(head: AnyHead) -> list[Candidate]:
    """All settings that the lists of a head make, in their order; none where a list is given as a number."""
    lists = {name: getattr(head, parameter) for name, parameter in head.searches.items()}
    if not lists or not all(isinstance(values, list | tuple) for values in lists.values()):
        return []
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def rungs(n_candidates: int, n_rows: int, least: int) -> list[Rung]:
    """The plan: a third of the candidates on three times the rows, until one is left or all rows are in.

    Args:
        n_candidates: To begin with.
        n_rows: Training rows.
        least: Rows below which no rung goes.
    """
    steps = int(math.log(n_candidates, ETA) + 1e-9)
    return [
        Rung(max(1, n_candidates // ETA**i), min(n_rows, max(least, round(n_rows / ETA ** (steps - i)))))
        for i in range(steps + 1)
    ]


def nested(codes: IntArray, seed: int) -> IntArray:
    """(N,) an order of rows of which every beginning has the classes in their shares, and each at least once."""
    chance = priorities(len(codes), "", seed, "rungs of halving")
    ranks = ranks_in_class(codes, chance)
    share = (ranks + 0.5) / np.bincount(codes)[codes]
    return np.lexsort([chance, np.where(ranks == 0, 0, share)])


def fit_by_halving(head: AnyHead, train: Any, validation: Any, extras: Mapping[str, Any], seed: int = 0) -> AnyHead:
    """Chooses among all settings of a head by successive halving, then fits the winner as the head itself does.

    All candidates are fitted on a few training rows; the third with the best accuracy on the validation rows (then the
    lower log loss, then the earlier one) on three times as many, which hold the former, and so on. The middle candidate
    is fitted on all rows besides, so that one that learns slowly is not lost unseen: it is taken where it is better
    than the last one left.

    Source: Jamieson, Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016,
    arXiv 1502.07943.

    Args:
        head: Unfitted; it is this one that is fitted, with the parameters that were chosen.
        train: Features and labels of the training rows.
        validation: Of the validation rows.
        extras: Further arguments of `fit`.
        seed: Draws the rows of the rungs.
    """
    X, y = train
    every, order = candidates(head), nested(y, seed)
    plan = rungs(len(every), len(y), ROWS_PER_CLASS * len(np.unique(y)))
    control = (len(every) - 1) // 2
    scores: dict[int, tuple[float, float]] = {}
    n_rows: dict[int, int] = {}
    left = list(range(len(every)))
    for rung in plan:
        rows = np.sort(order[: rung.n_rows])
        left = left[: rung.n_candidates]
        for place in left:
            scores[place] = _scored(head, every[place], (rows_of(X, rows), y[rows]), validation, extras, rows)
            n_rows[place] = rung.n_rows
        left.sort(key=lambda place: (scores[place], -place), reverse=True)
    beside = Rung(int(control != left[0]), len(y))
    if control != left[0]:
        rows = np.arange(len(y))
        scores[control], n_rows[control] = _scored(head, every[control], (X, y), validation, extras, rows), len(y)
    best = max((left[0], control), key=lambda place: (scores[place], place == left[0]))
    head = head.set_params(**head.only(every[best])).fit(X, y, validation=validation, **extras)
    cost, whole = sum(rung.cost for rung in [*plan, beside]), len(every) * len(y)
    head.selection_ = {
        "on": "validation",
        "searched": [c | {"score": scores[i][0], "n_rows": n_rows[i]} for i, c in enumerate(every)],
        "chosen": every[best],
        HALVING: {
            "rungs": [[rung.n_candidates, rung.n_rows] for rung in plan],
            "control": every[control],
            "control_won": best != left[0],
            "rows_fitted": cost,
            "rows_of_grid": whole,
            "told": told(plan, cost, whole, best != left[0]),
        },
    }
    return head


def _scored(
    head: AnyHead, candidate: Candidate, train: Any, validation: Any, extras: Mapping[str, Any], rows: IntArray
) -> tuple[float, float]:
    """Accuracy on the validation rows, and the mean log-probability of their labels."""
    quick = {"refit": False} if "refit" in head.get_params(deep=False) else {}
    given = {name: np.asarray(value)[rows] for name, value in extras.items()}
    trial: Any = clone(head).set_params(**head.only(candidate), **quick)
    trial.fit(*train, validation=validation, **given)
    X, y = validation
    probabilities = trial.predict_proba(X)
    own = np.where(trial.classes_ == y[:, None], probabilities, 0).sum(axis=1)
    right = trial.classes_[probabilities.argmax(axis=1)] == y
    return float(right.mean()), float(np.log(np.maximum(own, 1e-12)).mean())


def told(plan: Sequence[Rung], cost: int, whole: int, control_won: bool) -> str:
    """What was fitted on how many rows, and what that spared."""
    steps = ", ".join(f"{rung.n_candidates} on {rung.n_rows:,} rows" for rung in plan)
    won = "; that one was better than the last one left" if control_won else ""
    return (
        f"halving: {steps}, and the middle candidate on all: {cost:,} rows fitted and not {whole:,} "
        f"({100 * (1 - cost / whole):.0f} % spared){won}"
    )
