import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file
from sklearn.datasets import load_digits, load_iris

from probe.backbones.identity import IdentityBackbone
from probe.core import tensors
from probe.core.errors import DoesNotFit, InputError
from probe.core.targets.labels import Labels
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.row_facts import know
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.knn import KNearest
from probe.heads.none import NoHead
from probe.heads.shared.head import Head
from probe.heads.shared.neighbours import Neighbours
from probe.heads.shared.whitening import Whitening
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page_data
from probe.leaderboard.table import build_table
from probe.metrics.retrieval import ranks_found
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.full import Full
from probe.results.reader import read_predictions, read_result


@pytest.mark.parametrize("path", files_of("none"), ids=lambda path: path and path.stem)
def test_ranks_and_precisions_equal_those_of_released_code(path):
    data = load_file(path)
    queries, database = data["input.queries"].astype(np.float64), data["input.database"].astype(np.float64)
    ((_, order),) = Neighbours(database).orders(queries, "cosine")
    np.testing.assert_array_equal(order, data["output.ranks"].T)
    codes = np.take_along_axis(data["input.gnd_codes_0neg_1easy_2hard_3junk"], order, axis=1)
    for name, positive, junk in (("easy", [1], [2, 3]), ("medium", [1, 2], [3]), ("hard", [2], [1, 3])):
        released, _, _ = ranks_found(np.isin(codes, positive), np.isin(codes, junk), trapezoid=True)
        np.testing.assert_allclose(released, data[f"output.{name}.ap_per_query"], atol=1e-12)
        assert np.nanmean(released) == pytest.approx(float(data[f"output.{name}.map"]), abs=1e-12)
        plain, _, first = ranks_found(np.isin(codes, positive), np.isin(codes, junk))
        np.testing.assert_allclose(plain, data[f"ref64.{name}.plain_ap_per_query"], atol=1e-12)
        recalls = [np.mean(first[~np.isnan(first)] < k) for k in (1, 5, 10)]
        np.testing.assert_allclose(recalls, data[f"ref64.{name}.recall_any_at_1_5_10"], atol=1e-12)


def brute(X, y, metric):
    """mAP of a sort of all distances, each row without itself."""
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    distances = -unit @ unit.T if metric == "cosine" else ((X[:, None] - X) ** 2).sum(axis=2)
    precisions = []
    for i, row in enumerate(distances):
        order = [j for j in np.lexsort((np.arange(len(X)), row)) if j != i]
        hits = np.flatnonzero(y[order] == y[i])
        precisions.append(np.mean((np.arange(len(hits)) + 1) / (hits + 1)))
    return float(np.mean(precisions))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_map_equals_a_brute_force_sort(metric):
    X, y = load_digits(return_X_y=True)
    X, y = X[:300] + np.random.default_rng(0).normal(size=(300, 64)), y[:300]
    (scores,) = NoHead(metric=metric).fit(X, y).measure(X, y).values()
    assert scores.average_precision.mean() == pytest.approx(brute(X, y, metric), abs=1e-12)


def test_the_first_of_the_training_rows_is_the_nearest_neighbour():
    X, y = load_digits(return_X_y=True)
    (scores,) = NoHead(gallery="train").fit(X[::2], y[::2]).measure(X[1::2], y[1::2]).values()
    nearest = KNearest([1], ["cosine"], "uniform").fit(X[::2], y[::2])
    np.testing.assert_array_equal(scores.first == 0, nearest.predict(X[1::2]) == y[1::2])


def test_a_query_never_finds_itself_and_a_copy_is_found_first():
    X = np.random.default_rng(0).normal(size=(20, 5))
    y = np.arange(20)
    with pytest.raises(InputError, match="none of the 20 test rows has another row of its class to be found"):
        NoHead().fit(X, y).measure(X, y)
    twice, labels = np.concatenate([X, X]), np.concatenate([y, y])
    (scores,) = NoHead().fit(X, y).measure(twice, labels).values()
    assert (scores.average_precision == 1).all()


def test_rows_of_the_same_group_are_not_there():
    random = np.random.default_rng(0)
    X, y, groups = random.normal(size=(60, 4)), np.arange(60) % 3, np.arange(60) // 6
    (scores,) = NoHead(junk="group").fit(X, y).measure(X, y, groups).values()
    for i in range(60):
        others = groups != groups[i]
        (alone,) = NoHead(gallery="train").fit(X[others], y[others]).measure(X[[i]], y[[i]]).values()
        assert alone.average_precision[0] == pytest.approx(scores.average_precision[i])
    with pytest.raises(InputError, match="junk by group wants the groups of the test rows, which name none"):
        NoHead(junk="group").fit(X, y).measure(X, y)


def test_with_several_labels_rows_that_share_one_are_found():
    random = np.random.default_rng(0)
    X, Y = random.normal(size=(50, 4)), (random.random((50, 6)) < 0.2).astype(np.int64)
    (scores,) = NoHead().fit(X, Y).measure(X, Y, target="labels").values()
    alone = ~Y.any(axis=1)
    assert 0 < alone.sum() == np.isnan(scores.first).sum()
    ((_, order),) = Neighbours(X).orders(X, "cosine")
    found = (Y @ Y.T > 0)[np.arange(50)[:, None], order]
    np.testing.assert_allclose(scores.average_precision, ranks_found(found, order == np.arange(50)[:, None])[0])


def test_whitened_training_rows_have_the_identity_as_covariance():
    X, _ = load_digits(return_X_y=True)
    whitening = Whitening.of(X, 20, 1.0)
    rows = (X / np.linalg.norm(X, axis=1, keepdims=True) - whitening.mean) @ whitening.directions
    np.testing.assert_allclose(np.cov(rows.T, bias=True), np.eye(20), atol=1e-9)
    largest = np.linalg.norm(whitening.directions, axis=0)
    assert (np.diff(largest) > 0).all()  # of the largest variance first


def test_whitening_is_of_the_training_rows_alone_and_in_no_row_of_the_features():
    X, y = load_iris(return_X_y=True)
    (scores,) = NoHead(whiten=3, power=2.0).fit(X[::2], y[::2]).measure(X[1::2], y[1::2]).values()
    whitening = Whitening.of(X[::2], 3, 2.0)
    (same,) = NoHead().fit(whitening(X), y).measure(whitening(X[1::2]), y[1::2]).values()
    np.testing.assert_allclose(scores.average_precision, same.average_precision)
    (other,) = NoHead(whiten=3, power=2.0).fit(X[:60], y[:60]).measure(X[1::2], y[1::2]).values()
    assert (other.average_precision != scores.average_precision).any()


def data(groups=False, several=False):
    random, parts = np.random.default_rng(0), {}
    for name, n in (("train", 60), ("test", 48)):
        y = np.arange(n) % 3
        X = (random.normal(size=(n, 5)) + np.eye(3, 5)[y]).astype(np.float32)
        labels = (random.random((n, 3)) < 0.4).astype(np.int64) if several else y
        part = ArrayPartition(X, labels, [str(i) for i in range(n)])
        parts[name] = know(part, {"groups": [f"{name} {i // 4}" for i in range(n)] if groups else None}, name)
    return make_dataset("drawn", ["a", "b", "c"], parts, **({"target": Labels()} if several else {}))


def request(folder, head, dataset, protocol=None, **more):
    store = FeatureStore(folder / "cache")
    return Run(IdentityBackbone(), dataset, protocol or Full(), head, store, folder / "runs", device="cpu", **more)


@pytest.mark.parametrize("several", [False, True])
def test_a_run_without_a_head_holds_measures_and_stands_in_the_table(tmp_path, several):
    dataset = data(several=several)
    folder = run(request(tmp_path, NoHead(), dataset))
    run(request(tmp_path, NoHead(metric="euclidean"), dataset))
    result, arrays = read_result(folder), read_predictions(folder)
    names = {"retrieval_map", "map_at_r", "recall_at_1", "recall_at_5", "recall_at_10"}
    assert set(result["metrics"]) == names
    assert set(arrays) == {"row", "label"} | {f"metric.{name}" for name in names}
    for facts in result["metrics"].values():
        assert facts["low"] <= facts["value"] <= facts["high"]
    records = read_folders([tmp_path / "runs"])
    assert not records.problems
    table = build_table(records)
    assert table.metric == "retrieval_map"
    assert sorted(table.ranking["head"]) == ["none", "none(metric=euclidean)"]
    assert {run["fault"] for run in page_data(table, records.frame)["runs"]} == {""}


def test_whitening_and_gallery_travel_with_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    dataset = data()
    folder = run(request(tmp_path, NoHead(gallery="train", whiten=2), dataset))
    assert "rows_" not in tensors.read(folder / "head.safetensors")[0]
    test = dataset.partitions["test"]
    (scores,) = (
        Head.load(folder / "head.safetensors").measure(np.stack([test[i] for i in range(48)]), test.labels).values()
    )
    np.testing.assert_allclose(
        scores.average_precision.mean(), read_result(folder)["metrics"]["retrieval_map"]["value"]
    )


def test_groups_of_the_test_rows_are_read_from_the_dataset(tmp_path):
    values = []
    for junk in ("none", "group"):
        result = read_result(run(request(tmp_path, NoHead(junk=junk), data(groups=True))))
        values.append(result["metrics"]["retrieval_map"]["value"])
    assert values[0] != values[1]
    with pytest.raises(InputError, match=r"dataset drawn names no groups of its test rows: set head.junk=none"):
        run(request(tmp_path, NoHead(junk="group"), data()))


def test_what_wants_predictions_is_refused_before_anything_is_extracted(tmp_path):
    with pytest.raises(
        DoesNotFit, match="head none predicts nothing, calibrate=true wants predictions: choose another"
    ):
        run(request(tmp_path, NoHead(), data(), calibrate=True))
    with pytest.raises(DoesNotFit, match="head none predicts nothing, protocol class_incremental wants predictions"):
        run(request(tmp_path, NoHead(), data(), ClassIncremental(n_tasks=3)))
    assert not (tmp_path / "cache").exists()
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InputError, match="head none measures features and predicts nothing: choose a head that is fit"):
        NoHead().fit(X, y).predict(X)


def test_bad_parameters_are_refused_with_a_sentence():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(
        InputError, match="gallery is 'all', expected test or train; power is 2 without whiten, expected"
    ):
        NoHead(gallery="all", power=2).fit(X, y)
    with pytest.raises(InputError, match="junk is group in gallery train, which shares no group with the queries"):
        NoHead(gallery="train", junk="group").fit(X, y)
    with pytest.raises(
        InputError, match="whiten=9 asks for more principal directions than the 4 that 150 training rows"
    ):
        NoHead(whiten=9).fit(X, y)
