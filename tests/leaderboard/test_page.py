from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from board_page import data_of
from page_browser import HOSTILE
from run_folders import write_numbers, write_run

from probe.leaderboard.command import arrange, main
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page, page_data
from probe.leaderboard.table import build_table


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for head, skill in [("ncm", 0.0), ("linear", 1.0), (HOSTILE, -0.5)]:
        for shots in (1, 5, 20):
            for seed in (0, 1):
                write_run(root, "tiny", head, "digits", seed, skill=skill + shots / 20, protocol="few_shot",
                          n_train=10 * shots, protocol_parameters={"shots": shots}, n_classes=4,
                          class_names=["a|b", HOSTILE, "c", "d"])  # fmt: skip
    (root / "bad").mkdir()
    (root / "bad" / "error.txt").write_text(f"ValueError: {HOSTILE}\n")
    return root


@pytest.fixture(scope="module")
def file(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    assert main([str(runs), "--columns", "dataset,protocol.shots", "--html", str(path)]) == 0
    return path


def test_the_page_holds_the_numbers_of_the_table(runs: Path, file: Path) -> None:
    records = read_folders([runs])
    table = build_table(records, columns=("dataset", "protocol.shots"))
    data = data_of(file)
    first = data["views"][0]
    shown = {
        (" ".join(data["rows"][line["row"]]["fields"]), column): cell
        for line in first["lines"]
        for column, cell in zip(first["columns"], line["cells"], strict=True)
    }
    assert len(shown) == len(table.cells) == 9
    for cell in table.cells.to_dict("records"):
        on_page = shown[cell["row"], cell["column"]]
        assert [on_page[key] for key in ("value", "low", "high")] == [cell[key] for key in ("value", "low", "high")]
    assert len(data["runs"]) == 18


def test_each_metric_of_the_page_has_the_numbers_of_its_own_table(runs: Path, file: Path) -> None:
    records = read_folders([runs])
    data = data_of(file)
    assert [view["metric"] for view in data["views"]][:1] == ["top1"]
    assert len(data["views"]) > 3
    for shown in data["views"][1:3]:
        table = build_table(records, shown["metric"], columns=("dataset", "protocol.shots"))
        cells = {(cell["row"], cell["column"]): cell for cell in table.cells.to_dict("records")}
        for line in shown["lines"]:
            row = " ".join(data["rows"][line["row"]]["fields"])
            for column, cell in zip(shown["columns"], line["cells"], strict=True):
                assert [cell[k] for k in ("value", "low", "high")] == [
                    cells[row, column][k] for k in ("value", "low", "high")
                ]
        assert [line["rank"][0] for line in shown["lines"]] == table.ranking["rank"].tolist()


def test_rows_that_are_told_apart_by_a_parameter_are_the_same_in_each_view(tmp_path: Path) -> None:
    for shrinkage in (0.1, 0.5):
        write_run(tmp_path, "tiny", "lda", "digits", skill=shrinkage, head_parameters={"shrinkage": shrinkage})
    records = read_folders([tmp_path])
    data = page_data(build_table(records), records.frame)
    assert data["fields"] == ["backbone", "head", "head.shrinkage"]
    assert len(data["rows"]) == 2
    assert all({line["row"] for line in view["lines"]} == {0, 1} for view in data["views"])


def test_rows_that_the_table_leaves_out_stand_in_no_view(runs: Path) -> None:
    records = read_folders([runs])
    whole = build_table(records, columns=("dataset", "protocol.shots"))
    data = page_data(arrange(whole, top=1), records.frame)
    assert len(data["rows"]) == 1
    assert {line["row"] for view in data["views"] for line in view["lines"]} == {0}


def test_runs_of_other_targets_are_views_of_the_same_page(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", "linear", "digits")
    write_numbers(tmp_path)
    records = read_folders([tmp_path])
    data = page_data(build_table(records), records.frame)
    (numbers,) = [view for view in data["views"] if view["metric"] == "r2"]
    assert numbers["columns"] == ["heights"]
    assert data["rows"][numbers["lines"][0]["row"]]["fields"] == ["tiny", "ols"]
    (run,) = [run for run in data["runs"] if run["column"] == "heights"]
    assert run["detail"]["kind"] == "number"
    assert run["detail"]["wrong"][0][0] == 7  # the largest error
    assert [[name, rows, len(mae[0])] for name, rows, mae in run["detail"]["groups"]] == [
        ["alone", 1, 1], ["north", 10, 3], ["south", 9, 3],
    ]  # fmt: skip


def test_the_page_names_no_address_that_it_would_fetch(file: Path) -> None:
    text = file.read_text("utf-8")
    assert len(text) < 10**6
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", text)
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text


def test_diagrams_are_those_of_the_predictions(runs: Path) -> None:
    from safetensors.numpy import load_file
    from sklearn.metrics import confusion_matrix

    records = read_folders([runs])
    data = page_data(build_table(records, columns=("dataset", "protocol.shots")), records.frame)
    folders = dict(zip(records.frame["name"], records.frame["folder"], strict=True))
    run = next(run for run in data["runs"] if run["name"] in folders)
    saved = load_file(Path(folders[run["name"]]) / "predictions.safetensors")
    matrix = np.zeros((4, 4), int)
    for label, predicted, count in run["detail"]["confusion"]:
        matrix[label, predicted] = count
    assert (matrix == confusion_matrix(saved["label"], saved["predicted"], labels=range(4))).all()
    assert run["detail"]["n"] == matrix.sum(axis=1).tolist()
    assert run["detail"]["right"] == np.diag(matrix).tolist()
    assert run["detail"]["coverage"][-1] == 1
    assert run["detail"]["risk"][-1] == pytest.approx(1 - run["metrics"]["top1"][0], abs=1e-4)
    ece = np.sum(np.array(run["detail"]["bins"]) / len(saved["label"])
                 * np.abs(np.array(run["detail"]["confidence"]) - np.array(run["detail"]["accuracy"])))  # fmt: skip
    assert ece == pytest.approx(run["metrics"]["ece"][0], abs=1e-3)
    wrong = np.flatnonzero(saved["label"] != saved["predicted"])
    surest = wrong[np.argsort(-saved["predicted_log_odds"][wrong], kind="stable")][:12]
    assert [row for row, *_ in run["detail"]["wrong"]] == surest.tolist()
    assert [label for _, label, *_ in run["detail"]["wrong"]] == saved["label"][surest].tolist()


def test_drawings_that_do_not_fit_are_those_of_later_seeds_and_their_runs_keep_their_command(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = read_folders([runs])
    table = build_table(records, columns=("dataset", "protocol.shots"))
    size = max(len(json.dumps(run["detail"])) for run in page_data(table, records.frame)["runs"])
    monkeypatch.setattr("probe.leaderboard.page_runs.MAX_BYTES", 10 * size)
    monkeypatch.setattr("probe.leaderboard.views.MAX_VIEWS", 1)
    data = page_data(table, records.frame)
    drawn = [run["seed"] for run in data["runs"] if run["detail"] is not None]
    assert len(drawn) < 18
    assert drawn.count(0) == 9
    assert all(run["command"].startswith("probe ") for run in data["runs"])


def test_of_runs_that_are_not_read_the_page_says_what_the_table_knows(runs: Path) -> None:
    records = read_folders([runs])
    table = build_table(records, columns=("dataset", "protocol.shots"))
    whole, data = (page_data(table, records.frame, max_read=n) for n in (100, 10))
    assert [view["metric"] for view in data["views"]] == [view["metric"] for view in whole["views"]]
    assert data["views"][0] == whole["views"][0]
    assert [len(view["lines"]) for view in data["views"][1:]] == [3] * (len(data["views"]) - 1)
    read = [run for run in data["runs"] if "command" in run]
    assert (len(read), [run["seed"] for run in read].count(0)) == (10, 9)
    (known, *_) = [run for run in data["runs"] if "command" not in run]
    (same,) = [run for run in whole["runs"] if run["name"] == known["name"]]
    assert (known["column"], known["metrics"]["top1"][0]) == (same["column"], same["metrics"]["top1"][0])
    assert any("Of 18 runs 10 were read" in note for note in data["notes"])


def test_long_data_stand_compressed_and_runs_that_were_not_read_field_by_field(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = read_folders([runs])
    table = build_table(records, columns=("dataset", "protocol.shots"))
    plain = page_data(table, records.frame, max_read=4)
    monkeypatch.setattr("probe.leaderboard.page.MAX_PLAIN", 1000)
    (tmp_path / "page.html").write_text(page(table, records.frame, max_read=4), "utf-8")
    found = data_of(tmp_path / "page.html")
    told = found.pop("runs")
    assert found == {key: json.loads(json.dumps(value)) for key, value in plain.items() if key != "runs"}
    for place, run in enumerate(plain["runs"]):
        if "command" in run:
            assert told["read"][str(place)] == run
            continue
        known = {key: told[key][place] for key in ("name", "seed")} | {"column": told["columns"][told["column"][place]]}
        assert known == {key: run[key] for key in known}
        assert {name: [values[place]] for name, values in told["metrics"].items()} == run["metrics"]


def test_metrics_that_cannot_rank_are_views_without_ranks_and_intervals(tmp_path: Path) -> None:
    for seed, value in ((0, 0.2), (1, 0.4)):
        told = {"worst_class": {"value": value, "low": 0.1, "high": 0.5}}
        write_run(tmp_path, "tiny", "linear", "digits", seed, metrics=told)
    write_run(tmp_path, "tiny", "ncm", "digits")
    records = read_folders([tmp_path])
    data = page_data(build_table(records), records.frame)
    (view,) = [view for view in data["views"] if view["metric"] == "worst_class"]
    ((line),) = view["lines"]
    assert data["rows"][line["row"]]["fields"] == ["tiny", "linear"]
    assert (line["rank"], line["cells"][0]["low"], line["cells"][0]["value"]) == (None, None, 0.3)
    assert view["title"] == "worst_class, % (not ranked)"
    assert "it is the lowest of many classes" in view["notes"][0]


def test_intervals_of_numbers_are_those_of_the_run(tmp_path: Path) -> None:
    write_numbers(tmp_path)
    records = read_folders([tmp_path])
    (column,) = page_data(build_table(records), records.frame)["runs"][0]["detail"]["columns"]
    predicted = np.array(column["predicted"])
    np.testing.assert_allclose([column["low"], column["high"]], [predicted - 1, predicted + 3], rtol=1e-4)


def test_names_are_never_taken_for_places_of_the_template(file: Path) -> None:
    assert any(HOSTILE in row["fields"] for row in data_of(file)["rows"])
    assert file.read_text("utf-8").count('JSON.parse($("data").textContent)') == 1
