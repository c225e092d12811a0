"""Whole runs of every head and every protocol whose test rows are garbage: no bit of what is fitted or chosen moves.

So of masks, words, other test sets, unknown classes and ensembles; where a leak is planted, each of them tells it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from contract_cases import contract_case
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from places import CONF
from poison import Saying, dataset, depths, other_scenes, poisoned, ran, sayings, scenes

from probe.backbones.tiny import TinyBackbone
from probe.core.abilities import MeasuresFeatures
from probe.experiment import fitting, ood
from probe.experiment.ensembles import ensemble
from probe.experiment.ensembles.members import read_member, views_on_test
from probe.experiment.prompts import is_apart
from probe.heads.dense_depth import DenseDepth
from probe.heads.dense_linear import DenseLinear
from probe.heads.lda import LinearDiscriminant
from probe.heads.linear import LinearProbe
from probe.heads.mask_fitted import MaskFitted
from probe.heads.mask_zero_shot import MaskZeroShot
from probe.heads.ncm import NearestClassMean
from probe.heads.ridge import RidgeProbe
from probe.ood.shared.score import Score

SMALL = {"epochs": 2, "learning_rates": 0.01, "hidden_width": 16, "trunk_width": 8, "n_groups": 2,
         "n_projected": 40, "thresholds": 5, "alphas": 3, "betas": 3}  # fmt: skip
"""Parameters that make a head quick, where it has them; lists hold this alone."""
HEADS = {path.stem: OmegaConf.load(path) for path in sorted((CONF / "head").glob("*.yaml"))}
KINDS = {name: get_class(yaml["_target_"]) for name, yaml in HEADS.items() if "_target_" in yaml}
# What measures features fits nothing; what asks a language model how likely words are wants one.
KINDS = {n: kind for n, kind in KINDS.items() if not issubclass(kind, MeasuresFeatures) and not is_apart(kind)}


def head_of(name: str, target: str) -> Any:
    """A head, with parameters that make it quick, and two of what it searches."""
    head = instantiate(HEADS[name], _convert_="all")
    parameters = head.get_params(deep=False)
    small = {key: value for key, value in SMALL.items() if key in parameters}
    small = {key: [value] if isinstance(parameters[key], list) else value for key, value in small.items()}
    small |= {key: parameters[key][:2] for key in head.searches.values() if isinstance(parameters[key], list)}
    case = {"one_class": "recipe_case", "number": "number_case"}.get(target)
    given = (contract_case("heads", name, case) or dict)() if case else {}
    given = {key: value for key, value in given.items() if key not in ("class_features", "temperature")}
    return head.set_params(**small | given)


FEWER = {"long_tail": {"imbalance": 3.0}, "rows": {"n": 20}}
"""What protocols draw of so few rows."""
CASES = [
    pytest.param(name, target, id=f"{name}-{target}")
    for name, kind in KINDS.items()
    for target in ("one_class", "number", "labels")
    if target in kind.fits
]


@pytest.mark.parametrize(("name", "target"), CASES)
def test_garbage_in_the_test_rows_moves_nothing_that_a_head_learns_or_chooses(name, target, tmp_path):
    head = head_of(name, target)
    data = dataset(target, grouped=head.balances_groups)
    options = {"reads": {"cells": ["a", "b"]}} if head.consumes == ("cells",) else {}
    given = [data, poisoned(data, "test", np.arange(24))]
    (clean, of_clean), (other, of_other) = [ran(tmp_path / str(i), g, head, **options) for i, g in enumerate(given)]
    clean.check(other)
    assert of_clean != of_other


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "protocol").glob("*.yaml")))
def test_garbage_in_the_rows_that_a_protocol_tests_on_moves_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = dataset(n=1000 if name == "vtab1k" else 60)
    protocol = instantiate(OmegaConf.load(CONF / "protocol" / f"{name}.yaml"), **FEWER.get(name, {}))
    if case := contract_case("protocols", name):
        case(tmp_path, data)
    split = protocol.split(data, 0)
    monkeypatch.setattr(type(protocol), "split", lambda self, data, seed: split)  # though labels change
    given = [data, poisoned(data, split.test.partition, split.test.indices)]
    streams = hasattr(protocol, "tasks")
    head = NearestClassMean(device="cpu") if streams else LinearProbe(Cs=[0.01, 1.0], device="cpu")
    options = {} if streams else {"calibrate": True, "conformal_level": 0.5, "standardize": True}
    found = [ran(tmp_path / str(i), g, head, protocol, **options) for i, g in enumerate(given)]
    found[0][0].check(found[1][0])
    assert found[0][1] != found[1][1]


ALL = np.arange(24)
CALIBRATED = {"calibrate": True, "conformal_level": 0.5}
PROBE = LinearProbe(Cs=[0.01, 1.0], device="cpu")
WORDS = {"words": {f"c{k}": [f"word {k}", f"other {k}"] for k in range(4)}}
TINY = {"backbone": TinyBackbone()}


def elsewhere(clean, garbage):
    """Options of the run on another dataset's test rows, as they are and poisoned."""
    return [{"test_on": replace(data, name="elsewhere")} for data in (clean, garbage)]


def places(name):
    """Head, dataset and options of both runs, where rows are no vectors, classes are words, or others test."""
    if name.startswith("masks"):
        data, trained = scenes(), DenseLinear(epochs=1, lrs=[0.01, 0.03])
        more = {**CALIBRATED, "patches": {"label": "pixel", "per_class": 2}}
        head, more = {"masks": (RidgeProbe(), more), "masks, trained": (trained, {})}[name]
        return head, data, [{**TINY, **more, "data": one} for one in (data, other_scenes(data))]
    if name.startswith("maps"):
        data = depths()
        head = RidgeProbe() if name == "maps" else DenseDepth(epochs=1, lrs=[0.01, 0.03], bins=8)
        return head, data, [{**TINY, "data": one} for one in (data, other_scenes(data))]
    if name.startswith("words"):
        head = {"words": MaskZeroShot(calibrate="batch", **WORDS), "words, fitted": MaskFitted(Cs=[0.0, 1.0], **WORDS)}
        return head[name], None, [{"backbone": Saying(), "data": sayings(word)} for word in ("row", "garbage")]
    if name == "test_on masks":
        data = scenes()
        return RidgeProbe(), data, [{**TINY, **CALIBRATED, **one} for one in elsewhere(data, other_scenes(data))]
    target = name.removeprefix("test_on ")
    head, other = (RidgeProbe() if target == "number" else PROBE), dataset(target, n=20)
    more = {"standardize": True, **CALIBRATED}
    return head, dataset(target), [more | one for one in elsewhere(other, poisoned(other, "test", ALL))]


PLACES = ["masks", "masks, trained", "maps", "maps, trained", "words", "words, fitted", "test_on one_class",
          "test_on number", "test_on masks"]  # fmt: skip


def both(name, folder):
    """What the two runs keep, and their metrics."""
    head, data, options = places(name)
    return [ran(folder / str(i), given.pop("data", data), head, **given) for i, given in enumerate(options)]


@pytest.mark.parametrize("name", PLACES)
def test_garbage_in_rows_of_other_places_moves_nothing(name, tmp_path):
    (clean, of_clean), (other, of_other) = both(name, tmp_path)
    clean.check(other)
    assert of_clean != of_other


def fitted_on_test_rows(monkeypatch):
    """Plants what all of this is there to catch."""
    honest = fitting.fit_head
    monkeypatch.setattr(
        fitting, "fit_head", lambda head, rows, extras: honest(head, replace(rows, train=rows.test, folds=None), extras)
    )


@pytest.mark.parametrize("name", PLACES)
def test_a_planted_leak_of_rows_of_other_places_is_caught(name, tmp_path, monkeypatch):
    fitted_on_test_rows(monkeypatch)
    (clean, _), (other, _) = both(name, tmp_path)
    with pytest.raises(AssertionError):
        clean.check(other)


def test_a_planted_leak_of_the_own_rows_is_caught(tmp_path, monkeypatch):
    fitted_on_test_rows(monkeypatch)
    data = dataset()
    clean, other = (ran(tmp_path / str(i), g, PROBE)[0] for i, g in enumerate((data, poisoned(data, "test", ALL))))
    with pytest.raises(AssertionError):
        clean.check(other)


def unknown(factor, garbage=False):
    """A set of unknown classes."""
    data = replace(dataset(), class_names=("d0", "d1", "d2", "d3"))
    part = data.partitions["test"]
    part.rows = (factor * part.rows).astype(np.float32)
    return poisoned(data, "test", ALL) if garbage else data


def scored(folder, monkeypatch, data, far):
    """What is kept, the metrics, and the scores of the unknown rows in the order of sets and scores."""
    seen, own = [], ood.Detection
    with monkeypatch.context() as patch:
        patch.setattr(
            ood, "Detection", lambda known, unknown, **more: seen.append(unknown) or own(known, unknown, **more)
        )
        kept, metrics = ran(folder, data, LinearDiscriminant(device="cpu"), ood={"far": far, "near": unknown(0.5)})
    return kept, metrics, np.stack(seen)


def test_garbage_in_unknown_rows_moves_nothing_but_their_own_scores(tmp_path, monkeypatch):
    given = [scored(tmp_path / str(i), monkeypatch, dataset(), unknown(2, bool(i))) for i in range(2)]
    check_unknown(*given)


def check_unknown(clean, other):
    clean[0].check(other[0])
    rest = [{name: value for name, value in metrics.items() if "@far" not in name} for _, metrics, _ in (clean, other)]
    assert rest[0] == rest[1]
    near = len(clean[2]) // 2  # behind all scores of the other set
    np.testing.assert_array_equal(clean[2][near:], other[2][near:])
    assert clean[1] != other[1]


def test_garbage_in_the_known_test_rows_moves_no_score_of_unknown_ones(tmp_path, monkeypatch):
    clean, other = ends = known_poisoned(tmp_path, monkeypatch)
    clean[0].check(other[0])
    np.testing.assert_array_equal(*(scores for *_, scores in ends))


def known_poisoned(tmp_path, monkeypatch):
    data = dataset()
    return [scored(tmp_path / str(i), monkeypatch, given, unknown(2))
            for i, given in enumerate((data, poisoned(data, "test", ALL)))]  # fmt: skip


def test_a_score_that_remembers_unknown_rows_is_caught(tmp_path, monkeypatch):
    seen = []

    def remembering(rows):
        seen.append(np.abs(rows.X).max())
        return rows.logits.max(axis=1) / max(seen)

    monkeypatch.setattr(ood, "scores", lambda: {"planted": Score(name="planted", fit=lambda known: remembering)})
    given = []
    for i in range(2):
        seen.clear()
        given.append(scored(tmp_path / str(i), monkeypatch, dataset(), unknown(2, bool(i))))
    with pytest.raises(AssertionError):
        check_unknown(*given)


def test_a_score_that_is_fitted_on_test_rows_is_caught(tmp_path, monkeypatch):
    honest = ood.detect
    monkeypatch.setattr(
        "probe.experiment.measuring.detect",
        lambda drawn, rows, fitted: honest(drawn, replace(rows, train=rows.test), fitted),
    )
    ends = known_poisoned(tmp_path, monkeypatch)
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(*(scores for *_, scores in ends))


def weighed(tmp_path):
    """By head the weight and temperature in an ensemble of two runs, with clean and with poisoned test rows."""
    data, found = dataset(), []
    for i, given in enumerate((data, poisoned(data, "test", ALL))):
        folders = [ran(tmp_path / str(i), given, head)[0].folder for head in (PROBE, RidgeProbe())]
        found.append(ensemble.combine(map(read_member, folders), "weighted"))
    heads = [[member.record["head"]["name"] for member in one.members] for one in found]
    both = [zip(one.weights, one.temperatures, strict=True) for one in found]
    return [dict(zip(names, values, strict=True)) for names, values in zip(heads, both, strict=True)]


def test_garbage_in_the_test_rows_moves_no_weight_and_no_temperature_of_an_ensemble(tmp_path):
    clean, other = weighed(tmp_path)
    assert clean == other
    assert clean["ridge"][1] != 1


def test_weights_from_test_rows_are_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(
        ensemble, "held_out", lambda members, scales: (views_on_test(members, scales), members[0].test["label"])
    )
    clean, other = weighed(tmp_path)
    assert clean != other
