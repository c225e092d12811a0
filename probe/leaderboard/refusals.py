"""What may not share a column or a cell of the table: refused with the runs' names and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probe.core.errors import InputError
from probe.leaderboard.records import CODE
from probe.leaderboard.select import add_fields, differing, joined, text

if TYPE_CHECKING:
    import pandas as pd

CLASHES = {
    "dataset.fingerprint": "dataset fingerprints",
    "protocol.parameters": "protocols",
    "dataset.classes": "label sets",
    "protocol.code": "versions of a protocol's code",
    "evaluation": "ways to count pixels",
}


def refuse_clashes(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Reports every column whose runs saw different data, protocols, label sets or test rows.

    Raises:
        InputError: There is one; all of them are named.
    """
    wrong = []
    kinds = frame.groupby("column", sort=True)[list(CLASHES)].nunique()
    for column, counts in kinds[(kinds > 1).any(axis=1)].iterrows():
        group = frame[frame["column"] == column]
        wrong += [_clash(str(column), group, field, columns) for field in CLASHES if counts[field] > 1]
    tests = frame.groupby(["column", "seed", "fold"])["dataset.test_rows"].nunique()
    for column, seed, fold in (
        tests[tests > 1].reset_index().drop_duplicates("column")[["column", "seed", "fold"]].itertuples(index=False)
    ):
        group = frame[(frame["column"] == column) & (frame["seed"] == seed) & (frame["fold"] == fold)]
        wrong.append(_clash(f"{column} (seed {seed})", group, "dataset.test_rows", columns))
    if wrong:
        raise InputError("; ".join(wrong))


def _clash(column: str, group: pd.DataFrame, field: str, columns: Sequence[str]) -> str:
    what = CLASHES.get(field, "sets of test rows")
    kinds = [(text(value), list(runs["name"])) for value, runs in group.groupby(field)]
    listed = ", ".join(
        f"{kind[:60]} in {names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)}" for kind, names in kinds[:5]
    )
    by, example = field, kinds[0][0]
    if field == "protocol.parameters":
        names = group["protocol"].unique()
        if len(names) > 1:
            by, example = "protocol", names[0]
        else:
            found = differing(group, ["protocol"])
            by = found[0] if found else field
            example = text(add_fields(group, [by])[by].iloc[0])
    return (
        f"column {column} would mix {group[field].nunique()} {what} ({listed}), results share a column only where "
        f"these are equal: select with --where '{by}={example}' or give each a column with "
        f"--columns {','.join([*columns, by])}"
    )


def tell_apart(frame: pd.DataFrame, rows: tuple[str, ...]) -> tuple[pd.DataFrame, tuple[str, ...], list[str]]:
    """Adds fields to the rows until the runs of a cell differ in nothing but the seed.

    Runs of one name with different parameters are different rows; `head.temperature`, say, becomes a field of the rows.
    So are runs of one name that other code computed, which a note says.

    Returns:
        The frame, the fields of the rows, and notes.

    Raises:
        InputError: Two runs with one seed share a cell, and no field tells them apart.
    """
    cell = ["row", "column"]
    extra: list[str] = []
    codes: list[str] = []
    settings = frame.groupby(cell)["settings"].transform("nunique")
    for _, group in frame[settings > 1].groupby(cell):
        first = group.drop_duplicates("settings")
        codes += (by_code := differing_code(first))
        # The path in the configuration is the class once more.
        known = {f"{name.partition('.')[0]}._target_" for name in by_code}
        by_setting = [name for name in differing(first, ["head", "backbone"]) if name not in known]
        extra += [*by_code, *by_setting] or differing(first) or ["backbone.identity"]
    twice = frame[(settings == 1) & frame.duplicated([*cell, "seed", "fold"], keep=False)]
    for _, group in twice.groupby(cell):
        extra += differing(group)
    if extra:
        rows = (*rows, *dict.fromkeys(name for name in extra if name not in rows))
        frame = add_fields(frame, rows)
        frame = frame.assign(row=joined(frame, rows))
    twice = frame[frame.duplicated([*cell, "seed", "fold"], keep=False)].sort_values([*cell, "seed", "fold"])
    if len(twice):
        a, b = twice.iloc[0], twice.iloc[1]
        raise InputError(
            f"{a['name']} and {b['name']} are both {a['row']} on {a['column']} with seed {a['seed']}, a cell takes one "
            f"run per seed: select with --where name!={b['name']} or tell them apart with --rows"
        )
    told = f"Runs of one name that other code computed are rows of their own, by {' and '.join(dict.fromkeys(codes))}."
    return frame, rows, [told] if codes else []


def differing_code(runs: pd.DataFrame) -> list[str]:
    """The fewest fields of `CODE`, the first ones first, that tell the runs' code apart."""
    found: list[str] = []
    for name in (f"{part}.{fact}" for part in ("head", "backbone") for fact in CODE):
        if len(runs.drop_duplicates([*found, name])) > (len(runs.drop_duplicates(found)) if found else 1):
            found.append(name)
    return found
