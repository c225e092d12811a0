import numpy as np
import pytest
from sklearn.base import clone

from probe.core.errors import InputError
from probe.heads.shared.head import Head
from probe.heads.zero_shot import TEMPLATES, ZeroShot

RNG = np.random.default_rng(0)
CLASSES = RNG.normal(size=(4, 6))
X, Y = RNG.normal(size=(20, 6)).astype(np.float32), np.arange(20) % 4


def contract_case():
    """A run fills in the features of the texts of the classes."""
    return {"class_features": np.random.default_rng(0).normal(size=(3, 4)), "temperature": 0.1}


def test_logits_are_cosines_over_the_temperature():
    logits = ZeroShot(temperature=0.5, class_features=CLASSES).fit(X, Y).logits(X)
    cosines = (X @ CLASSES.T) / np.linalg.norm(X, axis=1)[:, None] / np.linalg.norm(CLASSES, axis=1)
    np.testing.assert_allclose(logits, cosines / 0.5, rtol=1e-5, atol=1e-6)  # float32 against float64


def test_lengths_of_images_and_classes_move_no_logit():
    expected = ZeroShot(class_features=CLASSES).fit(X, Y).logits(X)
    found = ZeroShot(class_features=3 * CLASSES).fit(X, Y).logits(X / np.linalg.norm(X, axis=1, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)  # logits reach 100 in float32


def test_training_rows_and_validation_rows_teach_nothing():
    head, other = (ZeroShot(class_features=CLASSES) for _ in range(2))
    head.fit(X, Y)
    other.fit(X[::-1] + 1, RNG.permutation(Y), validation=(X, Y))
    np.testing.assert_array_equal(head.logits(X), other.logits(X))


def test_classes_without_rows_are_left_out():
    head = ZeroShot(class_features=CLASSES).fit(X[Y != 1], Y[Y != 1])
    full = ZeroShot(class_features=CLASSES).fit(X, Y)
    np.testing.assert_array_equal(head.classes_, [0, 2, 3])
    np.testing.assert_array_equal(head.logits(X), full.logits(X)[:, [0, 2, 3]])


def test_clone_save_and_load_keep_every_bit(tmp_path):
    head = ZeroShot(class_features=CLASSES, temperature=0.02).fit(X, Y)
    np.testing.assert_array_equal(clone(head).fit(X, Y).logits(X), head.logits(X))
    head.save(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(Head.load(tmp_path / "head.safetensors").logits(X), head.logits(X))


def test_prompts_fill_every_template_with_every_class():
    assert ZeroShot(["one {}.", "two {}s."]).prompts(["sea_lion", "{}"]) == [
        ["one sea lion.", "two sea lions."],
        ["one {}.", "two {}s."],
    ]


@pytest.mark.parametrize("style", TEMPLATES)
def test_shipped_templates_differ_and_have_one_place_for_the_name(style):
    sentences = TEMPLATES[style]
    assert len(set(sentences)) == len(sentences)
    assert all(sentence.count("{}") == 1 for sentence in sentences)
    ZeroShot(style).check_parameters()


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"templates": "pets"}, "templates is 'pets', expected generic, cifar, imagenet, or a list"),
        ({"templates": ["a photo"]}, r"templates holds 'a photo', expected sentences with one \{\}"),
        ({"templates": []}, "templates holds None"),
        ({"temperature": 0}, "temperature is 0, expected a positive number"),
        ({"class_features": None}, "run it with a backbone that has a text tower"),
        ({"class_features": CLASSES[:, :5]}, r"shape \(4, 5\), expected one row of width 6"),
        ({"class_features": CLASSES[:3]}, r"shape \(3, 6\).*class code in y \(up to 3\)"),
    ],
)
def test_what_cannot_be_fitted_is_refused(parameters, text):
    with pytest.raises(InputError, match=text):
        ZeroShot(**{"class_features": CLASSES, **parameters}).fit(X, Y)


def test_a_class_without_a_name_is_refused():
    with pytest.raises(
        InputError, match=r"class 1 has no name, texts tell classes .*: set dataset\.class_names to a list"
    ):
        ZeroShot().prompts(["cat", "_"])
