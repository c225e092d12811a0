"""Rank correlation over backbones of what measures features with what scores heads on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from probe.core.errors import InputError
from probe.leaderboard.command import main, write_sweep_table
from probe.leaderboard.correlation import rank_correlation

N_TEST = 100


@pytest.fixture
def measured(add: Callable[..., Path], tmp_path: Path) -> Path:
    """Five backbones, of which the measure knows the order but for one pair; alpha_req is best near 1."""
    for place, (rankme, alpha) in enumerate([(10.0, 3.0), (30.0, 2.0), (20.0, 1.5), (40.0, 0.9), (50.0, 1.0)]):
        for seed in range(2):
            add(f"net{place}", "linear", seed=seed, correct=np.arange(N_TEST) < 50 + 8 * place)
            told = {name: {"value": v, "low": v, "high": v} for name, v in (("rankme", rankme), ("alpha_req", alpha))}
            kept = {f"metric.{name}": np.full(N_TEST, v["value"], np.float32) for name, v in told.items()}
            labels = {"row": np.arange(N_TEST), "label": np.arange(N_TEST) % 10}
            add(f"net{place}", "unlabelled", seed=seed, predictions=labels | kept, metrics=told)
    return tmp_path / "runs"


def test_the_value_is_spearmans_with_ties() -> None:
    x, y = np.random.default_rng(0).integers(4, size=(2, 12)).astype(float)
    assert rank_correlation(x, y)[0] == pytest.approx(spearmanr(x, y).statistic)
    assert rank_correlation(-x, y)[0] == pytest.approx(-rank_correlation(x, y)[0])
    assert rank_correlation(np.exp(x), y) == rank_correlation(x, y)
    assert np.isnan(rank_correlation(np.ones(5), np.arange(5.0))).all()


def test_an_order_without_a_fault_is_not_certain_of_few_backbones() -> None:
    r, low, high = rank_correlation(np.arange(5.0), np.arange(5.0))
    assert (r, high) == (pytest.approx(1), 1)
    assert low < 0.5
    assert rank_correlation(np.arange(5.0), -np.arange(5.0)) == pytest.approx((-r, -high, -low))
    with pytest.raises(InputError, match="3 pairs have no interval of their rank correlation, expected at least 4"):
        rank_correlation(np.arange(3.0), np.arange(3.0))


@pytest.mark.parametrize(("rho", "n"), [(0.0, 6), (0.5, 8), (0.8, 12)])
def test_intervals_hold_the_correlation_of_all_backbones(rho: float, n: int) -> None:
    random = np.random.default_rng(n)
    x = random.normal(size=(600, n))
    y = 2 * np.sin(np.pi * rho / 6) * x + np.sqrt(1 - 4 * np.sin(np.pi * rho / 6) ** 2) * random.normal(size=x.shape)
    found = np.array([rank_correlation(a, b)[1:] for a, b in zip(x, y, strict=True)])
    held = ((found[:, 0] <= rho) & (rho <= found[:, 1])).mean()
    assert held > 0.92


def test_the_command_tells_what_measures_foretell(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(measured), "--correlate"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (rankme,) = [line for line in lines if line[:1] == ["rankme"] and "linear" in line]
    r, low, high = rank_correlation(np.array([10.0, 30, 20, 40, 50]), np.arange(5.0))
    assert rankme == ["rankme", "linear", "digits", "5", f"{r:.2f}", f"[{low:.2f},", f"{high:.2f}]"]
    (alpha,) = [line for line in lines if line[:1] == ["alpha_req"] and "linear" in line]
    assert alpha[4] == "1.00"  # by the distance from 1, the nearer the better
    assert main([str(measured), "--correlate", "rankme"]) == 0
    assert "alpha_req" not in capsys.readouterr().out


def test_a_sweep_with_measures_ends_with_what_they_foretell(measured: Path) -> None:
    assert "What measures of features foretell of top1" in write_sweep_table(measured)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--correlate", "lidar"],
            "no run has the measure lidar, expected some of rankme, alpha_req: make runs with head=",
        ),
        (
            ["--correlate", "--rows", "head", "--where", "backbone=net1"],
            "rows are head, a rank correlation is one over b",
        ),
        (
            ["--correlate", "--where", "backbone=net1,net2,net3"],
            "no column has 4 backbones with top1 and with a measure",
        ),
    ],
)
def test_too_few_backbones_and_unknown_measures_are_said(
    options: list[str], text: str, measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(measured), *options]) == 1
    assert text in capsys.readouterr().err
