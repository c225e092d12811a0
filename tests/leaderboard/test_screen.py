from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from run_folders import write_run

from probe.leaderboard.comparison import compare_rows, text
from probe.leaderboard.export import wide
from probe.leaderboard.index import read_folders
from probe.leaderboard.screen import Layout, broken, tables, terminal
from probe.leaderboard.table import Table, build_table

WIDTHS = [40, 80, 100, 120]


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory) -> Table:
    root = tmp_path_factory.mktemp("runs")
    for i, backbone in enumerate(["vit_small_patch16_224.dino", "efficientnet-lite0", "tiny"]):
        for head in ("moment_probing", "linear"):
            for dataset in ("digits", "breast_cancer", "oxford_iiit_pets_of_another_size"):
                write_run(root, backbone, head, dataset, skill=0.4 * i)
    return build_table(read_folders([root]))


def cells(table: Table) -> list[str]:
    lines, _ = wide(table)
    return [str(cell) for name in table.column_names for cell in lines[name]]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_keeps_to_the_width_and_breaks_no_number(width: int, long_names: Table) -> None:
    shown = terminal(long_names, width)
    assert max(map(len, shown.splitlines())) <= width
    for cell in cells(long_names):
        assert any(line.rstrip().endswith(cell) or f"{cell} " in line for line in shown.splitlines()), cell


@pytest.mark.parametrize("width", WIDTHS)
def test_every_name_is_there_at_every_width(width: int, long_names: Table) -> None:
    shown = re.sub(r"\s", "", terminal(long_names, width))
    for name in ("vit_small_patch16", "efficientnet-lite0", "moment_probing", "linear", "breast_cancer"):
        assert name in shown or all(piece in shown for piece in re.split(r"[-_ ]", name)), name


def test_with_room_the_ranks_have_their_intervals(long_names: Table) -> None:
    assert "[1, " in terminal(long_names, 160)
    assert "[1, " not in terminal(long_names, 66)


def test_what_all_rows_share_is_said_once_where_room_is_short(add: Callable[..., Path], tmp_path: Path) -> None:
    for head in ("linear_of_a_long_name", "moment_probing"):
        add("a_backbone_of_a_long_name", head)
    table = build_table(read_folders([tmp_path]))
    assert terminal(table, 120).count("a_backbone_of_a_long_name") == 2
    assert "All rows: backbone a_backbone_of_a_long_name" in terminal(table, 60)
    assert terminal(table, 60).count("a_backbone_of_a_long_name") == 1


def test_less_than_a_cell_leaves_values_without_intervals(long_names: Table) -> None:
    shown = terminal(long_names, 24)
    assert "Without" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 24


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_leaves_tests_out_before_it_breaks(width: int, long_names: Table) -> None:
    shown = text(compare_rows(long_names, "tiny linear", "tiny moment_probing"), width)
    assert max(map(len, shown.splitlines())) <= width
    assert "A - B" in shown
    assert ("permut." in shown) == (width == 120)


def test_the_width_is_that_of_the_terminal(long_names: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert 50 < max(map(len, terminal(long_names).splitlines())) <= 60


@pytest.mark.parametrize(
    ("name", "room", "lines"),
    [
        ("tiny", 4, ["tiny"]),
        ("moment_probing", 8, ["moment_", "probing"]),
        ("a b c", 3, ["a b", "c"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("試試試", 4, ["試試", "試"]),
    ],
)
def test_names_are_broken_behind_signs(name: str, room: int, lines: list[str]) -> None:
    assert broken(name, room).splitlines() == lines


def test_columns_that_do_not_fit_follow_below() -> None:
    lines = pd.DataFrame([["row", *["12.3"] * 20]], columns=["", *map(str, range(20))])
    assert len([part for part in tables([Layout(lines, 1)], 40) if part != ""]) == 4
