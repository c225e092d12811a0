"""Where no cache can be made a complete run is found all the same; all others are refused before rows are read."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

import probe
from probe.core.errors import StoreError
from probe.experiment import run as steps


def iris(root: Path, seed: int = 0, **told: object) -> probe.Result:
    found: probe.Result = probe.run("identity", "iris", "ncm", seed=seed, runs=root / "runs", quiet=True, **told)
    return found


def refused() -> pytest.RaisesExc[StoreError]:
    return pytest.raises(StoreError, match="is a file, and the cache is to stand there: set cache=<folder>")


def test_a_complete_run_needs_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = iris(tmp_path, cache=tmp_path / "cache")
    (tmp_path / "file").touch()
    nowhere = tmp_path / "file" / "cache"
    monkeypatch.setenv("PROBE_CACHE", str(nowhere))  # where digests of files would be remembered
    assert iris(tmp_path, cache=nowhere).folder == made.folder
    assert (iris(tmp_path, cache=nowhere, save_rows=True).folder / "rows.json").exists()
    with refused():
        iris(tmp_path, cache=nowhere, force=True)
    with mock.patch.object(steps, "draw", side_effect=AssertionError), refused():
        iris(tmp_path, seed=1, cache=nowhere)  # no run of this seed: no row is read
    with refused():
        iris(tmp_path, cache=nowhere, calibrate=True)
    assert iris(tmp_path, seed=1, cache=tmp_path / "elsewhere").folder != made.folder
