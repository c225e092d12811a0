from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from board_page import data_of
from run_folders import digest, draw_predictions, edit, write_run

from probe.core.errors import InputError
from probe.leaderboard.command import arrange, main, sweep_columns, write_sweep_table
from probe.leaderboard.comparison import compare_rows, sentences
from probe.leaderboard.export import title
from probe.leaderboard.index import read_folders
from probe.leaderboard.select import where
from probe.leaderboard.table import build_table
from probe.metrics.shared.intervals import wilson
from probe.metrics.shared.metric import known

Add = Callable[..., Path]


def test_a_cell_is_the_mean_over_seeds(board: Path) -> None:
    records = read_folders([board])
    table = build_table(records)
    means = records.frame.groupby(["backbone", "head", "dataset"])["metric.top1"].mean()
    for cell in table.cells.to_dict("records"):
        assert cell["value"] == pytest.approx(means[cell["backbone"], cell["head"], cell["dataset"]], abs=1e-12)
        assert cell["low"] < cell["value"] < cell["high"]
        assert cell["n_seeds"] == 3


def test_rows_are_ranked_best_first(board: Path) -> None:
    table = build_table(read_folders([board]))
    assert table.ranking["row"].iloc[0] == "tiny linear"
    assert table.ranking["rank"].iloc[0] == 1
    assert table.ranking["rank"].is_monotonic_increasing
    assert (table.ranking["rank_low"] <= table.ranking["rank"]).all()
    assert (table.ranking["rank"] <= table.ranking["rank_high"]).all()


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


def test_one_best_per_column_and_equals_are_not_distinguishable(add: Add, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = rng.uniform(size=400) < 0.9
    almost = good.copy()
    almost[np.flatnonzero(good)[:2]] = False
    for head, correct in [("a", good), ("b", almost), ("c", rng.uniform(size=400) < 0.5)]:
        add("tiny", head, correct=correct)
    cells = build_table(read_folders([tmp_path])).cells.set_index("head")
    assert cells["mark"].to_dict() == {"a": "best", "b": "tied", "c": ""}


def test_a_missing_cell_is_said_and_not_ranked(board: Path) -> None:
    write_run(board, "extra", "ncm", "digits", 0, skill=3)
    table = build_table(read_folders([board]))
    line = table.ranking.set_index("row").loc["extra ncm"]
    assert np.isnan(line["rank"])
    assert line["note"] == "missing: cifar10; not ranked"
    assert table.ranking["row"].iloc[-1] == "extra ncm"
    assert "missing" in write_sweep_table(board)
    assert "Rows with missing cells are not ranked." in table.notes


def test_rows_without_a_common_column_are_ranked_among_their_like(add: Add, tmp_path: Path) -> None:
    for head, skill in [("ncm", 0.0), ("linear", 1.0)]:
        add("tiny", head, "digits", skill=skill)
        add("identity", head, "wine", skill=skill)
    table = build_table(read_folders([tmp_path]))
    assert dict(zip(table.ranking["row"], table.ranking["rank"], strict=True)) == {
        "tiny linear": 1, "tiny ncm": 2, "identity linear": 1, "identity ncm": 2,
    }  # fmt: skip
    assert "Ranks compare only rows that have the same columns." in table.notes


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"fingerprint": digest("other pictures")}, "2 dataset fingerprints"),
        ({"class_names": [f"other {i}" for i in range(10)]}, "2 label sets"),
        ({"protocol": "few_shot"}, "2 protocols"),
        ({"protocol_parameters": {"shots": 3}}, "2 protocols"),
        ({"n_test": 150}, "2 sets of test rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(add: Add, tmp_path: Path, changes: dict[str, object], what: str) -> None:
    a, b = add("tiny", "ncm"), add("tiny", "linear", **changes)
    with pytest.raises(InputError, match=what) as caught:
        build_table(read_folders([tmp_path]))
    for run in (a, b):
        assert read_folders([run]).frame["name"][0] in str(caught.value)
    assert "--where" in str(caught.value)
    assert "--columns dataset," in str(caught.value)


@pytest.mark.parametrize("changes", [{"protocol": "few_shot"}, {"protocol_parameters": {"shots": 3}}])
def test_what_a_refusal_advises_works(
    add: Add, tmp_path: Path, changes: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    add("tiny", "ncm")
    add("tiny", "linear", **changes)
    assert main([str(tmp_path)]) == 1
    message = capsys.readouterr().err
    condition = message.split("--where '")[1].split("'")[0]
    columns = message.split("--columns ")[1].split()[0]
    assert main([str(tmp_path), "--where", condition]) == 0
    assert main([str(tmp_path), "--columns", columns]) == 0


def test_all_clashes_are_reported_together(add: Add, tmp_path: Path) -> None:
    for dataset in ["digits", "wine"]:
        add("tiny", "ncm", dataset)
        add("tiny", "linear", dataset, protocol="few_shot")
    with pytest.raises(InputError, match=r"column digits would mix .*; column wine would mix"):
        build_table(read_folders([tmp_path]))


def test_a_sweep_over_protocols_gets_a_column_for_each(add: Add, tmp_path: Path) -> None:
    for shots in (1, 5):
        add("tiny", "ncm", protocol="few_shot", protocol_parameters={"shots": shots})
    add("tiny", "ncm", protocol="full")
    records = read_folders([tmp_path])
    assert sweep_columns(records) == ("dataset", "protocol", "protocol.shots")
    assert "digits few_shot 1" in write_sweep_table(tmp_path)


def test_runs_with_other_parameters_are_other_rows(add: Add, tmp_path: Path) -> None:
    for temperature in (1.0, 2.0):
        for seed in (0, 1):
            add("tiny", "ncm", "digits", seed, head_parameters={"temperature": temperature, "random_state": seed})
    table = build_table(read_folders([tmp_path]))
    assert table.rows == ("backbone", "head", "head.temperature")
    assert sorted(table.ranking["head.temperature"]) == ["1.0", "2.0"]
    assert (table.cells["n_seeds"] == 2).all()


def test_runs_that_differ_elsewhere_in_the_configuration_are_other_rows(add: Add, tmp_path: Path) -> None:
    add("tiny", "ncm", config={"dtype": "float16"})
    add("tiny", "ncm", config={"dtype": "float32"})
    assert build_table(read_folders([tmp_path])).rows == ("backbone", "head", "dtype")


def test_two_runs_of_one_seed_that_cannot_be_told_apart_are_refused(add: Add, tmp_path: Path) -> None:
    add("tiny", "ncm", config={"tracker": "none"})
    add("tiny", "ncm", config={"tracker": "wandb"})
    with pytest.raises(InputError, match="a cell takes one run per seed: select with --where name!=tiny"):
        build_table(read_folders([tmp_path]))


def test_rows_selected_on_test_are_marked(add: Add, tmp_path: Path) -> None:
    add("tiny", "ncm", selection={"on": "validation", "searched": [], "chosen": {}})
    add("tiny", "linear", selection={"on": "test", "searched": [], "chosen": {}})
    table = build_table(read_folders([tmp_path]))
    assert "† Selected on test, not on validation, and so too good: tiny linear." in table.notes
    assert write_sweep_table(tmp_path).count("†") == 2


def test_seeds_with_test_rows_of_their_own_share_a_column(add: Add, tmp_path: Path) -> None:
    from run_folders import draw_correct, draw_predictions

    for seed in range(3):
        for head, skill in [("ncm", 0.0), ("linear", 1.0)]:
            predictions = draw_predictions(draw_correct("digits", 100, skill, f"{head}{seed}"), 10, f"{head}{seed}")
            add("tiny", head, seed=seed, predictions=predictions | {"row": np.arange(100) * 3 + seed})
    cells = build_table(read_folders([tmp_path])).cells.set_index("head")
    assert (cells["n_seeds"] == 3).all()
    frame = read_folders([tmp_path]).frame
    assert cells.loc["linear", "value"] == pytest.approx(frame[frame["head"] == "linear"]["metric.top1"].mean())


def test_a_metric_that_cannot_rank_says_why(
    add: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    add: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
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


def test_of_a_metric_with_a_target_the_nearest_is_the_best(add: Callable[..., Path], tmp_path: Path) -> None:
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


def test_a_metric_from_elsewhere_ranks_by_what_the_runs_say_of_it(add: Callable[..., Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for head, mean in (("ncm", 3.0), ("linear", 1.0)):
        add("tiny", head, own_metrics={"regret": OWN}, **measured(draw_predictions(np.ones(200, bool), 10, head),
                                                                  regret=rng.normal(mean, 1, 200)))  # fmt: skip
    add("tiny", "lda")
    table = build_table(read_folders([tmp_path]), "regret")
    assert table.ranking["head"].tolist() == ["linear", "ncm"]
    assert title(table) == "regret (lower is better)"
    assert "Without regret: 1 run, on digits." in table.notes


def test_runs_that_do_not_agree_on_a_metric_are_not_ranked_by_it(add: Callable[..., Path], tmp_path: Path) -> None:
    drawn = draw_predictions(np.ones(200, bool), 10, "x")
    for head, own in (("ncm", OWN), ("linear", OWN | {"code": ["2"]})):
        add("tiny", head, own_metrics={"regret": own}, **measured(drawn, regret=np.ones(200)))
    with pytest.raises(InputError, match="do not agree on what metric 'regret' is, or its code was edited between"):
        build_table(read_folders([tmp_path]), "regret")


def test_a_metric_that_nobody_describes_is_no_part_of_a_run(add: Callable[..., Path], tmp_path: Path) -> None:
    add("tiny", "ncm", **measured(draw_predictions(np.ones(200, bool), 10, "x"), regret=np.ones(200)))
    add("tiny", "linear")
    (problem,) = read_folders([tmp_path]).problems
    assert problem.reason.startswith("metric 'regret' is none of this package, and the run does not say what it is")


def test_rows_that_a_metric_does_not_look_at_are_no_test_rows_of_it(add: Callable[..., Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for head, chance in (("ncm", 0.5), ("linear", 1.0)):
        drawn = draw_predictions(rng.random(200) < 0.8, 10, head)
        values = np.where(drawn["label"] < 8, np.nan, rng.random(200) < chance)
        add("tiny", head, **measured(drawn, few_shot=values))
    cells = build_table(read_folders([tmp_path]), "few_shot").cells.set_index("head")
    assert cells.loc["linear", "value"] == 1
    assert cells.loc["linear", "low"] == pytest.approx(wilson(40, 40).low, abs=1e-9)  # not that of 200 rows
    assert cells.loc["ncm", "high"] - cells.loc["ncm", "low"] > 0.25


def test_values_that_do_not_give_the_metric_are_no_run(add: Callable[..., Path], tmp_path: Path) -> None:
    drawn = draw_predictions(np.arange(200) % 2 == 0, 10, "x")
    changes = measured(drawn, mean_set_size=np.full(200, 2.0))
    changes["metrics"]["mean_set_size"]["value"] = 1.0
    add("tiny", "ncm", **changes)
    add("tiny", "linear")
    (problem,) = read_folders([tmp_path]).problems
    assert "mean_set_size is recorded as 1, its predictions give 2: edited by hand" in problem.reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "f1"], "no run has the metric 'f1': choose one of top1"),
        (["--rows", "colour"], "no run has a field 'colour': choose one of .*backbone"),
        (["--where", "head=svm"], "no run has head=svm: head is linear, naive_bayes, ncm"),
        (["--where", "head"], "condition 'head' has no '='"),
        (["--sort", "colour"], "cannot sort by 'colour': choose rank, backbone, head, cifar10, digits"),
        (["--top", "0"], "--top is 0, expected at least 1"),
    ],
)
def test_unknown_names_list_what_there_is(
    board: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(board), *arguments]) == 1
    import re

    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (["--where", "head=linear"], ["tiny linear", "random linear"]),
        (["--where", "head!=linear,n*"], None),
        (["--where", "head=n*", "--where", "backbone=tiny"], ["tiny ncm", "tiny naive_bayes"]),
        (["--top", "1"], ["tiny linear"]),
        (["--sort", "backbone", "--where", "head=linear"], ["random linear", "tiny linear"]),
        (["--sort", "digits", "--where", "head=linear"], ["tiny linear", "random linear"]),
        (["--rows", "head", "--columns", "dataset,backbone", "--top", "1"], ["linear"]),
    ],
)
def test_filters_sorting_and_pivot(board: Path, arguments: list[str], rows: list[str] | None, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    code = main([str(board), *arguments, "--json", str(path)])
    assert code == (0 if rows else 1)
    if rows:
        fields = ["head"] if "--rows" in arguments else ["backbone", "head"]
        names = [" ".join(cell[field] for field in fields) for cell in json.loads(path.read_text())["cells"]]
        assert list(dict.fromkeys(names)) == rows


def test_the_sweep_table_fits_a_terminal_and_is_written(board: Path) -> None:
    for dataset in ["wine", "iris", "breast_cancer", "flowers"]:
        write_run(board, "tiny", "linear", dataset)
    text = write_sweep_table(board)
    assert max(map(len, text.splitlines())) <= 100
    assert text.index("tiny") < text.index("random")
    assert all(dataset in text for dataset in ["digits", "flowers", "breast_cancer"])
    assert (board / "leaderboard.md").read_text().count("| tiny") == 3
    assert (board / "leaderboard.csv").read_text().startswith("backbone,head,dataset,metric,value,low,high")


def test_the_files_hold_the_folder_and_the_terminal_the_sweep(board: Path) -> None:
    mine = [folder for folder in read_folders([board]).frame.query("head == 'ncm'")["folder"]]
    shown = write_sweep_table(board, [Path(folder) for folder in mine])
    assert "linear" not in shown
    assert f"leaderboard.md, .csv and .html hold 24 runs more, all that lie in {board}" in shown
    assert (board / "leaderboard.csv").read_text().count("linear") == 4
    assert data_of(board / "leaderboard.html")["rows"][0]["fields"] == ["tiny", "linear"]
    assert "more, all that lie" not in write_sweep_table(board)


def test_where_the_folder_shares_no_table_the_files_hold_the_sweep(board: Path) -> None:
    other = write_run(board, "tiny", "lda", "digits", fingerprint=digest("other pictures"))
    shown = write_sweep_table(board, [other])
    assert "hold the 1 run of this sweep alone" in shown
    assert "2 dataset fingerprints" in shown
    assert (board / "leaderboard.csv").read_text().count("lda") == 1
    assert [row["fields"][1] for row in data_of(board / "leaderboard.html")["rows"]] == ["lda"]


def test_the_table_does_not_depend_on_the_order_of_folders(board: Path, tmp_path: Path) -> None:
    moved = tmp_path / "second"
    moved.mkdir()
    for i, run in enumerate(sorted(board.iterdir())):
        if i % 2 and run.is_dir():
            run.rename(moved / f"z{100 - i}")
    one = build_table(read_folders([board, moved]))
    two = build_table(read_folders([moved, board]))
    assert one.cells.equals(two.cells)
    assert one.ranking.equals(two.ranking)


def test_columns_stand_in_the_order_of_their_numbers(add: Add, tmp_path: Path) -> None:
    for shots in (20, 5, 100, 1):
        add("tiny", "ncm", protocol="few_shot", protocol_parameters={"shots": shots})
    table = build_table(read_folders([tmp_path]), columns=("dataset", "protocol.shots"))
    assert table.column_names == ["digits 1", "digits 5", "digits 20", "digits 100"]


def test_runs_without_the_metric_are_said(add: Add, tmp_path: Path) -> None:
    add("tiny", "ncm", "digits")
    add("tiny", "ncm", "iris", n_classes=3)
    table = build_table(read_folders([tmp_path]), "top5")
    assert table.column_names == ["digits"]
    assert "Without top5: 1 run, on iris." in table.notes


@pytest.mark.parametrize(
    ("condition", "n_left"),
    [
        ("seed=0", 2),
        ("seed=1,2", 4),
        ("seed!=0", 4),
        ("head.shots=3", 3),
        ("head=knn(k=5, p=2)", 3),
        ("n_train=1000", 6),
    ],
)
def test_conditions_read_numbers_parameters_and_labels_with_commas(
    add: Add, tmp_path: Path, condition: str, n_left: int
) -> None:
    for seed in range(3):
        add("tiny", "ncm", seed=seed, head_parameters={"shots": 3})
        add("tiny", "knn(k=5, p=2)", seed=seed)
    assert len(where(read_folders([tmp_path]).frame, [condition])) == n_left


def test_runs_that_skipped_other_rows_are_paired_by_row(add: Add, tmp_path: Path) -> None:
    """Both are right on every row but row 5, which the second could not read: they differ nowhere."""
    from run_folders import draw_predictions

    correct = np.arange(100) != 5
    for head, left_out in [("ncm", 7), ("linear", 8)]:
        rows = np.delete(np.arange(100), left_out)
        predictions = {k: v[rows] for k, v in draw_predictions(correct, 10, "key").items()}
        run = add("tiny", head, predictions=predictions)
        result = json.loads((run / "result.json").read_text())
        edit(
            run,
            dataset=result["dataset"] | {"test_rows": digest("all 100 rows")},
            skipped_rows={"train": 0, "test": 1},
            protocol=result["protocol"] | {"n_test": 100},
        )
    table = build_table(read_folders([tmp_path]))
    a, b = (table.scores[f"tiny {head}", "digits"] for head in ("ncm", "linear"))
    assert a.n_rows == 100
    assert np.abs(a.influences[0] - b.influences[0]).argsort()[-2:].tolist() in ([7, 8], [8, 7])
    assert "Skipped as unreadable: 2 rows in 2 runs." in table.notes


def test_what_is_not_among_the_rows_stands_under_the_table_once(add: Add, tmp_path: Path) -> None:
    for head in ("ncm", "linear"):
        edit(add("tiny", head), left_out=["digits: 3 rows of t.csv whose split is 'hidden'"])
    table = build_table(read_folders([tmp_path]))
    assert [n for n in table.notes if "among" in n] == [
        "Not among the rows of digits: 3 rows of t.csv whose split is 'hidden'."
    ]
