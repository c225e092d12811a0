import numpy as np
import pytest

from probe.core.errors import InputError
from probe.datasets.shared.vectors import feature_columns, stacked


def test_all_columns_that_are_free_and_numbers_are_features():
    numeric = {"a": True, "label": False, "b": True, "room": False}
    assert feature_columns(numeric, None, ["label", "room", None], "t") == ["a", "b"]


@pytest.mark.parametrize("name", ["id", "Unnamed: 0", "", "note"])
def test_a_column_that_may_be_no_feature_is_a_question(name):
    numeric = {"f1": True, name: name != "note", "label": True}
    with pytest.raises(InputError, match=rf"beside the labels '{name}', which may be no features.*feature_columns"):
        feature_columns(numeric, None, ["label"], "t")
    assert feature_columns(numeric, "f*", ["label"], "t") == ["f1"]
    assert feature_columns(numeric, ["f1", name], ["label"], "t") == ["f1", name]


@pytest.mark.parametrize("asked", ["g*", ["f1", "label"], []])
def test_features_that_are_not_there_are_refused(asked):
    with pytest.raises(
        InputError, match=r"dataset\.feature_columns names .*which no free column of t is called \(f1\)"
    ):
        feature_columns({"f1": True, "label": True}, asked, ["label"], "t")


def test_rows_keep_the_precision_of_their_columns_and_must_be_finite():
    rows = stacked({"a": [np.float32([1, 2]), np.float32([3])], "b": [np.float32([4, 5]), np.float32([6])]}, "t")
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert stacked({"a": [np.array([1, 2])]}, "t").dtype == np.float64
    with pytest.raises(InputError, match="row 1 of t has nan in column b, expected a finite number"):
        stacked({"a": [np.zeros(2)], "b": [np.array([0, np.nan])]}, "t")


def test_a_column_of_which_float32_keeps_little_is_refused_and_the_remedy_works():
    seconds = 1.7e9 + np.arange(0, 3600.0, 10)
    with pytest.raises(InputError, match=r"column time of t varies by .* at 1\.7e\+09, .* keep steps of 128: subtract"):
        stacked({"x": [seconds - seconds[0]], "time": [seconds]}, "t")
    rows = stacked(
        {"time": [seconds - seconds.min()], "constant": [np.full(360, 1.7e9)], "tenths": [np.full(360, 0.1)]}, "t"
    )
    assert len(np.unique(rows[:, 0].astype(np.float32))) == 360
    stacked({"years of seconds": [1.7e9 + np.arange(100) * 3e6]}, "t")
    stacked({"given in float32": [np.float32(seconds)]}, "t")
