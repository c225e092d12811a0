from __future__ import annotations

import numpy as np
import pytest

from probe.heads.linear import LinearProbe
from probe.heads.ncm import NearestClassMean
from probe.heads.ridge import RidgeProbe
from probe.protocols.few_shot import FewShot
from probe.protocols.folded import fit_on_folds

CS = [1e-4, 1e-2, 1.0, 100.0]


@pytest.fixture
def few(make_dataset):
    """Features, labels and folds of four rows of each of three classes."""
    dataset = make_dataset([20, 20, 20])
    split = FewShot(4).split(dataset, 0)
    labels = dataset.partitions["train"].labels[split.train.indices]
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 5)) + 1.5 * np.eye(3, 5)[labels], labels, split.folds


def test_the_choice_is_that_of_a_loop_over_the_folds(few):
    X, y, folds = few
    scores = []
    for C in CS:
        right = 0
        for fold in range(5):
            part = LinearProbe(Cs=[C]).fit(X[folds != fold], y[folds != fold])
            right += (part.predict(X[folds == fold]) == y[folds == fold]).sum()
        scores.append(right / 12)
    head = fit_on_folds(LinearProbe(Cs=CS, refit=False), X, y, folds)
    assert [entry["score"] for entry in head.selection_["searched"]] == pytest.approx(scores)
    assert scores[CS.index(head.selection_["chosen"]["C"])] == max(scores)
    assert head.selection_["on"] == "5 folds of the training rows"


def test_the_head_is_fitted_on_all_rows_with_the_choice(few):
    X, y, folds = few
    head = fit_on_folds(LinearProbe(Cs=CS), X, y, folds)
    plain = LinearProbe(Cs=[head.selection_["chosen"]["C"]]).fit(X, y)
    assert head.logits(X) == pytest.approx(plain.logits(X), abs=1e-6)


def test_rows_that_are_never_held_out_train_in_every_fold(few):
    X, y, folds = few
    folds = np.where(np.arange(12) < 6, -1, folds)
    assert fit_on_folds(LinearProbe(Cs=CS), X, y, folds).selection_["on"].endswith("folds of the training rows")


@pytest.mark.parametrize("head", [NearestClassMean(), RidgeProbe()], ids=lambda head: type(head).__name__)
def test_heads_that_need_no_validation_rows_are_fitted_once(few, head):
    X, y, folds = few
    assert fit_on_folds(head, X, y, folds).logits(X) == pytest.approx(type(head)().fit(X, y).logits(X))


def test_ties_go_to_the_middle_of_the_grid(few):
    _, y, folds = few
    head = fit_on_folds(LinearProbe(Cs=[1.0, 3.0, 10.0, 30.0, 100.0]), 9 * np.eye(3)[y], y, folds)
    assert {entry["score"] for entry in head.selection_["searched"]} == {1.0}
    assert head.selection_["chosen"] == {"C": 10.0}
