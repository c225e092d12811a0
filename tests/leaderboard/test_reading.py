"""Runs that are read and checked together: each as if it were read alone, and the right one named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from run_folders import draw_predictions, edit, seal, write_masks, write_numbers, write_run

from probe.core.errors import InputError
from probe.core.tensors import to_bytes
from probe.leaderboard import reading
from probe.leaderboard.reading import read_run, read_runs
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores.one_class import RowScores, read
from probe.results.reader import read_predictions, read_result
from probe.results.schema import PREDICTIONS

STACKING = [metric.name for metric in known().values() if metric.stacks]


def scores_of(run: int, labels: np.ndarray) -> RowScores:
    """Of logits with ties, classes that no row is taken for and, of the second run, rows that are all right."""
    logits = np.random.default_rng(run).normal(size=(len(labels), 7)).round(1)
    logits[:, 5] = -np.inf
    logits[np.arange(len(labels)), labels] += 9.0 * (run == 1)
    return read(logits, labels)


@pytest.mark.parametrize("name", STACKING)
def test_values_of_several_runs_are_those_of_each(name: str) -> None:
    labels = np.random.default_rng(9).choice([0, 1, 2, 4, 6], 61)
    parts = [scores_of(run, labels).arrays() for run in range(4)]
    stacked = {kind: np.stack([part[kind] for part in parts]) for kind in parts[0]} | {"label": labels}
    together = known()[name].rows(RowScores.restored(stacked))
    alone = [known()[name].rows(RowScores.restored(part)) for part in parts]
    assert np.array_equal(together, np.stack(alone))


def test_metrics_that_are_checked_stack() -> None:
    checked = {m.name for m in known().values() if m.needs and "one_class" in m.targets and np.isfinite(m.tolerance)}
    assert {"top1", "mean_per_class", "log_loss", "ece_equal_mass", "aurc"} <= checked & set(STACKING)


def folders(root: Path) -> list[Path]:
    """Runs of two datasets, two of numbers and two of masks, and one whose classes have other names, in turn."""
    runs = [write_run(root, "tiny", head, data, seed, n_test=n, skill=0.2 * seed) for seed in range(3)
            for data, n in (("digits", 60), ("faces", 90)) for head in ("ncm", "lda")]  # fmt: skip
    return [*runs, *others(root), write_run(root, seed=9, n_test=60, n_classes=12)]


def others(root: Path) -> list[Path]:
    """Two runs of numbers and two of masks, of which the fullest images have 9 and fewer cells."""
    numbers = [write_numbers(root, head, noise) for head, noise in (("ols", 0.1), ("ridge", 0.2))]
    return [*numbers, *(write_masks(root, seed=seed, skill=skill) for seed, skill in enumerate((0.3, 0.95)))]


@pytest.mark.parametrize("batch", [1, 10_000, 2**24])
def test_runs_read_together_are_those_read_alone(tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = folders(tmp_path)
    alone = [read_run(run) for run in runs]
    monkeypatch.setattr(reading, "BATCH_BYTES", batch)
    assert list(read_runs(runs)) == alone


def test_alike_runs_are_measured_once(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, seed=seed) for seed in range(5)]
    with mock.patch.object(reading, "row_values", wraps=reading.row_values) as values:
        found = list(read_runs(runs))
    assert values.call_count == 6  # metrics; ece is not checked
    assert [run["seed"] for run in found if isinstance(run, dict)] == list(range(5))


def test_runs_whose_arrays_have_other_shapes_are_read_together(tmp_path: Path) -> None:
    runs = others(tmp_path)
    cells = [read_predictions(run)["confusion"].shape[1] for run in runs[2:]]
    assert cells[0] != cells[1]
    with mock.patch.object(reading, "_Alike", wraps=reading._Alike) as alike:
        found = list(read_runs(runs))
    assert [len(call.args[0]) for call in alike.call_args_list] == [2, 2]
    assert found == [read_run(run) for run in runs]


def test_an_array_that_is_converted_among_others_is_judged_as_it_is(tmp_path: Path) -> None:
    arrays = draw_predictions(np.random.default_rng(0).random(200) < 0.8, 10, "")
    arrays["predicted_log_odds"] = np.arange(200.0) % 9
    run = write_run(tmp_path, predictions=arrays, folder="of bytes")
    whole = arrays | {"predicted_log_odds": arrays["predicted_log_odds"].astype(np.uint8)}  # the negative of 1 is 255
    (run / PREDICTIONS).write_bytes(to_bytes(whole))
    seal(run, read_result(run))
    _, found = read_runs([write_run(tmp_path, seed=1), run])
    assert isinstance(found, InputError)
    with pytest.raises(InputError, match="aurc is recorded as"):
        read_run(run)


def harm(run: Path, kind: str) -> None:
    if kind == "edited":
        metrics = json.loads((run / "result.json").read_text())["metrics"]
        edit(run, metrics=metrics | {"aurc": metrics["aurc"] | {"value": 0.5}})
        return
    arrays: dict[str, Any] = dict(read_predictions(run))
    shapes = {"square": arrays["label_rank"][:, None].repeat(2, 1), "zeros": np.zeros(len(arrays["row"]), np.uint8)}
    if kind == "lacking":
        del arrays["row"]
    elif kind == "elsewhere":
        arrays["label"] = arrays["label"] + 10
    else:
        arrays["label_rank"] = shapes[kind]
    (run / PREDICTIONS).write_bytes(to_bytes(arrays))
    seal(run, read_result(run))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("edited", "aurc is recorded as 0.5, its predictions give"), ("square", "lacks a field or holds a wrong type"),
     ("zeros", "its predictions give"), ("lacking", "lacks a field"), ("elsewhere", r"labels in .* leave 0\.\.9")],
)  # fmt: skip
def test_the_run_with_the_fault_is_named_among_those_alike(tmp_path: Path, kind: str, reason: str) -> None:
    runs = [write_run(tmp_path, seed=seed, skill=0.3) for seed in range(5)]
    harm(runs[3], kind)
    found = list(read_runs(runs))
    assert [isinstance(run, InputError) for run in found] == [False, False, False, True, False]
    with pytest.raises(InputError, match=reason) as alone:
        read_run(runs[3])
    assert str(found[3]) == str(alone.value)
