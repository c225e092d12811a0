from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probe.leaderboard.advice import advise
from probe.leaderboard.command import write_sweep_table
from probe.leaderboard.statistics import Scores, scores


def drawn(moves: np.ndarray, n_rows: int, seed: int = 0) -> list[Scores]:
    rng = np.random.default_rng(seed)
    right = rng.uniform(size=(*moves.shape, n_rows)) < 0.8 + moves[:, :, None]
    return [scores(list(system.astype(float)), None, range(len(system)), n_rows) for system in right]


def test_the_seeds_advised_give_the_half_width() -> None:
    rng = np.random.default_rng(0)
    found = advise(drawn(rng.normal(0, 0.03, (40, 3)), 2000), 0.015)
    assert found is not None
    assert found.n_seeds is not None
    assert found.now > 0.015
    then = advise(drawn(rng.normal(0, 0.03, (40, found.n_seeds)), 2000), 0.015)
    assert then is not None
    assert then.now == pytest.approx(0.015, rel=0.3)


def test_rows_that_are_too_few_are_told() -> None:
    row = np.random.default_rng(0).uniform(size=100) < 0.8
    values = np.repeat(row[None].astype(float), 3, axis=0)
    values[1, 0] = 1 - values[1, 0]
    found = advise([scores(list(values), None, range(3), 100)], 0.01)
    assert found is not None
    assert found.n_seeds is None
    assert found.least > 0.05


def test_one_seed_gives_no_advice() -> None:
    assert advise(drawn(np.zeros((3, 1)), 100), 0.01) is None


def test_a_sweep_ends_with_the_seeds_for_a_point(board: Path) -> None:
    told = write_sweep_table(board)
    assert "digits: a cell is known to ± " in told
    assert "seeds give 1.0" in told or "below it only more test rows" in told
