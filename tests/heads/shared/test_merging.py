"""Heads of parts of the rows, merged: the head of all rows."""

import multiprocessing
import os
import socket
import sys

import numpy as np
import pytest
from merging_child import CLASSES, STREAMING, fresh, merge_as_rank, parts_of, rows

from probe.core.errors import InputError
from probe.heads.naive_bayes import NaiveBayes
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.merging import load_part, merge_heads, merge_tree, save_part
from probe.heads.shared.moments import ClassMoments


def assert_same(head, other, rtol=1e-12):
    X, _ = rows(seed=1)
    for attribute in ("class_count_", "means_", "theta_", "var_", "coef_", "intercept_"):
        if hasattr(other, attribute):
            a, b = getattr(head, attribute), getattr(other, attribute)
            # Relative to the largest of its kind: rounding is, and a coefficient may vanish by chance.
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(), err_msg=attribute)
    a, b = head.logits(X), other.logits(X)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=10 * rtol * np.abs(b).max())


@pytest.mark.parametrize("name", STREAMING)
@pytest.mark.parametrize("n_parts", [1, 2, 3, 7, 16])
def test_merged_heads_equal_the_head_of_all_rows(name, n_parts):
    parts = parts_of(name, n_parts)
    before = parts[0]._moments.counts.copy()
    assert_same(merge_heads(parts), fresh(name).fit(*rows()))
    np.testing.assert_array_equal(parts[0]._moments.counts, before)


@pytest.mark.parametrize("n_parts", [2, 5])
def test_the_moments_of_ridge_and_lda_merge_as_exactly(n_parts):
    X, y = rows(2000)
    X += 1000  # the mean is large beside the spread, and the parts have other first rows to count from
    once = ClassMoments(5, 16, second="full").update(X, y)
    parts = [ClassMoments(5, 16, second="full").update(X[i::n_parts], y[i::n_parts]) for i in range(n_parts)]
    merged = merge_tree(parts)
    np.testing.assert_allclose(merged.sums, once.sums, rtol=1e-14)
    for a, b in ((merged.total(), once.total()), (merged.within(), once.within())):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(b).max())


@pytest.mark.parametrize("name", STREAMING)
def test_parts_travel_through_files_and_take_more_rows(name, tmp_path):
    parts = parts_of(name, 3)
    for i, part in enumerate(parts):
        save_part(part, tmp_path / str(i))
    read = [load_part(tmp_path / str(i)) for i in range(3)]
    merged = merge_heads(read)
    assert_same(merged, merge_heads(parts), rtol=0)
    X, y = rows(50, seed=2)
    X_all, y_all = (np.concatenate(pair) for pair in zip(rows(), (X, y), strict=True))
    assert_same(merged.partial_fit(X, y), fresh(name).fit(X_all, y_all))


SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["merging_child"])


def on_ranks(n_ranks, name, monkeypatch, odd=None):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    pipes = [SERVER.Pipe() for _ in range(n_ranks)]
    processes = [
        SERVER.Process(target=merge_as_rank, args=(rank, n_ranks, port, name, odd, pipe))
        for rank, (_, pipe) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    answers = [here.recv() if here.poll(60) else None for here, _ in pipes]
    for process in processes:
        process.join()
    return answers


def test_ranks_merge_to_the_same_bits_everywhere(monkeypatch):
    answers = on_ranks(3, "naive_bayes", monkeypatch)
    expected = fresh("naive_bayes").fit(*rows()).logits(rows(seed=1)[0])
    for logits in answers:
        np.testing.assert_array_equal(logits, answers[0])
        np.testing.assert_allclose(logits, expected, rtol=1e-11, atol=1e-11)


def test_ranks_that_do_not_belong_together_are_all_told(monkeypatch):
    answers = on_ranks(2, "ncm", monkeypatch, odd=1)
    assert answers[0] == answers[1]
    assert answers[0].startswith("the head of rank 1 has other parameters, classes or features than that of rank 0")


def test_what_does_not_belong_together_is_refused():
    X, y = rows()
    one = NearestClassMean().partial_fit(X, y, classes=CLASSES)
    others = {
        "parameter metric": NearestClassMean(metric="cosine").partial_fit(X, y, classes=CLASSES),
        "the list of classes": NearestClassMean().partial_fit(X, y, classes=np.arange(6)),
        "the number of features": NearestClassMean().partial_fit(X[:, :4], y, classes=CLASSES),
        "the class": NaiveBayes().partial_fit(X, y, classes=CLASSES),
    }
    for fact, other in others.items():
        with pytest.raises(InputError, match=rf"^{fact} is .* in head 1 and .* in head 0: fit all parts with one"):
            merge_heads([one, other])
    with pytest.raises(InputError, match=r"^head 1, a NearestClassMean, holds no sums: fit it, or read it with"):
        merge_heads([one, NearestClassMean()])
    with pytest.raises(InputError, match=r"^there is no head to merge"):
        merge_heads([])


def test_a_folder_that_holds_no_part(tmp_path):
    with pytest.raises(InputError, match=r"head.safetensors is missing: give a folder that save_part wrote"):
        load_part(tmp_path)
