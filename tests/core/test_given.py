import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.core.given import plain
from probe.datasets.shared.in_memory import dataset_of
from probe.experiment.teacher import out_of_fold_logits
from probe.heads.attentive import Attentive
from probe.heads.knn import KNearest
from probe.heads.majority_class import MajorityClass
from probe.heads.ncm import NearestClassMean
from probe.heads.ridge import RidgeProbe

MASKED = "hides 3 entries behind a mask, which nothing here reads: leave those rows out, or fill them in"


def rows(n=40):
    y = np.arange(n) % 2
    return np.random.default_rng(0).normal(size=(n, 6)) + 2 * y[:, None], y


@pytest.mark.parametrize(
    "given",
    [
        lambda X: X.astype(">f8"),
        lambda X: X.astype(">f4"),
        lambda X: X.astype(">f2"),
        lambda X: X.astype(np.longdouble),
        lambda X: X.astype(object),
        lambda X: np.asfortranarray(X),
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: np.broadcast_to(X, X.shape),
        lambda X: np.ma.array(X),
        lambda X: pd.DataFrame(X),
        lambda X: torch.from_numpy(X).bfloat16(),
    ],
)
def test_vectors_of_every_dtype_and_layout_are_read_right(given):
    X, y = rows()
    for order in ("<i8", ">i4", ">f2", "?"):
        head = NearestClassMean().fit(given(X), y.astype(order))
        np.testing.assert_allclose(head.logits(given(X)), NearestClassMean().fit(X, y).logits(X), rtol=0.02, atol=0.2)
        assert (head.predict(given(X)) == y).mean() > 0.95


@pytest.mark.parametrize("dtype", [">f4", ">f2", "f2", "i1", "u2", "?", ">i4"])
def test_tokens_of_every_dtype_are_read_right(dtype):
    X, y = rows()
    tokens = np.round(20 * X.reshape(40, 3, 2)).astype(dtype)
    head = Attentive(epochs=2, device="cpu").fit(tokens, y)
    same = Attentive(epochs=2, device="cpu").fit(tokens.astype(np.float32), y)
    np.testing.assert_allclose(head.logits(tokens), same.logits(tokens.astype(np.float32)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["complex64", "O", "U9"])
def test_tokens_that_are_no_numbers_are_refused(dtype):
    X, y = rows()
    with pytest.raises(InputError, match="expected numbers of at most 8 bytes: give float32"):
        Attentive().fit(X.reshape(40, 3, 2).astype(dtype), y)


def test_what_a_mask_hides_is_never_read():
    X, y = rows()
    hidden, hidden_y = np.ma.array(X, mask=np.sort(X, None)[3] > X), np.ma.array(y, mask=np.arange(40) < 3)
    numbers, labels = np.ma.array(X[:, 0], mask=hidden_y.mask), np.ma.array(np.stack([y, 1 - y], 1), mask=False)
    labels[:3, 0] = np.ma.masked
    for fit in (
        lambda: NearestClassMean().fit(hidden, y),
        lambda: NearestClassMean().fit(X, y).predict(hidden),
        lambda: NearestClassMean().fit(X, hidden_y),
        lambda: KNearest().fit(X, y, validation=(X, hidden_y)),
        lambda: KNearest().for_target("labels").fit(X, labels),
        lambda: RidgeProbe().for_target("number").fit(X, numbers),
        lambda: Attentive().fit(hidden.reshape(40, 3, 2), y),
        lambda: dataset_of({"train": (hidden, y)}),
        lambda: dataset_of({"train": (X, hidden_y)}),
    ):
        with pytest.raises(InputError, match=MASKED):
            fit()


def test_sparse_labels_and_files_in_the_other_byte_order_are_refused(tmp_path):
    X, y = rows()
    with pytest.raises(InputError, match=r"y is sparse, expected a dense array: make it one by toarray\(\)"):
        NearestClassMean().fit(X, sparse.csr_matrix(y[:, None]))
    np.save(tmp_path / "X.npy", X.astype(">f4"))
    with pytest.raises(InputError, match=r"X lies in a file of >f4 numbers, .*: write it as float32"):
        NearestClassMean().fit(np.load(tmp_path / "X.npy", mmap_mode="r"), y)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "dok", "lil", "bsr", "dia"])
def test_sparse_features_of_every_form_are_refused(form):
    X, y = rows()
    given = sparse.coo_array(X).asformat(form)  # a dok_array is a mapping, as features of several kinds are
    for fit in (
        lambda: NearestClassMean().fit(given, y),
        lambda: NearestClassMean().fit(X, y).predict(given),
        lambda: KNearest().fit(X, y, validation=(given, y)),
        lambda: Attentive().fit(given, y),
        lambda: dataset_of({"train": (given, y)}),
    ):
        with pytest.raises(InputError, match=r"is sparse, expected a dense array: make it one by toarray\(\)"):
            fit()


def test_in_the_other_byte_order_only_floats_that_stay_in_their_file_are_refused(tmp_path):
    X, y = rows()
    X = np.round(X)

    def stored(values, dtype):
        np.save(tmp_path / f"{dtype[1:]}.npy", values.astype(dtype))
        return np.load(tmp_path / f"{dtype[1:]}.npy", mmap_mode="r")

    expected = NearestClassMean().fit(X, y).logits(X)
    head = NearestClassMean().fit(stored(X, ">i2"), stored(y, ">i8"))
    np.testing.assert_allclose(head.logits(X), expected, rtol=1e-5)
    RidgeProbe().for_target("number").fit(X, stored(X[:, 0], ">f8"))
    floats = stored(X, ">f4")
    for fit in (
        lambda: list(NearestClassMean().fit_splits(floats, y, [(np.arange(30), None)])),
        lambda: NearestClassMean().fit(RowSubset(floats, np.arange(40)), y),
    ):
        with pytest.raises(InputError, match="X lies in a file of >f4 numbers"):
            fit()
    turned = RowSubset(X.astype(">f4"), np.arange(30))
    np.testing.assert_allclose(
        NearestClassMean().fit(turned, y[:30]).logits(X), NearestClassMean().fit(X[:30], y[:30]).logits(X), rtol=1e-4
    )


def test_a_frame_whose_columns_have_names_of_methods_is_not_sparse():
    X, y = rows()
    frame = pd.DataFrame(X[:, :2], columns=["toarray", "nnz"])
    assert (NearestClassMean().fit(frame, y).predict(frame) == y).mean() > 0.9


@pytest.mark.parametrize("value", [np.array(1), 1, 1.5, np.int64(1), torch.tensor(1), "a"])
def test_a_single_value_is_no_row(value):
    X, y = rows()
    for fit in (
        lambda: NearestClassMean().fit(X, value),
        lambda: NearestClassMean().fit(value, y),
        lambda: MajorityClass().fit(X, value),
        lambda: RidgeProbe().for_target("number").fit(X, value),
        lambda: dataset_of({"train": (value, y)}),
    ):
        with pytest.raises(
            InputError, match=r"is a single value, expected one for each row: give an array|X of train is one text"
        ):
            fit()


@pytest.mark.parametrize("validation", [True, False])
def test_out_of_fold_logits_read_nothing_that_a_mask_hides(validation):
    X, y = rows()
    hidden = np.ma.array(y, mask=np.arange(40) < 3)
    with pytest.raises(InputError, match=MASKED):
        out_of_fold_logits(
            NearestClassMean(), X, y if validation else hidden, validation=(X, hidden) if validation else None
        )


def test_what_is_no_array_comes_back_as_it_is():
    for given in ([1, 2], None, {"tokens": 1}):
        assert plain(given, "X") is given
