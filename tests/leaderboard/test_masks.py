"""Runs on masks beside each other: ranked over images, refused where their pixels were counted in other ways."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from run_folders import edit, write_masks, write_run

from probe.core.errors import InputError
from probe.leaderboard.command import main
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page_data
from probe.leaderboard.table import build_table
from probe.results.reader import read_result


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for head, skill in (("linear", 0.9), ("knn", 0.88), ("ncm", 0.3)):
        for seed in (0, 1):
            write_masks(root, head, skill, seed=seed)
    return root


def test_heads_are_ranked_by_miou_over_images(runs: Path) -> None:
    table = build_table(read_folders([runs]))
    assert table.metric == "miou"
    assert table.ranking["head"].tolist()[-1] == "ncm"
    cell = table.cells[table.cells["row"] == "tiny linear"].iloc[0]
    means = [read_result(folder)["metrics"]["miou"]["value"] for folder in runs.glob("masks-linear-*")]
    assert cell["value"] == pytest.approx(np.mean(means))
    assert cell["low"] < cell["value"] < cell["high"]
    ranks = table.ranking.set_index("head")[["rank_low", "rank_high"]]
    assert ranks.loc["ncm"].tolist() == [3, 3]
    assert ranks.loc["linear", "rank_high"] <= 2


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"windows": 4}, "column scenes would mix 2 ways to count pixels .*windows 4 in .*windows none in"),
        ({"ignored_codes": [0, 255]}, "mix 2 ways to count pixels .*ignored 0 255"),
        ({"size": "224 x 224"}, "mix 2 ways to count pixels .*size 224 x 224"),
    ],
)
def test_pixels_that_were_counted_in_other_ways_share_no_column(tmp_path: Path, told: dict, text: str) -> None:
    write_masks(tmp_path, "linear")
    write_masks(tmp_path, "knn", 0.7, **told)
    with pytest.raises(InputError, match=text) as refused:
        build_table(read_folders([tmp_path]))
    condition = str(refused.value).partition("--where '")[2].partition("'")[0]
    assert main([str(tmp_path), "--where", condition]) == 0
    assert main([str(tmp_path), "--columns", "dataset,evaluation"]) == 0


def test_another_number_than_the_confusions_give_is_refused(tmp_path: Path) -> None:
    folder = write_masks(tmp_path)
    metrics = read_result(folder)["metrics"]
    metrics["miou"]["value"] += 0.01
    edit(folder, metrics=metrics)
    with pytest.raises(InputError, match=r"miou is recorded as .*, its predictions give .*: edited by hand"):
        read_folders([folder])


def test_the_page_shows_classes_confusions_and_overlays(runs: Path) -> None:
    records = read_folders([runs])
    data = page_data(build_table(records), records.frame)
    detail = next(run for run in data["runs"] if "head=linear" in run["command"])["detail"]
    json.dumps(data, allow_nan=False)
    assert detail["kind"] == "mask"
    assert sum(detail["n"]) == 30 * 42 == sum(count for *_, count in detail["confusion"])
    assert sum(detail["right"]) == sum(count for label, predicted, count in detail["confusion"] if label == predicted)
    assert all(low <= value <= high for value, low, high in detail["iou"])
    assert detail["overlays"].startswith("data:image/webp;base64,")


def test_masks_are_a_view_of_a_page_of_other_runs(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", "linear", "digits")
    write_masks(tmp_path)
    records = read_folders([tmp_path])
    data = page_data(build_table(records), records.frame)
    assert [view["columns"] for view in data["views"] if view["metric"] == "miou"] == [["scenes"]]
