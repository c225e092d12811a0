from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probe.leaderboard.command import main, write_sweep_table

SIZES = (20, 50, 100, 200, 500, 1000)
EARLY = (0.80, 0.84, 0.85, 0.85, 0.85, 0.85)
LATE = (0.40, 0.60, 0.75, 0.90, 0.95, 0.95)
N_TEST = 1000


def correct(share: float, seed: int) -> np.ndarray:
    """Exactly this share of the test rows is right, which ones depends on the seed."""
    return np.roll(np.arange(N_TEST) < round(share * N_TEST), 37 * seed)


@pytest.fixture
def write(tmp_path: Path, add: Callable[..., Path]) -> Callable[..., Path]:
    def write(head: str, accuracies: tuple[float, ...], seeds: int = 3, **changes: object) -> Path:
        """One run per size and seed; a fifth of the rows validates."""
        for n, share in zip(SIZES, accuracies, strict=False):
            for seed in range(seeds):
                add(
                    "tiny", head, "digits", seed, correct=correct(share, seed), protocol="rows",
                    protocol_parameters={"n": n}, n_train=n * 4 // 5, n_validation=n // 5, **changes,
                )  # fmt: skip
        return tmp_path / "runs"

    return write


def lines(text: str, *words: str) -> list[list[str]]:
    """Lines that begin with these words, split."""
    return [line.split() for line in text.splitlines() if line.split()[: len(words)] == list(words)]


@pytest.fixture
def shown(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> str:
    write("early", EARLY)
    assert main([str(write("late", LATE)), "--curves"]) == 0
    return capsys.readouterr().out


def test_rows_needed_and_crossing_are_those_of_the_curves(shown: str) -> None:
    early, late = lines(shown, "tiny", "early")[0], lines(shown, "tiny", "late")[0]
    assert early[2:] == ["6", "from", "20", "to", "1000", "3", "85.0", "at", "100", "50", "[50,", "50]"]
    # From 0.90 at 200 to 0.95 at 500, the level 0.94 lies four fifths of the way on a log scale.
    needed = round(np.exp(0.2 * np.log(200) + 0.8 * np.log(500)))
    assert late[-3:] == [str(needed), f"[{needed},", f"{needed}]"]
    crossed = round(np.exp(np.log(100) + np.log(2) * 0.10 / 0.15))
    assert lines(shown, "tiny", "early", "tiny", "late")[0][4:] == [
        "up", "to", str(crossed), f"[{crossed},", f"{crossed}]"
    ]  # fmt: skip
    assert "digits, rows" in shown


def test_lower_loss_is_the_better_one(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    write("early", EARLY)
    assert main([str(write("late", LATE)), "--curves", "--metric", "log_loss"]) == 0
    shown = capsys.readouterr().out
    assert lines(shown, "tiny", "early", "tiny", "late")
    assert "rows to within 0.010 of it" in shown


def test_one_head_all_along_has_no_crossing(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    write("worse", tuple(share - 0.1 for share in EARLY))
    assert main([str(write("better", EARLY)), "--curves"]) == 0
    assert lines(capsys.readouterr().out, "tiny", "better", "tiny", "worse")[0][4:] == ["at", "all", "sizes"]


def test_one_seed_leaves_the_interval_open(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    write("early", EARLY, seeds=1)
    assert main([str(write("late", LATE, seeds=1)), "--curves"]) == 0
    assert lines(capsys.readouterr().out, "tiny", "early", "tiny", "late")[0][-2:] == ["[<20,", ">1000]"]


def test_pairs_are_compared_at_common_sizes_and_seeds(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write("early", EARLY[:4], seeds=2)
    assert main([str(write("late", LATE)), "--curves"]) == 0
    shown = capsys.readouterr().out
    assert lines(shown, "tiny", "early")[0][2:7] == ["4", "from", "20", "to", "200"]
    assert lines(shown, "tiny", "early", "tiny", "late")[0][4:6] == ["up", "to"]


def test_a_sweep_over_sizes_ends_with_its_curves(write: Callable[..., Path]) -> None:
    assert "Learning curves" in write_sweep_table(write("late", LATE))


def test_a_sweep_over_one_size_ends_with_its_table(board: Path) -> None:
    assert "Learning curves" not in write_sweep_table(board)


def test_figure_shows_accuracy_and_error(write: Callable[..., Path], tmp_path: Path) -> None:
    write("early", EARLY)
    assert main([str(write("late", LATE)), "--curves", "--plots", str(tmp_path / "plots")]) == 0
    drawn = (tmp_path / "plots" / "curves-top1.svg").read_text()
    assert "training rows, validation included" in drawn
    assert "100 - top1, %" in drawn


def test_runs_of_one_size_make_no_curve(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(board), "--curves"]) == 1
    assert "no row has 3 sizes of the training set or more" in capsys.readouterr().err


def test_two_columns_of_one_size_are_refused(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    write("late", LATE)
    root = write("late", LATE[:1], config={"protocol": {"n": 20, "stratified": True}})
    folders = [str(root), "--curves", "--columns", "dataset,protocol.n,protocol.stratified"]
    assert main(folders) == 1
    assert "tiny late has several columns with 20 training rows on digits, rows" in capsys.readouterr().err


def test_sizes_without_a_common_seed_are_refused(
    write: Callable[..., Path], add: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = write("late", LATE, seeds=1)
    add("tiny", "late", "digits", 5, protocol="rows", protocol_parameters={"n": 2000}, n_train=1600, n_validation=400,
        n_test=N_TEST)  # fmt: skip
    assert main([str(root), "--curves"]) == 1
    assert "tiny late on digits, rows has no seed that all sizes share: run what is missing" in capsys.readouterr().err
