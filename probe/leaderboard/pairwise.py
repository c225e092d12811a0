"""All pairs of rows at once, for the page: paired differences, and which test rows each was right on, packed."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.leaderboard.pairs import difference, pair_law, pair_variances, spread_alone
from probe.leaderboard.seeds import LEVEL, FloatArray, Spread
from probe.leaderboard.statistics import Scores, column_variances
from probe.leaderboard.table import Table
from probe.results.reader import read_predictions

if TYPE_CHECKING:
    import pandas as pd

MAX_BYTES = 1_000_000
"""Of packed bits on the page; rows that do not fit, the last of the ranking, have none."""


def differences(table: Table, column: str, kept: Sequence[str], places: Mapping[str, int]) -> dict[str, Any]:
    """Paired differences of all pairs of `kept` rows, as `pairs.compare` gives them, up to rounding.

    Of a metric whose best value is a target, they are of the distances from it.

    Returns:
        `rows`: places of the rows that the column has; and of the pairs (0, 1), (0, 2), …, (1, 2), … of these `half`,
        half the width of the interval, and `p`, None where a pair has no seed in common; `value`, A - B and the number
        of seeds, of those pairs whose seeds are not all the same.
    """
    whole = [row for row, name in table.scores if name == column]
    there = [row for row in kept if (row, column) in table.scores]
    if len(there) < 2:
        return {"rows": [], "half": [], "p": [], "value": {}}
    systems = [table.scores[row, column] for row in whole]
    found = pair_variances(systems)
    law = pair_law(found)
    pairs = list(itertools.combinations([whole.index(row) for row in there], 2))
    alike = [(a, b) for a, b in pairs if systems[a].seeds == systems[b].seeds]
    others = set(pairs) - set(alike)
    mixed = [pair for pair in pairs if pair in others and _common(*(systems[i] for i in pair))]
    told: dict[tuple[int, int], tuple[float, float]] = {}
    if alike:
        leads = np.array([systems[a].value - systems[b].value for a, b in alike])
        told |= zip(alike, _spelled(law.spread(found.at(tuple(np.array(alike).T))), leads), strict=True)
    paired = [difference(systems[a], systems[b]) for a, b in mixed]
    if mixed:
        leads = np.array([one.value for one in paired])
        spread = spread_alone(*systems) if len(systems) == 2 else law.spread(column_variances(paired))
        told |= zip(mixed, _spelled(spread, leads), strict=True)
    place = {pair: i for i, pair in enumerate(pairs)}
    return {
        "rows": [places[row] for row in there],
        "half": [told[pair][0] if pair in told else None for pair in pairs],
        "p": [told[pair][1] if pair in told else None for pair in pairs],
        "value": {
            place[pair]: [float(f"{one.value:.5g}"), len(one.seeds)] for pair, one in zip(mixed, paired, strict=True)
        },
    }


def _common(a: Scores, b: Scores) -> bool:
    return bool(set(a.seeds) & set(b.seeds))


def _spelled(spread: Spread, leads: FloatArray) -> list[tuple[float, float]]:
    """Half-widths and p-values of differences, with as many digits as a reader can use."""
    p = np.minimum(1.0, 2 * spread.tail(np.abs(leads)))
    return [
        (float(f"{half:.3g}"), float(f"{chance:.2g}")) for half, chance in zip(spread.margin(LEVEL), p, strict=True)
    ]


def packed(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """Which test rows runs were right on: bits of the runs of these names, as far as they fit, and numbers of the rows.

    Returns:
        `bits`: name -> test set and base64 of a bit per row; `tests`: test set -> numbers of its rows, or how many
        where they are all of a partition in order.
    """
    wanted = ["name", "folder", "correct", "skipped", "dataset.test_rows"]
    by_name = {run["name"]: run for run in frame.loc[frame["name"].isin(names), wanted].to_dict("records")}
    bits: dict[str, list[str]] = {}
    tests: dict[str, Any] = {}
    used = 0
    for name in names:
        run = by_name[name]
        if not run["correct"] or run["skipped"]:
            continue
        test = run["dataset.test_rows"]
        text = base64.b64encode(run["correct"]).decode("ascii")
        rows = None if test in tests else _rows(run)
        used += len(text) + (0 if rows is None else len(str(rows)))
        if used > MAX_BYTES:
            break
        bits[name] = [test, text]
        if rows is not None:
            tests[test] = rows
    return {"bits": bits, "tests": tests}


def _rows(run: Mapping[Any, Any]) -> Any:
    rows = read_predictions(run["folder"])["row"]
    return len(rows) if (rows == np.arange(len(rows))).all() else rows.tolist()
