from __future__ import annotations

import time

import numpy as np
import pytest

from probe.core.base import digest
from probe.protocols.shared.draws import order_by_class, priorities, ranks_in_class, spread


def test_random_words_are_frozen():
    assert priorities(3, "f", 0, "train").tolist() == [9152201306757831846, 10147520323154143624, 5780962866760836001]
    assert digest(priorities(10_000, "fingerprint", 123, "train").tolist()) == "beaf60c45401813c9dadb8f1a4ed0ae4"


def test_longer_draws_begin_with_shorter_ones():
    assert priorities(10, "f", 0, "x").tolist() == priorities(100, "f", 0, "x")[:10].tolist()


@pytest.mark.parametrize("other", [("g", 0, "x"), ("f", 1, "x"), ("f", 0, "y")])
def test_each_word_changes_the_draw(other):
    assert priorities(4, "f", 0, "x").tolist() != priorities(4, *other).tolist()


def test_ranks_count_up_within_each_class():
    labels = np.array([2, 0, 2, 2, 0])
    ranks = ranks_in_class(labels, np.array([5, 9, 1, 3, 2], dtype=np.uint64) << np.uint64(40))
    assert ranks.tolist() == [2, 1, 0, 1, 0]


def test_order_by_class_sorts_by_label_then_priority():
    labels = np.random.default_rng(0).integers(0, 9, 500)
    priority = priorities(500, "f", 0, "x")
    assert order_by_class(labels, priority).tolist() == np.lexsort((priority, labels)).tolist()


def test_equal_priorities_keep_the_order_of_the_rows():
    assert order_by_class(np.array([1, 0, 1, 0]), np.zeros(4, dtype=np.uint64)).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("fraction", [0.0, 0.013, 0.2, 0.5, 1.0])
def test_spread_keeps_the_total_and_each_share_within_one(fraction):
    counts = np.random.default_rng(1).integers(1, 40, 200)
    parts = spread(counts, fraction)
    assert parts.sum() == np.floor(fraction * counts.sum() + 0.5)
    assert np.abs(parts - fraction * counts).max() <= 1


def test_ten_draws_from_imagenet_sized_labels_take_two_seconds():
    labels = np.arange(1_300_000) % 1000
    start = time.process_time()
    for seed in range(10):
        ranks_in_class(labels, priorities(len(labels), "f", seed, "train"))
    assert time.process_time() - start < 2
