"""Rows against their controls: the most frequent class, the raw input, random weights, shuffled labels.

A row is better than a control where the paired difference is told from zero, at a level that holds for all rows of a
column that have a control of this kind: where none of them is better, the mark is missing somewhere in the column once
in twenty boards. A row with several controls has to beat each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from probe.leaderboard.leads import Draws, resample
from probe.leaderboard.pairs import influences_by_seed, pair_law, pair_variances
from probe.leaderboard.ranks import N_RESAMPLES
from probe.leaderboard.seeds import LEVEL
from probe.leaderboard.statistics import Scores, spread
from probe.metrics.shared.metric import Metric
from probe.results.schema import ANY_HEAD

if TYPE_CHECKING:
    import pandas as pd

EQUAL: Mapping[str, tuple[str, ...]] = {
    "majority": (),
    "raw input": ("control.head",),
    "random weights": ("control.head", "control.architecture"),
    "shuffled labels": ("control.head", "control.backbone"),
}
"""Of each kind of control, what it has in common with the rows that it controls."""
FACTS = ["control", "control.head", "control.architecture", "control.backbone"]
N_TOLD = 12
METHOD = (
    "‡ Not distinguishable from a control of its own, or below it (one-sided paired test of test rows and seeds, 5% "
    "for a column and a kind of control)"
)


def held_against_controls(
    frame: pd.DataFrame,
    cells: pd.DataFrame,
    all_scores: Mapping[tuple[str, str], Scores],
    higher: bool,
    draws_of: Callable[[str, Sequence[str]], Draws],
) -> pd.DataFrame:
    """The cells with `not_above`, the kinds of control that each is not better than, and its `selectivity`.

    `draws_of` gives what names the random numbers of some rows of a column.
    """
    found: dict[tuple[str, str], list[str]] = {}
    selectivity: dict[tuple[str, str], float] = {}
    for group, runs in frame.groupby("column") if (frame["control"] != "").any() else ():
        column = str(group)
        rows = sorted(runs["row"].unique())
        pairs = controls_of(runs)
        places = {kind: [(rows.index(a), rows.index(b)) for a, b in named] for kind, named in pairs.items()}
        better: dict[str, NDArray[np.bool_]] = {}
        if pairs:
            systems = [all_scores[row, column] for row in rows]
            better = above(systems, places, higher, draws=draws_of(column, rows))
        for kind, named in pairs.items():
            for (row, control), is_better in zip(named, better[kind], strict=True):
                if not is_better:
                    found.setdefault((row, column), []).append(kind)
                if kind == "shuffled labels":
                    selectivity[row, column] = all_scores[row, column].value - all_scores[control, column].value
    keys = list(zip(cells["row"].tolist(), cells["column"].tolist(), strict=True))
    return cells.assign(
        not_above=[", ".join(found.get(key, [])) for key in keys],
        selectivity=[selectivity.get(key, float("nan")) for key in keys],
    )


def controls_of(runs: pd.DataFrame) -> dict[str, list[tuple[str, str]]]:
    """Of the runs of one column, by kind of control the pairs of a row and its control.

    A row whose runs differ in what they would be held against has no control, nor is it one.
    """
    per_row = runs.groupby("row", sort=True)[FACTS]
    facts = per_row.first().where(per_row.nunique() == 1, None)
    lines = facts.dropna(subset=["control"]).to_dict("index")
    ordinary = {str(row): line for row, line in lines.items() if line["control"] == ""}
    found: dict[str, list[tuple[str, str]]] = {}
    for control, line in lines.items():
        for row, own in ordinary.items() if line["control"] in EQUAL else ():
            if all(line[fact] and line[fact] in (own[fact], ANY_HEAD) for fact in EQUAL[line["control"]]):
                found.setdefault(line["control"], []).append((row, str(control)))
    return found


def above(
    column: Sequence[Scores],
    pairs: Mapping[str, Sequence[tuple[int, int]]],
    higher: bool,
    level: float = LEVEL,
    seed: int = 0,
    draws: Draws | None = None,
) -> dict[str, NDArray[np.bool_]]:
    """Whether the first of each pair of systems is significantly better than the second; by kind of pairs (P,).

    With probability `level` no pair of a kind is called so of those that are equally good or the other way round. The
    test of a pair is the one-sided one of `compare`; resampled test rows and drawn seeds, the same for all pairs, give
    the level at which each has to be tested (the largest standardised lead of a kind, as in `rank`).

    Args:
        column: All systems of a column, of which is learnt how much seeds scatter.
        pairs: Places in it.
        higher: Whether more is better.
        level: Of the column.
        seed: Of the resamples.
        draws: What names them; by default the places of the systems.
    """
    sign = 1.0 if higher else -1.0
    by_seed = influences_by_seed(column)
    variances = pair_variances(column, by_seed)
    law, means = pair_law(variances), sign * np.array([system.value for system in column])
    draws, influences = draws or Draws.by_place(len(column)), sign * by_seed.sum(axis=1)
    deviations, errors = resample(influences, spread(column).added, N_RESAMPLES, draws, seed)
    found = {}
    for kind, places in pairs.items():
        a, b = np.array(places).T
        lead, error = means[a] - means[b], errors[a, b]
        p = np.where(lead > 0, law.spread(variances.at((a, b))).tail(np.abs(lead)), 1.0)
        zero = np.zeros((N_RESAMPLES, len(a)))
        leads = np.divide(deviations[:, a] - deviations[:, b], error, out=zero, where=error > 0)
        largest = float(np.quantile(leads.max(axis=1), level))
        # Never easier than the test of one pair.
        found[kind] = p <= ndtr(-max(largest, float(ndtri(level))))
    return found


def control_notes(cells: pd.DataFrame, metric: Metric) -> list[str]:
    """What has to be said under a table that holds controls."""
    notes = []
    several = cells["column"].nunique() > 1
    if (marked := cells[cells["not_above"] != ""]).shape[0]:
        told = [_told(cell, str(cell["not_above"]), several) for cell in marked.to_dict("records")]
        notes.append(f"{METHOD}: {_listed(told)}.")
    if (known := cells[cells["selectivity"].notna()]).shape[0]:
        told = [_told(cell, metric.spelled(cell["selectivity"]), several) for cell in known.to_dict("records")]
        notes.append(f"Selectivity, the value less that with shuffled training labels: {_listed(told)}.")
    return notes


def _listed(told: Sequence[str]) -> str:
    """The first of them; a csv holds all."""
    more = f"; and {len(told) - N_TOLD} more" if len(told) > N_TOLD else ""
    return "; ".join(told[:N_TOLD]) + more


def _told(cell: Mapping[Any, Any], what: str, several: bool) -> str:
    place = f" on {cell['column']}" if several else ""
    return f"{cell['row']}{place} ({what})"
