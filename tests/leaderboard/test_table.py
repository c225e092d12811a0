"""Cells of the table, and the order of its rows and columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from run_folders import digest, draw_correct, draw_predictions, edit, write_run

from probe.leaderboard.command import write_sweep_table
from probe.leaderboard.index import read_folders
from probe.leaderboard.table import build_table

Add = Callable[..., Path]


def test_a_cell_is_the_mean_over_seeds(board: Path) -> None:
    records = read_folders([board])
    table = build_table(records)
    means = records.frame.groupby(["backbone", "head", "dataset"])["metric.top1"].mean()
    for cell in table.cells.to_dict("records"):
        assert cell["value"] == pytest.approx(means[cell["backbone"], cell["head"], cell["dataset"]], abs=1e-12)
        assert cell["low"] < cell["value"] < cell["high"]
        assert cell["n_seeds"] == 3


def test_rows_are_ranked_best_first(board: Path) -> None:
    table = build_table(read_folders([board]))
    assert table.ranking["row"].iloc[0] == "tiny linear"
    assert table.ranking["rank"].iloc[0] == 1
    assert table.ranking["rank"].is_monotonic_increasing
    assert (table.ranking["rank_low"] <= table.ranking["rank"]).all()
    assert (table.ranking["rank"] <= table.ranking["rank_high"]).all()


def test_one_best_per_column_and_equals_are_not_distinguishable(add: Add, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = rng.uniform(size=400) < 0.9
    almost = good.copy()
    almost[np.flatnonzero(good)[:2]] = False
    for head, correct in [("a", good), ("b", almost), ("c", rng.uniform(size=400) < 0.5)]:
        add("tiny", head, correct=correct)
    cells = build_table(read_folders([tmp_path])).cells.set_index("head")
    assert cells["mark"].to_dict() == {"a": "best", "b": "tied", "c": ""}


def test_a_missing_cell_is_said_and_not_ranked(board: Path) -> None:
    write_run(board, "extra", "ncm", "digits", 0, skill=3)
    table = build_table(read_folders([board]))
    line = table.ranking.set_index("row").loc["extra ncm"]
    assert np.isnan(line["rank"])
    assert line["note"] == "missing: cifar10; not ranked"
    assert table.ranking["row"].iloc[-1] == "extra ncm"
    assert "missing" in write_sweep_table(board)
    assert "Rows with missing cells are not ranked." in table.notes


def test_rows_without_a_common_column_are_ranked_among_their_like(add: Add, tmp_path: Path) -> None:
    for head, skill in [("ncm", 0.0), ("linear", 1.0)]:
        add("tiny", head, "digits", skill=skill)
        add("identity", head, "wine", skill=skill)
    table = build_table(read_folders([tmp_path]))
    assert dict(zip(table.ranking["row"], table.ranking["rank"], strict=True)) == {
        "tiny linear": 1, "tiny ncm": 2, "identity linear": 1, "identity ncm": 2,
    }  # fmt: skip
    assert "Ranks compare only rows that have the same columns." in table.notes


def test_rows_selected_on_test_are_marked(add: Add, tmp_path: Path) -> None:
    add("tiny", "ncm", selection={"on": "validation", "searched": [], "chosen": {}})
    add("tiny", "linear", selection={"on": "test", "searched": [], "chosen": {}})
    table = build_table(read_folders([tmp_path]))
    assert "† Selected on test, not on validation, and so too good: tiny linear." in table.notes
    assert write_sweep_table(tmp_path).count("†") == 2


def test_seeds_with_test_rows_of_their_own_share_a_column(add: Add, tmp_path: Path) -> None:
    for seed in range(3):
        for head, skill in [("ncm", 0.0), ("linear", 1.0)]:
            predictions = draw_predictions(draw_correct("digits", 100, skill, f"{head}{seed}"), 10, f"{head}{seed}")
            add("tiny", head, seed=seed, predictions=predictions | {"row": np.arange(100) * 3 + seed})
    table = build_table(read_folders([tmp_path]))
    cells = table.cells.set_index("head")
    assert (cells["n_seeds"] == 3).all()
    frame = read_folders([tmp_path]).frame
    assert cells.loc["linear", "value"] == pytest.approx(frame[frame["head"] == "linear"]["metric.top1"].mean())
    assert "since seeds draw test rows of their own" in table.notes[0]
    add("tiny", "ncm", "wine")
    mixed = "since all seeds share the test rows, but for digits, where seeds draw test rows of their own"
    assert mixed in build_table(read_folders([tmp_path])).notes[0]


def test_the_table_does_not_depend_on_the_order_of_folders(board: Path, tmp_path: Path) -> None:
    moved = tmp_path / "second"
    moved.mkdir()
    for i, run in enumerate(sorted(board.iterdir())):
        if i % 2 and run.is_dir():
            run.rename(moved / f"z{100 - i}")
    one = build_table(read_folders([board, moved]))
    two = build_table(read_folders([moved, board]))
    assert one.cells.equals(two.cells)
    assert one.ranking.equals(two.ranking)


def test_columns_stand_in_the_order_of_their_numbers(add: Add, tmp_path: Path) -> None:
    for shots in (20, 5, 100, 1):
        add("tiny", "ncm", protocol="few_shot", protocol_parameters={"shots": shots})
    table = build_table(read_folders([tmp_path]), columns=("dataset", "protocol.shots"))
    assert table.column_names == ["digits 1", "digits 5", "digits 20", "digits 100"]


def test_runs_that_skipped_other_rows_are_paired_by_row(add: Add, tmp_path: Path) -> None:
    """Both are right on every row but row 5, which the second could not read: they differ nowhere."""
    correct = np.arange(100) != 5
    for head, left_out in [("ncm", 7), ("linear", 8)]:
        rows = np.delete(np.arange(100), left_out)
        predictions = {k: v[rows] for k, v in draw_predictions(correct, 10, "key").items()}
        run = add("tiny", head, predictions=predictions)
        result = json.loads((run / "result.json").read_text())
        edit(
            run,
            dataset=result["dataset"] | {"test_rows": digest("all 100 rows")},
            skipped_rows={"train": 0, "test": 1},
            protocol=result["protocol"] | {"n_test": 100},
        )
    table = build_table(read_folders([tmp_path]))
    a, b = (table.scores[f"tiny {head}", "digits"] for head in ("ncm", "linear"))
    assert a.n_rows == 100
    assert np.abs(a.influences[0] - b.influences[0]).argsort()[-2:].tolist() in ([7, 8], [8, 7])
    assert "Skipped as unreadable: 2 rows in 2 runs." in table.notes


def test_what_is_not_among_the_rows_stands_under_the_table_once(add: Add, tmp_path: Path) -> None:
    for head in ("ncm", "linear"):
        edit(add("tiny", head), left_out=["digits: 3 rows of t.csv whose split is 'hidden'"])
    table = build_table(read_folders([tmp_path]))
    assert [n for n in table.notes if "among" in n] == [
        "Not among the rows of digits: 3 rows of t.csv whose split is 'hidden'."
    ]
