from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chisquare

from probe.core.base import digest
from probe.core.errors import InputError
from probe.protocols.rows import RandomRows, chance_of_all_classes


def drawn(dataset, n, seed=0, **others):
    split = RandomRows(n, **others).split(dataset, seed)
    return np.sort(np.concatenate([split.train.indices, split.validation.indices]))


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("n", [4, 5, 30, 179, 180])
def test_n_rows_with_every_class(make_dataset, n, stratified):
    dataset = make_dataset([60, 60, 50, 10])
    rows = drawn(dataset, n, stratified=stratified)
    assert len(rows) == len(set(rows)) == n
    assert set(dataset.partitions["train"].labels[rows]) == {0, 1, 2, 3}


def test_stratified_keeps_the_shares(make_dataset):
    dataset = make_dataset([600, 300, 100])
    rows = drawn(dataset, 100, stratified=True)
    assert np.bincount(dataset.partitions["train"].labels[rows]).tolist() == [60, 30, 10]


def test_random_draws_are_uniform_over_the_sets_that_hold_every_class(make_dataset):
    dataset = make_dataset([3, 2])
    labels = dataset.partitions["train"].labels
    valid = [c for c in combinations(range(5), 2) if len(set(labels[list(c)])) == 2]
    times = {c: 0 for c in valid}
    for seed in range(1200):
        times[tuple(drawn(dataset, 2, seed).tolist())] += 1
    assert chisquare(list(times.values())).pvalue > 1e-3


def test_rows_are_frozen(make_dataset):
    assert drawn(make_dataset([10, 10]), 4).tolist() == [3, 6, 13, 14]
    assert digest(drawn(make_dataset([400] * 25), 150, seed=3).tolist()) == "7d6ca0542518afcad2a1383d3a8a2191"
    assert (
        digest(drawn(make_dataset([400] * 25), 150, seed=3, stratified=True).tolist())
        == "e6fcaaea156aba8810ccc45ea1d6c116"
    )


@pytest.mark.parametrize("n", [2, 21])
def test_n_outside_is_refused(make_dataset, n):
    with pytest.raises(InputError, match=f"n is {n}, but dataset rows has 3 classes and 20 training rows"):
        RandomRows(n).split(make_dataset([10, 5, 5]), 0)


def test_hopeless_redrawing_is_refused_at_once(make_dataset):
    with pytest.raises(InputError, match=r"a random draw of n = 60 rows hardly ever holds all 50 classes .*stratified"):
        RandomRows(60).split(make_dataset([100] * 50), 0)
    RandomRows(60, stratified=True).split(make_dataset([100] * 50), 0)


@pytest.mark.parametrize(("counts", "n"), [([3, 2], 2), ([5, 1, 4], 4), ([2, 2, 2], 3)])
def test_chance_is_an_upper_bound(counts, n):
    labels = np.repeat(np.arange(len(counts)), counts)
    sets = list(combinations(range(len(labels)), n))
    exact = np.mean([len(set(labels[list(s)])) == len(counts) for s in sets])
    assert exact <= chance_of_all_classes(np.array(counts), n) <= min(1, 3 * exact)
