"""`--against head=linear`: which rows beat the linear probe on their backbone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probe.core.errors import InputError
from probe.leaderboard.against import text
from probe.leaderboard.command import main
from probe.leaderboard.comparison import compare_rows
from probe.leaderboard.index import read_folders
from probe.leaderboard.statistics import holm
from probe.leaderboard.table import build_table

N_TEST = 400


@pytest.fixture
def heads(add: Callable[..., Path], tmp_path: Path) -> Path:
    """On one backbone a head that beats linear, one that is like it and one below; on another linear alone."""
    rng = np.random.default_rng(0)
    linear = rng.random(N_TEST) < 0.7
    better, like, worse = linear.copy(), linear.copy(), linear.copy()
    better[np.flatnonzero(~linear)[:60]] = True
    like[:2] = ~like[:2]
    worse[np.flatnonzero(linear)[:60]] = False
    for seed in range(3):
        for head, right in (("linear", linear), ("kernel", better), ("svm", like), ("ncm", worse)):
            add("tiny", head, seed=seed, correct=right)
        add("other", "linear", seed=seed, correct=worse)
    return tmp_path / "runs"


def told(runs: Path, against: str = "head=linear", **options: str) -> dict[str, list[str]]:
    lines = text(build_table(read_folders([runs]), **options), against, 200).splitlines()
    cells = [re.split(r"  +", line.strip()) for line in lines]
    return {line[0]: line[1:] for line in cells if len(line) == 3}


def test_each_row_says_whether_it_beats_the_other(heads: Path) -> None:
    found = told(heads)
    assert {row: cells[0] for row, cells in found.items() if row} == {
        "tiny kernel": "1 of 1", "tiny svm": "0 of 1", "tiny ncm": "0 of 1",
    }  # fmt: skip
    assert found["tiny kernel"][1].startswith("beats: 15.0 [")
    assert found["tiny svm"][1].startswith("like: ")
    assert found["tiny ncm"][1].startswith("below: -15.0 [")


def test_a_lead_is_that_of_a_comparison_of_the_two_rows(heads: Path) -> None:
    table = build_table(read_folders([heads]))
    (one,) = compare_rows(table, "tiny kernel", "tiny linear").differences
    spelled = [table.measure.spelled(x) for x in (one.value, one.low, one.high)]
    assert told(heads)["tiny kernel"][1] == "beats: {} [{}, {}]".format(*spelled)


def test_of_losses_less_is_better(heads: Path) -> None:
    by_loss = told(heads, metric="log_loss")
    assert by_loss["tiny kernel"][0] == "1 of 1"
    assert by_loss["tiny kernel"][1].startswith("beats: -")


def test_what_is_told_apart_holds_for_all_differences_together(heads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[float]] = []
    monkeypatch.setattr("probe.leaderboard.against.holm", lambda p: given.append(p) or holm([0.03] * len(p)))
    assert {cells[0] for row, cells in told(heads).items() if row} == {"0 of 1"}
    assert len(given[0]) == 3


def test_the_command_prints_it(heads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(heads), "--against", "backbone=other"]) == 0
    assert "tiny linear" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("against", "message"),
    [
        ("linear", r"--against is 'linear', expected a field of the rows and its value, such as --against head=kernel"),
        ("seed=0", "rows are told by backbone, head"),
        ("head=lineer", "no row has one with head=lineer beside it, .* choose among kernel, linear, svm, ncm"),
    ],
)
def test_what_is_no_row_is_said_with_those_that_are(heads: Path, against: str, message: str) -> None:
    table = build_table(read_folders([heads]))
    with pytest.raises(InputError, match=message):
        text(table, against)


def test_the_word_that_the_error_names_works(heads: Path) -> None:
    assert told(heads, "head=kernel")["tiny linear"][1].startswith("below: ")
