from __future__ import annotations

import base64
import itertools
from pathlib import Path

import numpy as np
import pytest
from run_folders import write_run

from probe.leaderboard.index import read_folders
from probe.leaderboard.pairs import compare
from probe.leaderboard.pairwise import differences, packed
from probe.leaderboard.table import Table, build_table
from probe.results.reader import read_predictions


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Five rows; one lacks a seed that the others have, one has none in common with any."""
    root = tmp_path_factory.mktemp("runs")
    for place, head in enumerate(["a", "b", "c", "d", "e"]):
        for seed in {"d": (0, 1), "e": (7, 8)}.get(head, (0, 1, 2)):
            write_run(root, "tiny", head, "digits", seed, skill=0.3 * place)
    return build_table(read_folders([root]))


def test_differences_of_all_pairs_are_those_of_each_comparison(table: Table) -> None:
    rows = table.ranking["row"].tolist()
    found = differences(table, "digits", rows, {row: place for place, row in enumerate(rows)})
    assert found["rows"] == [0, 1, 2, 3, 4]
    column = table.column("digits")
    for k, (a, b) in enumerate(itertools.combinations(rows, 2)):
        ours, theirs = table.scores[a, "digits"], table.scores[b, "digits"]
        if "tiny e" in (a, b):
            assert (found["half"][k], found["p"][k]) == (None, None)
            continue
        told = compare(ours, theirs, column, binary=False)
        assert found["half"][k] == pytest.approx((told.high - told.low) / 2, rel=5e-3)
        assert found["p"][k] == pytest.approx(told.p, rel=0.06, abs=1e-12)
        if ours.seeds == theirs.seeds:
            assert k not in found["value"]
            assert told.value == pytest.approx(ours.value - theirs.value)
        else:
            assert found["value"][k] == [pytest.approx(told.value, rel=1e-3), told.n_seeds]


def test_a_column_of_one_row_has_no_pairs(table: Table) -> None:
    assert differences(table, "digits", ["tiny a"], {"tiny a": 0})["rows"] == []


def test_bits_say_which_rows_a_run_was_right_on(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", "ncm", "digits", n_test=37)
    frame = read_folders([tmp_path]).frame
    (name,) = frame["name"]
    found = packed(frame, [name])
    test, text = found["bits"][name]
    saved = read_predictions(frame["folder"].iloc[0])
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=37)
    assert (bits == (saved["label"] == saved["predicted"])).all()
    assert found["tests"] == {test: 37}


def test_bits_that_do_not_fit_are_those_of_the_last_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for head in "abc":
        write_run(tmp_path, "tiny", head, "digits", n_test=80)
    frame = read_folders([tmp_path]).frame
    monkeypatch.setattr("probe.leaderboard.pairwise.MAX_BYTES", 40)
    assert list(packed(frame, frame["name"].tolist())["bits"]) == frame["name"].tolist()[:2]
