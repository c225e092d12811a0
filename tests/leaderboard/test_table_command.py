"""The options of `probe leaderboard`, and the table of a sweep with its files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from board_page import data_of
from run_folders import digest, write_run

from probe.leaderboard.command import main, write_sweep_table
from probe.leaderboard.index import read_folders
from probe.leaderboard.select import where

Add = Callable[..., Path]


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
