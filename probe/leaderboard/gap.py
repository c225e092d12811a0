"""Easy to hard: how much of what hard training rows teach each row of the table has learnt from easy ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.escaping import one_line
from probe.core.terminal import columns, drawn
from probe.leaderboard.screen import lessened, tables
from probe.leaderboard.table import Table
from probe.metrics.shared.recovery import gap_recovered
from probe.results.reader import read_predictions

if TYPE_CHECKING:
    import pandas as pd

NOTES = (
    "Accuracies in % on the hard test rows, means over seeds. Untrained: always the most frequent class of these rows. "
    "Recovered: (easy - untrained) / (hard - untrained), 95% interval over test rows and seeds."
)


def text(table: Table, frame: pd.DataFrame, width: int | None = None) -> str:
    """For the terminal: one line per dataset and row of the table that was trained on easy and on hard rows.

    Raises:
        InputError: There is none.
    """
    import pandas as pd

    lines = _lines(table, frame)
    if not lines:
        raise InputError(
            "no row was trained on easy and on hard rows and tested on hard ones: run, for example, "
            "probe -m protocol=easy_to_hard protocol.train=easy,hard"
        )
    names, room = ["", "dataset", "trained on easy", "on hard", "untrained", "recovered"], width or columns()
    told = pd.DataFrame([[one_line(text) for text in line] for line in lines], columns=names)
    found = tables(lessened(told, 2, ["untrained"]), room)
    return drawn("Supervision gap recovered, easy to hard", *found, NOTES, width=room)


def _lines(table: Table, frame: pd.DataFrame) -> list[list[str]]:
    runs = frame.set_index("name")
    arms: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for cell in table.cells.to_dict("records"):
        name, parameters = json.loads(runs.loc[cell["runs"][0], "protocol.parameters"])
        if name == "easy_to_hard" and parameters["test"] == "hard":
            rest = json.dumps({key: value for key, value in parameters.items() if key != "train"}, sort_keys=True)
            key = (runs.loc[cell["runs"][0], "dataset"], cell["row"], rest)
            arms.setdefault(key, {})[parameters["train"]] = list(cell["runs"])
    lines = []
    for (dataset, row, _), parts in sorted(arms.items()):
        if {"easy", "hard"} <= set(parts):
            easy, hard = (_correct(runs, parts[part]) for part in ("easy", "hard"))
            untrained = _most_frequent(read_predictions(str(runs.loc[parts["hard"][0], "folder"])))
            found = gap_recovered(easy, hard, untrained)
            share = f"{100 * found.value:.0f} [{100 * found.low:.0f}, {100 * found.high:.0f}]"
            shown = [f"{100 * value:.1f}" for value in (easy.mean(), hard.mean(), untrained)]
            lines.append([row, dataset, *shown, "undefined" if np.isnan(found.value) else share])
    return lines


def _correct(runs: pd.DataFrame, names: list[str]) -> NDArray[np.bool_]:
    """(seeds, rows) which test rows are right."""
    return np.stack([read_predictions(str(runs.loc[name, "folder"]))["label_rank"] == 0 for name in names])


def _most_frequent(predictions: Mapping[str, Any]) -> float:
    return float(np.bincount(predictions["label"]).max() / len(predictions["label"]))
