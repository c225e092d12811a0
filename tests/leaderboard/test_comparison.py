from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from run_folders import write_run

from probe.errors import InputError
from probe.leaderboard.command import main
from probe.leaderboard.comparison import compare_rows, find_row
from probe.leaderboard.index import read_folders
from probe.leaderboard.table import build_table

Add = Callable[..., Path]


def test_the_difference_is_that_of_the_recorded_metrics(board: Path) -> None:
    records = read_folders([board])
    found = compare_rows(build_table(records), "tiny linear", "tiny ncm")
    means = records.frame.groupby(["backbone", "head", "dataset"])["metric.top1"].mean()
    for column, difference in zip(found.columns, found.differences, strict=True):
        expected = means["tiny", "linear", column] - means["tiny", "ncm", column]
        assert difference.value == pytest.approx(expected, abs=1e-12)
        assert difference.low < difference.value < difference.high


def test_wins_turn_to_losses_when_swapped_and_for_losses(board: Path) -> None:
    table = build_table(read_folders([board]))
    assert compare_rows(table, "tiny linear", "random ncm").outcomes == ["win", "win"]
    assert compare_rows(table, "random ncm", "tiny linear").outcomes == ["loss", "loss"]
    by_loss = build_table(read_folders([board]), "log_loss")
    assert compare_rows(by_loss, "tiny linear", "random ncm").outcomes == ["win", "win"]


def test_equal_predictions_tie(add: Add, tmp_path: Path) -> None:
    correct = np.arange(200) % 4 > 0
    for head in ("a", "b"):
        add("tiny", head, correct=correct)
    found = compare_rows(build_table(read_folders([tmp_path])), "a", "b")
    assert found.outcomes == ["tie"]
    assert found.p_holm == [1.0]


@pytest.mark.parametrize(
    "name", ["tiny linear", "linear tiny", "backbone=tiny,head=linear", "head=linear backbone=tiny"]
)
def test_a_row_is_found_by_its_fields(board: Path, name: str) -> None:
    assert find_row(build_table(read_folders([board])), name) == "tiny linear"


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("svm", "tiny ncm", "no row of the table answers to 'svm': .* there are 'tiny linear'"),
        ("linear", "tiny ncm", "2 rows of the table answers to 'linear'"),
        ("tiny ncm", "ncm tiny", "both names stand for the row 'tiny ncm'"),
    ],
)
def test_names_that_are_no_row_list_the_rows(board: Path, a: str, b: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_rows(build_table(read_folders([board])), a, b)


def test_rows_without_a_common_seed_or_column_are_refused(board: Path) -> None:
    write_run(board, "extra", "ncm", "digits", 7)
    write_run(board, "extra", "linear", "wine", 0)
    table = build_table(read_folders([board]))
    with pytest.raises(InputError, match=r"on digits, 'extra ncm' has the seeds \[7\] and 'tiny ncm' \[0, 1, 2\]"):
        compare_rows(table, "extra ncm", "tiny ncm")
    with pytest.raises(InputError, match="no column in common"):
        compare_rows(table, "extra linear", "tiny ncm")


def test_the_command_prints_all_of_it(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(board), "--compare", "tiny linear", "random ncm"]) == 0
    shown = capsys.readouterr().out
    assert "A wins 2, ties 0, loses 0 of 2." in shown
    assert max(map(len, shown.splitlines())) <= 100
    for word in ("McNemar", "permut.", "p Holm", "digits", "cifar10"):
        assert word in shown
