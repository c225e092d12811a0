from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run_folders import write_run

import probe
from probe.command.subcommands import dataset_of, leaderboard
from probe.core.errors import InputError
from probe.core.texts import Text
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page_data
from probe.leaderboard.samples import MAX_TEXT, shown_row
from probe.leaderboard.table import build_table
from probe.results.reader import read_predictions, read_result

ATTENTIVE = ("attentive", {"epochs": 1, "learning_rates": [1e-3], "weight_decays": [0.1], "options": {"n_queries": 2}})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Real runs of the two heads that say what their predictions rest on, and of one that does not."""
    root = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBE_CACHE", str(root / "cache"))
        for head in (("knn", {"ks": [3], "metrics": ["cosine"], "temperatures": [0.1]}), ATTENTIVE, "ncm"):
            probe.run("tiny", "digits", head, runs=root / "runs", limit=150, quiet=True)
        yield root / "runs"


@pytest.fixture(scope="module")
def data(runs: Path) -> dict[str, Any]:
    records = read_folders([runs])
    return page_data(build_table(records), records.frame, dataset_of)


def of_head(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    return next(run for run in data["runs"] if f"-{name}" in run["name"])


def picture(shown: list[str]) -> np.ndarray:
    kind, content = shown
    assert kind == "image"
    assert content.startswith("data:image/")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content.split(",", 1)[1]))))


def test_the_worst_rows_are_shown_as_the_dataset_has_them(runs: Path, data: dict[str, Any]) -> None:
    run = of_head(data, "ncm")
    test = dataset_of(read_result(next(runs.glob("*/*-ncm-*")))).partitions["test"]
    assert len(run["detail"]["wrong"]) > 3
    for row, label, *_ in run["detail"]["wrong"]:
        shown = picture(data["samples"][run["data"]]["test"][str(row)])
        assert (shown[..., 0] == np.asarray(test[row].convert("L"))).all()
        assert test.labels[row] == label


def test_neighbours_are_the_training_rows_that_a_prediction_rests_on(runs: Path, data: dict[str, Any]) -> None:
    """The class with most of the vote is the one predicted, and each neighbour has the class that the dataset says."""
    run = of_head(data, "knn")
    train = dataset_of(read_result(next(runs.glob("*/*-knn*")))).partitions["train"]
    evidence = run["detail"]["evidence"]
    assert evidence["k"] == 3
    for (_, _, predicted, _), found in zip(run["detail"]["wrong"], evidence["neighbours"], strict=True):
        votes = np.zeros(10)
        for partition, row, share, label in found:
            assert partition == "train"
            assert train.labels[row] == label
            assert str(row) in data["samples"][run["data"]]["train"]
            votes[label] += share
        assert votes.sum() == pytest.approx(1, abs=1e-3)
        assert votes.argmax() == predicted


def test_neighbours_of_a_predicted_number_average_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    settings = {"ks": [4], "metrics": ["euclidean"], "vote": "uniform"}
    probe.run("identity", "diabetes", ("knn", settings), runs=tmp_path / "runs", quiet=True)
    records = read_folders([tmp_path / "runs"])
    (run,) = page_data(build_table(records), records.frame, dataset_of)["runs"]
    for (_, _, predicted), found in zip(run["detail"]["wrong"], run["detail"]["evidence"]["neighbours"], strict=True):
        assert np.mean([number for *_, number in found]) == pytest.approx(predicted, rel=1e-4)


def test_attention_is_that_of_the_fitted_head_and_sums_to_one(runs: Path, data: dict[str, Any]) -> None:
    found = of_head(data, "attentive")["detail"]["evidence"]
    assert (found["grid"], found["n_maps"]) == ([4, 4], 2)
    maps = np.array(found["attention"]) / 1e4
    assert maps.shape == (len(of_head(data, "attentive")["detail"]["wrong"]), 16)
    assert maps.sum(axis=1) == pytest.approx(1, abs=2e-3)
    assert (maps.std(axis=1) > 0).all()


def test_features_that_the_cache_has_lost_are_a_sentence_in_the_run(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path))
    records = read_folders([runs])
    run = of_head(page_data(build_table(records), records.frame, dataset_of), "attentive")
    assert "does not hold the features of its test rows" in run["detail"]["evidence"]["fault"]


def test_without_samples_the_page_holds_no_row_of_a_dataset(runs: Path, tmp_path: Path) -> None:
    assert leaderboard([str(runs), "--html", str(tmp_path / "with.html")]) == 0
    assert leaderboard([str(runs), "--html", str(tmp_path / "without.html"), "--no-samples"]) == 0
    assert "data:image/png" in (tmp_path / "with.html").read_text()
    assert "data:image/png" not in (tmp_path / "without.html").read_text()


def test_rows_of_a_dataset_that_is_another_now_are_not_shown(tmp_path: Path) -> None:
    """The synthetic runs say that they are of digits, and have labels of their own."""
    dataset = {"_target_": "probe.datasets.sklearn.load", "name": "digits"}
    write_run(tmp_path, "tiny", "ncm", "digits", config={"dataset": dataset}, class_names=list("0123456789"))
    records = read_folders([tmp_path])
    found = page_data(build_table(records), records.frame, dataset_of)
    assert found["samples"] == {}
    assert "The rows of digits are not shown: its labels are not those that the runs were scored on" in found["notes"]


def test_a_record_builds_no_dataset_of_code_that_is_not_this_package_s(tmp_path: Path) -> None:
    folder = write_run(tmp_path, config={"dataset": {"_target_": "os.system", "command": "true"}})
    with pytest.raises(InputError, match="it is an object or code of one's own, which no record builds"):
        dataset_of(read_result(folder))


def test_samples_keep_within_their_bytes(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.leaderboard.samples.MAX_BYTES", 1000)
    records = read_folders([runs])
    found = page_data(build_table(records), records.frame, dataset_of)["samples"]
    assert (
        0 < sum(len(shown[1]) for rows in found.values() for part in rows.values() for shown in part.values()) <= 1000
    )


def test_large_pictures_are_thumbnails_and_long_texts_are_cut() -> None:
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 900, 3), np.uint8))
    assert picture(shown_row(wide) or []).shape == (37, 56, 3)
    assert shown_row("word " * 100) == ["text", ("word " * 100)[:MAX_TEXT] + "…"]
    assert shown_row(Text("one\nline", "and another")) == ["text", "one line / and another"]
    assert shown_row(np.zeros(3)) is None


def test_rows_are_those_that_were_predicted(runs: Path, data: dict[str, Any]) -> None:
    saved = read_predictions(next(runs.glob("*/*-ncm-*")))
    wrong = {row: (label, predicted) for row, label, predicted, _ in of_head(data, "ncm")["detail"]["wrong"]}
    for row, told in wrong.items():
        place = saved["row"].tolist().index(row)
        assert (saved["label"][place], saved["predicted"][place]) == told
