"""Learning by teaching: what a taught student knows, when the teacher decides alone, and the control beside it."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

import probe
from probe.core.errors import InputError
from probe.heads.teach import LearningByTeaching


def contract_case():
    return {"demonstrations": 1000}


@pytest.fixture(scope="module")
def digits():
    """40 rows that teach, 260 of exams, 400 that test; X and y each."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X, y = X[order], y[order]
    return (X[:40], y[:40]), (X[40:300], y[40:300]), (X[300:700], y[300:700])


@pytest.fixture(scope="module")
def fitted(digits):
    train, exam, _ = digits
    return LearningByTeaching().fit(*train, validation=exam)


def accuracy(logits, head, y):
    return float((head.classes_[logits.argmax(axis=1)] == y).mean())


def test_a_taught_student_is_one_that_is_fitted_again(fitted, digits):
    row = digits[2][0][:1].astype(float)
    z = fitted._scaled(row)
    exams = fitted._exams(row)
    e = fitted._scaled(fitted.exam_rows_)[exams[0]]
    A, weights = np.linalg.inv(fitted.inverses_[0]), fitted.students_[0]
    for c in range(10):
        target = 2 * np.eye(10)[[c]] - 1
        again = np.linalg.solve(A + fitted.weight * z.T @ z, A @ weights + fitted.weight * z.T @ target)
        right = ((e @ again).argmax(1) == fitted.exam_codes_[exams[0]]).mean()
        assert fitted._taught(0, row, np.array([[c]]), exams)[0, 0] == right
        u = z @ fitted.inverses_[0]
        gain = fitted.weight * (e @ u[0])[:, None] / (1 + fitted.weight * (z @ u[0]))
        np.testing.assert_allclose(e @ weights + gain * (target - z @ weights), e @ again, atol=1e-10)


@pytest.mark.parametrize("options", [{"candidates": 1}, {"weight": 0.0}])
@pytest.mark.parametrize("select", ["max", "sum"])
def test_one_candidate_and_a_lesson_of_nothing_leave_the_teacher(digits, options, select):
    train, exam, (X, _) = digits
    head = LearningByTeaching(select=select, **options).fit(*train, validation=exam)
    np.testing.assert_array_equal(head.logits(X).argmax(1), head.beside(X)["teacher"].argmax(1))


def test_names_of_classes_have_no_part(digits, fitted):
    (X, y), (X_exam, y_exam), (X_test, _) = digits
    turned = np.random.default_rng(1).permutation(10)
    head = LearningByTeaching().fit(X, y, validation=(X_exam, y_exam))
    other = LearningByTeaching(demonstrations=40).fit(X, turned[y], validation=(X_exam, turned[y_exam]))
    same = LearningByTeaching(demonstrations=40).fit(X, y, validation=(X_exam, y_exam))
    assert (turned[same.predict(X_test)] == other.predict(X_test)).mean() > 0.99
    np.testing.assert_array_equal(head.predict(X_test), fitted.predict(X_test))


def test_exams_and_demonstrations_are_different_rows_in_any_order(digits):
    (X, y), (X_more, y_more), (X_test, _) = digits
    X, y = np.concatenate([X, X_more]), np.concatenate([y, y_more])
    head = LearningByTeaching().fit(X, y)
    assert len(head.exam_rows_) == pytest.approx(150, abs=10)
    there = {row.tobytes() for row in X.astype(float)}
    assert {row.tobytes() for row in head.exam_rows_} < there
    turned = np.random.default_rng(0).permutation(len(y))
    np.testing.assert_array_equal(LearningByTeaching().fit(X[turned], y[turned]).logits(X_test), head.logits(X_test))


def test_it_is_a_roundabout_use_of_the_exam(digits, fitted):
    train, (X_exam, y_exam), (X, y) = digits
    beside = {name: accuracy(logits, fitted, y) for name, logits in fitted.beside(X).items()}
    taught = accuracy(fitted.logits(X), fitted, y)
    assert beside["teacher"] + 0.03 < taught < beside["knn"]
    shuffled = LearningByTeaching().fit(*train, validation=(X_exam, np.random.default_rng(0).permutation(y_exam)))
    assert accuracy(shuffled.logits(X), shuffled, y) < beside["teacher"]


def test_no_exam_leaves_the_teacher():
    X, y = np.eye(4), np.arange(4)
    head = LearningByTeaching().fit(X, y)
    assert head.predict(X).tolist() == [0, 1, 2, 3]
    assert set(head.beside(X)) == {"teacher"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"candidates": 0}, "candidates is 0, expected a whole number from 1"),
        ({"weight": -1.0, "alpha": 0.0}, "weight is -1.0, expected a number from 0; alpha is 0.0, expected a positive"),
        ({"select": "mean"}, "select is 'mean', expected max or sum"),
    ],
)
def test_parameters_that_cannot_work_are_refused(options, told):
    with pytest.raises(InputError, match=told):
        LearningByTeaching(**options).fit(np.eye(4), np.arange(4))


def test_a_run_has_the_control_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    run = probe.run("identity", "iris", "teach", ("few_shot", {"k": 4}), quiet=True)
    assert set(run.record["beside"]) == {"knn", "teacher"}
    knn = run.record["beside"]["knn"]["top1"]
    assert knn["low"] <= knn["value"] <= knn["high"]
    assert "selection" in run.record
