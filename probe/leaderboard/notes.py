"""What has to be said under a table: how it was made, what it can claim, and what it leaves out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from probe.core.words import counted, leaked
from probe.leaderboard.controls import N_TOLD
from probe.metrics.shared.metric import Metric

if TYPE_CHECKING:
    import pandas as pd

METHOD = (
    "Cells are means over seeds with 95% intervals for new test rows and new seeds: variances of both add, since "
    "{rows}; how much seeds scatter is learnt from all rows of a column{wilson}. "
    "* best of its column; ~ not distinguishable from the best (paired bootstrap of the test rows, 95% for the column)."
)
SHARED = "all seeds share the test rows"
OWN = "seeds draw test rows of their own, of which those that several test count once"
RANKS = (
    "Rank is the average over columns; its interval holds for all rows at once (95%, paired bootstrap over the same "
    "test rows, all pairs in all columns)."
)

FEW_SEEDS = {
    1: "Cells from one seed: their intervals know nothing of how seeds vary; what is told apart is so for these "
    "trained heads.",
    2: "Cells from two seeds: how seeds vary is known from the column as a whole. Two rows alone are hardly told "
    "apart, and of a row whose seeds vary far more than the others' about 80 in 100 intervals hold.",
    3: "Cells from three seeds: how seeds vary is known mostly from the column. Of a row whose seeds vary far more "
    "than the others' about 86 in 100 intervals hold, with five seeds 90.",
}
"""What a table of few seeds can claim, as measured by `benchmarks/intervals.py` on mixed boards of ten."""

FOLDS = (
    "Cells of a cross-validation are means over its folds. Since folds learn from each other's test rows, variances "
    "are multiplied by 1 + rows tested / rows that one fold learns from (after Nadeau and Bengio, 2003), in intervals, "
    "marks, ranks and comparisons alike."
)


def table_notes(frame: pd.DataFrame, cells: pd.DataFrame, ranking: pd.DataFrame, metric: Metric) -> list[str]:
    """The notes of a table made of the runs of a frame."""
    notes = [METHOD.format(rows=shared_rows(frame), wilson=", Wilson's form" if metric.proportion else "")]
    if ranking["rank"].notna().any():
        notes.append(RANKS)
    if (ranking["note"] != "").any():
        partial = ranking["note"].str.endswith("not ranked").any()
        notes.append(
            "Rows with missing cells are not ranked." if partial
            else "Ranks compare only rows that have the same columns."
        )  # fmt: skip
    of_seeds = cells[cells["n_folds"] == 0]
    notes += [words for n, words in FEW_SEEDS.items() if (of_seeds["n_seeds"] == n).any()]
    if len(of_seeds) < len(cells):
        notes.append(FOLDS)
    notes += incomplete(frame)
    if metric.better == "target":
        notes.append(f"Ranks go by the distance from {goal_text(metric, cells)}: more is no better, and no worse.")
    for on, group in cells[cells["selected_on"] != ""].groupby("selected_on"):
        warning = ", and so too good" if "test" in str(on) else ""
        notes.append(f"† Selected on {on}, not on validation{warning}: {', '.join(sorted(group['row'].unique()))}.")
    notes += [f"Leakage: {leaked(n, dataset)}." for dataset, n in copies(frame).items() if n]
    for dataset, n in frame[frame["divided"] > 0].groupby("dataset")["divided"].max().items():
        notes.append(f"Groups in more than one of training, validation and test: {int(n)} of {dataset}.")
    left_out = {phrase for phrases in frame["left_out"].unique() for phrase in json.loads(phrases)}
    notes += [f"Not among the rows of {phrase}." for phrase in sorted(left_out)]
    if frame["skipped"].sum():
        notes.append(
            f"Skipped as unreadable: {counted(int(frame['skipped'].sum()), 'row')} in "
            f"{counted(int((frame['skipped'] > 0).sum()), 'run')}."
        )
    return notes


def shared_rows(frame: pd.DataFrame) -> str:
    """Whether the seeds of each column test the same rows, in words."""
    of_column = frame.groupby(["column", "fold"])["dataset.test_rows"].nunique().groupby("column").max()
    drawn = [str(column) for column, n in of_column.items() if n > 1]
    if not drawn or len(drawn) == len(of_column):
        return OWN if drawn else SHARED
    more = f" and {len(drawn) - N_TOLD} more" if len(drawn) > N_TOLD else ""
    return f"{SHARED}, but for {', '.join(drawn[:N_TOLD])}{more}, where {OWN}"


def copies(frame: pd.DataFrame) -> dict[str, int]:
    """Of each dataset the test rows that are training rows too; folds test other rows each, so that theirs add up."""
    if not frame["leaked"].any():
        return dict.fromkeys(map(str, frame["dataset"].unique()), 0)
    once = frame.groupby(["dataset", "row", "column", "seed", "fold"])["leaked"].max()
    most = once.groupby(["dataset", "row", "column", "seed"]).sum().groupby("dataset").max()
    return {str(dataset): int(n) for dataset, n in most.items()}


def incomplete(frame: pd.DataFrame) -> list[str]:
    """A word on cells in which some folds of a seed are missing."""
    runs = frame[frame["n_folds"] > 0]
    counted_folds = runs.groupby(["row", "column", "seed", "n_folds"])["fold"].nunique().reset_index()
    some = counted_folds[counted_folds["fold"] < counted_folds["n_folds"]]
    told = [f"{line.row} on {line.column} ({line.fold} of {line.n_folds})" for line in some.itertuples()]
    more = f" and {len(told) - N_TOLD} more" if len(told) > N_TOLD else ""
    return [f"Folds are missing, so that not every row is tested: {', '.join(told[:N_TOLD])}{more}."] if told else []


def goal_text(metric: Metric, cells: pd.DataFrame) -> str:
    """The best values of the cells, as people read them."""
    goals = sorted(set(cells["goal"].round(9)))
    return " or ".join(f"{100 * goal:g} %" if metric.percent else f"{goal:g}" for goal in goals)
