"""One fit, several shifted test sets: each its own run folder, the one that it would have alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from safetensors.numpy import load_file

from probe.backbones.identity import IdentityBackbone
from probe.core.errors import InputError
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.experiment import run as running
from probe.experiment.request import Run
from probe.experiment.run import prepare, run_once
from probe.features.store import FeatureStore
from probe.heads.linear import LinearProbe
from probe.heads.ncm import NearestClassMean
from probe.heads.none import NoHead
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.full import Full


def animals(name, shift=0.0, classes=("ant", "bee", "cow"), n=60):
    rng, parts = np.random.default_rng(len(name)), {}
    for part in ("train", "test"):
        labels = np.arange(n) % len(classes)
        means = 2 * np.eye(3)[[("ant", "bee", "cow").index(c) for c in classes]]
        rows = rng.normal(size=(n, 3)) + means[labels] + shift
        parts[part] = ArrayPartition(rows.astype(np.float32), labels, [str(i) for i in range(n)])
    return make_dataset(name, list(classes), parts)


@pytest.fixture
def asked(tmp_path):
    def make(**changes):
        request = {
            "backbone": IdentityBackbone(), "dataset": animals("here"), "protocol": Full(),
            "head": LinearProbe(Cs=[0.1, 1.0]), "store": FeatureStore(tmp_path / "cache"),
            "folder": tmp_path / "runs", "device": "cpu",
        }  # fmt: skip
        return Run(**(request | changes))

    return make


SETS = {"near": animals("near", 0.5), "far": animals("faraway", 1.5), "some": animals("some", 0.2, ("bee", "ant"))}


@pytest.mark.parametrize("changes", [{}, {"standardize": True}, {"head": NoHead()}, {"calibrate": True}], ids=str)
def test_each_set_has_the_run_that_it_would_have_alone(asked, tmp_path, changes):
    if "head" in changes:
        changes = {**changes, "protocol": Full(0.0)}
    named = prepare(asked(shifted=SETS, **changes))
    folder, is_new = running.carry_out_once(named)
    assert is_new
    assert json.loads((folder / "result.json").read_text())["labels"]["dataset"] == "here"
    for (place, dataset), beside in zip(SETS.items(), named.beside, strict=True):
        alone = run_once(asked(test_on=dataset, folder=tmp_path / "alone", **changes))[0]
        assert alone.name == beside.folder.name, place
        found, expected = (json.loads((one / "result.json").read_text()) for one in (beside.folder, alone))
        assert found["labels"]["dataset"] == f"here to {dataset.name}"
        assert found["metrics"] == expected["metrics"]
        assert found["run"]["digest"] == expected["run"]["digest"]
        if "head" not in changes:
            kept, heads = ([load_file(one / f) for one in (beside.folder, alone)]
                           for f in ("predictions.safetensors", "head.safetensors"))  # fmt: skip
            assert_array_equal(kept[0]["logits"], kept[1]["logits"])
            for name, values in heads[1].items():
                assert_array_equal(heads[0][name], values)
    assert not running.carry_out_once(named)[1]


def test_the_head_is_fitted_once(asked, monkeypatch):
    fits = []
    fit = NearestClassMean.fit
    monkeypatch.setattr(NearestClassMean, "fit", lambda *given, **more: fits.append(1) or fit(*given, **more))
    run_once(asked(shifted=SETS, head=NearestClassMean()))
    assert len(fits) == 1
    run_once(asked(shifted={**SETS, "more": animals("one more", 3.0)}, head=NearestClassMean()))
    assert len(fits) == 2


def test_tasks_are_fitted_for_each_set(asked):
    named = prepare(asked(shifted={"near": SETS["near"]}, head=NearestClassMean(), protocol=ClassIncremental(3)))
    running.carry_out_once(named)
    for one in (named, *named.beside):
        assert "a_avg" in json.loads((one.folder / "result.json").read_text())["metrics"]


def test_two_sets_of_one_name_are_refused(asked):
    both = {"one": SETS["near"], "two": replace(SETS["far"], name="near")}
    with pytest.raises(InputError, match=r"test_on has one and two, which are both called near.*set test_on.two.name="):
        run_once(asked(shifted=both))


def test_a_class_that_is_not_known_is_refused_before_a_row_is_read(asked, tmp_path):
    with pytest.raises(InputError, match="dataset birds tests class dog that dataset here does not know"):
        run_once(asked(shifted={**SETS, "other": replace(animals("birds"), class_names=("ant", "bee", "dog"))}))
    assert not (tmp_path / "cache").exists()
