"""Where no cache can be made a complete run is found all the same; all others are refused before rows are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from probe.backbones.identity import IdentityBackbone
from probe.core.errors import StoreError
from probe.datasets.sklearn import load
from probe.experiment import run as steps
from probe.experiment.run import Run, run_once
from probe.features.store import FeatureStore
from probe.heads.ncm import NearestClassMean
from probe.protocols.full import Full


def iris(root: Path, cache: Path, **told: Any) -> tuple[Path, bool]:
    parts = IdentityBackbone(), load(name="iris"), Full(), NearestClassMean()
    return run_once(Run(*parts, FeatureStore(cache), root / "runs", device="cpu", **told))


def refused() -> pytest.RaisesExc[StoreError]:
    return pytest.raises(StoreError, match="is a file, and the cache is to stand there: set cache=<folder>")


def test_a_complete_run_needs_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = iris(tmp_path, tmp_path / "cache")
    (tmp_path / "file").touch()
    nowhere = tmp_path / "file" / "cache"
    monkeypatch.setenv("PROBE_CACHE", str(nowhere))  # where digests of files would be remembered
    assert iris(tmp_path, nowhere) == (made, False)
    assert (iris(tmp_path, nowhere, save_rows=True)[0] / "rows.json").exists()
    with refused():
        iris(tmp_path, nowhere, force=True)
    with mock.patch.object(steps, "draw", side_effect=AssertionError), refused():
        iris(tmp_path, nowhere, seed=1)  # no run of this seed: no row is read
    with refused():
        iris(tmp_path, nowhere, calibrate=True)
    assert iris(tmp_path, tmp_path / "elsewhere", seed=1)[0] != made


def test_a_run_of_unknown_code_needs_a_cache(tmp_path: Path) -> None:
    iris(tmp_path, tmp_path / "cache")
    (tmp_path / "file").touch()
    doubt = mock.patch.object(steps.identity, "cannot_be_known", return_value="of the head no code can be found")
    computed = mock.patch.object(steps, "carry_out", side_effect=AssertionError)
    with doubt, computed, pytest.warns(UserWarning, match="no code"), refused():
        iris(tmp_path, tmp_path / "file" / "cache")
