"""Grids for numbers and for several labels, against the head of one cell on each of them."""

import numpy as np
import pytest

import probe
from probe.core.errors import DoesNotFit, InputError
from probe.heads.grid import GridProbe
from probe.heads.shared.cell_heads import LinearLabelCells, RidgeCells
from probe.heads.shared.one_vs_rest import OneVsRestLinear
from probe.heads.shared.ridge_numbers import RidgeNumbers

VIT = ("timm", {"name": "test_vit", "pretrained": False, "img_size": 32, "taps": ["blocks.*:mean"]})


@pytest.fixture(scope="module")
def rows():
    """Cells (N, G, D) of which number 2 knows most, numbers (N, 2), and labels (N, 3)."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 4, 6)).astype(np.float32)
    scores = X[:, 2] @ rng.normal(size=(6, 3)) + 0.3 * rng.normal(size=(240, 3))
    return X, scores[:, :2], (scores > 0.5).astype(int)


@pytest.fixture(params=["number", "labels"])
def case(request, rows):
    """A grid, the head of one cell, rows and labels."""
    X, numbers, labels = rows
    if request.param == "number":
        return GridProbe().for_target("number"), RidgeNumbers(), X, numbers
    return GridProbe(Cs=[0.1, 1.0]).for_target("labels"), OneVsRestLinear(Cs=[0.1, 1.0], tol=1e-7), X, labels


def says(head, X):
    return head.logits(X) if isinstance(head, OneVsRestLinear) else head.predict(X)


def test_each_cell_is_the_head_of_one_cell_there(case):
    head, one, X, y = case
    head.fit(X[:100], y[:100], validation=(X[100:160], y[100:160]))
    assert head.cell_ == 2 == head.cell_scores_.argmax()
    assert head.selection_["cell"] == "2"
    for cell in range(4):
        alone = one.fit(X[:100, cell], y[:100], validation=(X[100:160, cell], y[100:160]))
        np.testing.assert_allclose(says(head.of_cell(cell), X[160:]), says(alone, X[160:, cell]), rtol=1e-6, atol=1e-8)
        assert head.cell_Cs_[cell] == (alone.alpha_ if isinstance(one, RidgeNumbers) else alone.C_)
        if cell == head.cell_:
            before = alone.before_refit()
            np.testing.assert_allclose(says(head.before_refit(), X[160:]), says(before, X[160:, cell]), rtol=1e-6)


def test_it_is_saved_whole(case, tmp_path):
    head, _, X, y = case
    head.fit(X[:100], y[:100], validation=(X[100:160], y[100:160])).save(tmp_path / "head.safetensors")
    again = type(head).load(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(says(again, X), says(head, X))
    np.testing.assert_array_equal(again.cell_coefs_, head.cell_coefs_)


def test_folds_choose_cell_and_penalty(case):
    head, _, X, y = case
    head.fit_on_folds(X, y, np.arange(240) % 3)
    assert head.cell_ == 2
    assert head.selection_["on"] == "3 folds of the training rows"
    best = max(one["score"] for one in head.selection_["searched"])
    name = next(iter(head.searches))
    assert {one[name] for one in head.selection_["searched"] if one["score"] == best} == {
        head.selection_["chosen"][name]
    }
    head.fit_on_folds(X, y, np.full(240, -1))
    assert head.cell_coefs_.shape[0] == 4


def test_one_number_keeps_its_shape_and_other_shapes_are_refused(rows):
    X, numbers, _ = rows
    head = RidgeCells().fit(X, numbers[:, 0])
    assert head.predict(X).shape == (240,)
    with pytest.raises(InputError, match="cells has shape"):
        RidgeCells().fit(X[:, 0], numbers)
    assert isinstance(GridProbe().for_target("labels"), LinearLabelCells)
    with pytest.raises(DoesNotFit, match="ridge regression on each cell where numbers are predicted, Cs is of classes"):
        GridProbe(Cs=[1.0]).for_target("number")


@pytest.mark.parametrize(("target", "metric"), [("number", "r2"), ("labels", "mAP")])
def test_a_run_has_a_metric_for_each_cell(target, metric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 32, 32, 3), dtype=np.uint8)
    light = images.mean(axis=(1, 2))
    y = light[:, 0] if target == "number" else (light > np.median(light, axis=0)).astype(int)
    facts = {"target": target} if target == "number" else {"class_names": ["r", "g", "b"]}
    found = probe.run(VIT, ((images, y), facts), "grid", "holdout", quiet=True)
    assert found.grid.metric == metric
    assert len(found.grid.cells) == 6
    chosen = next(c for c in found.grid.cells if c["cell"] == found.record["grid"]["chosen"]["cell"])
    assert found.record["metrics"][metric]["value"] == pytest.approx(chosen["metrics"][metric]["value"])
    assert (found.folder / "grid.png").stat().st_size > 1000
    assert np.isfinite(found.grid.value).all()
