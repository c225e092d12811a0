"""Data frames that a program holds: names decide, not places, and numbers alone are features."""

import decimal

import numpy as np
import pandas as pd
import pytest

from probe.core.errors import InputError
from probe.datasets.shared.in_memory import dataset_of

X = np.random.default_rng(0).normal(size=(6, 3))
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
Y = [0, 1, 0, 1, 0, 1]
DAYS = pd.Series(pd.date_range("2020", periods=6))


def rows_of(frame):
    part = dataset_of({"train": (frame, Y)}).partitions["train"]
    return np.stack([part[row] for row in range(len(part))])


def ordered(values, categories):
    return pd.Categorical(values, categories, ordered=True)


@pytest.mark.parametrize("map_labels", [False, True])
@pytest.mark.parametrize(
    ("values", "categories", "names"),
    [
        ([2, 1, 0], [2, 1, 0], ("2", "1", "0")),
        ([2, 1, 3], [3, 2, 1], ("3", "2", "1")),
        ([2.0, 1.0, 3.0], [3.0, 2.0, 1.0], ("3", "2", "1")),
        ([True, False, True], [True, False], ("True", "False")),
        (["lo", "hi", "lo"], ["none", "lo", "hi"], ("lo", "hi")),
        ([2, 1, 2], [2, 7, 1], ("2", "1")),
    ],
)
def test_ordered_categories_name_the_classes_that_their_codes_are_of(values, categories, names, map_labels):
    given = ordered(values * 2, categories)
    wanted = [names.index(str(v)) if str(v) in names else names.index(str(int(v))) for v in values * 2]
    for y in (given, pd.Series(given), pd.DataFrame({"grade": given})):
        pairs = {"train": (X, y), "test": (X, values * 2), "validation": (X, ordered(values * 2, categories[::-1]))}
        data = dataset_of(pairs, map_labels=map_labels, ordered=True)
        assert data.class_names == names
        assert [p.labels.tolist() for p in data.partitions.values()] == [wanted] * 3


def test_ordered_categories_that_are_missing_ignored_or_unknown_to_train_are_treated_as_other_labels():
    y = ordered([2, 1, 0] * 2, [2, 1, 0])
    data = dataset_of({"train": (X, y)}, ignore_label=1)
    assert data.class_names == ("2", "0")
    assert data.partitions["train"].labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(InputError, match="row 5 of train has the label nan"):
        dataset_of({"train": (X, ordered([2, 1, 0, 2, 1, None], [2, 1, 0]))})
    with pytest.raises(InputError, match=r"test has 1 row .* none of the 3 classes of train \(7\)"):
        dataset_of({"train": (X, y), "test": (X, [0, 1, 2, 0, 1, 7])})


def test_columns_go_by_their_names_in_every_partition():
    columns = pd.DataFrame({"left": Y, "up": Y[::-1], "on": [1] * 3 + [0] * 3})
    for target in (None, "number"):
        pairs = {"train": (FRAME, columns), "test": (FRAME[["c", "b", "a"]], columns[["on", "left", "up"]])}
        data = dataset_of(pairs, target=target)
        train, test = data.partitions["train"], data.partitions["test"]
        np.testing.assert_array_equal(test[2], train[2])
        np.testing.assert_array_equal(test.labels, train.labels)
    with pytest.raises(InputError, match=r"X of test .* the columns 'd' that train lacks and without 'c' of train"):
        dataset_of({"train": (FRAME, Y), "test": (FRAME.rename(columns={"c": "d"}), Y)})
    with pytest.raises(InputError, match=r"y of test .* the columns none that train lacks and without 'on' of train"):
        dataset_of({"train": (X, columns), "test": (X, columns[["up", "left"]])})
    for which, twice in {"X": FRAME[["b"]].convert_dtypes(), "y": pd.DataFrame({"b": Y})}.items():
        frame = pd.concat([FRAME if which == "X" else columns.rename(columns={"on": "b"}), twice], axis=1)
        with pytest.raises(InputError, match=f"{which} of train is a data frame with 2 columns 'b'"):
            dataset_of({"train": (frame, Y) if which == "X" else (X, frame)})


def test_a_y_of_one_column_names_its_number():
    data = dataset_of({"train": (X, pd.DataFrame({"price": X[:, 0]}))}, target="number")
    assert data.class_names == ("price",)


NO_NUMBERS = {
    "days": DAYS,
    "days with a zone": DAYS.dt.tz_localize("Europe/Berlin"),
    "days as objects": DAYS.astype(object),
    "spans": DAYS - DAYS[0],
    "periods": pd.Series(pd.period_range("2020", periods=6, freq="D")),
    "digits": ["01234"] * 6,
    "digits of pandas": pd.Series(["1", "2"] * 3, dtype="string"),
    "categories of digits": pd.Series(["1", "2"] * 3, dtype="category"),
    "categories of numbers": pd.Series([1, 2] * 3, dtype="category"),
    "complex": X[:, 0] + 1j,
    "beyond floats": [10**400, *Y[1:]],
    "a list": [[1], *Y[1:]],
}


@pytest.mark.parametrize("column", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_number_is_no_feature(column):
    frame = FRAME.assign(**{"of it": column, "1": "x"}).rename(columns={"1": 1})
    with pytest.raises(InputError, match=r"columns 'of it', 1 hold no numbers: leave .*, or give X\['of it'\] where"):
        dataset_of({"train": (frame, Y)})
    assert dataset_of({"train": (frame.drop(columns=["of it", 1]), Y)}).rows == "vectors"


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_objects_and_nullable_columns_are_numbers_and_what_is_missing_is_nan(missing):
    frame = FRAME.astype({"a": object}).assign(d=pd.Series(Y, dtype="Int64"), e=pd.Series(Y, dtype="boolean"))
    frame["f"] = pd.Series([decimal.Decimal(2), 1, True, np.int8(3), np.float32(1), np.True_], dtype=object)
    np.testing.assert_array_equal(rows_of(frame), np.column_stack([X, Y, Y, [2, 1, 1, 3, 1, 1]]))
    for name in "ade":
        frame.loc[4, name] = missing
    assert np.argwhere(np.isnan(rows_of(frame))).tolist() == [[4, 0], [4, 3], [4, 4]]


def test_whole_numbers_alone_are_those_of_an_array():
    whole = pd.DataFrame({"a": Y, "b": Y[::-1]})
    expected = dataset_of({"train": (whole.to_numpy(), Y)}).fingerprint
    assert dataset_of({"train": (whole, Y)}).fingerprint == expected
    assert dataset_of({"train": (whole.astype("Sparse[int64]"), Y)}).fingerprint == expected


def test_a_column_of_which_float32_keeps_little_is_refused_and_its_remedies_work():
    frame = FRAME.assign(time=1.6e9 + np.arange(6))
    with pytest.raises(InputError, match=r"column 'time' of X of train varies by .* subtract its smallest number, or"):
        dataset_of({"train": (frame, Y)})
    assert rows_of(frame.assign(time=frame["time"] - frame["time"].min()))[5, 3] == 5
    assert rows_of(frame.drop(columns="time")).shape == (6, 3)
