import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from probe.backbones.identity import IdentityBackbone
from probe.core.errors import DoesNotFit, InputError
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.gzsl import GeneralisedZeroShot
from probe.heads.lda import LinearDiscriminant
from probe.heads.shared.head import Head
from probe.protocols.gzsl import GZSL

K, WIDTH = 20, 32
TRAINED, SEEN = 12, 16
ATTRIBUTES = np.random.default_rng(5).normal(size=(K, 16))
MEANS = 0.4 * ATTRIBUTES @ np.random.default_rng(6).normal(size=(16, WIDTH))
QUICK = {"seen": "lda", "attributes": ATTRIBUTES, "widths": (0.1, 0.3)}


def contract_case():
    return {"class_features": np.eye(40)[:, :6] + 0.1, "seen": "lda"}


def rows_of(labels, seed=0):
    return MEANS[labels] + np.random.default_rng(seed).normal(size=(len(labels), WIDTH))


def parts(n=20):
    """Rows of 12 classes that train, of 16 that validate, of all 20 that test."""
    y = {part: np.repeat(np.arange(k), n) for part, k in (("train", TRAINED), ("validation", SEEN), ("test", K))}
    return {part: (rows_of(labels, i), labels) for i, (part, labels) in enumerate(y.items())}


def both(data):
    return [np.concatenate(two) for two in zip(data["train"], data["validation"], strict=True)]


def of_kinds(head, X, y):
    right = head.predict(X) == y
    return [np.mean([right[y == k].mean() for k in kind]) for kind in (range(SEEN), range(SEEN, K))]


def test_unseen_classes_are_told_beside_seen_ones():
    data = parts()
    X, y = data["test"]
    head = GeneralisedZeroShot(**QUICK).fit(*data["train"], validation=data["validation"])
    assert head.unseen_.tolist() == [16, 17, 18, 19]
    assert head.classes_.tolist() == list(range(K))
    seen, unseen = of_kinds(head, X, y)
    joint = LinearDiscriminant().fit(
        *(np.concatenate(two) for two in zip(data["train"], data["validation"], strict=True))
    )
    assert of_kinds(joint, X, y)[1] == 0
    assert seen > 0.6
    assert unseen > 0.4
    assert head.selection_["on"] == "validation"
    np.testing.assert_allclose(head.predict_proba(X).sum(axis=1), 1)


def test_smoothing_off_is_the_hard_gate():
    data = parts()
    X, _ = data["test"]
    head = GeneralisedZeroShot(**QUICK | {"smoothing": "none"}).fit(*data["train"], validation=data["validation"])
    of_unseen, of_seen = head._experts(X)
    p_seen = head._gate(head._gate_rows(of_unseen, of_seen))
    expected = np.where(
        p_seen < head.threshold_, head.unseen_[of_unseen[:, head.unseen_].argmax(axis=1)], of_seen.argmax(axis=1)
    )
    np.testing.assert_array_equal(head.predict(X), expected)


def test_other_names_of_the_classes_move_no_prediction():
    data = parts()
    order = np.random.default_rng(3).permutation(K)
    plain = GeneralisedZeroShot(**QUICK).fit(*data["train"], validation=data["validation"])
    (X, y), (X_val, y_val) = data["train"], data["validation"]
    named = np.empty_like(ATTRIBUTES)
    named[order] = ATTRIBUTES
    other = GeneralisedZeroShot(**QUICK | {"attributes": named}).fit(X, order[y], validation=(X_val, order[y_val]))
    np.testing.assert_array_equal(order[plain.predict(data["test"][0])], other.predict(data["test"][0]))


def test_without_unseen_classes_it_is_the_expert_of_seen_ones(tmp_path):
    data = parts()
    X, y = data["train"]
    head = GeneralisedZeroShot(**QUICK | {"attributes": ATTRIBUTES[:TRAINED]}).fit(X, y)
    np.testing.assert_array_equal(
        head.predict(data["test"][0]), LinearDiscriminant().fit(X, y).predict(data["test"][0])
    )


def test_without_validation_rows_of_other_classes_it_holds_some_out():
    data = parts()
    head = GeneralisedZeroShot(**QUICK).fit(*both(data))
    assert head.selection_["on"] == "a tenth of the training rows, and some classes"
    assert of_kinds(head, *data["test"])[1] > 0.3


def test_a_saved_head_says_the_same(tmp_path):
    data = parts(8)
    head = GeneralisedZeroShot(**QUICK).fit(*data["train"], validation=data["validation"])
    head.save(tmp_path / "head.safetensors")
    loaded = Head.load(tmp_path / "head.safetensors")
    np.testing.assert_allclose(loaded.logits(data["test"][0]), head.logits(data["test"][0]), atol=1e-9)
    before = head.before_refit()
    assert before.seen_.tolist() == list(range(TRAINED))
    assert before.logits(data["test"][0]).shape == (8 * K, K)


@pytest.mark.parametrize("lacking", ["short", "nan"])
def test_classes_without_description_are_named(lacking):
    given = ATTRIBUTES[:5] if lacking == "short" else np.where(np.arange(K)[:, None] == 10, np.nan, ATTRIBUTES)
    data = parts(4)
    first = 5 if lacking == "short" else 10
    with pytest.raises(InputError, match=f"no whole description, the first is class {first} of .*unseen ones too"):
        GeneralisedZeroShot(**QUICK | {"attributes": given}).fit(*data["train"], validation=data["validation"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"expert": "x", "gamma": 0, "widths": []}, "expert is 'x'.*gamma is 0.*widths is"),
        ({"seen": "nothing"}, "head 'nothing' is unknown, expected one of"),
        ({"seen": "zero_shot"}, "head zero_shot does not fit classes on pooled features alone"),
        ({"seen_params": {"x": 1}}, "head lda has no parameter x"),
        ({"attributes": "nowhere.npy"}, "attributes nowhere.npy cannot be read"),
        (
            {"expert": "zero_shot"},
            "descriptions have width 16 and features 32, which head.expert=zero_shot compares: set head.expert=ridge",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(changes, text):
    with pytest.raises(InputError, match=text):
        GeneralisedZeroShot(**QUICK | changes).fit(*parts(3)["train"])


def animals(poison=False):
    found, names = {}, [f"animal {k}" for k in range(K)]
    for i, (part, n) in enumerate({"train": 25, "test": 15}.items()):
        labels = np.repeat(np.arange(K), n)
        rows = rows_of(labels, 10 + i)
        if poison and part == "train":
            rows[labels >= SEEN] *= 1000
        found[part] = ArrayPartition(rows.astype(np.float32), labels, [str(j) for j in range(len(labels))])
    return make_dataset("animals", names, found)


class Fixed(GZSL):
    """Draws the same rows whatever stands in them."""

    def __init__(self):
        super().__init__(unseen=UNSEEN)

    def split(self, dataset, seed):
        return GZSL.split(self, replace(animals(), class_names=dataset.class_names), seed)


UNSEEN = [f"animal {k}" for k in range(SEEN, K)]


def in_process(folder, attributes=ATTRIBUTES, **changes):
    folder.mkdir(exist_ok=True)
    np.save(folder / "attributes.npy", attributes)
    head = GeneralisedZeroShot(**QUICK | {"attributes": str(folder / "attributes.npy")})
    request = {
        "backbone": IdentityBackbone(), "dataset": animals(), "protocol": GZSL(unseen=UNSEEN), "head": head,
        "store": FeatureStore(folder / "cache"), "folder": folder / "runs", "device": "cpu",
    }  # fmt: skip
    made = run(Run(**(request | changes)))
    return json.loads((made / "result.json").read_text()), load_file(made / "predictions.safetensors")


def test_a_run_has_both_accuracies_their_mean_and_the_curve_with_intervals(tmp_path):
    result, _ = in_process(tmp_path)
    found = {name: result["metrics"][name] for name in ("acc_seen", "acc_unseen", "harmonic_mean", "ausuc")}
    for interval in found.values():
        assert interval["low"] < interval["value"] < interval["high"]
    assert found["acc_unseen"]["value"] > 0.3
    assert result["gzsl"]["unseen"] == UNSEEN
    area = abs(np.trapezoid(result["gzsl"]["curve"]["acc_unseen"], result["gzsl"]["curve"]["acc_seen"]))
    assert found["ausuc"]["value"] == pytest.approx(area, abs=0.01)
    plain, _ = in_process(tmp_path, head=LinearDiscriminant())
    assert plain["metrics"]["acc_unseen"]["value"] == plain["metrics"]["harmonic_mean"]["value"] == 0


def test_training_rows_of_unseen_classes_poisoned_move_nothing(tmp_path):
    found = [
        in_process(tmp_path / str(i), dataset=animals(poison), protocol=Fixed())[1]["logits"]
        for i, poison in enumerate((False, True))
    ]
    np.testing.assert_array_equal(*found)


def test_other_attributes_in_the_same_file_are_another_run(tmp_path):
    runs = [in_process(tmp_path, given)[0]["run"]["digest"] for given in (ATTRIBUTES, ATTRIBUTES + 1, ATTRIBUTES)]
    assert runs[0] == runs[2] != runs[1]


def test_a_backbone_without_texts_is_told_of_attributes(tmp_path):
    with pytest.raises(DoesNotFit, match=r"has no text tower: set backbone=open_clip, or give head.attributes="):
        in_process(tmp_path, head=GeneralisedZeroShot())
