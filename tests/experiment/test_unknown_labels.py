"""Labels of which nothing is known, from the file to the metrics: nothing is learnt from them, nothing measured."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from probe.backbones.identity import IdentityBackbone
from probe.core.errors import InputError
from probe.core.targets.labels import UNKNOWN, Labels
from probe.datasets import csv, features, npz
from probe.datasets.shared.in_memory import dataset_of
from probe.datasets.shared.labels import encode_labels
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.comic import Comic
from probe.heads.knn import KNearest
from probe.heads.linear import LinearProbe
from probe.heads.majority_class import MajorityClass
from probe.heads.ridge import RidgeProbe
from probe.protocols.full import Full
from probe.protocols.holdout import Holdout
from probe.protocols.official import Official

HEADS = {
    "linear": LinearProbe(Cs=[0.1, 1.0], tol=1e-10),
    "ridge": RidgeProbe([0.1, 10.0]),
    "majority_class": MajorityClass(),
    "comic": Comic(epochs=2, learning_rates=[0.03], weight_decays=[0.001]),
}


def draw(n, seed, hidden=0.3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6)).astype(np.float32)
    y = (X[:, :4] + 0.5 * rng.normal(size=(n, 4)) > [-0.2, 0.3, 0.8, 1.2]).astype(np.int64)
    unknown = rng.random((n, 4)) < hidden
    unknown[:, 0] &= ~unknown.all(axis=1)
    return X, np.where(unknown, UNKNOWN, y), y


def in_process(folder, dataset, head, **changes):
    request = {
        "backbone": IdentityBackbone(), "dataset": dataset, "protocol": Full(), "head": head,
        "store": FeatureStore(folder / "cache"), "folder": folder / "runs", "device": "cpu",
    }  # fmt: skip
    made = run(Run(**(request | changes)))
    return json.loads((made / "result.json").read_text()), load_file(made / "predictions.safetensors")


def given(seed=0, **options):
    parts = {part: draw(n, seed + i) for i, (part, n) in enumerate({"train": 120, "test": 80}.items())}
    return dataset_of({part: (X, y) for part, (X, y, _) in parts.items()}, unknown_labels=True, name="given", **options)


@pytest.mark.parametrize("name", HEADS)
def test_a_run_keeps_marks_and_measures_known_labels(tmp_path, name):
    result, kept = in_process(tmp_path, given(), HEADS[name], protocol=Holdout())
    assert (kept["label"] == UNKNOWN).sum() > 10
    assert result["metrics"]["mAP"]["low"] < result["metrics"]["mAP"]["value"] < result["metrics"]["mAP"]["high"]
    known = kept["label"] != UNKNOWN
    hit = (kept["predicted"] == 1) & (kept["label"] == 1)
    expected = 2 * hit.sum() / ((kept["predicted"] == 1)[known].sum() + (kept["label"] == 1).sum())
    assert result["metrics"]["micro_f1"]["value"] == pytest.approx(expected)


@pytest.mark.parametrize("name", HEADS)
def test_poisoned_unknown_labels_move_nothing(name):
    X, y, _ = draw(120, 0)
    X = X.astype(np.float64)
    rng = np.random.default_rng(1)
    head = HEADS[name].for_target("labels").fit(X, y, validation=(X[:40], y[:40]))
    # What another head learns of each label from the rows of which it is known, alone, is what this one knows of it.
    for k in range(4) if name in ("linear", "ridge", "majority_class") else ():
        other = y.copy()
        others = [j for j in range(4) if j != k]
        other[:, others] = rng.permutation(other[:, others])
        fixed = HEADS[name].set_params(**({"Cs": [head.C_]} if name == "linear" else {}))
        if name == "ridge":
            fixed = RidgeProbe([head.alpha_])
        found = [fixed.for_target("labels").fit(X, t).logits(X)[:, k] for t in (y, other)]
        np.testing.assert_allclose(*found, atol=1e-3)


def test_each_label_is_fitted_on_the_rows_of_which_it_is_known():
    X, y, _ = draw(200, 0)
    for head in (LinearProbe(Cs=[1.0], tol=1e-10), RidgeProbe([3.0])):
        whole = head.for_target("labels").fit(X.astype(np.float64), y)
        for k in range(4):
            known = y[:, k] != UNKNOWN
            alone = type(head)(**head.get_params()).fit(X[known].astype(np.float64), y[known, k]).logits(X)
            margin = alone[:, 1] - alone[:, 0] if isinstance(head, LinearProbe) else alone[:, 1]
            np.testing.assert_allclose(whole.logits(X)[:, k], margin, atol=1e-3)


@pytest.mark.parametrize("word", ["?", "", "null", "-1"])
def test_files_say_that_a_label_is_unknown(tmp_path, word):
    X, y, _ = draw(60, 0)
    lines = ["a,b,c,d,x0,x1,x2,x3,x4,x5"]
    for row, labels in zip(X.tolist(), y.tolist(), strict=True):
        lines.append(",".join([*(word if label == UNKNOWN else str(label) for label in labels), *map(str, row)]))
    (tmp_path / "table.csv").write_text("\n".join(lines))
    read = csv.load(str(tmp_path / "table.csv"), label_column=["a", "b", "c", "d"], unknown_labels=True)
    np.testing.assert_array_equal(read.partitions["train"].labels, y)
    assert read.faults() == []
    with pytest.raises(InputError, match=r"in label column . of .*expected 0 or 1: set dataset.unknown_labels=true if"):
        csv.load(str(tmp_path / "table.csv"), label_column=["a", "b", "c", "d"])


def test_arrays_say_that_a_label_is_unknown(tmp_path):
    X, y, _ = draw(60, 0)
    np.savez(tmp_path / "both.npz", x_train=X, y_train=np.where(y == UNKNOWN, np.nan, y), x_test=X, y_test=y)
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "folder" / "train.npz", features=X, labels=y)
    for read in (
        npz.load(str(tmp_path / "both.npz"), unknown_labels=True),
        features.load(str(tmp_path / "folder"), unknown_labels=True),
    ):
        for part in read.partitions.values():
            np.testing.assert_array_equal(part.labels, y)
    with pytest.raises(InputError, match=r"set dataset.unknown_labels=true if it is not known"):
        npz.load(str(tmp_path / "both.npz"))


def test_a_row_of_which_no_label_is_known_is_named():
    X, y, _ = draw(60, 0)
    y[7] = UNKNOWN
    with pytest.raises(
        InputError, match=r"train has 1 row of which no label is known, the first is row 7.*leave such labels and rows"
    ):
        dataset_of({"train": (X, y), "test": (X[:7], y[:7])}, unknown_labels=True, name="odd")


def test_a_head_that_reads_known_labels_is_refused_by_name(tmp_path):
    with pytest.raises(
        InputError,
        match=r"some of which are unknown in train, test, head knn reads known ones: choose one of attentive, comic,",
    ):
        in_process(tmp_path, given(), KNearest())
    with pytest.raises(InputError, match=r"calibrate=true answers with whole sets of labels"):
        in_process(tmp_path, given(), LinearProbe(), calibrate=True)


def test_labels_in_lists_or_one_class_have_no_unknown_ones():
    X = np.zeros((4, 2), dtype=np.float32)
    with pytest.raises(InputError, match=r"dataset.unknown_labels is about labels in a column each"):
        encode_labels({"train": [["a"], ["b"], [], ["a", "b"]]}, "column tags", unknown_labels=True)
    with pytest.raises(InputError, match=r"dataset.unknown_labels is about several labels per row"):
        dataset_of({"train": (X, [0, 1, 0, 1])}, unknown_labels=True)


def test_strata_counts_and_words_look_at_known_labels():
    y = np.array([[1, UNKNOWN, 0], [UNKNOWN, 1, 0], [0, 0, UNKNOWN], [1, 1, 1]])
    assert Labels().counts(y, 3).tolist() == [2, 2, 1]
    assert Labels().strata(y).tolist() == [0, 1, 3, 2]
    assert Labels().shown(y[0], ["a", "b", "c"]) == "a, b?"


def test_thresholds_come_from_validation_rows_and_test_rows_move_none(tmp_path):
    parts = {part: draw(n, i) for i, (part, n) in enumerate({"train": 200, "test": 80, "validation": 100}.items())}
    pairs = {part: (X, y) for part, (X, y, _) in parts.items()}
    poisoned = pairs | {"test": (pairs["test"][0], pairs["test"][1][::-1].copy())}
    found = [
        in_process(
            tmp_path / str(i), dataset_of(p, unknown_labels=True, name="t"), HEADS["linear"], protocol=Official()
        )[0]
        for i, p in enumerate((pairs, poisoned))
    ]
    assert found[0]["thresholds"] == found[1]["thresholds"]
    assert len(found[0]["thresholds"]) == 4
    assert {"micro_f1_tuned", "macro_f1_tuned"} <= set(found[0]["metrics"])
    # Rare labels are found by a lower threshold than even odds.
    assert found[0]["metrics"]["macro_f1_tuned"]["value"] > found[0]["metrics"]["macro_f1"]["value"] - 0.02
