"""Equal computations have equal names, however their configuration was spelled."""

import inspect
import json
import os
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from places import CONF

from probe.backbones.identity import IdentityBackbone
from probe.core.base import SplitProtocol
from probe.datasets.sklearn import load
from probe.experiment.identity import extraction, head_parameters, one_spelling, parameter_types, protocol_parameters
from probe.experiment.request import Run
from probe.experiment.run import run_once
from probe.features.store import FeatureStore
from probe.heads.dual_head_kd import DualHeadKD
from probe.heads.lda import LinearDiscriminant
from probe.heads.linear import LinearProbe
from probe.heads.linear_sgd import LinearSGD
from probe.heads.ncm import NearestClassMean
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.head import Head
from probe.protocols.fraction import Fraction
from probe.protocols.full import Full
from probe.protocols.label_noise import LabelNoise


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NearestClassMean(), NearestClassMean(metric="euclidean")),
        (LinearProbe(Cs=[1, 0.1]), LinearProbe(Cs=(0.1, 1.0))),
        (LinearProbe(Cs=[0.1, 1.0, 0.1]), LinearProbe(Cs=[0.1, 1.0])),
        (RidgeProbe(alphas=[10, 1]), RidgeProbe(alphas=[1, 10])),
        (LinearSGD(weight_decay=0), LinearSGD()),
        (LinearProbe(random_state=3, device="cpu"), LinearProbe()),
    ],
    ids=repr,
)
def test_spellings_of_one_head(one: Head, other: Head) -> None:
    assert head_parameters(one) == head_parameters(other)
    assert repr(head_parameters(one)) == repr(head_parameters(other))  # 1 and 1.0 are equal, but not as JSON


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LinearProbe(Cs=1), LinearProbe(Cs=[1.0])),  # one C between bounds, and C = 1
        (LinearSGD(lrs=[0.1, 0.01]), LinearSGD(lrs=[0.01, 0.1])),  # ties go to the first
        (DualHeadKD(epochs=[10, 20]), DualHeadKD(epochs=[20, 10])),
        (LinearDiscriminant(shrinkage=0), LinearDiscriminant(shrinkage=1)),
    ],
    ids=repr,
)
def test_heads_that_only_look_alike(one: Head, other: Head) -> None:
    assert head_parameters(one) != head_parameters(other)


def test_values_that_the_head_refuses_are_left_to_it() -> None:
    assert head_parameters(LinearProbe(Cs=["a", 1]))["Cs"] == ["a", 1.0]
    assert head_parameters(LinearProbe(tol=None))["tol"] is None
    assert head_parameters(LinearProbe(refit=True))["refit"] is True


def test_parameters_without_annotations_keep_their_type() -> None:
    class Foreign:
        def __init__(self, max_features=1.0):
            self.max_features = max_features

    assert repr(one_spelling(Foreign, {"max_features": 1})) == "{'max_features': 1}"


@pytest.mark.parametrize(
    ("one", "other"),
    [(Fraction(1), Fraction(1.0)), (LabelNoise(Full(0), rate=0), LabelNoise(Full(0.0), rate=0.0))],
    ids=repr,
)
def test_spellings_of_one_protocol(one: SplitProtocol, other: SplitProtocol) -> None:
    assert repr(protocol_parameters(one)) == repr(protocol_parameters(other))


class Neighbours(Head):
    unordered = ("ks", "free")

    def __init__(self, ks: Sequence[int] = (1, 5), free=(), scale: float = 1, either: int | float = 1):
        self.ks, self.free, self.scale, self.either = ks, free, scale, either


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Neighbours(ks=[5, 1]), Neighbours(ks=(1, 5, 5))),
        (Neighbours(free=[2, 1.0]), Neighbours(free=[1, 2.0])),
        (Neighbours(scale=2), Neighbours(scale=2.0)),
    ],
    ids=repr,
)
def test_spellings_of_a_head_of_ones_own(one: Head, other: Head) -> None:
    assert repr(head_parameters(one)) == repr(head_parameters(other))


def test_what_may_be_whole_stays_whole() -> None:
    assert repr(head_parameters(Neighbours(ks=[5, 1], either=3))) == (
        "{'either': 3, 'free': [], 'ks': [1, 5], 'scale': 1.0}"
    )
    assert head_parameters(Neighbours(ks=[True, False]))["ks"] == [True, False]  # no numbers: left to the head


YAMLS = [path for path in sorted(CONF.glob("[hp]*/*.yaml")) if "_target_" in OmegaConf.load(path)]


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_the_types_of_every_parameter_can_be_read(path: Path) -> None:
    module, _, name = OmegaConf.load(path)["_target_"].rpartition(".")
    kind = getattr(import_module(module), name)
    names = set(inspect.signature(kind).parameters)
    assert names <= set(parameter_types(kind)) or not names


def test_the_record_says_which_code_computed(ask: Any) -> None:
    result = json.loads((ask(NearestClassMean())[0] / "result.json").read_text())
    assert result["head"]["class"] == "probe.heads.ncm:NearestClassMean"
    assert result["protocol"]["class"] == "probe.protocols.full:Full"
    assert result["backbone"]["class"] == "probe.backbones.identity:IdentityBackbone"
    assert {result[part]["recipe"] for part in ("head", "protocol", "backbone")} == {"1"}


@pytest.mark.parametrize("kind", [NearestClassMean, Full, IdentityBackbone])
def test_a_turned_recipe_is_another_run(ask: Any, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    folder, _ = ask(NearestClassMean())
    monkeypatch.setattr(kind, "recipe", "2", raising=False)
    assert ask(NearestClassMean())[0] != folder


def test_a_turned_recipe_of_a_metric_is_another_run(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = ask(NearestClassMean())
    before = json.loads((folder / "result.json").read_text())["metrics_by"]
    monkeypatch.setattr("probe.metrics.ranking.RECIPE", "another")
    other = ask(NearestClassMean())[0]
    assert other != folder
    assert json.loads((other / "result.json").read_text())["metrics_by"] == before | {"ranking": "another"}


def test_settings_of_the_extraction_that_say_nothing() -> None:
    plain = extraction({}, ["pooled"])
    assert plain == {"on_error": "raise", "dtypes": {}}
    assert extraction({"on_error": "raise", "dtypes": {"pooled": "float32"}, "batch_size": 3}, ["pooled"]) == plain
    assert extraction({"dtypes": {"tokens": "float32"}}, ["pooled"]) == plain  # not read
    assert extraction({"dtypes": {"pooled": "float16"}}, ["pooled"]) != plain
    # The default of a tapped layer depends on its shape, which only an extraction tells.
    assert extraction({"dtypes": {"stages.1": "float16"}}, ["stages.1"])["dtypes"] == {"stages.1": "float16"}


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    iris, store = load(name="iris"), FeatureStore(tmp_path / "cache")

    def ask(head: Head, **more: Any) -> tuple[Path, bool]:
        return run_once(Run(IdentityBackbone(), iris, Full(), head, store, tmp_path / "runs", device="cpu", **more))

    return ask


def test_jobs_that_mean_the_same_run_once(ask: Any) -> None:
    folder, is_new = ask(LinearProbe(Cs=[1, 0.1]))
    assert is_new
    assert ask(LinearProbe(Cs=[0.1, 1.0]), features={"dtypes": {"pooled": "float32"}}) == (folder, False)
    assert ask(LinearProbe(Cs=[0.1, 1.0]), force=True) == (folder, True)
    assert ask(LinearProbe(Cs=[0.1, 10]))[0] != folder


def test_a_run_whose_clock_was_ahead_is_made_again_where_that_is_forced(ask: Any) -> None:
    folder, _ = ask(LinearProbe(Cs=[1.0]))
    later = time.time() + 3600
    os.utime(folder / "result.json", (later, later))
    assert ask(LinearProbe(Cs=[1.0]), force=True) == (folder, True)
    assert (folder / "result.json").stat().st_mtime < later


def test_the_run_computes_what_its_name_says(ask: Any) -> None:
    """A run is computed from the one spelling, so that no spelling can hide another result under the name."""
    folder, _ = ask(LinearProbe(Cs=[1, 0.1]))
    searched = Head.load(folder / "head.safetensors").selection_["searched"]
    assert [candidate["C"] for candidate in searched] == [0.1, 1.0]
