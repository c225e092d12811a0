"""Runs with `standardize`: any head on features at mean 0 and variance 1 over the training rows."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.preprocessing import StandardScaler

from probe.backbones.identity import IdentityBackbone
from probe.backbones.tiny import TinyBackbone
from probe.core.errors import DoesNotFit, InputError
from probe.datasets.sklearn import load
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.experiment.scaling import Scaling
from probe.features.store import FeatureStore
from probe.heads.fixed_moments import FixedMoments
from probe.heads.linear import LinearProbe
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.head import Head
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.full import Full


def request(tmp_path, head, dataset="wine", backbone=None, protocol=None, **more):
    rows = load(dataset)
    store = FeatureStore(tmp_path / "cache")
    return Run(
        backbone or IdentityBackbone(), rows, protocol or Full(), head, store, tmp_path / "runs", device="cpu", **more
    )


@pytest.mark.parametrize(
    "head", [NearestClassMean(), LinearProbe(Cs=[0.01, 1.0], tol=1e-10, refit=False)], ids=["ncm", "linear"]
)
def test_a_run_gives_what_the_head_gives_on_features_that_scikit_learn_scaled(tmp_path, head):
    asked = request(tmp_path, head, standardize=True)
    folder = run(asked)
    split, parts = Full().split(asked.dataset, 0), asked.dataset.partitions
    rows = {name: np.float32(parts[r.partition].rows[r.indices]) for name, r in split.parts.items()}
    y = {name: parts[r.partition].labels[r.indices] for name, r in split.parts.items()}
    scaler = StandardScaler().fit(rows["train"].astype(np.float64))
    X = {name: np.float32(scaler.transform(part)) for name, part in rows.items()}
    alone = head.fit(X["train"], y["train"], validation=(X["validation"], y["validation"]))
    np.testing.assert_allclose(
        load_file(folder / "predictions.safetensors")["logits"], alone.logits(X["test"]), rtol=1e-4, atol=1e-4
    )


def test_the_head_that_a_run_leaves_takes_features_as_they_are(tmp_path):
    asked = request(tmp_path, NearestClassMean(), standardize=True)
    folder = run(asked)
    head, test = Head.load(folder / "head.safetensors"), asked.dataset.partitions["test"]
    found = load_file(folder / "predictions.safetensors")["logits"]
    np.testing.assert_allclose(head.logits(np.float32(test.rows)), found, rtol=1e-5, atol=1e-5)
    again = head.fit(np.float32(test.rows), test.labels)  # on features as they are, as for any head
    assert not hasattr(again, "feature_mean_")


def test_the_scale_is_of_the_training_rows_alone_and_of_a_constant_feature_one(tmp_path):
    X = np.random.default_rng(0).normal(5, 3, (400, 6)).astype(np.float32)
    X[:, 2] = 7
    found = Scaling.of(X)
    np.testing.assert_allclose(found.mean, X.mean(axis=0, dtype=np.float64), rtol=1e-6)
    expected = X.std(axis=0, dtype=np.float64)
    np.testing.assert_allclose(found.deviation, np.where(expected > 0, expected, 1), rtol=1e-6)
    asked = request(tmp_path, NearestClassMean(), standardize=True)
    folder, split = run(asked), Full().split(asked.dataset, 0)
    rows = np.float32(asked.dataset.partitions["train"].rows)[split.train.indices]
    np.testing.assert_allclose(Head.load(folder / "head.safetensors").feature_mean_, Scaling.of(rows).mean)


def test_vectors_scales_rows_of_numbers_and_leaves_images_alone(tmp_path):
    def told(**more):
        result = json.loads((run(request(tmp_path, NearestClassMean(), **more)) / "result.json").read_text())
        return result["run"]["digest"], result["labels"]["backbone"]

    assert told(standardize="vectors") == told(standardize=True)
    assert told(standardize="vectors")[1] == "identity(standardize=True)"
    tiny = {"dataset": "digits", "backbone": TinyBackbone()}
    assert told(standardize="vectors", **tiny) == told(**tiny)


@pytest.mark.parametrize(
    ("head", "protocol", "asked", "why"),
    [
        (FixedMoments(), Full(), True, "scales one vector per row, head FixedMoments reads pooled, tokens: set"),
        (NearestClassMean(), ClassIncremental(2), True, "class_incremental gives them task by task: set"),
        (NearestClassMean(), Full(), "images", "standardize is 'images', expected true, false, or vectors"),
    ],
)
def test_what_has_no_one_scale_is_refused_before_anything_is_extracted(tmp_path, head, protocol, asked, why):
    with pytest.raises((DoesNotFit, InputError), match=why):
        run(request(tmp_path, head, "digits", TinyBackbone(), protocol, standardize=asked))
    assert not (tmp_path / "cache").exists()
