import numpy as np
import pytest

import probe
from probe.core.lazy import Outputs
from probe.core.targets import named
from probe.experiment import outputs
from probe.heads.ncm import NearestClassMean
from probe.heads.shared import base


@pytest.fixture(scope="module")
def many_classes():
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(120), 2)
    X = (rng.standard_normal((120, 3))[y] + 0.3 * rng.standard_normal((240, 3))).astype(np.float32)
    return NearestClassMean().fit(X[:200], y[:200]), X, y


def test_what_rows_say_in_chunks_is_what_they_say_at_once(many_classes, monkeypatch):
    head, X, _ = many_classes
    logits, predicted, shares = head.logits(X), head.predict(X), head.predict_proba(X)
    sizes = []
    own = NearestClassMean._logits
    monkeypatch.setattr(NearestClassMean, "_logits", lambda self, rows: sizes.append(len(rows)) or own(self, rows))
    monkeypatch.setattr(base, "CHUNK_BYTES", 8 * 120 * 50)
    np.testing.assert_allclose(head.logits(X), logits, rtol=1e-12)
    assert max(sizes) <= 50  # rows of 3 features, which say 120 numbers
    assert np.array_equal(head.predict(X), predicted)
    np.testing.assert_allclose(head.predict_proba(X), shares, rtol=1e-12)


def test_outputs_look_like_the_array_that_they_stand_for(many_classes):
    head, X, _ = many_classes
    whole = named("one_class").outputs(head, X, 120)
    lazy = Outputs(lambda rows: whole[rows], whole.shape)
    assert (len(lazy), lazy.ndim, lazy.dtype) == (240, 2, np.float32)
    assert np.array_equal(lazy[10:20], whole[10:20])
    assert np.array_equal(lazy[np.array([5, 3])], whole[[5, 3]])
    assert np.array_equal(np.asarray(lazy), whole)
    assert np.asarray(lazy, dtype=np.float64).dtype == np.float64


def test_a_run_whose_logits_are_computed_in_chunks_has_the_numbers_of_one_that_holds_them(tmp_path, monkeypatch):
    def run(folder):
        given = {"dataset": "iris", "head": ("linear", {"Cs": [0.1, 1.0]}), "backbone": "identity"}
        return probe.run(**given, save_logits=True, runs=tmp_path / folder, quiet=True)

    held = run("held")
    monkeypatch.setattr(outputs, "HELD_BYTES", 0)
    computed = run("computed")
    assert computed.record["metrics"] == held.record["metrics"]
    ours, theirs = computed.predictions, held.predictions
    assert sorted(ours) == sorted(theirs)
    for name in ours:
        assert np.array_equal(ours[name], theirs[name])
