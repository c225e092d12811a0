"""Intervals of numbers to predict that a run makes from training rows."""

from pathlib import Path

import numpy as np
import pytest
from number_runs import in_process
from safetensors.numpy import load_file

from probe.core.errors import InputError
from probe.datasets import sklearn
from probe.heads.mean import TrainingMean
from probe.heads.quantile import QuantileRegression
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.head import Head
from probe.leaderboard.command import main
from probe.results.schema import CALIBRATED


def test_calibration_gives_intervals_that_hold_the_number_at_the_level(tmp_path: Path) -> None:
    found = in_process(tmp_path, tmp_path, calibrate=True, conformal_level=0.8)
    metrics, told = found["metrics"], found["calibration"]
    assert abs(metrics["interval_coverage"]["value"] - 0.8) < 0.12
    assert metrics["interval_width"]["value"] == pytest.approx(2 * told["margins"][0])
    assert metrics["interval_score"]["value"] > metrics["interval_width"]["value"]
    assert told["n_held_out"] > 30
    (made,) = tmp_path.glob("*-ridge-*")
    head = Head.load(made / CALIBRATED)
    X = np.stack([sklearn.load("diabetes").partitions["test"][i] for i in range(9)]).astype(np.float32)
    low, high = head.predict_interval(X)
    np.testing.assert_allclose(high - low, 2 * told["margins"][0])
    kept = load_file(made / "predictions.safetensors")
    where = [kept["row"].tolist().index(i) for i in range(9)]
    ends = kept["interval_low"][where], kept["interval_high"][where]
    np.testing.assert_allclose(ends, [low[:, 0], high[:, 0]], rtol=1e-5)
    with pytest.raises(InputError, match="this RidgeNumbers is not calibrated: make the run with calibrate=true"):
        Head.load(made / "head.safetensors").predict_interval(X)
    assert main([str(tmp_path), "--metric", "interval_coverage"]) == 0


def test_calibration_of_ridge_gives_jackknife_intervals_of_the_head_that_predicts(tmp_path: Path) -> None:
    found = in_process(tmp_path, tmp_path / "alone", calibrate=True)["metrics"]
    assert abs(found["jackknife_coverage"]["value"] - 0.9) < 0.1
    assert found["jackknife_score"]["value"] > found["jackknife_width"]["value"] > 0
    other = in_process(tmp_path, tmp_path / "other", calibrate=True, head=TrainingMean())
    assert "jackknife_width" not in other["metrics"]
    data = sklearn.load("diabetes")
    for partition in data.partitions.values():
        partition.groups = np.arange(len(partition)) // 2  # type: ignore[attr-defined]
    grouped = in_process(tmp_path, tmp_path / "grouped", dataset=data, calibrate=True)
    assert "interval_width" in grouped["metrics"]
    assert "jackknife_width" not in grouped["metrics"]


def test_intervals_of_half_the_numbers_give_any_head_the_measures_of_tadpole(tmp_path: Path) -> None:
    found = in_process(tmp_path, tmp_path, calibrate=True, conformal_level=0.5)["metrics"]
    share = found["interval_coverage"]["value"]
    assert found["CPA"]["value"] == pytest.approx(abs(share - 0.5))
    assert found["WES"]["value"] == pytest.approx(found["mae"]["value"], rel=0.1)


def test_quantiles_are_scored_and_widen_intervals_where_numbers_scatter(tmp_path: Path) -> None:
    heads = {"ridge": RidgeProbe([1.0]), "quantile": QuantileRegression(alphas=[0.01])}
    for name, head in heads.items():
        found = in_process(tmp_path, tmp_path, head=head, calibrate=True)
        assert ("pinball" in found["metrics"]) == (name == "quantile")
        assert ({"WES", "CPA"} <= set(found["metrics"])) == (name == "quantile")
        assert abs(found["metrics"]["interval_coverage"]["value"] - 0.9) < 0.1
        (made,) = tmp_path.glob(f"*-{name}-*")
        kept = load_file(made / "predictions.safetensors")
        assert (np.ptp(kept["metric.interval_width"]) > 1e-3) == (name == "quantile")
