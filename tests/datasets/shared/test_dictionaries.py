import pytest

from probe.core.errors import InputError
from probe.datasets.shared.dictionaries import Coded, one_dictionary


def read(train, test, **options):
    return one_dictionary({"train": train, "test": test}, "column label", **options)


def test_codes_of_a_file_with_another_order_are_translated_by_name():
    found = read([Coded("a", [0, 1], ["cat", "dog"])], [Coded("b", [0, 0, 1], ["dog", "cat"])])
    assert found.names == ["cat", "dog"]
    assert found.values == {"train": [0, 1], "test": [1, 1, 0]}
    assert found.translated == {"test"}


def test_shards_of_one_partition_are_translated_too():
    found = read([Coded("a", [0, 1], ["cat", "dog"]), Coded("b", [0, 1], ["dog", "cat"])], [])
    assert found.values["train"] == [0, 1, 1, 0]


def test_files_that_agree_stay_as_they_are():
    found = read([Coded("a", [0, -1, None], ["cat", "dog"])], [Coded("b", [1], ["cat", "dog"])])
    assert (found.values, found.translated) == ({"train": [0, -1, None], "test": [1]}, set())
    assert read([Coded("a", [3], None)], [Coded("b", [4], None)]) == ({"train": [3], "test": [4]}, None, set())


def test_lists_of_codes_and_names_among_codes_are_translated():
    found = read([Coded("a", [[0, 1], []], ["cat", "dog"])], [Coded("b", [[0], None], ["dog", "cat"])])
    assert found.values["test"] == [[1], None]
    found = read([Coded("a", [0, 1], ["cat", "Lo\u0308we"])], [Coded("b", ["Löwe", "cat"], None)])
    assert found.values["test"] == [1, 0]


def test_missing_and_negative_labels_are_not_looked_up():
    assert read([Coded("a", [0], ["cat", "dog"])], [Coded("b", [-1, None], ["dog", "cat"])]).values["test"] == [
        -1,
        None,
    ]


@pytest.mark.parametrize(
    ("train", "test", "text"),
    [
        (
            ["cat", "dog"],
            ["cat", "elk"],
            r"b has rows of class elk in column label, which a does not name \(cat, dog\)",
        ),
        (["cat", "dog"], ["dog"], "b has rows of class number 1 in column label"),
        (["cat", "dog"], None, r"b does not say what the codes of column label are called, a does \(cat, dog\).*names"),
        (None, ["cat", "dog"], r"b says what the codes of column label are called \(cat, dog\) and the files of train"),
    ],
)
def test_codes_that_cannot_be_told_are_refused(train, test, text):
    with pytest.raises(InputError, match=text):
        read([Coded("a", [0, 1], train)], [Coded("b", [0, 1], test)])


def test_codes_without_names_are_taken_at_the_users_word():
    assert read([Coded("a", [0], ["cat", "dog"])], [Coded("b", [1], None)], declared=True).values["test"] == [1]
