"""What of a source is not among the rows: from the dataset to the record, the run's output and the table."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import command
from PIL import Image
from places import ROOT


def probe(*words: str, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    answer = command(words, cwd, env)
    assert answer.returncode == expect, answer.stdout + answer.stderr
    return answer


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for colour, name in enumerate(("green", "red")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 120, (12, 12, 3), dtype=np.uint8)
            pixels[..., 1 - colour] += 120
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "photos/red/a.heic").write_bytes(b"x")
    return tmp_path


def test_class_folders_without_partitions_are_run_by_holdout_and_the_note_is_shown(photos: Path) -> None:
    words = ["dataset=folder", "dataset.path=photos", "head=ncm"]
    refused = probe(*words, cwd=photos, expect=1)
    assert "dataset photos has no partition test" in refused.stderr
    assert "set protocol=holdout or protocol=cross_validation" in refused.stderr
    (photos / "photos/red/copy.png").write_bytes((photos / "photos/red/5.png").read_bytes())
    note = "photos: 1 file that is no image by its extension (1 .heic)"
    printed = probe(*words, "protocol=holdout", "name=a", cwd=photos).stdout
    assert f"not among the rows of {note}" in printed
    (run,) = (photos / "runs" / "a").glob("*/result.json")
    assert json.loads(run.read_text())["left_out"] == [note]
    assert f"Not among the rows of {note}." in probe("leaderboard", "runs", cwd=photos).stdout


def test_skipped_rows_are_no_leakage(photos: Path) -> None:
    for part in ("train", "test"):
        (photos / "whole" / part).mkdir(parents=True)
        for name in ("green", "red"):
            target = photos / "whole" / part / name
            target.mkdir()
            for i in range(6):
                source = photos / "photos" / name / f"{i + 6 * (part == 'test')}.png"
                (target / f"{i}.png").write_bytes(source.read_bytes())
        (photos / "whole" / part / "red/junk.png").write_bytes(b"no image")
    words = ["dataset=folder", "dataset.path=whole", "head=ncm", "name=b", "features.on_error=skip"]
    printed = probe(*words, cwd=photos).stdout
    (run,) = (photos / "runs" / "b").glob("*/result.json")
    result = json.loads(run.read_text())
    assert (result["skipped_rows"], result["leakage"]) == ({"test": 1, "train": 1}, {"test": 0})
    assert "leakage" not in printed
