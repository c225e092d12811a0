import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import paired_distances

import probe
from probe.backbones.identity import IdentityBackbone
from probe.core.errors import DoesNotFit, InputError
from probe.core.targets.number import Number
from probe.core.targets.one_class import ONE_CLASS
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.row_facts import know
from probe.datasets.shared.subsets import limited
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.pairs import Pairs
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.head import Head
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page_data
from probe.leaderboard.table import build_table, default_metrics
from probe.metrics.evaluate import measure
from probe.protocols.cross_validation import CrossValidation
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full
from probe.protocols.holdout import Holdout
from probe.results.reader import read_predictions, read_result


def drawn(n, seed=0, matches=None):
    """(2n, 6) rows in n pairs that are nearer where they match, in any order; their classes and groups."""
    random = np.random.default_rng(seed)
    match = np.arange(n) % 2 if matches is None else np.asarray(matches)
    X = random.normal(size=(2 * n, 6))
    X[n:] = np.where(match[:, None] == 1, X[:n] + 0.8 * X[n:], X[n:])
    order = random.permutation(2 * n)
    return X[order], np.tile(match, 2)[order], np.tile(np.arange(n), 2)[order]


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities_are_those_of_scikit_learn(similarity):
    X, y, groups = drawn(30)
    (scores,) = Pairs(similarity).fit(X, y, groups=groups).measure(X, y, groups).values()
    A, B = X[scores.first], X[scores.second]
    expected = (A * B).sum(axis=1)
    if similarity != "dot":
        expected = (similarity == "cosine") - paired_distances(A, B, metric=similarity)
    np.testing.assert_allclose(scores.similarity, expected, atol=1e-12)
    assert (groups[scores.first] == groups[scores.second]).all()
    assert (scores.first < scores.second).all()


def test_what_a_mask_hides_is_not_read():
    X, y, groups = drawn(30)
    for given in ((np.ma.masked_less(X, np.sort(X, axis=None)[1]), y), (X, np.ma.array(y, mask=np.arange(60) == 5))):
        with pytest.raises(InputError, match="entries behind a mask, which nothing here reads"):
            Pairs().fit(*given, groups=groups)


def test_rows_of_a_file_are_read_in_blocks(tmp_path, monkeypatch):
    X, y, groups = drawn(40)
    X.astype(np.float32).tofile(tmp_path / "x")
    stored = np.memmap(tmp_path / "x", dtype=np.float32, mode="r", shape=X.shape)
    (expected,) = Pairs().fit(X, y, groups=groups).measure(X.astype(np.float32), y, groups).values()
    monkeypatch.setattr("probe.heads.pairs.CHUNK_BYTES", 8 * 6 * 7)
    (found,) = Pairs().fit(stored, y, groups=groups).measure(stored, y, groups).values()
    np.testing.assert_array_equal(found.similarity, expected.similarity)


def test_thresholds_are_of_the_training_pairs_and_nothing_else_is_fitted():
    X, y, groups = drawn(60)
    test = drawn(50, seed=1)
    head = Pairs().fit(X, y, groups=groups)
    poisoned = Pairs().fit(X, y, validation=(1e9 * X, 1 - y), groups=groups)
    assert (head.thresholds_ == poisoned.thresholds_).all()
    (scores,) = head.measure(*test).values()
    assert scores.thresholds == tuple(head.thresholds_)
    (own,) = Pairs().fit(test[0], test[1], groups=test[2]).measure(*test).values()
    assert own.thresholds != scores.thresholds  # those of the test pairs would be better than can be known
    assert measure({"pairs": own}).metrics["pair_f1"].value >= measure({"pairs": scores}).metrics["pair_f1"].value
    np.testing.assert_array_equal(own.similarity, scores.similarity)


def test_pairs_that_match_and_are_less_alike_are_warned_of_with_a_remedy_that_works():
    X, y, groups = drawn(100)
    with pytest.warns(UserWarning, match=r"class 0 are less alike than the others \(AUROC 0\.02\): .*set head\.match"):
        Pairs(match=0).fit(X, y, groups=groups)
    Pairs(match=1).fit(X, y, groups=groups)


def data(numbers=False, test=40, train=60):
    parts = {}
    for name, n in (("train", train), ("test", test)):
        X, y, groups = drawn(n, seed=n)
        labels = (y + np.arange(n)[groups] / n)[:, None] if numbers else y
        target = Number() if numbers else ONE_CLASS
        part = ArrayPartition(X.astype(np.float32), labels, [str(i) for i in range(2 * n)], target=target)
        parts[name] = know(part, {"groups": [f"{name} {group}" for group in groups]}, name)
    names = ["alike"] if numbers else ["different", "same"]
    return make_dataset("drawn", names, parts, target=target)


def request(folder, head, dataset, protocol=None, **more):
    store = FeatureStore(folder / "cache")
    return Run(IdentityBackbone(), dataset, protocol or Full(), head, store, folder / "runs", device="cpu", **more)


@pytest.mark.parametrize("numbers", [False, True])
def test_a_run_holds_measures_and_stands_in_the_table(tmp_path, numbers):
    dataset = data(numbers)
    folder = run(request(tmp_path, Pairs(), dataset))
    run(request(tmp_path, Pairs("dot"), dataset))
    result, arrays = read_result(folder), read_predictions(folder)
    names = {"pair_spearman", "pair_pearson"} if numbers else {
        "pair_average_precision", "pair_auroc", "pair_f1", "pair_accuracy"
    }  # fmt: skip
    assert set(result["metrics"]) == names
    assert set(arrays) == {"row", "label", "similarity"} | {f"metric.{name}" for name in names}
    labels, first = arrays["label"], np.unique(arrays["similarity"], return_index=True)[1]
    shown, oracle = ("pair_spearman", lambda y, s: spearmanr(y, s)[0]) if numbers else (
        "pair_average_precision", average_precision_score
    )  # fmt: skip
    facts = result["metrics"][shown]
    assert facts["value"] == pytest.approx(oracle(labels[first], arrays["similarity"][first]), abs=1e-6)
    assert facts["low"] < facts["value"] < facts["high"]
    if numbers:
        run(request(tmp_path, RidgeProbe(), dataset))
    records = read_folders([tmp_path / "runs"])
    assert not records.problems
    assert default_metrics(records.frame) == (["r2", shown] if numbers else [shown])
    table = build_table(records, metric=shown)
    assert sorted(table.ranking["head"]) == ["pairs", "pairs(similarity=dot)"]
    assert {run["fault"] for run in page_data(table, records.frame)["runs"]} == {""}


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("protocol", [Holdout(), CrossValidation(n_folds=3)])
def test_protocols_keep_pairs_together(tmp_path, numbers, protocol):
    folder = run(request(tmp_path, Pairs(), data(numbers), protocol))
    assert 20 <= len(read_predictions(folder)["row"]) <= 80


def test_the_head_travels_with_its_thresholds(tmp_path):
    folder = run(request(tmp_path, Pairs(), data()))
    head = Head.load(folder / "head.safetensors")
    X, y, groups = drawn(40, seed=40)
    (scores,) = head.measure(X.astype(np.float32), y, groups).values()
    found = measure({"pairs": scores}).metrics
    assert found["pair_f1"].value == read_result(folder)["metrics"]["pair_f1"]["value"]


def test_from_python_groups_stand_beside_the_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    X, y, groups = drawn(60)
    declared = ((X.astype(np.float32), y), {"groups": groups})
    result = probe.run(dataset=declared, head="pairs", protocol="holdout", device="cpu")
    assert set(result.metrics) == {"pair_average_precision", "pair_auroc", "pair_f1", "pair_accuracy"}


def test_groups_that_are_no_pairs_are_refused_before_anything_is_extracted(tmp_path):
    dataset = data()
    torn = limited(dataset, 60)
    with pytest.raises(InputError, match=r"20 of the 34 groups of training rows of dataset drawn\(limit=60\) have one"):
        run(request(tmp_path, Pairs(), torn))
    run(request(tmp_path, Pairs(), dataset))  # without the limit, as it says
    plain = make_dataset("plain", ["a", "b"], {
        name: ArrayPartition(part.rows, part.labels, part.ids) for name, part in dataset.partitions.items()
    })  # fmt: skip
    with pytest.raises(InputError, match=r"dataset plain name none: set dataset.pair_column and dataset\.pair_as=rows"):
        run(request(tmp_path / "c", Pairs(), plain))
    assert not (tmp_path / "c").exists()


def test_labels_that_tell_nothing_are_refused():
    X, y, groups = drawn(10)
    with pytest.raises(InputError, match="1 of 10 pairs of test rows have two labels, expected one of the pair"):
        Pairs().check_groups(groups, np.where(np.arange(20) == 3, 1 - y, y), "test rows")
    with pytest.raises(InputError, match=r"0 of 10 pairs of test rows match \(class 7\), expected some that do and"):
        Pairs(match=7).check_groups(groups, y, "test rows")
    Pairs(match=0).check_groups(groups, y, "test rows")
    numbers = Pairs().for_target("number")
    with pytest.raises(InputError, match="10 pairs of test rows with 1 number have no correlation, expected at least"):
        numbers.check_groups(groups, np.ones((20, 1)), "test rows")
    with pytest.raises(InputError, match="test rows have 2 numbers each, head pairs compares similarity with one"):
        numbers.check_groups(groups, np.column_stack([groups, groups]), "test rows")
    with pytest.raises(InputError, match="all 10 pairs of test rows are equally alike"):
        Pairs().fit(X, y, groups=groups).measure(np.ones((20, 6)), y, groups)
    with pytest.raises(InputError, match="similarity is 'sine', expected one of cosine, dot, euclidean, manhattan"):
        Pairs("sine").check_parameters()


def test_what_wants_predictions_is_refused(tmp_path):
    with pytest.raises(DoesNotFit, match="head pairs predicts nothing, calibrate=true wants predictions: choose"):
        run(request(tmp_path, Pairs(), data(), calibrate=True))
    with pytest.raises(InputError, match="14 of the 14 groups of training rows of dataset drawn have one row"):
        run(request(tmp_path, Pairs(), data(), FewShot(k=9)))
    X, y, groups = drawn(10)
    with pytest.raises(InputError, match="head pairs measures features and predicts nothing: choose a head"):
        Pairs().fit(X, y, groups=groups).predict(X)


def recipe_numbers():
    """What `tests/contracts/test_recipes.py` freezes: rows in groups, which its own rows are not."""
    X, y, groups = drawn(40)
    of_classes = Pairs().fit(X, y, groups=groups).measure(X, y, groups)
    of_numbers = Pairs("euclidean").for_target("number").fit(X, y).measure(X, y + groups / 40, groups, "number")
    return [measure(scores).metrics for scores in (of_classes, of_numbers)]
