import pickle
import re

import numpy as np
import pytest
from known_bayes import diagonal, isotropic
from oracles import files_of
from safetensors.numpy import load_file
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.neighbors import KNeighborsClassifier

from probe.backbones.identity import IdentityBackbone
from probe.core.arrays import RowStack
from probe.core.errors import InputError
from probe.core.targets.labels import Labels
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.knn import KNearest, KNearestLabels
from probe.heads.naive_bayes import NaiveBayes
from probe.heads.shared.head import Head
from probe.metrics.multilabel import mean_average_precision
from probe.protocols.full import Full
from probe.results.reader import read_result


def number_case():
    """What fits numbers in a second, for `tests/contracts/test_number_heads.py`; one candidate, which columns share."""
    return {"ks": [7], "metrics": ["euclidean"], "vote": "inverse"}


def one(k, metric="cosine", vote="uniform", temperature=0.1, **more):
    """A head with nothing to choose."""
    return KNearest([k], [metric], vote, [temperature], **more)


def shares(head, X):
    """The shares of the votes behind logits."""
    k = min(head.k_, len(head.rows_))
    return (np.exp(head.logits(X)) * (k + 1) - 1 / (head.class_count_ > 0).sum()) / k * (head.class_count_ > 0)


@pytest.mark.parametrize("load", [load_digits, load_wine, load_breast_cancer, load_iris])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("vote", "weights"), [("uniform", "uniform"), ("inverse", "distance")])
def test_votes_equal_those_of_scikit_learn(load, metric, vote, weights):
    # Distinct rows in general position: scikit-learn has no rule for neighbours that are equally near.
    X, y = load(return_X_y=True)
    X = X + np.random.default_rng(0).normal(size=X.shape) * X.std() * 1e-4
    for k in (1, 4, 30):
        head = one(k, metric, vote).fit(X[::2], y[::2])
        peer = KNeighborsClassifier(k, metric=metric, weights=weights, algorithm="brute").fit(X[::2], y[::2])
        np.testing.assert_allclose(shares(head, X[1::2]), peer.predict_proba(X[1::2]), atol=1e-9)
        np.testing.assert_array_equal(head.predict(X[1::2]), peer.predict(X[1::2]))


@pytest.mark.parametrize("path", files_of("knn"), ids=lambda path: path and path.stem)
def test_votes_equal_those_of_released_code(path):
    data = load_file(path)
    X, y, queries = (data[f"input.{name}"] for name in ("train_features", "train_labels", "test_features"))
    largest = max(int(name.rpartition(".k")[2]) for name in data if name.startswith("ref64.gap"))
    n_compared = 0
    for name in (name for name in data if name.startswith("output.dino.votes.")):
        k, T = re.search(r"k(\d+)\.T([\d.]+)", name).groups()
        head = one(int(k), vote="softmax", temperature=float(T)).fit(X, y)
        untied = data[f"ref64.gap_at_k.k{k}"] > 1e-6
        found, votes = shares(head, queries), data[name][:, head.classes_].astype(np.float64)
        votes /= votes.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found[untied], votes[untied], atol=1e-5)
        # The other code divides by the weights of the largest k's neighbours.
        other = data[name.replace("dino", "dinov3")][:, head.classes_]
        other = other / other.sum(axis=1, keepdims=True)
        clear = untied & (data[f"ref64.gap_at_k.k{largest}"] > 1e-6)
        np.testing.assert_allclose(found[clear], other[clear], atol=1e-5)
        sure = untied & (data[f"ref64.rel_gap_top2.k{k}.T{T}"] > 1e-5)
        np.testing.assert_array_equal(head.predict(queries)[sure], data[name.replace("votes", "pred")][sure])
        n_compared += sure.sum()
        assert_permitted(head, X, y, queries, found)
    assert n_compared > 0


def assert_permitted(head, X, y, queries, found):
    """Where neighbours are tied at k, the vote is one that some choice among these gives: the nearer ones all count."""
    cosines = queries.astype(np.float64) @ X.astype(np.float64).T
    rows, weights = head.neighbours(queries)
    bar = np.sort(cosines, axis=1)[:, -rows.shape[1]]
    for i in range(len(queries)):
        surely = np.flatnonzero(cosines[i] > bar[i] + 1e-6)
        assert set(surely) <= set(rows[i])
        assert (cosines[i, rows[i]] > bar[i] - 1e-6).all()
        votes = np.bincount(np.searchsorted(head.classes_, y[rows[i]]), weights=weights[i], minlength=found.shape[1])
        np.testing.assert_allclose(votes, found[i], atol=1e-9)


def test_of_equally_near_rows_the_first_is_nearer_and_of_equal_votes_the_lower_class_wins():
    X = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    twice, y = np.concatenate([X, X, X]), np.repeat([2, 0, 1], 40)
    for metric in ("cosine", "euclidean"):
        head = one(2, metric).fit(twice, y)
        np.testing.assert_array_equal(head.neighbours(X)[0], np.arange(40)[:, None] + [0, 40])
        assert (head.predict(X) == 0).all()
        assert (one(1, metric).fit(twice, y).predict(X) == 2).all()


def test_weighted_votes_are_uniform_ones_as_the_temperature_grows_and_the_nearest_alone_as_it_falls():
    X, y = load_digits(return_X_y=True)
    for metric in ("cosine", "euclidean"):
        uniform, first = (one(k, metric).fit(X[::2], y[::2]) for k in (9, 1))
        hot, cold = (one(9, metric, "softmax", T).fit(X[::2], y[::2]) for T in (1e6, 1e-6))
        np.testing.assert_allclose(hot.neighbours(X)[1], uniform.neighbours(X)[1], atol=1e-6)
        np.testing.assert_array_equal(cold.predict(X[1::2]), first.predict(X[1::2]))


def test_all_rows_as_neighbours_give_the_majority():
    X, y = load_wine(return_X_y=True)
    for k in (len(X), 10 * len(X)):
        head = one(k, "euclidean").fit(X, y)
        np.testing.assert_allclose(shares(head, X[:5]), np.tile(np.bincount(y) / len(y), (5, 1)), atol=1e-12)
        assert set(head.predict(X)) == {np.bincount(y).argmax()}


def test_a_k_above_the_number_of_rows_and_one_row_per_class_have_an_answer():
    X = np.eye(3, 5)
    head = one(200, vote="softmax").fit(X, ["a", "b", "c"])
    assert head.predict(X).tolist() == ["a", "b", "c"]
    assert head.neighbours(X)[0].shape == (3, 3)
    assert set(KNearest().fit(X, ["a", "b", "c"]).predict(X)) <= {"a", "b", "c"}


def test_a_row_itself_has_all_of_an_inverse_vote():
    X, y = load_iris(return_X_y=True)
    for metric in ("cosine", "euclidean"):
        head = one(5, metric, "inverse").fit(X, y)
        rows, weights = head.neighbours(X)
        distances = np.linalg.norm(X[rows] - X[:, None], axis=2)
        assert ((distances == 0) <= (weights > 0)).all()
        np.testing.assert_allclose(weights.sum(axis=1), 1)
        if metric == "euclidean":
            assert (weights[distances > 0] == 0).all()


def test_the_choice_is_that_of_every_candidate_tried_alone():
    X, y = load_digits(return_X_y=True)
    train, validation = slice(0, 500), slice(500, 800)
    head = KNearest([1, 5, 900], temperatures=[0.05, 1.0], refit=False)
    head.fit(X[train], y[train], validation=(X[validation], y[validation]))
    assert head.selection_["on"] == "validation"
    assert len(head.selection_["searched"]) == 12
    for candidate in head.selection_["searched"]:
        alone = one(candidate["k"], candidate["metric"], "softmax", candidate["temperature"]).fit(X[train], y[train])
        assert candidate["score"] == alone.score(X[validation], y[validation])
        again = head.at({name: candidate[name] for name in head.selection_["chosen"]})
        np.testing.assert_allclose(again.logits(X[validation]), alone.logits(X[validation]), atol=1e-12)
    best = max(candidate["score"] for candidate in head.selection_["searched"])
    assert head.score(X[validation], y[validation]) == best


@pytest.mark.parametrize("vote", ["uniform", "inverse"])
def test_votes_without_a_temperature_choose_k_and_metric(vote):
    X, y = load_iris(return_X_y=True)
    head = KNearest([1, 5], vote=vote).fit(X, y)
    assert set(head.selection_["chosen"]) == {"k", "metric"}
    assert len(head.selection_["searched"]) == 4


def test_leaving_one_out_is_what_a_fit_without_the_row_says():
    X, y = load_wine(return_X_y=True)
    head = KNearest([1, 7], temperatures=[0.1]).fit(X, y)
    assert head.selection_["on"] == "leave-one-out"
    for candidate in head.selection_["searched"]:
        right = 0
        for i in range(len(X)):
            others = np.delete(np.arange(len(X)), i)
            alone = one(candidate["k"], candidate["metric"], "softmax", 0.1).fit(X[others], y[others])
            right += int(alone.predict(X[[i]])[0] == y[i])
        assert candidate["score"] == right / len(X)


def test_a_copy_of_a_row_speaks_for_it_where_one_is_left_out():
    X, y = load_iris(return_X_y=True)
    twice, labels = np.concatenate([X, X]), np.concatenate([y, y])
    head = KNearest([1, 2], metrics=["euclidean"], temperatures=[0.1]).fit(twice, labels)
    assert head.selection_["searched"][0]["score"] == 1.0


def test_validation_rows_vote_after_they_have_served_the_choice():
    X, y = load_wine(return_X_y=True)
    parts = (X[::2], y[::2]), (X[1::2], y[1::2])
    head = KNearest().fit(*parts[0], validation=parts[1])
    alone = head.before_refit()
    assert len(head.rows_) == len(X)
    assert len(alone.rows_) == len(X[::2])
    assert alone.score(*parts[1]) == max(c["score"] for c in head.selection_["searched"])
    joint = one(head.k_, head.metric_, "softmax", head.temperature_)
    joint.fit(np.concatenate([X[::2], X[1::2]]), np.concatenate([y[::2], y[1::2]]))
    np.testing.assert_array_equal(joint.logits(X), head.logits(X))
    assert len(KNearest(refit=False).fit(*parts[0], validation=parts[1]).rows_) == len(X[::2])


def test_rows_that_come_in_batches_give_what_they_give_at_once():
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    whole, stream = (KNearest([1, 5], temperatures=[0.05, 0.2]) for _ in range(2))
    batch = np.empty_like(X[:600])
    for rows in np.array_split(np.arange(1200), [5, 600, 601]):
        batch[: len(rows)] = X[rows]  # the memory of a batch is used again
        stream.partial_fit(batch[: len(rows)], y[rows], classes=np.arange(10))
    whole.fit(X[:1200], y[:1200])
    assert stream.selection_ == whole.selection_
    np.testing.assert_array_equal(stream.logits(X[1200:]), whole.logits(X[1200:]))


def test_a_saved_stream_goes_on(tmp_path):
    X, y = load_iris(return_X_y=True)
    head = one(3).partial_fit(X[:100], y[:100], classes=[0, 1, 2])
    head.save(tmp_path / "head.safetensors")
    again = Head.load(tmp_path / "head.safetensors").partial_fit(X[100:], y[100:])
    np.testing.assert_array_equal(again.logits(X), one(3).fit(X, y).logits(X))


def test_a_class_without_rows_is_never_predicted():
    X, y = load_digits(return_X_y=True)
    head = one(2000).partial_fit(X[y != 3], y[y != 3], classes=np.arange(10))
    assert (head.predict_proba(X)[:, 3] == 0).all()


def test_a_copy_of_a_head_has_the_rows_that_vote_and_no_others():
    X, y = load_iris(return_X_y=True)
    head = one(3).fit(X[:100], y[:100], validation=(X[100:], y[100:]))
    assert isinstance(head.rows_, RowStack)
    copy = pickle.loads(pickle.dumps(head))
    assert type(copy.rows_) is np.ndarray
    np.testing.assert_array_equal(copy.logits(X), head.logits(X))


def test_isotropic_gaussians_come_near_bayes_with_many_rows():
    gaussians, (X, y) = isotropic(), isotropic().draw(4000, seed=2)
    few, many = (KNearest([1, 20, 200], ["euclidean"]).fit(*gaussians.draw(n, seed=1)) for n in (20, 8000))
    error = 1 - many.score(X, y)
    assert error < gaussians.bayes_error() + 0.01
    assert error < 1 - few.score(X, y)
    # Where most of the spread says nothing, a diagonal variance is worth more than any number of neighbours.
    rows, tests = diagonal().draw(2000, seed=1), diagonal().draw(2000, seed=2)
    assert KNearest(metrics=["euclidean"]).fit(*rows).score(*tests) < NaiveBayes().fit(*rows).score(*tests) - 0.01


def test_isometries_move_no_euclidean_vote_and_length_no_cosine_vote():
    X, y = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    X = X + 1e-3 * random.normal(size=X.shape)  # rows of whole numbers are often equally near
    Q = np.linalg.qr(random.normal(size=(64, 64)))[0]
    expected = one(7, "euclidean", "softmax").fit(X, y).logits(X)
    for moved in (X @ Q, X @ Q + 1e4, X * 1e-3):
        np.testing.assert_allclose(one(7, "euclidean", "softmax").fit(moved, y).logits(moved), expected, atol=1e-6)
    lengths = random.uniform(0.1, 10, size=(len(X), 1))
    expected = one(7, vote="softmax").fit(X, y).logits(X)
    np.testing.assert_allclose(one(7, vote="softmax").fit(X * lengths, y).logits(X * lengths), expected, atol=1e-9)


def test_on_rows_of_unit_length_both_metrics_find_the_same_neighbours():
    X, y = load_digits(return_X_y=True)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    found = [one(10, metric).fit(X[::2], y[::2]).neighbours(X[1::2])[0] for metric in ("cosine", "euclidean")]
    np.testing.assert_array_equal(*found)


def multilabel(n=300, width=12, n_labels=5, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, width))
    return X, (X @ random.normal(size=(width, n_labels)) + random.normal(size=(n, n_labels)) > 1).astype(np.int64)


@pytest.mark.parametrize("vote", ["uniform", "inverse"])
def test_several_labels_equal_scikit_learn(vote):
    X, Y = multilabel()
    head = KNearestLabels([7], ["euclidean"], vote).fit(X[:200], Y[:200])
    peer = KNeighborsClassifier(7, weights={"uniform": "uniform", "inverse": "distance"}[vote]).fit(X[:200], Y[:200])
    expected = np.column_stack([column[:, 1] for column in peer.predict_proba(X[200:])])
    odds = np.exp(head.logits(X[200:]))
    np.testing.assert_allclose((odds * 8 / (1 + odds) - 0.5) / 7, expected, atol=1e-9)
    np.testing.assert_array_equal(head.predict(X[200:]), peer.predict(X[200:]))
    np.testing.assert_allclose(head.predict_proba(X[200:]), odds / (1 + odds))


def test_several_labels_choose_by_map_stream_and_travel(tmp_path):
    X, Y = multilabel()
    head = KNearest([1, 20], temperatures=[0.1, 1.0]).for_target("labels")
    head.fit(X[:150], Y[:150], validation=(X[150:220], Y[150:220]))
    alone = head.before_refit()
    best = max(candidate["score"] for candidate in head.selection_["searched"])
    assert best == pytest.approx(mean_average_precision(alone.logits(X[150:220]).astype(np.float32), Y[150:220])[0])
    head.save(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(Head.load(tmp_path / "head.safetensors").logits(X[220:]), head.logits(X[220:]))
    stream, whole = (KNearestLabels([1, 20]) for _ in range(2))
    for rows in (slice(0, 100), slice(100, 220)):
        stream.partial_fit(X[rows], Y[rows])
    np.testing.assert_array_equal(stream.logits(X[220:]), whole.fit(X[:220], Y[:220]).logits(X[220:]))
    with pytest.raises(InputError, match=r"y has shape \(300,\) for 300 rows, expected \(rows, labels\) of zeros and"):
        KNearestLabels().fit(X, Y[:, 0])


def dataset(poison=0.0, several=False):
    random, parts = np.random.default_rng(0), {}
    for name, n in (("train", 60), ("test", 40)):
        X, Y = multilabel(n, seed=len(parts))
        labels = Y if several else random.permutation(np.arange(n) % 3)
        rows = (X + poison * (name == "test")).astype(np.float32)
        parts[name] = ArrayPartition(rows, labels, [str(i) for i in range(n)])
    names = [f"c{k}" for k in range(5 if several else 3)]
    return make_dataset("drawn", names, parts, **({"target": Labels()} if several else {}))


def ran(folder, data, head):
    return run(Run(IdentityBackbone(), data, Full(), head, FeatureStore(), folder, device="cpu"))


def test_poisoned_test_rows_change_no_byte_of_the_fitted_head(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    # Nothing to choose: which rows are folds hangs on the content of the whole dataset.
    clean, poisoned = (ran(tmp_path / "runs", dataset(poison), one(5)) for poison in (0.0, 1e3))
    assert clean != poisoned
    assert (clean / "head.safetensors").read_bytes() == (poisoned / "head.safetensors").read_bytes()


def test_a_run_on_several_labels_is_measured_by_map(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    folder = ran(tmp_path / "runs", dataset(several=True), KNearest([1, 5]))
    head, result = Head.load(folder / "head.safetensors"), read_result(folder)
    assert type(head) is KNearestLabels
    test = FeatureStore().get(IdentityBackbone(), dataset(several=True), "test", ["pooled"], progress=False)
    found = mean_average_precision(head.logits(test.arrays["pooled"][:]).astype(np.float32), test.labels)[0]
    assert result["metrics"]["mAP"]["value"] == pytest.approx(found)
    assert result["selection"]["on"] == "validation"


def test_rows_that_are_not_finite_give_no_prediction_of_their_own():
    X, y = load_iris(return_X_y=True)
    head = one(3).fit(X.astype(np.float32), y)
    odd = X.astype(np.float32).copy()
    odd[3, 1] = np.inf
    logits = head._logits(odd)
    assert np.isnan(logits[3]).all()
    np.testing.assert_array_equal(np.delete(logits, 3, axis=0), np.delete(head.logits(X), 3, axis=0))


def test_bad_input_is_refused_with_a_sentence(tmp_path):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InputError, match=r"temperatures is \[0\], expected numbers above 0: change the parameters of"):
        KNearest(temperatures=[0]).fit(X, y)
    with pytest.raises(InputError, match=r"ks is \[\], expected whole numbers from 1 on; metrics is \['l1'\], "):
        KNearest([], ["l1"]).fit(X, y)
    with pytest.raises(InputError, match="vote is 'rank', expected one of softmax, uniform, inverse"):
        KNearest(vote="rank").fit(X, y)
    with pytest.raises(InputError, match=r"ks is \[0, 1.5\], expected whole numbers from 1 on"):
        KNearest([0, 1.5]).fit(X, y)
    np.save(tmp_path / "x.npy", np.where(np.arange(150)[:, None] == 77, np.nan, X))
    odd = np.load(tmp_path / "x.npy", mmap_mode="r")
    with pytest.raises(InputError, match="row 77 of X holds NaN or inf"):
        KNearest().fit(odd, y)
    with pytest.raises(InputError, match="row 77 of the validation rows holds NaN or inf"):
        KNearest().fit(X, y, validation=(odd, y))
    with pytest.raises(InputError, match="classes is None in the first call of partial_fit: name every class"):
        KNearest().partial_fit(X, y)
