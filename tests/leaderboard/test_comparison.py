from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_folders import write_run

from probe.core.errors import InputError
from probe.core.escaping import one_line
from probe.leaderboard.command import main
from probe.leaderboard.comparison import compare_rows, find_row, frame
from probe.leaderboard.index import read_folders
from probe.leaderboard.table import build_table

Add = Callable[..., Path]


def test_the_difference_is_that_of_the_recorded_metrics(board: Path) -> None:
    records = read_folders([board])
    found = compare_rows(build_table(records), "tiny linear", "tiny ncm")
    means = records.frame.groupby(["backbone", "head", "dataset"])["metric.top1"].mean()
    for column, difference in zip(found.columns, found.differences, strict=True):
        expected = means["tiny", "linear", column] - means["tiny", "ncm", column]
        assert difference.value == pytest.approx(expected, abs=1e-12)
        assert difference.low < difference.value < difference.high


def test_wins_turn_to_losses_when_swapped_and_for_losses(board: Path) -> None:
    table = build_table(read_folders([board]))
    assert compare_rows(table, "tiny linear", "random ncm").outcomes == ["win", "win"]
    assert compare_rows(table, "random ncm", "tiny linear").outcomes == ["loss", "loss"]
    by_loss = build_table(read_folders([board]), "log_loss")
    assert compare_rows(by_loss, "tiny linear", "random ncm").outcomes == ["win", "win"]


def test_equal_predictions_tie(add: Add, tmp_path: Path) -> None:
    correct = np.arange(200) % 4 > 0
    for head in ("a", "b"):
        add("tiny", head, correct=correct)
    found = compare_rows(build_table(read_folders([tmp_path])), "a", "b")
    assert found.outcomes == ["tie"]
    assert found.p_holm == [1.0]


@pytest.mark.parametrize(
    "name", ["tiny linear", "linear tiny", "backbone=tiny,head=linear", "head=linear backbone=tiny"]
)
def test_a_row_is_found_by_its_fields(board: Path, name: str) -> None:
    assert find_row(build_table(read_folders([board])), name) == "tiny linear"


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("svm", "tiny ncm", "no row of the table answers to 'svm': .* there are 'tiny linear'"),
        ("linear", "tiny ncm", "2 rows of the table answers to 'linear'"),
        ("tiny ncm", "ncm tiny", "both names stand for the row 'tiny ncm'"),
    ],
)
def test_names_that_are_no_row_list_the_rows(board: Path, a: str, b: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_rows(build_table(read_folders([board])), a, b)


def test_rows_without_a_common_seed_or_column_are_refused(board: Path) -> None:
    write_run(board, "extra", "ncm", "digits", 7)
    write_run(board, "extra", "linear", "wine", 0)
    table = build_table(read_folders([board]))
    with pytest.raises(InputError, match=r"on digits, 'extra ncm' has the seeds \[7\] and 'tiny ncm' \[0, 1, 2\]"):
        compare_rows(table, "extra ncm", "tiny ncm")
    with pytest.raises(InputError, match="no column in common"):
        compare_rows(table, "extra linear", "tiny ncm")


def test_the_command_prints_all_of_it(
    board: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main([str(board), "--compare", "tiny linear", "random ncm"]) == 0
    shown = capsys.readouterr().out
    assert "A wins 2, ties 0, loses 0 of 2." in shown
    assert max(map(len, shown.splitlines())) <= 100
    for word in ("McNemar", "permut.", "p Holm", "digits", "cifar10"):
        assert word in shown


KINDS = ("md", "csv", "json", "tex", "parquet")


def exported(folder: Path, a: str, b: str, out: Path) -> dict[str, str]:
    """What `--compare` writes, by kind; parquet is read where it matters."""
    arguments = [word for kind in KINDS for word in (f"--{kind}", str(out / f"c.{kind}"))]
    assert main([str(folder), "--compare", a, b, *arguments]) == 0
    return {kind: (out / f"c.{kind}").read_text(encoding="utf-8") for kind in KINDS if kind != "parquet"}


def test_files_hold_the_comparison_and_read_back_the_same_numbers(board: Path, tmp_path: Path) -> None:
    files = exported(board, "tiny linear", "random ncm", tmp_path / "out")
    compared = compare_rows(build_table(read_folders([board])), "tiny linear", "random ncm")
    written = frame(compared)
    assert written["difference"].tolist() == [d.value for d in compared.differences]
    as_text = pd.read_csv(tmp_path / "out/c.csv", dtype=str, keep_default_na=False)
    numbers = written.select_dtypes("number").columns
    read = {
        "csv": as_text.assign(**{name: as_text[name].map(float) for name in numbers}),
        "json": pd.DataFrame(json.loads(files["json"])["columns"]),
        "parquet": pd.read_parquet(tmp_path / "out/c.parquet"),
    }
    for found in read.values():
        pd.testing.assert_frame_equal(found, written, check_dtype=False, check_exact=True)
    assert "A wins 2, ties 0, loses 0 of 2." in files["md"]
    assert json.loads(files["json"])["summary"] == "A wins 2, ties 0, loses 0 of 2."
    assert files["tex"].count("& win &") == 2


def test_a_metric_without_mcnemar_writes_no_nan(board: Path, tmp_path: Path) -> None:
    assert main([str(board), "--metric", "log_loss", "--compare", "tiny linear", "tiny ncm",
                 "--json", str(tmp_path / "c.json")]) == 0  # fmt: skip
    text = (tmp_path / "c.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["columns"][0]["p_mcnemar"] is None


HOSTILE = [
    "a|b_c%d&e#f$g",
    "<script>alert(1)</script>",
    r"\input{x}^~{y}",
    "\"quoted\", 'and' =x",
    "line\nbreak\x1b[31m",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_compared_and_escaped(tmp_path: Path, name: str) -> None:
    for head, skill in ((name, 1.0), ("ncm", 0.0)):
        write_run(tmp_path / "runs", "tiny", head, "da|ta_%<b>", skill=skill)
    files = exported(tmp_path / "runs", f"tiny {name}", "head=ncm, backbone=tiny", tmp_path / "out")
    assert "<script>" not in files["md"]
    assert r"\input" not in files["tex"].replace(r"\textbackslash{}input", "").split(r"\toprule")[1]
    assert "\x1b" not in files["md"] + files["tex"]
    body = [line for line in files["md"].splitlines() if line.startswith("|")]
    assert len(body) == 3
    assert r"da\|ta\_%&lt;b&gt;" in body[2]
    assert pd.read_csv(tmp_path / "out/c.csv")["a"].tolist() == [one_line(f"tiny {name}")]
    by_field = f"head={name} backbone=tiny"
    assert find_row(build_table(read_folders([tmp_path / "runs"])), by_field) == f"tiny {name}"
