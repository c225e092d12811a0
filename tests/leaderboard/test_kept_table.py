from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
from run_folders import write_run

from probe.core import files
from probe.leaderboard import kept_table, table
from probe.leaderboard.index import read_folders
from probe.leaderboard.kept_table import KEPT
from probe.leaderboard.records import Records
from probe.leaderboard.table import Table, build_table


@pytest.fixture
def large(board: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A board at rest with a kept table, as one of many runs would have."""
    monkeypatch.setattr(files, "RACY_NS", -(10**12))
    monkeypatch.setattr(kept_table, "SECONDS", 0.0)
    build_table(read_folders([board]))
    assert (board / KEPT).exists()
    return board


def made(root: Path, **asked: object) -> tuple[Table, bool]:
    """The table, and whether it was made anew."""
    with mock.patch.object(table, "_made", wraps=table._made) as making:
        found = build_table(read_folders([root]), **asked)
    return found, making.called


def equal(a: Table, b: Table) -> bool:
    pd.testing.assert_frame_equal(a.cells, b.cells)
    pd.testing.assert_frame_equal(a.ranking, b.ranking)
    assert (a.notes, a.column_names, a.rows, a.measure) == (b.notes, b.column_names, b.rows, b.measure)
    return True


def test_a_kept_table_is_the_one_that_would_be_made_digit_by_digit(large: Path) -> None:
    kept, was_made = made(large)
    assert not was_made
    (large / KEPT).unlink()
    again, was_made = made(large)
    assert was_made
    assert equal(kept, again)
    assert kept.scores.keys() == again.scores.keys()
    key = next(iter(again.scores))
    assert kept.scores[key].value == again.scores[key].value


def test_a_new_run_another_metric_and_other_columns_make_another_table(large: Path) -> None:
    assert made(large, metric="log_loss")[1]
    assert made(large, columns=("dataset", "protocol"))[1]
    build_table(read_folders([large]))
    assert not made(large)[1]
    write_run(large, "tiny", "late", "digits")
    assert made(large)[1]


def test_a_part_of_the_runs_has_no_kept_table(large: Path) -> None:
    records = read_folders([large])
    part = Records(records.frame[records.frame["head"] == "ncm"], read=records.read)
    assert set(build_table(part).cells["head"]) == {"ncm"}


def test_other_code_makes_another_table(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_table, "code", lambda: "edited")
    assert made(large)[1]


@pytest.mark.parametrize("content", ["", "{}", '{"key": 1}', '{"cells', "\n", "\n{}"])
def test_a_damaged_file_is_made_anew(large: Path, content: str) -> None:
    whole = (large / KEPT).read_bytes()
    (large / KEPT).write_text(content)
    assert made(large)[1]
    assert (large / KEPT).read_bytes() == whole


def test_a_table_is_known_by_its_first_line_however_the_rest_is_spelled(large: Path) -> None:
    before, _ = made(large)
    head, _, told = (large / KEPT).read_bytes().partition(b"\n")
    key = head.decode().split()[0]
    spelled = json.dumps(json.loads(told), indent=1).encode()
    (large / KEPT).write_bytes(kept_table._head(key, spelled) + b"\n" + spelled)
    after, was_made = made(large)
    assert not was_made
    assert equal(before, after)


@pytest.mark.parametrize("harm", ["key", "one digit of the table", "short", "no first line", "key alone"])
def test_a_file_is_shown_only_as_it_was_saved(large: Path, harm: str) -> None:
    head, _, told = (large / KEPT).read_bytes().partition(b"\n")
    key = head.split()[0]
    harmed = {
        "key": head.replace(key, key[::-1]) + b"\n" + told,
        "one digit of the table": head + b"\n" + told.replace(b"0.9", b"0.8", 1),
        "short": (head + b"\n" + told)[:-1],
        "no first line": told,
        "key alone": key + b"\n" + told,
    }[harm]
    assert harmed != head + b"\n" + told
    (large / KEPT).write_bytes(harmed)
    assert made(large)[1]


def test_a_small_board_leaves_no_file(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RACY_NS", -(10**12))
    build_table(read_folders([board]))
    assert not (board / KEPT).exists()
