import numpy as np
import pytest
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import load_digits, load_iris
from sklearn.metrics import v_measure_score

from probe.backbones.identity import IdentityBackbone
from probe.core.errors import DoesNotFit, InputError
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.clusters import Clusters
from probe.heads.none import NoHead
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page_data
from probe.leaderboard.table import build_table
from probe.metrics.evaluate import measure
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.full import Full
from probe.results.reader import read_predictions, read_result


def clustered(X, y, **how):
    return Clusters(**how).fit(X[:2], y[:2]).measure(X, y)["clusters"].clusters


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_clusters_are_those_of_scikit_learn(metric):
    X, y = load_iris(return_X_y=True)
    rows = X / np.linalg.norm(X, axis=1, keepdims=True) if metric == "cosine" else X
    starts = [int(start) for start in np.random.default_rng(5).integers(0, 2**31, 3)]
    how = {"metric": metric, "n_draws": 3, "random_state": 5}
    for drawn, start in zip(clustered(X, y, **how).T, starts, strict=True):
        assert (drawn == KMeans(3, n_init=1, random_state=start).fit(rows).labels_).all()
    for drawn, start in zip(clustered(X, y, batch_size=20, **how).T, starts, strict=True):
        assert (drawn == MiniBatchKMeans(3, n_init=1, random_state=start, batch_size=20).fit(rows).labels_).all()


def test_two_halves_are_clustered_for_themselves_in_each_draw():
    X, y = load_iris(return_X_y=True)
    rows, halves = (
        X / np.linalg.norm(X, axis=1, keepdims=True),
        Clusters(n_draws=3).fit(X, y).measure(X, y)["clusters"].halves,
    )
    assert halves.shape == (150, 6)
    for pair in halves.T.reshape(3, 2, -1):
        assert ((pair[0] >= 0) != (pair[1] >= 0)).all()
        for half in pair:
            part = half >= 0
            assert part.sum() == 75
            centres = np.stack([rows[half == k].mean(axis=0) for k in range(3)])
            nearest = ((rows[part, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)
            assert (nearest == half[part]).mean() > 0.95


def test_there_are_as_many_clusters_as_test_rows_have_classes_or_as_asked():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300], y[:300]
    assert [len(np.unique(drawn)) for drawn in clustered(X, y, n_draws=2).T] == [10, 10]
    assert len(np.unique(clustered(X[y < 4], y[y < 4], n_draws=1))) == 4
    assert len(np.unique(clustered(X, y, n_clusters=7, n_draws=1))) == 7


def test_classes_far_apart_are_found_whatever_their_order_and_names():
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 20)
    X = 100 * np.eye(3, 5)[y] + random.normal(size=(60, 5))
    order = random.permutation(60)
    scores = Clusters(n_draws=1, metric="euclidean").fit(X, y).measure(X[order], (2 - y)[order])
    assert {interval.value for interval in measure(scores).metrics.values()} == {1.0}


def test_rows_of_a_file_are_clustered_as_those_in_memory(tmp_path):
    X, y = load_digits(return_X_y=True)
    X.astype(np.float16).tofile(tmp_path / "x")
    stored = np.memmap(tmp_path / "x", dtype=np.float16, mode="r", shape=X.shape)
    found = clustered(stored, y, n_draws=1)
    assert (found == clustered(X.astype(np.float32), y, n_draws=1)).all()
    stored = np.memmap(tmp_path / "x", dtype=np.float16, mode="r+", shape=X.shape)
    stored[3, 4] = np.nan
    with pytest.raises(InputError, match="row 3"):
        clustered(stored, y, n_draws=1)


def data(y=None):
    random, parts = np.random.default_rng(0), {}
    for name, n in (("train", 60), ("test", 48)):
        labels = np.arange(n) % 3 if y is None or name == "train" else np.asarray(y)
        X = (random.normal(size=(n, 5)) + 3 * np.eye(3, 5)[labels]).astype(np.float32)
        parts[name] = ArrayPartition(X, labels, [str(i) for i in range(n)])
    return make_dataset("drawn", ["a", "b", "c"], parts)


def request(folder, head, dataset, protocol=None, **more):
    store = FeatureStore(folder / "cache")
    return Run(IdentityBackbone(), dataset, protocol or Full(), head, store, folder / "runs", device="cpu", **more)


def test_a_run_holds_measures_and_clusters_and_stands_in_the_table(tmp_path):
    dataset = data()
    folder = run(request(tmp_path, Clusters(), dataset))
    run(request(tmp_path, Clusters(metric="euclidean"), dataset))
    result, arrays = read_result(folder), read_predictions(folder)
    names = {"v_measure", "ami", "ari", "clustering_accuracy"}
    assert set(result["metrics"]) == names
    assert set(arrays) == {"row", "label", "cluster"} | {f"metric.{name}" for name in names}
    by_hand = np.mean([v_measure_score(arrays["label"], drawn) for drawn in arrays["cluster"].T])
    facts = result["metrics"]["v_measure"]
    assert facts["value"] == pytest.approx(by_hand)
    assert facts["low"] < facts["value"] < facts["high"]
    run(request(tmp_path, NoHead(), dataset))
    records = read_folders([tmp_path / "runs"])
    assert not records.problems
    table = build_table(records)  # of two measures the first by name of their families
    assert table.metric == "v_measure"
    assert sorted(table.ranking["head"]) == ["clusters", "clusters(metric=euclidean)"]
    assert any(note.startswith("Without v_measure: 1 run") for note in table.notes)
    assert {run["fault"] for run in page_data(table, records.frame)["runs"]} == {""}


def test_seeds_draw_other_starts_and_training_rows_take_no_part(tmp_path):
    dataset = data()
    values = [read_predictions(run(request(tmp_path, Clusters(), dataset, seed=s)))["cluster"] for s in (0, 1)]
    assert (values[0] != values[1]).any()
    test = dataset.partitions["test"]
    X = np.stack([test[i] for i in range(48)])
    poisoned = Clusters().fit(np.full((9, 5), 1e30), np.arange(9)).measure(X, test.labels)["clusters"].clusters
    assert (poisoned == values[0]).all()


def test_what_cannot_be_clustered_is_refused_with_a_remedy_that_works(tmp_path):
    X, y = np.repeat(np.eye(3, 4), 10, axis=0), np.arange(30) % 5
    with pytest.raises(
        InputError, match=r"30 test rows with 3 distinct features cannot make 5 clusters: set head\.n_c"
    ):
        clustered(X, y)
    assert len(np.unique(clustered(X, y, n_clusters=3, n_draws=1))) == 3
    with pytest.raises(InputError, match="48 test rows of one class alone: clusters agree with classes where there ar"):
        run(request(tmp_path, Clusters(), data(np.ones(48, np.int64))))
    with pytest.raises(InputError, match="n_clusters is 1, expected null or a whole number from 2; metric is 'dot', "):
        Clusters(n_clusters=1, metric="dot", n_draws=0).check_parameters()


def test_what_wants_predictions_is_refused_before_anything_is_extracted(tmp_path):
    with pytest.raises(DoesNotFit, match="head clusters predicts nothing, calibrate=true wants predictions: choose"):
        run(request(tmp_path, Clusters(), data(), calibrate=True))
    with pytest.raises(DoesNotFit, match="head clusters predicts nothing, protocol class_incremental wants"):
        run(request(tmp_path, Clusters(), data(), ClassIncremental(n_tasks=3)))
    assert not (tmp_path / "cache").exists()
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InputError, match="head clusters measures features and predicts nothing: choose a head"):
        Clusters().fit(X, y).predict(X)
