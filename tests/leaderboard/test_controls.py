"""Rows against their controls: which belongs to which, the mark in every table, and how often it is there."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from places import ROOT
from run_folders import write_run

from probe.leaderboard import export, files
from probe.leaderboard.board import read_board
from probe.leaderboard.controls import above, controls_of
from probe.leaderboard.index import read_folders
from probe.leaderboard.latex import SIGNS, latex
from probe.leaderboard.page import page_data
from probe.leaderboard.screen import terminal
from probe.leaderboard.statistics import scores

KINDS = ["majority", "raw input", "random weights", "shuffled labels"]


def control(kind: str, head: str = "h", architecture: str = "a", backbone: str = "b") -> dict[str, str]:
    return {"kind": kind, "head": head, "architecture": architecture, "backbone": backbone}


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., Path]:
    """One run of a row, three in four of whose test rows are right unless said otherwise."""

    def write(backbone: str, head: str, told: dict[str, str], right: float = 0.75, seed: int = 0, **more: Any) -> Path:
        n = 400
        rng = np.random.default_rng([seed, *map(ord, backbone + head)])
        return write_run(tmp_path / "runs", backbone, head, seed=seed, n_test=n, correct=rng.random(n) < right,
                         control=told, **more)  # fmt: skip

    return write


def cells(folder: Path) -> pd.DataFrame:
    return read_board([folder]).table.cells.set_index("row")


def test_a_row_is_held_against_its_own_controls_and_no_others(add: Callable[..., Path], tmp_path: Path) -> None:
    for backbone, head, facts in [
        ("tiny", "ncm", control("", "ncm", "tiny", "tiny")),
        ("tiny", "lda", control("", "lda", "tiny", "tiny")),
        ("timm", "ncm", control("", "ncm", "timm", "timm")),
        ("raw", "majority", control("majority", "m", "raw", "raw")),
        ("raw", "ncm", control("raw input", "ncm", "raw", "raw")),
        ("tiny-random", "ncm", control("random weights", "ncm", "tiny", "random")),
        ("timm", "ncm (shuffled labels)", control("shuffled labels", "ncm", "timm", "timm")),
    ]:
        add(backbone, head, facts)
    frame = read_folders([tmp_path / "runs"]).frame
    frame = frame.assign(row=frame["backbone"] + " " + frame["head"])
    found = {kind: sorted(pairs) for kind, pairs in controls_of(frame).items()}
    assert found == {
        "majority": [(row, "raw majority") for row in ("timm ncm", "tiny lda", "tiny ncm")],
        "raw input": [(row, "raw ncm") for row in ("timm ncm", "tiny ncm")],
        "random weights": [("tiny ncm", "tiny-random ncm")],
        "shuffled labels": [("timm ncm", "timm ncm (shuffled labels)")],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_is_not_better_than_its_control_is_marked(
    kind: str, add: Callable[..., Path], tmp_path: Path
) -> None:
    for seed in range(3):
        add("tiny", "good", control("", "good"), 0.95, seed)
        add("tiny", "poor", control("", "poor"), 0.7, seed)
        for head in ("good", "poor") if kind != "majority" else ("any",):
            add("control", head, control(kind, head), 0.7, seed)
    found = cells(tmp_path / "runs")["not_above"]
    assert found["tiny good"] == ""
    assert found["tiny poor"] == kind
    assert not found.drop("tiny poor").any()


def test_a_row_below_its_control_is_marked_too_and_a_lower_metric_turns_the_side(
    add: Callable[..., Path], tmp_path: Path
) -> None:
    add("tiny", "h", control("", "h"), 0.5)
    add("raw", "h", control("raw input", "h"), 0.9)
    assert cells(tmp_path / "runs")["not_above"]["tiny h"] == "raw input"
    table = read_board([tmp_path / "runs"], "log_loss").table
    assert table.cells.set_index("row")["not_above"]["tiny h"] == "raw input"


def test_the_mark_is_in_every_table(add: Callable[..., Path], tmp_path: Path) -> None:
    add("tiny", "h", control("", "h"), 0.7)
    add("raw", "h", control("raw input", "h"), 0.7)
    add("tiny", "better", control("", "better"), 0.99)
    add("raw", "better", control("raw input", "better"), 0.7)
    board = read_board([tmp_path / "runs"])
    table = board.table
    word = "Not distinguishable from a control of its own, or below it"
    for text in (
        terminal(table, 300),
        export.markdown(table),
        latex(table).replace(SIGNS["not_above"], "‡"),
        board._repr_html_(),
    ):
        marked = [line for line in text.replace("<tr>", "\n").splitlines() if "‡" in line and word not in line]
        assert len(marked) == 1
        assert word in text
        assert "tiny h (raw input)" in text
    files.export(table, "csv", tmp_path / "t.csv")
    for told in (pd.read_csv(tmp_path / "t.csv"), pd.DataFrame(json.loads(export.as_json(table))["cells"])):
        by_row = told.set_index(["backbone", "head"])["not_above"]
        assert by_row["tiny", "h"] == "raw input"
        assert not isinstance(by_row["tiny", "better"], str) or by_row["tiny", "better"] == ""
    data = page_data(table, read_folders([tmp_path / "runs"]).frame)
    shown = {tuple(data["rows"][line["row"]]["fields"]): line["cells"][0] for line in data["views"][0]["lines"]}
    assert shown["tiny", "h"]["not_above"] == "raw input"
    assert "not_above" not in shown["tiny", "better"]
    assert "‡" in (ROOT / "probe/leaderboard/web/table.js").read_text()


def test_selectivity_is_the_value_less_that_with_shuffled_labels(add: Callable[..., Path], tmp_path: Path) -> None:
    for seed in range(2):
        add("tiny", "h", control("", "h"), 0.9, seed)
        add("tiny", "h (shuffled labels)", control("shuffled labels", "h"), 0.1, seed)
    found = cells(tmp_path / "runs")
    values = found["value"]
    assert found["selectivity"]["tiny h"] == pytest.approx(values["tiny h"] - values["tiny h (shuffled labels)"])
    assert np.isnan(found["selectivity"]["tiny h (shuffled labels)"])
    told = "\n".join(read_board([tmp_path / "runs"]).notes)
    points = f"{100 * found['selectivity']['tiny h']:.1f}"
    assert f"Selectivity, the value less that with shuffled training labels: tiny h ({points})" in told


def test_a_table_without_controls_says_nothing_of_them(board: Path) -> None:
    found = read_board([board])
    assert not found.table.cells["not_above"].any()
    assert "‡" not in str(found)
    assert not any("ontrol" in note for note in found.notes)


def test_rows_that_mix_what_they_would_be_held_against_have_no_control(
    add: Callable[..., Path], tmp_path: Path
) -> None:
    add("tiny", "h", control("", "h", backbone="one"), 0.7, 0)
    add("other", "h", control("", "h", backbone="two"), 0.7, 1)
    add("raw", "m", control("majority", "m"), 0.7)
    add("tiny", "s", control("shuffled labels", "h", backbone="one"), 0.7)
    frame = read_folders([tmp_path / "runs"]).frame.assign(row=lambda runs: runs["head"])
    assert controls_of(frame) == {"majority": [("h", "m")]}


def test_a_row_that_equals_its_control_is_not_above_it() -> None:
    same = scores([np.arange(100) % 2 == 0] * 2, None, [0, 1], 100)
    assert not above([same, same], {"": [(0, 1)]}, True)[""][0]


def test_a_certain_lead_is_seen_in_both_directions() -> None:
    rng = np.random.default_rng(0)
    good, poor = (scores(list((rng.random((3, 400)) < p).astype(float)), None, range(3), 400) for p in (0.9, 0.5))
    assert above([good, poor], {"": [(0, 1), (1, 0)]}, True)[""].tolist() == [True, False]
    assert above([good, poor], {"": [(0, 1), (1, 0)]}, False)[""].tolist() == [False, True]


def simulation() -> Any:
    spec = importlib.util.spec_from_file_location("controls_benchmark", ROOT / "benchmarks" / "controls.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in simulation().SETTINGS if name.startswith(("1 rows, 3", "3 "))])
def test_where_features_carry_nothing_the_mark_is_missing_on_3_to_7_boards_of_100(name: str) -> None:
    module = simulation()
    shares = module.without_mark(module.SETTINGS[name], 500)
    assert 0.03 <= np.mean([shares[kind] for kind in KINDS]) <= 0.07, shares
    assert all(0.02 <= shares[kind] <= 0.07 for kind in KINDS), shares  # 500 boards know each to 0.019
    assert shares["all four"] <= 0.07


def test_a_few_simulated_boards_keep_the_mark() -> None:
    module = simulation()
    shares = module.without_mark(module.SETTINGS["3 rows, 5 seeds, 2 classes, 200 test rows, shared 0.0"], 10)
    assert max(shares.values()) <= 0.3
