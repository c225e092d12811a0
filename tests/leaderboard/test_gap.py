from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probe.leaderboard.command import main, write_sweep_table

N_TEST = 1000


@pytest.fixture
def write(tmp_path: Path, add: Callable[..., Path]) -> Callable[..., Path]:
    def write(head: str, train: str, share: float, test: str = "hard") -> Path:
        """Three seeds with exactly this share of the test rows right; ten classes of equal size."""
        for seed in range(3):
            correct = np.roll(np.arange(N_TEST) < round(share * N_TEST), 37 * seed)
            parameters = {"hardness": "runs/hardness", "train": train, "test": test}
            add("tiny", head, "digits", seed, correct=correct, protocol="easy_to_hard", protocol_parameters=parameters)
        return tmp_path / "runs"

    return write


def test_recovered_share_is_that_of_the_accuracies(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write("linear", "easy", 0.7)
    write("linear", "all", 0.2)
    write("linear", "easy", 0.99, test="easy")
    assert main([str(write("linear", "hard", 0.9)), "--gap"]) == 0
    (line,) = (line.split() for line in capsys.readouterr().out.splitlines() if "tiny linear" in line)
    assert line[:7] == ["tiny", "linear", "digits", "70.0", "90.0", "10.0", "75"]


def test_hard_rows_that_teach_nothing_leave_it_undefined(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write("linear", "easy", 0.7)
    assert main([str(write("linear", "hard", 0.05)), "--gap"]) == 0
    assert "undefined" in capsys.readouterr().out


def test_a_sweep_over_easy_and_hard_rows_ends_with_it(write: Callable[..., Path]) -> None:
    write("linear", "easy", 0.7)
    assert "Supervision gap recovered" in write_sweep_table(write("linear", "hard", 0.9))


def test_other_runs_have_no_gap(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(board), "--gap"]) == 1
    assert "no row was trained on easy and on hard rows" in capsys.readouterr().err
