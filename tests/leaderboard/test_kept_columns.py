"""Pieces of columns that are kept: never another number than without them, and no more work than a new run asks for."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from run_folders import write_run

from probe.leaderboard import kept_columns, kept_table, ranks
from probe.leaderboard.kept_columns import KEPT
from probe.leaderboard.reading import read_run
from probe.leaderboard.records import Read, Records
from probe.leaderboard.row_scores import RowScores
from probe.leaderboard.table import Table, build_table

N_TEST, N_COLUMNS = 60, 2


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The record of one run."""
    return read_run(write_run(tmp_path_factory.mktemp("one"), n_test=N_TEST))


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards are kept as large ones are."""
    monkeypatch.setattr(kept_table, "SECONDS", 0.0)


def run(one: dict, random: np.random.Generator, head: int, column: int, seed: int, skill: float) -> dict:
    right = skill + 0.5 * random.normal(size=N_TEST) > np.random.default_rng(column).normal(size=N_TEST)
    name = f"h{head}-d{column}-s{seed}-{random.integers(10**6)}"
    return one | {
        "head": f"h{head}", "dataset": f"d{column}", "dataset.fingerprint": f"d{column}", "seed": seed, "name": name,
        "digest": name, "correct": np.packbits(right).tobytes(), "metric.top1": float(right.mean()), "folder": name,
    }  # fmt: skip


def board(one: dict, random: np.random.Generator) -> list[dict]:
    """Equal systems, systems right everywhere, one seed and several, missing cells."""
    runs = []
    for head in range(7):
        skill = float(random.choice([0.0, 0.5, 0.55, 1.0, 9.0]))
        n_seeds = int(random.integers(1, 4))
        for column in range(N_COLUMNS):
            if random.random() < 0.9:
                runs += [run(one, random, head, column, seed, skill) for seed in range(n_seeds)]
    first = [r for r in runs if r["head"] == "h0"]
    return runs + [r | {"head": "twin", "name": r["name"] + "t", "digest": r["digest"] + "t"} for r in first]


def table(runs: list[dict], folder: Path | None) -> Table:
    frame = pd.DataFrame(runs).sort_values(["name", "digest"], ignore_index=True)
    read = None if folder is None else Read(folder, "".join(frame["digest"]), frame)
    return build_table(Records(frame, read=read))


def equal(a: Table, b: Table) -> bool:
    pd.testing.assert_frame_equal(a.cells, b.cells, check_exact=True)
    pd.testing.assert_frame_equal(a.ranking, b.ranking, check_exact=True)
    return a.notes == b.notes


@pytest.mark.parametrize("seed", range(3))
def test_a_table_over_kept_columns_is_that_made_anew_digit_by_digit(one: dict, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    runs = board(one, random)
    steps = [
        lambda: runs,
        lambda: [*runs[1:], runs[0] | {"correct": bytes(reversed(runs[0]["correct"])), "digest": "again"}],
        lambda: [*runs, run(one, random, 3, 1, 7, 0.5)],
        lambda: [*runs, run(one, random, 20, 0, 0, 0.5)],
        lambda: [*runs, *(run(one, random, 20, column, 0, 0.5) for column in range(1, N_COLUMNS))],
        lambda: [r for r in runs if r["dataset"] != "d1"],
        lambda: [r for r in runs if r["head"] not in ("h1", "h2")],
    ]
    for step in steps:
        runs = step()
        assert equal(table(runs, tmp_path), table(runs, None))


def test_a_new_run_reads_its_column_alone(one: dict, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    runs = [run(one, random, head, column, 0, head / 9) for head in range(9) for column in range(N_COLUMNS)]
    table(runs, tmp_path)
    with mock.patch.object(RowScores, "_read", autospec=True, side_effect=RowScores._read) as reading:
        found = table([*runs, run(one, random, 3, 1, 7, 0.5)], tmp_path)
    assert reading.call_count == 1
    assert len(found.column("d0")) == 9  # read once somebody asks


@pytest.mark.parametrize("head", [-1, 20])
def test_a_new_row_draws_the_columns_that_it_stands_in_alone(one: dict, head: int, tmp_path: Path) -> None:
    """Whether its name comes first or last, and also where it joins one column after another."""
    random = np.random.default_rng(0)
    runs = [run(one, random, h, column, seed, h / 9) for h in range(9) for column in range(3) for seed in range(2)]
    table(runs, tmp_path)
    for column in (1, 0):
        runs = [*runs, run(one, random, head, column, 0, 0.5)]
        with mock.patch.object(ranks, "resample", wraps=ranks.resample) as drawn:
            found = table(runs, tmp_path)
        assert drawn.call_count == 1
        assert equal(found, table(runs, None))


@pytest.mark.parametrize(("band", "n_tested"), [(0.0, 2), (3.0, 1)])
def test_pairs_near_the_level_are_decided_again_when_it_moves(
    one: dict, band: float, n_tested: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another column with leads of its own moves the level that holds for all: by tails that were kept, or anew."""
    random = np.random.default_rng(5)
    runs = [run(one, random, head, 0, seed, head / 30) for head in range(30) for seed in range(2)]
    alike = [runs[0] | {"dataset": "d1", "dataset.fingerprint": "d1", "head": r["head"], "seed": r["seed"],
                        "name": f"{r['name']}d1", "digest": f"{r['name']}d1"} for r in runs]  # fmt: skip
    other = [run(one, random, head, 1, 0, 0.5) for head in range(30)]
    monkeypatch.setattr(ranks, "BAND", band)
    assert equal(table([*runs, *alike], tmp_path), table([*runs, *alike], None))
    with mock.patch.object(ranks, "PairTests", wraps=ranks.PairTests) as tests:
        found = table([*runs, *other], tmp_path)
    assert tests.call_count == n_tested
    assert equal(found, table([*runs, *other], None))


@pytest.mark.parametrize("harm", ["empty", "short", "turned", "of another board"])
def test_a_file_that_is_not_as_it_was_written_holds_nothing(one: dict, harm: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    runs, others = board(one, random), board(one, random)
    table(runs, tmp_path)
    content = (tmp_path / KEPT).read_bytes()
    changed = bytearray(content)
    changed[-5] ^= 64
    (tmp_path / "other").mkdir()
    table(others, tmp_path / "other")
    harmed = {"empty": b"", "short": content[:-1], "turned": bytes(changed),
              "of another board": (tmp_path / "other" / KEPT).read_bytes()}  # fmt: skip
    (tmp_path / KEPT).write_bytes(harmed[harm])
    (tmp_path / kept_table.KEPT).unlink()
    assert equal(table(runs, tmp_path), table(runs, None))
    assert (tmp_path / KEPT).read_bytes() == content


def test_other_code_finds_no_pieces(one: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = board(one, np.random.default_rng(2))
    table(runs, tmp_path)
    monkeypatch.setattr(kept_table, "code", lambda: "edited")
    with mock.patch.object(ranks, "PairTests", wraps=ranks.PairTests) as tests:
        table(runs, tmp_path)
    assert tests.called


def test_runs_that_test_other_rows_are_not_kept(one: dict, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    runs = [run(one, random, head, 0, 0, 0.5) for head in range(3)]
    frame = pd.DataFrame([runs[0] | {"skipped": 1}, *runs[1:]]).assign(row=["a", "b", "c"], column="d")
    metric = build_table(Records(pd.DataFrame(runs))).measure
    assert RowScores(frame, metric).digest("d", ["a", "b", "c"]) == ""
    assert RowScores(frame, metric).digest("d", ["b", "c"]) == ""  # their rows lie among those of the other
    assert not RowScores(frame[:0], metric)  # and there may be none at all
    frame = frame.assign(skipped=0)
    assert RowScores(frame, metric).digest("d", ["b", "c"]) != RowScores(frame, metric).digest("d", ["c", "b"]) != ""


def test_a_folder_that_cannot_be_written_to_keeps_nothing(one: dict, tmp_path: Path) -> None:
    runs = board(one, np.random.default_rng(4))
    with mock.patch.object(kept_columns, "write_file", side_effect=PermissionError):
        assert equal(table(runs, tmp_path), table(runs, None))
    assert not (tmp_path / KEPT).exists()
