"""Shorter texts: subsequences of words, as short the second time, each by itself."""

import itertools
import json
import re

import pytest

from probe.core.errors import InputError
from probe.core.texts import Text
from probe.datasets.shared.shortening import Shortening
from probe.datasets.texts import load

TEXT = "The cat, the dog: and the CAT again - don't! "
ODD = [
    "",
    " \n ",
    "🐈 \0 מחשב, מחשב",
    "हिन्दी की हिन्दी।",
    "e\u0301te\u0301 e\u0301te\u0301",
    "a_b_a",
    "...",
    "the " * 500,
]
STEPS = [["stop"], ["recurring"], ["punctuation"], ["head:3"], ["tail:2"], ["head_tail:2"]]
STEPS += [[*a, *b] for a, b in itertools.combinations(STEPS[:4], 2)] + [["punctuation", "stop", "recurring", "tail:2"]]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], TEXT),
        (["stop"], "cat, dog: CAT - don' t!"),
        (["recurring"], "The cat, dog: and again - don't!"),
        (["punctuation"], "The cat the dog and the CAT again don t"),
        (["head:3"], "The cat, the"),
        (["tail:2"], "don't!"),
        (["head_tail:2"], "The cat don't!"),
        (["head:2", "stop", "punctuation"], "cat dog"),
    ],
)
def test_each_step_leaves_out_what_it_says(steps, expected):
    shorter = Shortening(steps, stop_words=["the", "and", "again"] if "stop" in steps else None)
    assert shorter(TEXT).replace("don' t", "don't") == expected.replace("don' t", "don't")


@pytest.mark.parametrize("steps", STEPS, ids="+".join)
def test_twice_is_as_once_and_words_keep_their_order(steps):
    for text in (TEXT, *ODD):
        once = Shortening(steps)(text)
        assert Shortening(steps)(once) == once
        words = iter(re.findall(r"[^\W_]+", text))
        assert all(word in words for word in re.findall(r"[^\W_]+", once))
        assert len(once) <= len(text)


def test_marks_belong_to_their_letters():
    assert Shortening(["recurring"])("हिन्दी की हिन्दी।") == "हिन्दी की ।"
    assert Shortening(["punctuation"])("e\u0301te\u0301!") == "e\u0301te\u0301"


def test_no_step_and_nothing_to_leave_out_change_nothing():
    for text in (TEXT, *ODD, " two  blanks "):
        assert Shortening([])(text) == text
    assert Shortening(["stop"])("cats purr") == "cats purr"
    assert Shortening(["stop"], keep_words=["Not"])("not the cat") == "not cat"
    assert Shortening(["stop"])("not the cat") == "cat"


def test_the_order_in_which_steps_are_named_says_nothing():
    given = ["stop", "recurring", "head:4"]
    assert len({Shortening(order)(TEXT) for order in itertools.permutations(given)}) == 1
    assert {Shortening(order).name for order in itertools.permutations(given)} == {"recurring+stop+head:4"}


def test_pairs_are_shortened_and_spans_refused():
    assert Shortening(["head:1"])(Text("a b", "c d")) == Text("a", "c")
    with pytest.raises(InputError, match=r"dataset\.shorten moves the characters.*span_columns marks some: leave one"):
        Shortening(["head:1"])(Text("a b", None, (0, 1)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"steps": ["stops"]}, "shorten is .'stops'., expected each once.*mend stops"),
        ({"steps": ["head"]}, "mend head"),
        ({"steps": ["tail:0"]}, "mend tail:0"),
        ({"steps": ["stop", "stop"]}, "mend the list"),
        ({"steps": ["head:2", "tail:2"]}, "mend the list"),
        ({"steps": ["stop"], "stop_words": "/nowhere"}, "stop_words is '/nowhere' and cannot be read"),
        ({"steps": [], "keep_words": ["not"]}, r"of dataset\.shorten=\[stop\]: add stop"),
    ],
)
def test_steps_that_there_are_not_are_refused(options, told):
    with pytest.raises(InputError, match=told):
        Shortening(**options)


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_dataset_of_shorter_texts_is_another_one_and_says_what_is_left_out(tmp_path, as_folder):
    texts = [f"the cat and the {word} again" for word in ("mat", "dog", "home", "red")]
    if as_folder:
        for i, text in enumerate(texts):
            file = tmp_path / "pets" / "ab"[i % 2] / f"{i}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    else:
        rows = [json.dumps({"text": text, "label": "ab"[i % 2]}) for i, text in enumerate(texts)]
        (tmp_path / "pets.jsonl").write_text("\n".join(rows))
    path = str(tmp_path / ("pets" if as_folder else "pets.jsonl"))
    (tmp_path / "words").write_text("The\nAND\nagain\n")
    plain, shorter = load(path), load(path, shorten=["stop"], stop_words=str(tmp_path / "words"))
    assert sorted(shorter.partitions["train"]) == ["cat dog", "cat home", "cat mat", "cat red"]
    assert shorter.name == "pets (stop)"
    assert shorter.fingerprint != plain.fingerprint
    assert shorter.notes["left_out"] == ["16 of 24 words by shorten=stop"]
    assert load(path, shorten=[]).fingerprint == plain.fingerprint
    assert "left_out" not in plain.notes
