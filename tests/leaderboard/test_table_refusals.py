"""What may share a column or a row of the table, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from run_folders import digest

from probe.core.errors import InputError
from probe.leaderboard.command import main, sweep_columns, write_sweep_table
from probe.leaderboard.index import read_folders
from probe.leaderboard.table import build_table

Add = Callable[..., Path]


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
