"""Numbers of every plug-in, frozen beside the recipe that names them: numbers that change turn the word.

It stands in `frozen/<group>/<name>.json`. `PROBE_FREEZE=1 pytest tests/contracts/test_recipes.py` writes what is new
there, and what has another recipe; it leaves alone what changed under an unchanged word.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from contract_cases import contract_case
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from PIL import Image
from places import CONF, ROOT, TESTS

from probe.core.abilities import MeasuresFeatures
from probe.core.source import recipe_of
from probe.features.extraction.batches import collate
from probe.heads.lda import LinearDiscriminant
from probe.metrics.evaluate import measure
from probe.ood.shared.score import Known, Rows

FROZEN = Path(__file__).with_name("frozen")
TOLERANCE = {
    "backbone": 1e-3,
    "head": 1e-6,
    "number": 1e-6,
    "labels": 1e-6,
    "mask": 1e-3,
    "captions": 1e-6,
    "number_map": 1e-3,
    "relevance": 1e-6,
    "protocol": 0.0,
    "metrics": 1e-6,
    "ood": 1e-6,
}
"""Relative to the largest number; float32 networks differ between processors."""
SMALL = {"epochs": 2, "learning_rates": 0.01, "hidden_width": 16, "trunk_width": 8, "n_groups": 2,
         "n_projected": 40}  # fmt: skip
"""Parameters that make a head quick, where it has them; lists hold this alone."""
ROOM = ROOT / "probe" / "metrics"
FAMILIES = [path.relative_to(ROOM).with_suffix("") for path in sorted(ROOM.rglob("[!_]*.py"))]
FAMILIES = [path.as_posix() for path in FAMILIES if (TESTS / "metrics" / path.parent / f"test_{path.name}.py").exists()]

OOD_FAMILIES = sorted(path.stem for path in (ROOT / "probe" / "ood").glob("[!_]*.py"))


def heads_that_fit(target):
    """Names of the heads that fit a target."""
    return {path.stem for path in yamls("head") if target in get_class(OmegaConf.load(path)["_target_"]).fits}


@cache
def module_of(file):
    """A file of tests as a module, for what it makes besides."""
    name = f"beside_{file.parent.name}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def yamls(group):
    """Those of plug-ins: a preset gives other parameters to one of them."""
    return [path for path in sorted((CONF / group).glob("*.yaml")) if "_target_" in OmegaConf.load(path)]


def check(name, recipe, numbers):
    """Holds numbers against the frozen ones, or writes them where that is asked for and due."""
    group = name.partition("/")[0]
    numbers = [float(f"{number:.10g}") for number in numbers]
    assert numbers, f"{name} gives no numbers to freeze"
    path = FROZEN / f"{name}.json"
    known = json.loads(path.read_text()) if path.exists() else None
    if os.environ.get("PROBE_FREEZE") and (known is None or known["recipe"] != recipe):
        known = {"recipe": recipe, "numbers": numbers}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known) + "\n")
    write = "PROBE_FREEZE=1 pytest tests/contracts/test_recipes.py"
    assert known, f"{name} has no frozen numbers: write them with {write}"
    assert known["recipe"] == recipe, f"{name} has recipe {recipe!r}, frozen is {known['recipe']!r}: write with {write}"
    largest = max((abs(number) for number in known["numbers"] if np.isfinite(number)), default=0)
    same = len(numbers) == len(known["numbers"]) and np.allclose(
        numbers, known["numbers"], rtol=0, atol=TOLERANCE[group] * largest, equal_nan=True
    )
    assert same, (
        f"{name} gives other numbers than before under recipe {recipe!r}, {numbers} instead of {known['numbers']}: if "
        f"they are meant to change, give it another recipe and write the numbers with {write}"
    )


CLASSES, NUMBERS, LABELS, MASKS, MAPS = map(heads_that_fit, ("one_class", "number", "labels", "mask", "number_map"))
MEASURING = {path.stem for path in yamls("head") if hasattr(get_class(OmegaConf.load(path)["_target_"]), "measure")}
NUMBERS, LABELS = NUMBERS - MEASURING, LABELS - MEASURING
CAPTIONS, RELEVANCE = map(heads_that_fit, ("captions", "relevance"))


@pytest.mark.parametrize("path", yamls("head"), ids=lambda path: path.stem)
def test_a_head_gives_the_numbers_of_its_recipe(path):
    head = instantiate(OmegaConf.load(path), _convert_="all")
    if "one_class" not in head.fits:
        pytest.skip("fits no classes of rows, see below")
    if own := contract_case("heads", path.stem, "recipe_numbers"):
        check(f"head/{path.stem}", recipe_of(type(head)), leaves(own()))
        return
    parameters = head.get_params(deep=False)
    small = {name: value for name, value in SMALL.items() if name in parameters}
    small = {name: [value] if isinstance(parameters[name], list) else value for name, value in small.items()}
    small |= (contract_case("heads", path.stem, "recipe_case") or dict)()
    head.set_params(**small, **({"device": "cpu"} if "device" in parameters else {}))
    rng = np.random.default_rng(0)
    y = np.arange(36) % 3
    shapes = {"pooled": (16,), "tokens": (5, 16), "map": (16, 2, 2)}
    # Each row leans towards a class; doubles, so that arithmetic differs little between processors.
    X = {kind: rng.normal(size=(36, *of)) + 2 * rng.normal(size=(3, *of))[y] for kind, of in shapes.items()}
    X["token_ids"] = np.random.default_rng(1).integers(0, 9, (36, 16)) + 5 * y[:, None]
    X["cells"] = X["tokens"]
    X = {kind: X[kind] for kind in head.consumes}
    X = X[head.consumes[0]] if len(head.consumes) == 1 else X
    if head.reads_texts:
        head.set_params(class_features=rng.normal(size=(3, 16)), temperature=0.1)
    extras = {"teacher_logits": rng.normal(size=(36, 3))} if head.needs_teacher else {}
    head.fit(X, y, **extras)
    found = (
        leaves(measure(head.measure(X, y)).metrics)
        if isinstance(head, MeasuresFeatures)
        else head.logits(X)[:4].ravel()
    )
    check(f"head/{path.stem}", recipe_of(type(head)), found)


@pytest.mark.parametrize("path", [p for p in yamls("head") if p.stem in NUMBERS], ids=lambda path: path.stem)
def test_a_head_of_numbers_gives_the_numbers_of_its_recipe(path):
    kind = instantiate(OmegaConf.load(path), _convert_="all")
    given = (contract_case("heads", path.stem, "number_case") or dict)()
    head = kind.set_params(**given).for_target("number")
    head.set_params(**({"device": "cpu"} if "device" in head.get_params(deep=False) else {}))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(36, 8))
    Y = X[:, :2] + rng.normal(size=(36, 2))
    shapes = {"pooled": (8,), "cells": (2, 4), "tokens": (2, 4)}
    kinds = {kind: X.reshape(36, *shapes[kind]) for kind in head.consumes}
    X = kinds if len(kinds) > 1 else kinds[head.consumes[0]]
    check(f"number/{path.stem}", recipe_of(type(head)), head.fit(X, Y).predict(X)[:4].ravel())


@pytest.mark.parametrize("path", [p for p in yamls("head") if p.stem in LABELS], ids=lambda path: path.stem)
def test_a_head_of_several_labels_gives_the_numbers_of_its_recipe(path):
    kind = instantiate(OmegaConf.load(path), _convert_="all")
    parameters = kind.get_params(deep=False)
    small = {name: value for name, value in SMALL.items() if name in parameters}
    small = {name: [value] if isinstance(parameters[name], list) else value for name, value in small.items()}
    head = kind.set_params(**small).for_target("labels")
    head.set_params(**({"device": "cpu"} if "device" in head.get_params(deep=False) else {}))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(36, *{"pooled": (8,), "tokens": (5, 8), "cells": (2, 8)}[head.consumes[0]]))
    y = (X.reshape(36, -1)[:, :3] > [0, 0.3, 0.6]).astype(np.int64)
    check(f"labels/{path.stem}", recipe_of(type(head)), head.fit(X, y).logits(X)[:4].ravel())


@pytest.mark.parametrize("path", [p for p in yamls("head") if p.stem in MASKS], ids=lambda path: path.stem)
def test_a_head_of_masks_gives_the_numbers_of_its_recipe(path):
    head = instantiate(OmegaConf.load(path), _convert_="all").set_params(device="cpu", epochs=2)
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (6, 4, 4)).astype(np.uint8)
    X = rng.normal(size=(6, 5, 2, 2)) + masks[:, None, ::2, ::2]
    check(f"mask/{path.stem}", recipe_of(type(head)), head.fit(X, masks).logits(X)[:2].ravel()[::5])


@pytest.mark.parametrize("path", [p for p in yamls("head") if p.stem in CAPTIONS], ids=lambda path: path.stem)
def test_a_head_of_captions_gives_the_numbers_of_its_recipe(path):
    head, rng = instantiate(OmegaConf.load(path), _convert_="all"), np.random.default_rng(0)
    y = np.arange(36) % 4
    X, owners = rng.normal(size=(36, 8)), np.repeat(np.arange(36), y)
    texts = X[owners] + 2 * rng.normal(size=(len(owners), 8))
    head.set_params(text_features=texts, caption_texts=np.arange(len(owners)), caption_rows=owners, device="cpu")
    head.fit(None, None)
    check(f"captions/{path.stem}", recipe_of(type(head)), leaves(measure(head.measure(X, y)).metrics))


@pytest.mark.parametrize("path", [p for p in yamls("head") if p.stem in MAPS], ids=lambda path: path.stem)
def test_a_head_of_maps_gives_the_numbers_of_its_recipe(path):
    head = instantiate(OmegaConf.load(path), _convert_="all").set_params(device="cpu", epochs=2)
    rng = np.random.default_rng(0)
    maps = rng.uniform(1, 5, (6, 4, 4))
    X = rng.normal(size=(6, 5, 2, 2)) + maps[:, None, ::2, ::2]
    check(f"number_map/{path.stem}", recipe_of(type(head)), head.fit(X, maps).number_maps(X).ravel())


@pytest.mark.parametrize("path", [p for p in yamls("head") if p.stem in RELEVANCE], ids=lambda path: path.stem)
def test_a_head_of_relevance_gives_the_numbers_of_its_recipe(path):
    head, rng = instantiate(OmegaConf.load(path), _convert_="all"), np.random.default_rng(0)
    X, queries = rng.normal(size=(140, 8)), np.arange(20)
    X[queries] += X[queries + 30] + X[queries + 80] / 2
    judgements = np.concatenate([np.stack([queries, queries + at, 0 * queries + g], axis=1)
                                 for at, g in ((30, 2), (80, 1), (110, 0))])  # fmt: skip
    y = np.where(np.arange(140) < 20, 2, -1)
    head.set_params(judgements=judgements, same_ids=[(0, 30)], device="cpu").fit(None, None)
    check(f"relevance/{path.stem}", recipe_of(type(head)), leaves(measure(head.measure(X, y)).metrics))


@pytest.mark.parametrize("path", yamls("backbone"), ids=lambda path: path.stem)
def test_a_backbone_gives_the_numbers_of_its_recipe(path):
    backbone = module_of(TESTS / "contracts" / "test_backbones.py").make(path.stem)
    rng = np.random.default_rng(0)
    if hasattr(backbone, "network"):
        with torch.no_grad():  # what a library draws as first weights is not ours
            for _, weight in sorted(backbone.network.named_parameters()):
                drawn = rng.normal(size=weight.shape) / max(1, weight[:1].numel()) ** 0.5
                weight.copy_(torch.from_numpy(drawn))
    if backbone.reads == "images":
        row = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    else:
        row = rng.normal(size=(30, 2) if backbone.reads == "series" else 8)
    features = backbone.extract(collate(backbone, [backbone.transform(row)]), backbone.kinds)
    parts = [features[kind].double().numpy().ravel() for kind in backbone.kinds]
    numbers = [number for part in parts for number in (part.mean(), np.abs(part).mean(), *part[:3])]
    check(f"backbone/{path.stem}", recipe_of(type(backbone)), numbers)


@pytest.mark.parametrize("path", yamls("protocol"), ids=lambda path: path.stem)
def test_a_protocol_names_the_rows_of_its_recipe(path, tmp_path, monkeypatch):
    contract = module_of(TESTS / "contracts" / "test_protocols.py")
    rows, protocol = contract.dataset(), contract.build(path)
    monkeypatch.chdir(tmp_path)
    contract.prepare(path, tmp_path)
    split = protocol.split(rows, 3)
    sets = [*(part.indices for part in split.parts.values()), split.folds, split.train_labels]
    sets += [task.rows.indices for task in protocol.tasks(rows, 3)] if hasattr(protocol, "tasks") else []
    numbers = []
    for values in sets:
        values = np.empty(0, np.int64) if values is None else values
        numbers += [len(values), values.sum(), (values * (np.arange(len(values)) % 97)).sum()]
    check(f"protocol/{path.stem}", recipe_of(type(protocol)), numbers)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_metrics_gives_the_numbers_of_its_recipe(family):
    path = TESTS / "metrics" / family
    module = module_of(path.with_name(f"test_{path.name}.py"))
    assert hasattr(module, "frozen_case"), f"{path} has no frozen_case() in its test: a few numbers by name"
    words = importlib.import_module(f"probe.metrics.{family.replace('/', '.')}")
    check(f"metrics/{family}", str(getattr(words, "RECIPE", "1")), leaves(module.frozen_case()))


@pytest.mark.parametrize("family", OOD_FAMILIES)
def test_a_family_of_scores_of_unknown_classes_gives_the_numbers_of_its_recipe(family):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = rng.normal(size=(60, 8)) + 2 * np.eye(3, 8)[y]
    known = Known(X, y, LinearDiscriminant(device="cpu").fit(X, y))
    asked = rng.normal(size=(4, 8))
    rows = Rows(asked, known.logits(asked))
    module = importlib.import_module(f"probe.ood.{family}")
    found = {score.name: score.fit(known)(rows) for score in module.SCORES}
    check(f"ood/{family}", str(getattr(module, "RECIPE", "1")), leaves(found))


def leaves(value):
    """All numbers in nested results, in a fixed order."""
    if is_dataclass(value):
        value = asdict(value)
    if isinstance(value, Mapping):
        return [number for key in sorted(value) for number in leaves(value[key])]
    if isinstance(value, list | tuple | np.ndarray):
        return [number for item in value for number in leaves(item)]
    return [] if value is None else [float(value)]


def test_every_frozen_number_is_of_a_plug_in_that_is_there():
    there = {f"{group}/{path.stem}" for group in ("backbone", "protocol") for path in yamls(group)}
    there |= {f"head/{name}" for name in CLASSES} | {f"number/{name}" for name in NUMBERS}
    there |= {f"labels/{name}" for name in LABELS}
    there |= {f"mask/{name}" for name in MASKS} | {f"captions/{name}" for name in CAPTIONS}
    there |= {f"number_map/{name}" for name in MAPS}
    there |= {f"relevance/{name}" for name in RELEVANCE}
    there |= {f"ood/{family}" for family in OOD_FAMILIES}
    frozen = {path.relative_to(FROZEN).with_suffix("").as_posix() for path in FROZEN.rglob("*.json")}
    assert frozen == there | {f"metrics/{family}" for family in FAMILIES}


def test_numbers_that_change_under_an_unchanged_recipe_fail_and_are_not_written_over(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "FROZEN", tmp_path)
    monkeypatch.delenv("PROBE_FREEZE", raising=False)
    with pytest.raises(AssertionError, match="has no frozen numbers: write them with PROBE_FREEZE=1 pytest"):
        check("head/new", "1", [1.0])
    monkeypatch.setenv("PROBE_FREEZE", "1")
    check("head/new", "1", [1.0])
    check("head/new", "1", [1.0 + 1e-8])
    with pytest.raises(AssertionError, match="gives other numbers than before under recipe '1'"):
        check("head/new", "1", [1.0 + 1e-5])
    check("head/new", "2", [2.0])
    monkeypatch.delenv("PROBE_FREEZE")
    check("head/new", "2", [2.0])
    with pytest.raises(AssertionError, match="has recipe '1', frozen is '2'"):
        check("head/new", "1", [2.0])
