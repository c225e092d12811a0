import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import top_k_accuracy_score

from probe.core.abilities import MeasuresFeatures
from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.heads.caption_retrieval import CaptionRetrieval
from probe.heads.shared.base import AnyHead
from probe.metrics.evaluate import measure


def drawn(n=60, most=6, width=16, noise=2.0, seed=0):
    """Images, their numbers of captions, features of the captions and whose they are."""
    rng = np.random.default_rng(seed)
    y = rng.integers(1, most, n)
    owners = np.repeat(np.arange(n), y)
    X = rng.normal(size=(n, width)).astype(np.float32)
    return X, y, (X[owners] + noise * rng.normal(size=(len(owners), width))).astype(np.float32), owners


def head_of(texts, owners, **parameters):
    given = {"text_features": texts, "caption_texts": np.arange(len(owners)), "caption_rows": owners, "device": "cpu"}
    return CaptionRetrieval(**given | parameters).fit(None, None)


def values_of(X, y, texts, owners):
    found = measure(head_of(texts, owners).measure(X, y)).metrics
    return {name: interval.value for name, interval in found.items()}


def cosines(X, texts):
    one, other = (rows.astype(np.float64) / np.linalg.norm(rows, axis=1)[:, None] for rows in (X, texts))
    return one @ other.T


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recalls_equal_those_of_a_plain_sort_and_of_scikit_learn(k):
    X, y, texts, owners = drawn()
    found, of_pairs = values_of(X, y, texts, owners), cosines(X, texts)
    nearest = np.argsort(-of_pairs, axis=1)[:, :k]
    hits = [(owners[nearest[image]] == image).any() for image in range(len(X))]
    assert 0 < np.mean(hits) < 1
    assert found[f"text_retrieval_recall_at_{k}"] == pytest.approx(np.mean(hits))
    expected = top_k_accuracy_score(owners, of_pairs.T, k=k, labels=np.arange(len(X)))
    assert found[f"image_retrieval_recall_at_{k}"] == pytest.approx(expected)


@pytest.mark.slow  # seconds to import torchmetrics
@pytest.mark.parametrize("k", [1, 10])
def test_text_retrieval_equals_the_hit_rate_of_torchmetrics(k):
    retrieval = pytest.importorskip("torchmetrics.retrieval")
    import torch

    X, y, texts, owners = drawn(seed=1)
    image, text = np.indices((len(X), len(texts)))
    rate = retrieval.RetrievalHitRate(top_k=k)(
        torch.from_numpy(cosines(X, texts).ravel()), torch.from_numpy((owners[text] == image).ravel()),
        indexes=torch.from_numpy(image.ravel()),
    )  # fmt: skip
    assert values_of(X, y, texts, owners)[f"text_retrieval_recall_at_{k}"] == pytest.approx(float(rate))


def test_captions_that_are_their_images_are_all_found():
    X, y, _, owners = drawn()
    assert set(values_of(X, y, X[owners], owners).values()) == {1.0}


def test_an_image_without_captions_is_looked_through_and_asks_nothing():
    X, y, texts, owners = drawn(noise=0.0)
    y = np.append(0, y)
    crowd = np.concatenate([X[:1], X])  # a copy of the first captioned image, ahead of it
    found = values_of(crowd, y, texts, owners + 1)
    assert found["text_retrieval_recall_at_1"] == 1
    assert found["image_retrieval_recall_at_1"] == pytest.approx(1 - y[1] / y.sum())
    assert found["image_retrieval_recall_at_5"] == 1


def test_of_equal_captions_each_has_its_own_image_alone():
    X = np.eye(2, dtype=np.float32)
    found = values_of(X, np.array([1, 1]), np.array([[1.0, 0.5], [1.0, 0.5]]), np.arange(2))
    assert found["image_retrieval_recall_at_1"] == 0.5
    assert found["text_retrieval_recall_at_1"] == 0.5
    assert found["text_retrieval_recall_at_5"] == 1


def test_rows_that_train_take_no_part():
    X, y, texts, owners = drawn(seed=2)
    fits = [head_of(texts, owners), head_of(texts, owners).fit(-X, y[::-1], validation=(X, y))]
    one, other = (head.measure(X, y)["captions"].arrays() for head in fits)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_rows_of_the_store_give_what_arrays_give(tmp_path):
    X, y, texts, owners = drawn(seed=3)
    np.save(tmp_path / "x.npy", np.concatenate([X[:5], X]))
    stored = RowSubset(np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(5, 5 + len(X)))
    one, other = (head_of(texts, owners).measure(rows, y)["captions"].arrays() for rows in (X, stored))
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_clone_save_and_load_leave_the_texts_out(tmp_path):
    X, y, texts, owners = drawn()
    head = head_of(texts, owners)
    assert isinstance(head, MeasuresFeatures)
    assert clone(head).fit(None, None).measure(X, y)["captions"].text_rank.shape == (len(X),)
    head.save(tmp_path / "head.safetensors")
    assert (tmp_path / "head.safetensors").stat().st_size < 2000
    assert AnyHead.load(tmp_path / "head.safetensors").n_features_in_ == 16


X, Y, TEXTS, OWNERS = drawn(8)


@pytest.mark.parametrize(
    ("parameters", "rows", "text"),
    [
        ({"text_features": None}, X, "caption_retrieval has no text_features: run it with a backbone that has a text"),
        ({"text_features": TEXTS[0]}, X, r"text_features has shape \(16,\), expected \(U, D\): give a row for each"),
        ({"text_features": TEXTS * np.nan}, X, "row 0 of text_features holds NaN or inf"),
        ({}, X[:, :5], "X has 5 features, but CaptionRetrieval is expecting 16"),
        ({}, X * np.inf, "row 0 of X holds NaN or inf"),
        ({}, X[:7], "caption_rows names rows of .* captions, y has .* of 7 rows, expected the same in ascending order"),
    ],
)
def test_what_cannot_be_measured_is_refused(parameters, rows, text):
    with pytest.raises(ValueError, match=text) as refused:
        head_of(TEXTS, OWNERS, **parameters).measure(rows, Y)
    assert isinstance(refused.value, InputError) or "expecting 16" in text


def test_rows_of_which_none_has_a_caption_are_refused():
    head = head_of(TEXTS, OWNERS, caption_texts=[], caption_rows=[])
    with pytest.raises(InputError, match="none of the 8 test rows has a caption to be found: test on more rows"):
        head.measure(X, np.zeros(8, np.int64))
