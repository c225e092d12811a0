"""Conformal sets of label sets against brute force, the reference values, and their promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file

from probe.metrics.evaluate import measure
from probe.metrics.label_sets import answers, from_uniform, label_sets, nonconformity, p_values
from probe.metrics.shared.thresholds import threshold


def drawn(n, K=6, seed=0):
    rng = np.random.default_rng(seed)
    o = rng.beta(0.5, 0.5, size=(n, K))
    return o, (rng.random((n, K)) < o).astype(np.int64)


def frozen_case():
    (held, held_labels), (o, labels) = drawn(60), drawn(40, seed=1)
    scores = answers(o, labels, nonconformity(held, held_labels), 0.8)
    return {name: vars(value) for name, value in measure({"label_sets": scores}).metrics.items()}


def as_rows(sets):
    return {tuple(row) for row in np.asarray(sets, dtype=int).tolist()}


@pytest.mark.parametrize("path", files_of("label_sets"), ids=lambda path: getattr(path, "stem", "none"))
@pytest.mark.parametrize("power", [1, 2])
def test_sets_and_p_values_are_those_of_the_released_reference(path, power):
    data = load_file(path)
    o, every, own = data["input.test_scores"], data["input.all_label_sets"].astype(int), f"output.p{power}."
    held = nonconformity(data["input.calibration_scores"], data["input.calibration_labels"], power)
    np.testing.assert_allclose(held, data[own + "calibration_alpha"] ** power, rtol=1e-9)
    truth = nonconformity(o, data["input.test_labels"], power)
    for i, row in enumerate(o):
        found = p_values(nonconformity(row[None], every, power), held)
        np.testing.assert_allclose(found, data[own + "p_values"][i], atol=1e-12)
        for e, epsilon in enumerate(data["hyper.epsilons"].tolist()):
            limit = threshold(held, 1 - epsilon)
            sets, cut = label_sets(row, limit, power)
            assert not cut
            assert as_rows(sets) == as_rows(every[data[f"{own}eps{e}.in_set"][i].astype(bool)])
            assert (truth[i] <= limit + 1e-12) == bool(data[f"{own}eps{e}.covers_truth"][i])


@pytest.mark.parametrize("path", files_of("label_sets"), ids=lambda path: getattr(path, "stem", "none"))
def test_sets_of_many_labels_are_those_of_the_released_reference(path):
    data = load_file(path)
    held = nonconformity(data["input.many.calibration_scores"], data["input.many.calibration_labels"])
    limit, o = threshold(held, 1 - float(data["hyper.many.epsilon"])), data["input.many.test_scores"]
    packed, rows = data["output.many.p2.label_sets_packed_bits"], data["output.many.p2.rows"]
    for i, row in enumerate(o):
        expected = np.unpackbits(packed[rows == i], axis=1)[:, : o.shape[1]]
        assert as_rows(label_sets(row, limit)[0]) == as_rows(expected)


def test_the_pruned_search_finds_what_brute_force_finds_at_twelve_labels():
    o, _ = drawn(3, K=12)
    every = np.array(list(itertools.product([0, 1], repeat=12)))
    for row, limit in itertools.product(o, (0.3, 1.2, 2.5)):
        sets, cut = label_sets(row, limit)
        scores = nonconformity(row[None], every)
        assert as_rows(sets) == as_rows(every[scores <= limit])
        assert not cut
        assert (np.diff(nonconformity(row[None], sets.astype(int))) >= -1e-12).all()


def test_answers_grow_with_the_level_and_all_sets_belong_where_too_few_rows_are_held_out():
    (held, labels), (o, _) = drawn(30), drawn(5, K=6, seed=1)
    scores = nonconformity(held, labels)
    small, large = (as_rows(label_sets(o[0], threshold(scores, level))[0]) for level in (0.5, 0.9))
    assert small <= large
    assert len(label_sets(o[0], threshold(scores, 0.99))[0]) == 2**6


def test_what_is_cut_is_told_and_no_more_is_counted():
    sets, cut = label_sets(np.full(40, 0.5), np.inf, most=500)
    assert (len(sets), cut) == (500, True)


def test_the_true_set_is_in_the_answer_as_often_as_promised_and_not_where_rows_are_fitted_on():
    hits, unfair = [], []
    for seed in range(150):
        (held, held_labels), (o, labels) = drawn(99, seed=seed), drawn(20, seed=1000 + seed)
        scores = nonconformity(held, held_labels)
        hits.append(answers(o, labels, scores, 0.9).covered.mean())
        unfair.append((nonconformity(o, labels) <= threshold(scores / 2, 0.9)).mean())
    assert abs(np.mean(hits) - 0.9) < 0.02
    assert np.mean(unfair) < 0.8


def test_p_values_of_exchangeable_rows_are_near_uniform():
    (held, held_labels), (o, labels) = drawn(2000), drawn(2000, seed=1)
    fair = answers(o, labels, nonconformity(held, held_labels), 0.9)
    assert from_uniform(fair.truth) < 0.05
    assert from_uniform(np.full(50, 0.9)) == pytest.approx(0.9)
