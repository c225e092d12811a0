import re

import numpy as np
import pytest

from probe.core import targets
from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.targets.number import Number
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.subsets import limited
from probe.protocols.cross_validation import CrossValidation
from probe.protocols.easy_to_hard import EasyToHard
from probe.protocols.few_shot import FewShot
from probe.protocols.fraction import Fraction
from probe.protocols.full import Full
from probe.protocols.holdout import Holdout
from probe.protocols.rows import RandomRows
from probe.protocols.shared.groups import keep_together
from probe.protocols.shared.strata import with_strata


def part(labels, start=0):
    n, target = len(labels), Number()
    return ArrayPartition(np.arange(start, start + n)[:, None] * 1.0, labels, [str(i) for i in range(n)], target=target)


def dataset(n=300, columns=1, seed=0, **more):
    rng = np.random.default_rng(seed)
    made = {name: rng.exponential(size=(m, columns)) for name, m in (("train", n), ("test", 100))}
    parts = {"train": part(made["train"]), "test": part(made["test"], n)}
    return make_dataset("x", [f"y{k}" for k in range(columns)], parts, target=Number(**more))


def test_numbers_are_held_as_they_are_and_one_column_as_a_vector():
    assert Number().held([[1], [2]]).tolist() == [1.0, 2.0]
    assert Number().held(np.array([1, 2], np.int8)).dtype == np.float64
    assert Number().held(np.ones((3, 2))).shape == (3, 2)
    with pytest.raises(InputError, match="numbers to predict are <U1, expected numbers: convert them"):
        Number().held(["a"])


@pytest.mark.parametrize(
    ("train", "test", "names", "text"),
    [
        ([1.0, 2.0, np.nan], [1.0], "y", "train has 1 numbers that are not finite, the first is nan in row 2 (2), col"),
        ([1.0, np.inf], [1.0], "y", "train has 1 numbers that are not finite, the first is inf in row 1 (1), column y"),
        ([3.0, 3.0], [1.0], "y", "in train y is the same number in every row; expected finite numbers that differ"),
        ([3.0], [1.0], "y", "train has 1 row;"),
        ([1.0, 2.0], [], "y", "test has no rows"),
        ([[1.0, 2.0], [3.0, 4.0]], [1.0], "ab", "test has labels of float64 and shape (1,), not 2 numbers per row"),
        ([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0]], "aa", "its columns are named a, a"),
    ],
)
def test_numbers_from_which_nothing_can_be_learnt_are_refused(train, test, names, text):
    parts = {"train": part(np.array(train)), "test": part(np.array(test))}
    with pytest.raises(InputError, match=re.escape(text)):
        make_dataset("x", list(names), parts, target=Number())


def test_missing_numbers_are_dropped_where_asked_and_counted():
    parts = {"train": part([1.0, np.nan, 2.0, 3.0]), "test": part([np.nan, 4.0], 4)}
    data = make_dataset("x", ["y"], parts, target=Number(missing="drop"))
    assert [p.labels.tolist() for p in data.partitions.values()] == [[1, 2, 3], [4]]
    assert data.notes["left_out"] == [
        "1 row of train without a number to predict", "1 row of test without a number to predict",
    ]  # fmt: skip
    with pytest.raises(InputError, match="missing is 'skip', expected refuse or drop: set"):
        Number(missing="skip")


def test_units_are_one_for_each_column_and_are_shown():
    target = Number(("mm", "kg"))
    assert target.shown(np.array([1.25, 3000.0]), ("a", "b")) == "1.25 mm, 3000 kg"
    assert Number().shown(2.0, ("a",)) == "2"
    assert target.facts == {"units": ["mm", "kg"]}
    assert Number().facts == {}
    with pytest.raises(InputError, match=r"it has 2 units \(mm, kg\) for 1 columns"):
        dataset(units=("mm", "kg"))
    what, line, spread = Number(("mm",)).described(np.array([1.0, 2.0, 4.0]), ("a",))
    assert (what, line, spread) == ("numbers to predict: a (mm)", "train values", "a 1 to 4, median 2")


def test_strata_are_tenths_of_the_training_rows_by_size():
    y = np.random.default_rng(0).permutation(1000) * 0.1
    strata = Number().strata(y)
    assert np.bincount(strata).tolist() == [100] * 10
    np.testing.assert_array_equal(strata, (y * 10 // 100).astype(int))
    assert Number().strata(np.array([-5.0, 49.96, 1e9]), y).tolist() == [0, 5, 9]


def test_a_stratum_has_ten_rows_at_least_and_equal_numbers_one_stratum():
    assert set(Number().strata(np.arange(19.0))) == {0}
    assert set(Number().strata(np.arange(25.0))) == {0, 1}
    grades = np.repeat([1.0, 2.0, 3.0], [195, 3, 102])
    strata = Number().strata(grades)
    assert [len(set(strata[grades == g])) for g in (1, 2, 3)] == [1, 1, 1]
    assert np.bincount(strata).min() >= 15


def test_neither_unit_nor_order_moves_a_stratum():
    Y = np.random.default_rng(0).normal(size=(237, 2))
    strata, order = Number().strata(Y), np.random.default_rng(1).permutation(237)
    np.testing.assert_array_equal(Number().strata(Y * [1e-6, 1e9] + 7), strata)
    np.testing.assert_array_equal(Number().strata(Y[order]), strata[order])


@pytest.mark.parametrize(
    "protocol",
    [Full(), Fraction(0.5), RandomRows(n=80, stratified=True), CrossValidation(), Holdout(), FewShot(6)],
    ids=lambda p: p.name,
)
def test_every_draw_spans_the_whole_range(protocol):
    data = dataset()
    y, split = data.partitions["train"].labels, protocol.split(with_strata(data), 0)
    parts = [rows for rows in split.parts.values() if rows.partition == "train" and len(rows)]
    assert len(parts) >= 2
    for rows in parts:
        drawn = y[rows.indices]
        assert abs(np.mean(drawn < np.median(y)) - 0.5) < 0.06
        assert abs(np.mean(drawn > np.quantile(y, 0.9)) - 0.1) < 0.06


def test_easy_to_hard_takes_easy_rows_of_every_size():
    data = dataset()
    for partition in data.partitions.values():
        partition.hardness = np.arange(len(partition), dtype=float)
    split = EasyToHard(hardness=None).split(with_strata(data), 0)
    easy = data.partitions["train"].labels[np.concatenate([split.train.indices, split.validation.indices])]
    assert abs(np.mean(easy < np.median(data.partitions["train"].labels)) - 0.5) < 0.05


@pytest.mark.parametrize("protocol", [Full(), CrossValidation(), Holdout(), Fraction(0.5)], ids=lambda p: p.name)
def test_groups_stay_together(protocol):
    data = dataset()
    groups = np.random.default_rng(0).permutation(300) // 6
    data.partitions["train"].groups = groups
    seen = with_strata(data)
    split = keep_together(seen, protocol.split(seen, 0), protocol.name)
    parts = [set(groups[rows.indices]) for rows in split.parts.values() if rows.partition == "train"]
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_a_dry_run_spans_the_range_too():
    cut = limited(dataset(), 20).partitions["train"].labels
    assert len(cut) == 20
    assert cut.max() > 1.5


def test_records_name_the_target():
    assert targets.named("number") == Number()
    assert Number().fits_record(np.array([1.0, 2.0]), 1) == ""
    assert Number().fits_record(np.array([1.0, np.nan]), 1) == "are not 1 finite numbers per row"
    assert Dataset("x", ("y",), {"train": part([1.0, 2.0])}, target=Number()).faults() == []
