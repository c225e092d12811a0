"""Successive halving: the plan, nested rows, the grid's winner, and what a run tells of it."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

import probe
from probe.core.errors import DoesNotFit, InputError
from probe.experiment.halving import candidates, check_search, fit_by_halving, nested, rungs
from probe.heads.grid import GridProbe
from probe.heads.knn import KNearest
from probe.heads.label_words import LabelWords
from probe.heads.linear import LinearProbe
from probe.heads.ncm import NearestClassMean
from probe.protocols.full import Full


@pytest.fixture(scope="module")
def rows():
    X, y = load_iris(return_X_y=True)
    return (X[::2].astype(np.float32), y[::2]), (X[1::2].astype(np.float32), y[1::2])


def test_the_plan_is_the_published_one():
    plan = rungs(27, 27, 1)
    assert [(rung.n_candidates, rung.n_rows) for rung in plan] == [(27, 1), (9, 3), (3, 9), (1, 27)]
    assert sum(rung.cost for rung in plan) == 108  # of 729
    assert [(rung.n_candidates, rung.n_rows) for rung in rungs(10, 900, 40)] == [(10, 100), (3, 300), (1, 900)]
    assert rungs(9, 30, 25)[0].n_rows == 25


def test_rows_of_a_rung_hold_those_before_and_the_classes_in_their_shares():
    codes = np.repeat([0, 1, 2], [80, 15, 5])
    order = nested(codes, 0)
    assert sorted(order) == list(range(100))
    assert set(codes[order[:3]]) == {0, 1, 2}
    assert np.abs(np.bincount(codes[order[:40]], minlength=3) - [32, 6, 2]).max() <= 1
    assert not np.array_equal(order, nested(codes, 1))


def test_it_finds_the_winner_of_the_grid_and_fits_it_as_the_head_does(rows):
    train, validation = rows
    Cs = [1e-6, 1e-5, 1e-4, 1.0, 1e-5 / 2, 1e-6 / 2, 1e-7, 1e-8, 1e-9]
    grid = LinearProbe(Cs=Cs).fit(*train, validation=validation)
    head = fit_by_halving(LinearProbe(Cs=Cs), train, validation, {})
    assert head.C_ == grid.C_ == 1.0
    np.testing.assert_allclose(head.logits(train[0]), grid.logits(train[0]), atol=1e-3)
    found = head.selection_
    assert found["chosen"] == {"C": 1.0}
    assert found["halving"]["rungs"] == [[9, 8], [3, 25], [1, 75]]
    assert found["halving"]["rows_of_grid"] == 675
    assert found["halving"]["rows_fitted"] == 72 + 75 + 75 + 75 * (found["halving"]["control"] != {"C": 1.0})
    assert {one["n_rows"] for one in found["searched"]} <= {8, 25, 75}


def test_a_slow_starter_wins_as_control(rows):
    class Slow(KNearest):
        """Its middle candidate says nothing of few rows."""

        def predict_proba(self, X):
            found = super().predict_proba(X)
            good = self.ks == [3] and len(self.get_rows) == 75 if hasattr(self, "get_rows") else self.ks == [3]
            return found if good else np.full_like(found, 1 / 3)

        def fit(self, X, y, **options):
            self.get_rows = np.asarray(y)
            return super().fit(X, y, **options)

    train, validation = rows
    head = fit_by_halving(Slow(ks=[1, 2, 3, 4, 5], metrics=["euclidean"], temperatures=[1.0]), train, validation, {})
    assert head.selection_["chosen"]["k"] == 3
    assert head.selection_["halving"]["control_won"]


def test_no_test_row_and_no_order_of_validation_rows_has_a_part(rows):
    (X, y), (X_val, y_val) = rows
    given = {"Cs": [1e-4, 1e-3, 1e-2, 0.1, 1.0]}
    first = fit_by_halving(LinearProbe(**given), (X, y), (X_val, y_val), {}).selection_
    turned = fit_by_halving(LinearProbe(**given), (X, y), (X_val[::-1], y_val[::-1]), {}).selection_
    assert [one["score"] for one in first["searched"]] == pytest.approx([one["score"] for one in turned["searched"]])


def test_what_cannot_be_searched_is_refused():
    given = {"exclusive": True, "protocol": Full(), "teacher": False, "calibrate": False}
    for search, head, more, told in (
        ("halves", LinearProbe(), {}, "search is 'halves', expected halving or null"),
        ("halving", LinearProbe(), {"calibrate": True}, "does not go with calibrate=true: leave it out"),
        ("halving", LinearProbe(), {"exclusive": False}, "does not go with several labels or numbers per row"),
        ("halving", GridProbe(), {}, "does not go with a head that compares cells"),
        ("halving", LabelWords(), {}, "does not go with a head that reads texts"),
        ("halving", LinearProbe(Cs=[1.0, 2.0]), {}, "head linear has 2 candidates in Cs, search=halving wants 4 or"),
        ("halving", NearestClassMean(), {}, "head ncm has 0 candidates in no list of parameters"),
    ):
        with pytest.raises((InputError, DoesNotFit), match=told):
            check_search(search, head, **given | more)
    check_search(None, NearestClassMean(), **given)
    assert len(candidates(LinearProbe(Cs=[1, 2, 3, 4]))) == 4


def test_a_run_tells_what_was_spared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    head = ("linear", {"Cs": [0.001, 0.01, 0.1, 1.0, 10.0]})
    run = probe.run("identity", "iris", head, "full", search="halving", quiet=True)
    assert run.record["search"] == "halving"
    assert run.selection["halving"]["rungs"][0][0] == 5
    assert run.selection["halving"]["told"].startswith("halving: 5 on ")
    assert "% spared)" in run.selection["halving"]["told"]
    plain = probe.run("identity", "iris", head, "full", quiet=True)
    assert plain.folder != run.folder
    assert "search" not in plain.record
    assert run.record["labels"]["head"].endswith("(halving)")
    with pytest.raises(InputError, match="protocol few_shot leaves none here: set protocol=holdout"):
        probe.run("identity", "iris", head, ("few_shot", {"k": 1}), search="halving", quiet=True)
    held = probe.run("identity", "iris", head, "holdout", search="halving", quiet=True)
    assert held.selection["halving"]["rungs"]
