"""The page where folders of runs were damaged since the table was made."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from board_page import data_of
from run_folders import write_run

from probe.core.base import digest
from probe.leaderboard.command import main
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page_data
from probe.leaderboard.table import build_table
from probe.results.schema import dumps


def without(name: str, folder: Path) -> None:
    (folder / name).unlink()


def sealed(result: dict[str, Any]) -> bytes:
    """A record as someone would write it who has it fit all its digests; plain JSON where there is no way."""
    try:
        run = result["run"]
        name = digest({key: result[key] for key in run["determinants"]})
        return dumps(result | {"run": run | {"digest": name, "name": f"{run['name'][:-8]}{name[:8]}"}})
    except (KeyError, TypeError, ValueError):
        return json.dumps(result).encode()


def edited(field: str, value: Any, folder: Path) -> None:
    (folder / "result.json").write_bytes(sealed(json.loads((folder / "result.json").read_text()) | {field: value}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (partial(without, "result.json"), "result.json cannot be read"),
        (partial(without, "predictions.safetensors"), "predictions.safetensors is missing"),
        (partial(edited, "selection", "text"), "its record is odd"),
        (partial(edited, "selection", {"chosen": {"C": float("nan")}}), "its record is odd"),
        (partial(edited, "seconds", {"fit": float("inf")}), "its record is odd"),
        (partial(edited, "metrics", {"top1": 1}), "its record is odd"),
        (partial(edited, "dataset", {"class_names": ["a"]}), "its classes are others"),
    ],
)
def test_a_run_damaged_since_the_table_was_made_loses_its_own_diagrams_alone(
    board: Path, damage: Callable[[Path], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.leaderboard.views.MAX_VIEWS", 1)
    records = read_folders([board])
    table = build_table(records)
    whole = page_data(table, records.frame)
    folder = Path(records.frame["folder"].iloc[3])
    damage(folder)
    data = page_data(table, records.frame)
    json.dumps(data, allow_nan=False)
    (fault,) = [run for run in data["runs"] if run["fault"]]
    assert fault["name"] == records.frame["name"].iloc[3]
    assert (reason in fault["fault"], fault["detail"]) == (True, None)
    assert any(str(folder) in note and reason in note for note in data["notes"])
    others = [[run for run in found["runs"] if run["name"] != fault["name"]] for found in (whole, data)]
    assert others[0] == others[1]
    assert data["rows"] == whole["rows"]
    assert data["views"][0] == whole["views"][0]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_one_damaged_record_among_many_never_takes_the_page_down(
    board: Path, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field of a record replaced, or a bit of its predictions: the others are shown, or kept apart by a sentence."""
    monkeypatch.setattr("probe.leaderboard.views.MAX_VIEWS", 1 + seed)
    rng = random.Random(seed)
    victim = write_run(tmp_path / "aside", "tiny", "ridge", "digits")
    record = (victim / "result.json").read_text()
    odd = [None, "text", [], {}, -1, 0, float("inf"), float("nan"), True, "\x1b[31m", 10**30, [1], {"a": 1}, 0.5]
    for _ in range(300 if seed else 25):
        damaged = board / "victim"
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(victim, damaged)
        if rng.random() < 0.7:
            result = json.loads(record)
            place = rng.choice([result, *(value for value in result.values() if value and isinstance(value, dict))])
            place[rng.choice(list(place))] = rng.choice(odd)
            (damaged / "result.json").write_bytes(sealed(result))
        else:
            data = bytearray((damaged / "predictions.safetensors").read_bytes())
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            (damaged / "predictions.safetensors").write_bytes(data)
        code = main([str(board), "--html", str(tmp_path / "t.html"), "--csv", str(tmp_path / "t.csv")])
        if code == 0:
            shown = {row["fields"][1] for row in data_of(tmp_path / "t.html")["rows"]}
            assert {"linear", "ncm", "naive_bayes"} <= shown
