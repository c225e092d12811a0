"""Which metrics a table can be ranked by, and from which values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import draw_predictions

from probe.core.errors import InputError
from probe.leaderboard.command import arrange, main
from probe.leaderboard.comparison import compare_rows, sentences
from probe.leaderboard.export import title
from probe.leaderboard.index import read_folders
from probe.leaderboard.table import build_table
from probe.metrics.shared.intervals import wilson
from probe.metrics.shared.metric import known

Add = Callable[..., Path]


def test_log_loss_ranks_the_lowest_first(board: Path) -> None:
    table = build_table(read_folders([board]), "log_loss")
    assert table.ranking["row"].iloc[0] == "tiny linear"
    best = table.cells[table.cells["mark"] == "best"]
    assert best["value"].tolist() == table.cells.groupby("column")["value"].min().tolist()


@pytest.mark.parametrize("metric", ["top1", "top5", "mean_per_class", "log_loss", "ece"])
def test_every_metric_shows_the_recorded_value(board: Path, metric: str) -> None:
    records = read_folders([board])
    recorded = records.frame.groupby(["backbone", "head", "dataset"])[f"metric.{metric}"].mean()
    cells = build_table(records, metric).cells
    np.testing.assert_allclose(cells["value"], recorded.to_numpy(), rtol=1e-6)


def test_a_metric_that_cannot_rank_says_why(add: Add, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(metrics={"worst_class": {"value": 0.9, "low": 0.88, "high": 0.92}})
    assert main([str(tmp_path / "runs"), "--metric", "worst_class"]) == 1
    told = capsys.readouterr().err
    assert "'worst_class' cannot rank, for it is the lowest of many classes, and which one that is changes" in told
    assert "choose one of top1, top5" in told
    add(metrics={"coverage": {"value": 0.9, "low": 0.88, "high": 0.92}}, seed=1)
    assert main([str(tmp_path / "runs"), "--metric", "coverage"]) == 1
    told = capsys.readouterr().err
    assert "its predictions hold no values per row of coverage: run it again with force=true" in told


def test_every_metric_of_the_package_ranks_or_says_why_not() -> None:
    for metric in known().values():
        assert metric.can_rank == (metric.per_row is not None or metric.of_all is not None), metric.name
    assert {metric.name for metric in known().values() if not metric.can_rank} >= {"worst_class", "median_error"}


@pytest.mark.parametrize("metric", ["ece_equal_mass", "aurc"])
def test_numbers_that_follow_from_the_predictions_rank_without_values_of_their_own(board: Path, metric: str) -> None:
    records = read_folders([board])
    table = build_table(records, metric)
    assert table.cells["value"].isna().sum() == 0
    recorded = records.frame.groupby(["backbone", "head", "dataset"])[f"metric.{metric}"].mean()
    np.testing.assert_allclose(table.cells["value"], recorded.to_numpy(), rtol=1e-6)


def measured(predictions: dict[str, np.ndarray], **rows: np.ndarray) -> dict[str, Any]:
    """What a run that keeps values per row of its own has besides."""
    values = {name: float(np.nanmean(v)) for name, v in rows.items()}
    return {
        "predictions": predictions | {f"metric.{name}": v.astype(np.float32) for name, v in rows.items()},
        "metrics": {name: {"value": v, "low": v - 0.1, "high": v + 0.1} for name, v in values.items()},
    }


def test_runs_are_ranked_by_values_that_they_keep_themselves(
    add: Add, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for head, size in (("ncm", 3.0), ("linear", 1.5)):
        for seed in range(3):
            drawn = draw_predictions(rng.random(200) < 0.8, 10, f"{head}{seed}")
            sizes, covered = rng.poisson(size, 200), rng.random(200) < 0.9
            add("tiny", head, seed=seed, **measured(drawn, mean_set_size=sizes, coverage=covered))
    table = build_table(read_folders([tmp_path]), "mean_set_size")
    assert table.ranking["head"].tolist() == ["linear", "ncm"]
    assert table.cells.set_index("head")["mark"].to_dict() == {"linear": "best", "ncm": ""}
    assert main([str(tmp_path / "runs"), "--metric", "coverage"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "coverage, % (best at 90 %)" in told
    assert "Ranks go by the distance from 90 %: more is no better, and no worse." in told


def test_of_a_metric_with_a_target_the_nearest_is_the_best(add: Add, tmp_path: Path) -> None:
    right = np.arange(1000) % 10
    for head, covered in (("above", right < 10), ("near", right < 9), ("below", right < 7)):
        for seed in range(2):
            drawn = draw_predictions(right < 8, 10, f"{head}{seed}")
            add("tiny", head, seed=seed, **measured(drawn, coverage=covered))
    table = build_table(read_folders([tmp_path]), "coverage")
    assert table.ranking["head"].tolist() == ["near", "above", "below"]
    assert table.ranking["rank"].tolist() == [1, 2, 3]
    assert table.cells.set_index("head")["mark"].to_dict() == {"above": "", "below": "", "near": "best"}
    assert table.cells.set_index("head")["value"].to_dict() == pytest.approx({"above": 1, "below": 0.7, "near": 0.9})
    assert arrange(table, sort="digits").ranking["head"].tolist() == ["near", "above", "below"]
    compared = compare_rows(table, "tiny above", "tiny below")
    assert compared.outcomes == ["win"]  # a distance of 0.1 against one of 0.2
    assert compared.differences[0].value == pytest.approx(-0.1)
    assert sentences(compared)[0].startswith("distance of coverage, % (best at 90 %): A = tiny above")


OWN = {"better": "lower", "unit": "", "code": ["1"]}


def test_a_metric_from_elsewhere_ranks_by_what_the_runs_say_of_it(add: Add, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for head, mean in (("ncm", 3.0), ("linear", 1.0)):
        add("tiny", head, own_metrics={"regret": OWN}, **measured(draw_predictions(np.ones(200, bool), 10, head),
                                                                  regret=rng.normal(mean, 1, 200)))  # fmt: skip
    add("tiny", "lda")
    table = build_table(read_folders([tmp_path]), "regret")
    assert table.ranking["head"].tolist() == ["linear", "ncm"]
    assert title(table) == "regret (lower is better)"
    assert "Without regret: 1 run, on digits." in table.notes


def test_runs_that_do_not_agree_on_a_metric_are_not_ranked_by_it(add: Add, tmp_path: Path) -> None:
    drawn = draw_predictions(np.ones(200, bool), 10, "x")
    for head, own in (("ncm", OWN), ("linear", OWN | {"code": ["2"]})):
        add("tiny", head, own_metrics={"regret": own}, **measured(drawn, regret=np.ones(200)))
    with pytest.raises(InputError, match="do not agree on what metric 'regret' is, or its code was edited between"):
        build_table(read_folders([tmp_path]), "regret")


def test_a_metric_that_nobody_describes_is_no_part_of_a_run(add: Add, tmp_path: Path) -> None:
    add("tiny", "ncm", **measured(draw_predictions(np.ones(200, bool), 10, "x"), regret=np.ones(200)))
    add("tiny", "linear")
    (problem,) = read_folders([tmp_path]).problems
    assert problem.reason.startswith("metric 'regret' is none of this package, and the run does not say what it is")


def test_rows_that_a_metric_does_not_look_at_are_no_test_rows_of_it(add: Add, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for head, chance in (("ncm", 0.5), ("linear", 1.0)):
        drawn = draw_predictions(rng.random(200) < 0.8, 10, head)
        values = np.where(drawn["label"] < 8, np.nan, rng.random(200) < chance)
        add("tiny", head, **measured(drawn, few_shot=values))
    cells = build_table(read_folders([tmp_path]), "few_shot").cells.set_index("head")
    assert cells.loc["linear", "value"] == 1
    assert cells.loc["linear", "low"] == pytest.approx(wilson(40, 40).low, abs=1e-9)  # not that of 200 rows
    assert cells.loc["ncm", "high"] - cells.loc["ncm", "low"] > 0.25


def test_values_that_do_not_give_the_metric_are_no_run(add: Add, tmp_path: Path) -> None:
    drawn = draw_predictions(np.arange(200) % 2 == 0, 10, "x")
    changes = measured(drawn, mean_set_size=np.full(200, 2.0))
    changes["metrics"]["mean_set_size"]["value"] = 1.0
    add("tiny", "ncm", **changes)
    add("tiny", "linear")
    (problem,) = read_folders([tmp_path]).problems
    assert "mean_set_size is recorded as 1, its predictions give 2: edited by hand" in problem.reason


def test_runs_without_the_metric_are_said(add: Add, tmp_path: Path) -> None:
    add("tiny", "ncm", "digits")
    add("tiny", "ncm", "iris", n_classes=3)
    table = build_table(read_folders([tmp_path]), "top5")
    assert table.column_names == ["digits"]
    assert "Without top5: 1 run, on iris." in table.notes
