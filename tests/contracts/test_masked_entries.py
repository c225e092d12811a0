"""Every head that has a yaml, for every target that it fits: what a mask hides is refused wherever it is read."""

import numpy as np
import pytest
from contract_cases import contract_case
from hydra.utils import get_class
from omegaconf import OmegaConf
from places import CONF
from sklearn.base import clone

from probe.core.errors import InputError

N = 60
SHAPES = {"pooled": (4,), "tokens": (2, 2), "map": (2, 1, 2), "cells": (2, 2)}
Y = {
    "one_class": np.arange(N) % 3,
    "labels": np.stack([np.arange(N) % 3 == k for k in range(3)], axis=1).astype(int),
    "number": np.arange(N) / N,
}
CASES = {"one_class": "contract_case", "labels": "contract_case", "number": "number_case"}


def cases():
    """Heads by name and target."""
    for path in sorted((CONF / "head").glob("*.yaml")):
        if "_target_" in OmegaConf.load(path):
            kind = get_class(OmegaConf.load(path)["_target_"])
            for name in (name for name in kind.fits if name in Y):
                given = (contract_case("heads", path.stem, CASES[name]) or dict)()
                yield pytest.param(kind(**given).for_target(name), name, id=f"{path.stem}-{name}")


def rows_of(head):
    values = np.round(50 * np.random.default_rng(0).normal(size=(N, 4))) / 50 + np.arange(N)[:, None] % 3
    ids = (10 * np.abs(values)).astype(np.int32)
    arrays = {name: ids if name == "token_ids" else values.reshape(-1, *SHAPES[name]) for name in head.consumes}
    return arrays if len(arrays) > 1 else next(iter(arrays.values()))


def hidden(given):
    """The same with a row behind a mask."""
    if isinstance(given, dict):
        first = next(iter(given))
        return given | {first: hidden(given[first])}
    found = np.ma.array(given, mask=np.zeros(given.shape, dtype=bool))
    found[5] = np.ma.masked
    return found


def reads(fit, X, y):
    """Whether a call looks at what is None among what it is given."""
    try:
        fit(X, y)
    except Exception:
        return True
    return False


def calls(made, X, y):
    """What takes rows and labels."""
    classes, rows = np.unique(Y["one_class"]), [(np.arange(10, N), None)]  # a split without the row that is hidden
    yield lambda *given: clone(made).fit(*given)
    yield lambda *given: clone(made).fit(X, y, validation=given)
    yield lambda *given: list(clone(made).fit_splits(*given, rows))
    if made.streams:
        begun = clone(made).partial_fit(X, y, classes=classes)
        yield lambda *given: clone(made).partial_fit(*given, classes=classes)
        yield lambda *given: begun.partial_fit(*given)


@pytest.mark.parametrize(("made", "name"), list(cases()))
def test_no_head_reads_what_a_mask_hides(made, name):
    X, y = rows_of(made), Y[name]
    for call in calls(made, X, y):
        if reads(call, X, y):  # it fails on whole rows too: its own test gives what it wants beside them
            continue
        for given, without in (((hidden(X), y), (None, y)), ((X, hidden(y)), (X, None))):
            if reads(call, *without):
                with pytest.raises(InputError, match="entries behind a mask, which nothing here reads"):
                    call(*given)
