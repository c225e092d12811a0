"""Votes of words: the released numbers, any order of rows, and what decided."""

import json
import re

import numpy as np
import pytest
from oracles import files_of
from safetensors import safe_open
from topics import topics

from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.core.ragged import RaggedRows
from probe.heads.ss3 import SS3, erde, global_values


def fixed(sigma=0.45, lambda_=0.5, rho=1.0, **parameters):
    return SS3([sigma], [lambda_], [rho], **parameters)


def ids_of(texts, vocabulary):
    """Numbers of the words; those that no vocabulary knows and texts without any have one of their own."""
    rows = [[vocabulary.get(w, len(vocabulary)) for w in re.findall(r"\w+", t)] or [len(vocabulary)] for t in texts]
    return RaggedRows(np.concatenate(rows).astype(np.int32), np.append(0, np.cumsum([len(row) for row in rows])))


@pytest.mark.parametrize("path", files_of("ss3"), ids=lambda path: path and path.stem)
def test_values_votes_and_labels_equal_the_released_ones(path):
    with safe_open(path, "numpy") as file:
        data, told = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    vocabulary = {word: i for i, word in enumerate(json.loads(told["vocabulary"]))}
    classes = json.loads(told["categories_in_training_order"])
    X, X_test = (ids_of(json.loads(told[f"{part}_texts"]), vocabulary) for part in ("train", "test"))
    y = np.array([classes.index(label) for label in json.loads(told["train_labels"])])
    settings = sorted(name.split(".")[1] for name in data if re.match(r"hyper\.h\d+", name))
    assert settings
    for setting in settings:
        *given, alpha = (float(value) for value in data[f"hyper.{setting}.sigma_lambda_rho_alpha"])
        expected = {name: data[f"output.{setting}.vanilla.{name}"] for name in
                    ("lv", "sg", "sn", "gv", "confidence_vectors", "labels")}  # fmt: skip
        for name, found in zip(("lv", "sg", "sn"), global_values(data["input.word_counts"], *given), strict=True):
            np.testing.assert_allclose(found, expected[name], atol=1e-12)
        head = fixed(*given, alpha=alpha).fit(X, y)
        np.testing.assert_array_equal(head.counts_, data["input.word_counts"])
        np.testing.assert_allclose(head.values_, expected["gv"], atol=1e-12)
        np.testing.assert_allclose(head.logits(X_test), expected["confidence_vectors"], atol=1e-12)
        np.testing.assert_array_equal(head.predict(X_test), expected["labels"])
    for deadline in (5, 50):
        truth, decision, delay = (data[f"input.erde.{name}"] for name in ("truth", "decision", "delay"))
        cost = erde(truth, decision, delay, deadline)
        np.testing.assert_allclose(cost, data[f"output.erde_{deadline}.per_subject"], atol=1e-12)


def test_parts_in_any_order_are_counted_as_all_at_once():
    X, y = topics()
    whole, parts = fixed().fit(X, y), fixed()
    for rows in np.array_split(np.random.default_rng(0).permutation(len(y)), 4):
        parts.partial_fit(RowSubset(X, rows), y[rows], classes=np.arange(3))
    np.testing.assert_array_equal(parts.logits(X), whole.logits(X))
    np.testing.assert_array_equal(parts.vocabulary_, whole.vocabulary_)
    classes = np.array(["c", "a", "b"])[y]
    assert (fixed().fit(X, classes).predict(X) == np.array(["c", "a", "b"])[whole.predict(X)]).mean() > 0.99


def test_votes_of_words_add_up_and_a_word_of_one_class_alone_has_no_sanction():
    X, y = topics()
    head = fixed().fit(X, y)
    votes = head.explain(X)
    sums = np.add.reduceat(votes.values, np.cumsum(votes.lengths) - votes.lengths, axis=0)
    decided = sums.any(axis=1)
    np.testing.assert_allclose(sums[decided], head.logits(X)[decided], rtol=1e-12)
    sn = global_values(np.array([[9.0, 0, 0], [9, 9, 9]]), 0.45, 0.5, 1.0)[2]
    assert sn[0, 0] == 1
    assert sn[1, 0] < 1


def test_a_row_is_decided_at_the_first_word_that_puts_a_class_ahead():
    words = {"bad": 0, "good": 1, "so": 2}
    X = ids_of(["bad bad so", "good good so", "bad bad", "good good"], words)
    head = fixed().fit(X, [1, 0, 1, 0])
    said, delay = head.decide_early(ids_of(["so so bad good", "good so", "so so"], words), 1)
    assert said.tolist() == [True, False, False]
    assert delay.tolist() == [3, 2, 2]
    np.testing.assert_allclose(erde([1, 0, 1], said, delay, 3), [0.5, 0, 1])


def test_the_choice_is_made_on_validation_rows_and_what_is_chosen_counts_all():
    X, y = topics()
    train, held = np.arange(100), np.arange(100, 150)
    head = SS3().fit(RowSubset(X, train), y[train], validation=(RowSubset(X, held), y[held]))
    assert len(head.selection_["searched"]) == 45
    best = max(head.selection_["searched"], key=lambda candidate: candidate["score"])
    alone = fixed(*(best[name] for name in ("sigma", "lambda", "rho")))
    assert (alone.fit(RowSubset(X, train), y[train]).predict(RowSubset(X, held)) == y[held]).mean() == best["score"]
    np.testing.assert_array_equal(head.logits(X), alone.fit(X, y).logits(X))
    poisoned = RaggedRows(X.values.copy(), X.offsets)
    poisoned.values[X.offsets[140] :] = 3
    rows = np.arange(140)
    plain, other = (SS3().fit(RowSubset(given, rows), y[rows]) for given in (X, poisoned))
    np.testing.assert_array_equal(plain.logits(X), other.logits(X))


def test_parameters_that_cannot_work_are_refused_together():
    X, y = topics(20)
    with pytest.raises(InputError, match=r"rhos is \[\], expected positive numbers; alpha is -1, expected a n"):
        SS3(rhos=[], alpha=-1).fit(X, y)
