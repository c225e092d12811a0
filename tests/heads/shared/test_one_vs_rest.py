import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier

from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.experiment.choosing import fit
from probe.heads.linear import LinearProbe
from probe.heads.shared.head import Head
from probe.heads.shared.one_vs_rest import OneVsRestLinear


def draw(n=240, seed=0, n_labels=4, width=6):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, width))
    W = np.random.default_rng(99).normal(size=(width, n_labels))
    targets = (X @ W + random.normal(size=(n, n_labels)) > np.linspace(-1, 2, n_labels)).astype(np.int64)
    return X, targets


def test_linear_stands_for_it_with_the_same_parameters():
    head = LinearProbe(Cs=[0.1, 1.0], scaling="standard", tol=1e-8).for_target("labels")
    assert isinstance(head, OneVsRestLinear)
    given = LinearProbe(Cs=[0.1, 1.0], scaling="standard", tol=1e-8).get_params()
    assert head.get_params() == {n: v for n, v in given.items() if n not in ("class_weight", "logit_adjustment")}


@pytest.mark.parametrize("C", [0.01, 1.0])
def test_coefficients_are_those_of_scikit_learn_label_by_label(C):
    X, targets = draw()
    ours = OneVsRestLinear(Cs=[C], tol=1e-12).fit(X, targets)
    theirs = OneVsRestClassifier(LogisticRegression(C=C, tol=1e-10, max_iter=1000)).fit(X, targets)
    for k, binary in enumerate(theirs.estimators_):
        np.testing.assert_allclose(ours.coef_[k], binary.coef_[0], atol=1e-5)
        np.testing.assert_allclose(ours.intercept_[k], binary.intercept_[0], atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(np.exp(ours.predict_log_proba(X)), ours.predict_proba(X), rtol=1e-12)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert not hasattr(ours, "selection_")


def test_the_c_of_best_validation_map_is_chosen_and_refitted_on_all_rows():
    (X, y), (X_val, y_val) = draw(60), draw(80, seed=1)
    Cs = [1e-4, 1e-2, 1.0]
    head = OneVsRestLinear(Cs=Cs, tol=1e-10).fit(X, y, validation=(X_val, y_val))
    scores = [average_precision_score(y_val, OneVsRestLinear(Cs=[C], tol=1e-10).fit(X, y).logits(X_val)) for C in Cs]
    assert [c["score"] for c in head.selection_["searched"]] == pytest.approx(scores, abs=1e-6)
    assert head.selection_["on"] == "validation"
    assert Cs[int(np.argmax(scores))] == head.C_
    whole = OneVsRestLinear(Cs=[head.C_], tol=1e-10).fit(np.concatenate([X, X_val]), np.concatenate([y, y_val]))
    np.testing.assert_allclose(head.coef_, whole.coef_, atol=1e-4)
    assert head.Cs_.tolist() == Cs
    stays = OneVsRestLinear(Cs=Cs, tol=1e-10, refit=False).fit(X, y, validation=(X_val, y_val))
    np.testing.assert_allclose(stays.coef_, OneVsRestLinear(Cs=[head.C_], tol=1e-10).fit(X, y).coef_, atol=1e-4)


def test_without_validation_a_tenth_is_held_out():
    head = OneVsRestLinear(Cs=3).fit(*draw())
    assert head.selection_["on"] == "a tenth of the training rows"
    np.testing.assert_array_equal(head.coef_, clone(head).fit(*draw()).coef_)


def test_labels_at_no_row_or_at_every_one_get_their_log_odds():
    X, targets = draw(50)
    targets[:, 1], targets[:, 2] = 0, 1
    head = OneVsRestLinear(Cs=[1.0]).fit(X, targets)
    assert not head.coef_[1:3].any()
    np.testing.assert_allclose(head.intercept_[1:3], [np.log(0.5 / 50.5), np.log(50.5 / 0.5)])
    with pytest.raises(InputError, match="all 2 labels stand at no training row or at all"):
        OneVsRestLinear().fit(X, targets[:, 1:3])


def test_rows_on_disk_give_what_rows_in_memory_give(tmp_path):
    X, targets = draw()
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    inside, outside = np.arange(150), np.arange(150, 240)
    lazy = OneVsRestLinear(Cs=3).fit(
        RowSubset(stored, inside), targets[inside], validation=(RowSubset(stored, outside), targets[outside])
    )
    X = X.astype(np.float32)
    plain = OneVsRestLinear(Cs=3).fit(X[inside], targets[inside], validation=(X[outside], targets[outside]))
    np.testing.assert_allclose(lazy.coef_, plain.coef_, rtol=1e-4, atol=1e-5)
    assert lazy.C_ == plain.C_


def test_save_and_load_keep_every_bit(tmp_path):
    X, targets = draw()
    head = OneVsRestLinear(Cs=3, scaling="l2").fit(X, targets)
    head.save(tmp_path / "head.safetensors")
    copy = Head.load(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(copy.logits(X), head.logits(X))
    np.testing.assert_array_equal(copy.predict(X), head.predict(X))


def test_few_rows_choose_on_folds():
    X, targets = draw(40)
    head = LinearProbe(Cs=[0.01, 1.0]).for_target("labels")
    head = fit(head, (X, targets), (None, targets[:0]), np.arange(40) % 5, {})
    assert isinstance(head, OneVsRestLinear)
    assert head.selection_["on"] == "5 folds of the training rows"
    assert head.selection_["chosen"] == {"C": head.C_}


@pytest.mark.parametrize("y", [np.zeros(50, int), np.full((50, 2), 2), np.ones((49, 2), int), np.ones((50, 1), int)])
def test_other_labels_are_refused(y):
    with pytest.raises(InputError, match=r"for 50 rows, expected \(rows, labels\) of zeros and ones"):
        OneVsRestLinear().fit(draw(50)[0], y)
