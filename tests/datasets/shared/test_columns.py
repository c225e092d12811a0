import pytest

from probe.core.errors import InputError
from probe.datasets.shared.columns import IMAGE, LABEL, choose, required


def chosen(*names, role=LABEL, **options):
    return choose(role, "the table", dict.fromkeys(names, ""), **options)


def test_a_clear_name_goes_before_a_usual_one_wherever_it_stands():
    assert chosen("class", "label") == chosen("label", "class") == "label"
    assert chosen("category", "file") == "category"
    assert chosen("mask", "image", role=IMAGE, by_kind=["mask", "image"]) == "image"


def test_a_kind_decides_where_no_name_does():
    assert chosen("scan", "note", role=IMAGE, fitting=["scan"], by_kind=["scan"]) == "scan"
    assert chosen("note", "finding") is None


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (("class", "target"), {}),
        (("label", "labels"), {}),
        (("mask", "scan"), {"role": IMAGE, "by_kind": ["mask", "scan"]}),
    ],
)
def test_columns_that_are_as_likely_are_a_question_that_names_them_and_the_override(names, options):
    role = options.get("role", LABEL)
    text = rf"2 columns that may hold .* \({', '.join(names)}\), expected one: set dataset\.{role.parameter} to the one"
    with pytest.raises(InputError, match=text):
        chosen(*names, **options)
    assert chosen(*names, asked=names[1], **options) == names[1]


def test_a_name_on_a_column_of_another_kind_says_nothing():
    assert chosen("image", "scan", role=IMAGE, fitting=["scan"], by_kind=["scan"]) == "scan"


def test_what_is_asked_for_must_be_there_and_fit():
    there = {"note": "string", "scan": "binary"}
    text = r"the table has the columns note \(string\), scan \(binary\), expected note with encoded images: set .*scan"
    with pytest.raises(InputError, match=text):
        choose(IMAGE, "the table", there, "note", fitting=["scan"])
    with pytest.raises(InputError, match=r"expected image or img .*to the one that holds them"):
        required(IMAGE, "the table", {"note": ""}, fitting=())
