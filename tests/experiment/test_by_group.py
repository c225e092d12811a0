"""Errors by group of runs on numbers."""

import json

import numpy as np
import pytest
from number_runs import in_process

from probe.datasets import csv
from probe.experiment.by_group import MOST_GROUPS, by_group
from probe.metrics.shared.scores.number import read
from probe.protocols.holdout import Holdout
from probe.results.reader import read_predictions


def test_a_run_tells_the_error_of_each_group_of_its_test_rows(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["a,b,site,height"]
    for i in range(240):
        a, b = rng.normal(size=2)
        site = f"site {i % 12}"
        lines.append(f"{a},{b},{site},{a + rng.normal() * (5 if site == 'site 3' else 0.2)}")
    (tmp_path / "sites.csv").write_text("\n".join(lines) + "\n")
    data = csv.load(str(tmp_path / "sites.csv"), feature_columns=["a", "b"], target_columns=["height"],
                    group_column="site")  # fmt: skip
    told = in_process(tmp_path, tmp_path / "runs", dataset=data, protocol=Holdout())["by_group"]
    (folder,) = (path.parent for path in (tmp_path / "runs").glob("*/result.json"))
    kept = read_predictions(folder, json.loads((folder / "result.json").read_text()))
    sites = np.array([f"site {row % 12}" for row in kept["row"]])
    assert told["n_groups"] == len(told["of"]) == len(set(sites))
    for group in told["of"]:
        own = sites == group["name"]
        (mae,) = group["mae"]
        assert group["test_rows"] == own.sum() == 20
        assert mae["value"] == pytest.approx(np.abs(kept["label"] - kept["predicted"])[own].mean())
        assert mae["low"] < mae["value"] < mae["high"]


def test_rows_without_groups_have_no_errors_of_them(tmp_path):
    assert "by_group" not in in_process(tmp_path, tmp_path / "runs")


def test_a_record_tells_of_those_with_the_most_rows():
    names = np.append(np.arange(MOST_GROUPS + 50).astype(str), ["7", "9"])
    told = by_group(read(np.zeros(len(names)), np.arange(len(names))), names)
    assert told["n_groups"] == MOST_GROUPS + 50
    assert len(told["of"]) == MOST_GROUPS
    rows = {group["name"]: group["test_rows"] for group in told["of"]}
    assert rows["7"] == rows["9"] == 2
    assert all(("low" in group["mae"][0]) == (group["test_rows"] > 1) for group in told["of"])
    json.dumps(told, allow_nan=False)
