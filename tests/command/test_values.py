"""Values as people type them."""

from collections.abc import Mapping, Sequence

import pytest

from probe.command.config import check, compose
from probe.command.values import accepts, in_words, quoted
from probe.core.errors import InputError


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("name=2024", "name='2024'"),
        ("name=nan", "name='nan'"),
        ("+name=[a]", "+name='[a]'"),
        ("name=it's[1]", r"name='it\'s[1]'"),
        ("dataset.path=photos(1)", "dataset.path='photos(1)'"),
        ("head=5", "head='5'"),
        ("head=5,ncm,1e3,true", "head='5',ncm,'1e3','true'"),
    ],
)
def test_what_is_a_name_is_quoted(word, expected):
    assert quoted([word]) == [expected]


@pytest.mark.parametrize(
    "word",
    [
        "name=a",
        "name=a,b",
        "name='2024'",
        "name=${seed}",
        "cache=null",
        "head.Cs=[1,2",
        "seed=1",
        "head=ncm,lda",
        "tracker=null",
        "-m",
    ],
)
def test_other_words_stay_as_they_are(word):
    assert quoted([word]) == [word]


def test_texts_are_spelled_as_they_were_typed():
    config = compose(["dataset=folder", "dataset.path=1e3", "dataset.name=true", "dataset.class_names=[1,no]"])
    assert config["dataset"]["path"] == "1e3"
    assert config["dataset"]["name"] == "true"
    assert config["dataset"]["class_names"] == ["1", "no"]


def test_a_value_that_its_parameter_cannot_read_is_refused_with_what_is_expected():
    with pytest.raises(
        InputError, match=r"protocol.validation_fraction is 'x', .*; head.Cs is 'many', expected a whole"
    ):
        check(compose(["head.Cs=many", "protocol.validation_fraction=x"]))


@pytest.mark.parametrize(
    ("hint", "value", "is_accepted"),
    [
        (int, 3, True),
        (int, True, False),
        (float, 3, True),
        (float, "3", False),
        (str | None, None, True),
        (int | Sequence[float], [1, 2.5], True),
        (int | Sequence[float], ["a"], False),
        (Sequence[str], "a", False),
        (Mapping[str, str], {}, True),
        (object, 3, True),
        (int, {"_target_": "anything"}, True),
    ],
)
def test_what_a_declaration_accepts(hint, value, is_accepted):
    assert accepts(hint, value) == is_accepted


def test_declarations_are_told_in_words():
    assert in_words(int | Sequence[float] | None) == "a whole number or a list of numbers or null"
