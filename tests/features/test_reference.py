"""Rows of the store by reference: what a head keeps of them, and what becomes of it where they are pruned."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from probe.backbones.identity import IdentityBackbone
from probe.core import tensors
from probe.core.arrays import RowStack, RowSubset
from probe.core.errors import StoreError
from probe.core.lazy import Entries, Scaled
from probe.datasets.sklearn import load
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.reference import reference_to, rows_behind
from probe.features.store import FeatureStore
from probe.heads.knn import KNearest
from probe.heads.shared.head import Head
from probe.protocols.full import Full
from probe.results.reader import read_predictions


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Features of wine in a cache of their own."""
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    return FeatureStore().get(IdentityBackbone(), load(name="wine"), "train", ["pooled"], progress=False)


def test_rows_come_back_from_a_reference_however_they_were_picked_and_scaled(stored):
    X = stored.arrays["pooled"]
    random = np.random.default_rng(0)
    rows = random.permutation(len(X))[:30]
    mean, scale = random.normal(size=13), random.uniform(1, 2, size=13)
    stack = RowStack([RowSubset(X, rows), RowSubset(Scaled(X, mean, scale), np.arange(5, 60))])
    for array in (X, RowSubset(X, rows), RowSubset(X, np.arange(7)), RowSubset(X, rows[:0]), stack):
        reference = json.loads(json.dumps(reference_to(array)))
        again = rows_behind(reference, "")
        assert again.dtype == array.dtype
        np.testing.assert_array_equal(again[:], array[:])


def test_a_reference_to_many_rows_in_order_is_short(stored):
    X = stored.arrays["pooled"]
    assert reference_to(RowSubset(X, np.arange(80)))["rows"] == [[0, 80]]


def test_what_lies_outside_of_the_store_has_no_reference(stored, tmp_path):
    X = stored.arrays["pooled"]
    np.save(tmp_path / "x.npy", X[:])
    elsewhere = np.load(tmp_path / "x.npy", mmap_mode="r")
    drawn = Entries(np.zeros((4, 2, 3)), np.zeros(4, dtype=np.int64))
    for array in (X[:], elsewhere, RowSubset(elsewhere, np.arange(3)), RowStack([X, X[:]]), drawn):
        assert reference_to(array) is None


def test_a_head_saves_rows_from_elsewhere_and_refers_to_those_of_the_store(stored, tmp_path):
    X, y = stored.arrays["pooled"], stored.labels
    for array, kept in ((X, False), (RowSubset(X, np.arange(len(X))), False), (X[:], True)):
        head = KNearest([3], temperatures=[0.1]).fit(array, y)
        head.save(tmp_path / "head.safetensors")
        assert ("rows_" in tensors.read(tmp_path / "head.safetensors")[0]) == kept
        np.testing.assert_array_equal(Head.load(tmp_path / "head.safetensors").logits(X[:]), head.logits(X[:]))


def request(folder, **more):
    dataset = load(name="wine")
    return Run(IdentityBackbone(), dataset, Full(), KNearest([1, 5]), FeatureStore(), folder, **more)


@pytest.mark.parametrize("standardize", [False, True])
def test_the_head_of_a_run_predicts_from_its_reference_what_the_run_said(stored, tmp_path, standardize):
    folder = run(request(tmp_path / "runs", standardize=standardize))
    assert "rows_" not in tensors.read(folder / "head.safetensors")[0]
    predictions = read_predictions(folder)
    test = FeatureStore().get(IdentityBackbone(), load(name="wine"), "test", ["pooled"], progress=False)
    logits = Head.load(folder / "head.safetensors").logits(test.arrays["pooled"][predictions["row"]])
    np.testing.assert_array_equal(logits.astype(np.float32), predictions["logits"])


def test_rows_that_were_pruned_are_told_and_the_remedy_brings_them_back(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "probe", "dataset=wine", "head=knn"], check=True, capture_output=True)
    (folder,) = (tmp_path / "runs" / "default").glob("identity-wine*")
    rows = Head.load(folder / "head.safetensors").rows_[:]
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(
        StoreError, match=r"the rows of this head are features \(pooled, float32\) of identity on wine/"
    ) as told:
        Head.load(folder / "head.safetensors")
    command = str(told.value).partition("`")[2].partition("`")[0]
    assert command.startswith("probe reproduce ")
    subprocess.run([sys.executable, "-m", *command.split()], check=True, capture_output=True)
    np.testing.assert_array_equal(Head.load(folder / "head.safetensors").rows_[:], rows)


def test_a_head_without_a_run_says_that_its_rows_were_pruned(stored, tmp_path):
    KNearest([3]).fit(stored.arrays["pooled"], stored.labels).save(tmp_path / "head.safetensors")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(StoreError, match="extract them again, or fit the head again, or set PROBE_CACHE to the cache"):
        Head.load(tmp_path / "head.safetensors")
