from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from probe.core.errors import InputError
from probe.experiment.tasks import logits_after_each_task
from probe.heads.lda import LinearDiscriminant
from probe.heads.naive_bayes import NaiveBayes
from probe.heads.ncm import NearestClassMean
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.head import Head
from probe.metrics.evaluate import measure
from probe.metrics.incremental import TaskScores
from probe.protocols.class_incremental import ClassIncremental


@pytest.mark.parametrize(
    ("n_classes", "n_tasks", "first", "sizes"),
    [(10, 5, None, [2] * 5), (10, 3, None, [4, 3, 3]), (10, 6, 5, [5, 1, 1, 1, 1, 1]), (4, 4, None, [1] * 4)],
)
def test_every_class_comes_once(make_dataset, n_classes, n_tasks, first, sizes):
    classes = ClassIncremental(n_tasks, first).classes(make_dataset([3] * n_classes), 0)
    assert [len(codes) for codes in classes] == sizes
    assert sorted(np.concatenate(classes)) == list(range(n_classes))


def test_every_training_row_comes_with_its_class(make_dataset):
    dataset = make_dataset([5, 9, 4, 6])
    protocol, labels = ClassIncremental(2), dataset.partitions["train"].labels
    tasks = protocol.tasks(dataset, 3)
    for task, codes in zip(tasks, protocol.classes(dataset, 3), strict=True):
        assert set(labels[task.rows.indices]) == set(task.classes) == set(codes)
    assert sorted(np.concatenate([task.rows.indices for task in tasks])) == list(range(24))


def test_order_is_frozen_and_drawn_by_the_seed(make_dataset):
    dataset = make_dataset([3] * 10)
    order = [np.concatenate(ClassIncremental(5).classes(dataset, seed)).tolist() for seed in (0, 1)]
    assert order[0] == [3, 2, 0, 5, 4, 8, 1, 7, 6, 9]
    assert order[0] != order[1]


@pytest.mark.parametrize(
    ("n_tasks", "first", "text"),
    [
        (5, None, "n_tasks is 5, but dataset rows has only 4 classes, too few for 5 tasks of one class at least"),
        (3, 3, "has only 4 classes, too few for 3 tasks after 3 classes in the first task"),
    ],
)
def test_more_tasks_than_classes_are_refused(make_dataset, n_tasks, first, text):
    with pytest.raises(InputError, match=text):
        ClassIncremental(n_tasks, first).tasks(make_dataset([3] * 4), 0)


@pytest.mark.parametrize(("n_tasks", "first"), [(1, None), (3, 0)])
def test_parameters_outside_are_refused(n_tasks, first):
    with pytest.raises(InputError, match=f"n_tasks is {n_tasks} and first_task {first}, expected at least 2 tasks"):
        ClassIncremental(n_tasks, first)


def clusters(seed=0, k=6, n=30):
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(k), n)
    X = rng.normal(size=(k * n, 8)).astype(np.float32) + 2 * rng.normal(size=(k, 8)).astype(np.float32)[labels]
    return X[: k * 20], labels[: k * 20], X[k * 20 :], labels[k * 20 :]


def learn(head, order):
    X, y, X_test, y_test = clusters()
    tasks = [(X[np.isin(y, codes)], y[np.isin(y, codes)]) for codes in order]
    logits = list(logits_after_each_task(clone(head), tasks, X_test, 6))
    return logits, y_test


ORDERS = ([[0, 1], [2, 3], [4, 5]], [[5, 2], [0, 4], [3, 1]], [[3], [5], [0, 1, 2, 4]])


HEADS = [NearestClassMean(), NaiveBayes(), RidgeProbe([1.0]), LinearDiscriminant()]


def test_heads_of_class_moments_stream():
    assert all(head.streams for head in HEADS)
    assert not LinearDiscriminant("ledoit_wolf").streams


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_closed_form_heads_end_where_the_joint_fit_ends_whatever_the_order(head):
    X, y, X_test, _ = clusters()
    joint = clone(head).fit(X, y).logits(X_test)
    for order in ORDERS:
        logits, _ = learn(head, order)
        assert logits[-1] == pytest.approx(joint, rel=1e-9, abs=1e-9)


def test_ncm_a_last_does_not_depend_on_the_order_bit_for_bit():
    found = set()
    for order in ORDERS:
        logits, y_test = learn(NearestClassMean(), order)
        task_of_class = np.array([next(t for t, codes in enumerate(order) if k in codes) for k in range(6)])
        predicted = np.stack([step.argmax(axis=1) for step in logits])
        found.add(measure({"tasks": TaskScores(predicted, y_test, task_of_class[y_test])}).metrics["a_last"])
    assert len(found) == 1


class Refitted(Head):
    """Stands for a head that needs all rows: class means, and a memory of what it was given."""

    calls: tuple = ()

    def fit(self, X, y, *, validation=None):
        X, codes = self._check_fit(X, y)
        self.means_ = np.stack([X[codes == k].mean(axis=0) for k in range(len(self.classes_))])
        Refitted.calls += (len(X),)
        return self

    def _logits(self, X):
        return X @ self.means_.T - (self.means_**2).sum(axis=1) / 2


def test_other_heads_are_fitted_on_all_rows_so_far():
    Refitted.calls = ()
    assert not Refitted().streams
    logits, _ = learn(Refitted(), ORDERS[2])
    assert Refitted.calls == (40, 120)  # one class alone needs no head
    ncm, _ = learn(NearestClassMean(), ORDERS[2])
    for ours, theirs in zip(logits, ncm, strict=True):
        assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.98


@pytest.mark.parametrize("head", [NearestClassMean(), RidgeProbe(), Refitted()], ids=lambda h: type(h).__name__)
def test_classes_to_come_are_never_predicted(head):
    logits, _ = learn(head, ORDERS[1])
    assert [np.isfinite(step).all(axis=0).nonzero()[0].tolist() for step in logits] == [
        [2, 5],
        [0, 2, 4, 5],
        [0, 1, 2, 3, 4, 5],
    ]
