"""Runs whose head learns from a teacher, from the configuration to the run folder."""

import json

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf
from places import CONF

from probe.backbones.identity import IdentityBackbone
from probe.backbones.timm import TimmBackbone
from probe.command.config import build
from probe.core.errors import InputError
from probe.datasets.sklearn import load
from probe.experiment.request import Run, Teacher
from probe.experiment.run import run
from probe.experiment.teacher import out_of_fold_logits
from probe.features.store import FeatureStore
from probe.heads.dual_head_kd import DualHeadKD
from probe.heads.lda import LinearDiscriminant
from probe.heads.shared.head import Head
from probe.protocols.full import Full

STUDENT = {"trunk_width": 8, "epochs": (2,), "learning_rates": (1e-2,)}


class Watched(LinearDiscriminant):
    """A teacher that notes every row it sees."""

    seen: list[np.ndarray] = []  # noqa: RUF012

    def fit(self, X, y, *, validation=None):
        self.seen.append(np.asarray(X))
        return super().fit(np.asarray(X), y, validation=validation)

    def _logits(self, X):
        self.seen.append(np.asarray(X))
        return super()._logits(X)


def student_run(tmp_path, dataset, teacher=None, **parameters):
    teacher = teacher or Teacher(IdentityBackbone(), Watched())
    head = DualHeadKD(**STUDENT | parameters)
    store = FeatureStore(tmp_path / "cache")
    return run(Run(IdentityBackbone(), dataset, Full(), head, store, tmp_path / "runs", device="cpu", teacher=teacher))


def test_no_test_row_reaches_a_teacher(tmp_path):
    dataset = load("wine")
    Watched.seen.clear()
    student_run(tmp_path, dataset)
    seen = {row.tobytes() for X in Watched.seen for row in X}
    rows = {name: {row.tobytes() for row in np.float32(p.rows)} for name, p in dataset.partitions.items()}
    assert not seen & (rows["test"] - rows["train"])
    assert seen == rows["train"]


def test_the_student_is_the_one_that_out_of_fold_logits_make(tmp_path):
    dataset = load("wine")
    folder = student_run(tmp_path, dataset)
    split = Full().split(dataset, 0)
    train, validation = (dataset.partitions[r.partition].rows[r.indices] for r in (split.train, split.validation))
    y, y_validation = (dataset.partitions[r.partition].labels[r.indices] for r in (split.train, split.validation))
    train, validation = np.float32(train), np.float32(validation)
    logits = out_of_fold_logits(LinearDiscriminant(), train, y, validation=(validation, y_validation), n_folds=5)
    alone = DualHeadKD(**STUDENT).fit(train, y, validation=(validation, y_validation), teacher_logits=logits)
    np.testing.assert_allclose(Head.load(folder / "head.safetensors").main_weight_, alone.main_weight_, atol=1e-6)


@pytest.fixture(scope="module")
def vit():
    return TimmBackbone("test_vit", pretrained=False, img_size=32, taps=["blocks.0"])


def request_of(overrides, tmp_path):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", [f"cache={tmp_path / 'cache'}", f"runs={tmp_path / 'runs'}", *overrides])
    return build(OmegaConf.to_container(config, resolve=True), "probe")


TAPPED = ["backbone=timm", "backbone.name=test_vit", "backbone.pretrained=false", "backbone.img_size=32", "limit=60"]
TAPPED += ["backbone.taps=[blocks.0]", "dataset=digits", "device=cpu"]
SMALL = ["head=dual_head_kd", "head.epochs=[1]", "head.learning_rates=[1e-2]", "head.trunk_width=8"]


@pytest.mark.parametrize("folds", ["null", "3"])
def test_a_teaching_run_reads_the_layer_that_it_read_itself(tmp_path, folds):
    # Both layers have the same width: another one would pass unnoticed.
    teacher = run(request_of([*TAPPED, "head=ncm", "reads.pooled=blocks.0"], tmp_path))
    request = request_of([*TAPPED, *SMALL, f'head.teacher="{teacher}"', f"head.teacher_folds={folds}"], tmp_path)
    taught = {}

    def note(self, X, y, *, validation=None, teacher_logits=None):
        taught["logits"] = teacher_logits
        return fit(self, X, y, validation=validation, teacher_logits=teacher_logits)

    fit = DualHeadKD.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DualHeadKD, "fit", note)
        run(request)
    dataset, head = request.dataset, Head.load(teacher / "head.safetensors")
    split = request.protocol.split(dataset, 0)
    features = request.store.get(request.backbone, dataset, "train", ["blocks.0"], device="cpu", progress=False)
    X, y = np.asarray(features.arrays["blocks.0"]), dataset.partitions["train"].labels
    rows = split.train.indices, split.validation.indices
    if folds == "null":
        expected = np.concatenate([head.logits(X[r]) for r in rows])
    else:
        expected = out_of_fold_logits(head, X[rows[0]], y[rows[0]], validation=(X[rows[1]], y[rows[1]]), n_folds=3)
    np.testing.assert_allclose(taught["logits"], expected, rtol=1e-5, atol=1e-6)


NAMED = [
    "+head.teacher.head._target_=probe.heads.ncm.NearestClassMean",
    "+head.teacher.backbone._target_=probe.backbones.tiny.TinyBackbone",
]


@pytest.mark.parametrize("teacher", [[], NAMED])
def test_logits_of_a_fitted_teacher_are_those_of_a_run(tmp_path, teacher):
    request = request_of([*TAPPED, *SMALL, *teacher, "head.teacher_folds=null"], tmp_path)
    with pytest.raises(InputError, match=r"teacher_folds is null.* names none: set head.teacher_folds=5, or"):
        run(request)
    run(request_of([*TAPPED, *SMALL, *teacher, "head.teacher_folds=2"], tmp_path))


def test_a_teacher_by_backbone_and_head_may_read_a_layer_too(tmp_path):
    named = ["+head.teacher.head._target_=probe.heads.ncm.NearestClassMean"]
    named += [f"+head.teacher.backbone.{key}={value}" for key, value in {
        "_target_": "probe.backbones.timm.TimmBackbone", "name": "test_vit", "pretrained": "false", "img_size": "32",
        "taps": "[blocks.0]",
    }.items()]  # fmt: skip
    plain, tapped = (
        json.loads((run(request_of([*TAPPED, *SMALL, *named, *more], tmp_path)) / "result.json").read_text())
        for more in ([], ["+head.teacher.reads.pooled=blocks.0"])
    )
    assert plain["run"]["digest"] != tapped["run"]["digest"]


def test_without_a_teacher_the_linear_probe_on_the_same_features_teaches(tmp_path):
    small = ["backbone=identity", "dataset=wine", "device=cpu", *SMALL]
    named = ["+head.teacher.head._target_=probe.heads.linear.LinearProbe"]
    named += ["+head.teacher.backbone._target_=probe.backbones.identity.IdentityBackbone"]
    own, other = (
        json.loads((run(request_of([*small, *n], tmp_path)) / "result.json").read_text()) for n in ([], named)
    )
    assert own["head"]["parameters"]["teacher"]["name"] == "linear on identity"
    assert own["run"]["digest"] == other["run"]["digest"]


def test_a_run_on_another_dataset_or_split_does_not_teach(tmp_path):
    small = ["backbone=identity", "dataset=wine", "device=cpu"]
    teacher = run(request_of([*small, "head=ncm"], tmp_path))
    with pytest.raises(InputError, match="classes of wine, which are not the 2 of this dataset: give a run"):
        request_of([*small, *SMALL, "dataset=breast_cancer", f'head.teacher="{teacher}"'], tmp_path)
    with pytest.raises(InputError, match=r"with fingerprint \w{32}, and this dataset has \w{32}: give a run on the"):
        request_of([*small, *SMALL, "limit=50", f'head.teacher="{teacher}"'], tmp_path)
    other_seed = [*small, *SMALL, "seed=1", f'head.teacher="{teacher}"', "head.teacher_folds=null"]
    with pytest.raises(InputError, match=r"was fitted on other rows than this run trains on \(split \w{32}, here"):
        run(request_of(other_seed, tmp_path))
