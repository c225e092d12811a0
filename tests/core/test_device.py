"""Rows that lie on a GPU are those of the arrays, and training on them ends at the same bits."""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from pretended_gpu import FREE_BYTES, pretended_gpu

from probe.core import device as gpu
from probe.core.arrays import DrawnViews, Entries, RowStack, RowSubset
from probe.core.device import budget, resident_rows
from probe.core.errors import InputError
from probe.experiment.choosing import fit
from probe.heads.dual_head_kd import DualHeadKD
from probe.heads.linear import LinearProbe
from probe.heads.linear_sgd import LinearSGD
from probe.heads.moment_probing import MomentProbing

every_device = pytest.mark.parametrize("place", ["pretended", pytest.param("cuda", marks=pytest.mark.gpu)])
random = np.random.default_rng(0)
X = random.standard_normal((90, 12)).astype(np.float32)
TOKENS = random.standard_normal((90, 5, 12)).astype(np.float16)
Y = np.arange(90) % 3


def test_a_gpu_gives_a_part_of_what_is_free_and_a_computer_what_it_is_told():
    assert budget("cpu", 7, 3) == 7
    with pretended_gpu():
        assert budget("cuda", 7, 4) == FREE_BYTES // 4
        assert budget("cuda:0", 7, 2) == FREE_BYTES // 2


def test_what_torch_holds_in_reserve_is_free(monkeypatch):
    with pretended_gpu():
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
        assert gpu.free_bytes("cuda") == FREE_BYTES + 200


def test_rows_on_a_gpu_are_those_of_the_arrays(tmp_path):
    np.save(tmp_path / "tokens.npy", TOKENS)
    stored = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    order = random.permutation(90)
    arrays = {
        "pooled": X,
        "tokens": RowStack([RowSubset(stored, order[:50]), RowSubset(stored, order[50:])]),
        "entry": Entries(stored, 2),
        "codes": Y,
    }
    with pretended_gpu():
        rows = resident_rows(arrays, "cuda")
        assert len(rows) == 90
        found = rows.at_epoch(3)[np.array([4, 2, 77])]
        assert all(tensor.is_cuda for tensor in found.values())
        found = {name: tensor.cpu() for name, tensor in found.items()}
    for name, whole in {"pooled": X, "tokens": TOKENS[order], "entry": TOKENS[:, 2], "codes": Y}.items():
        assert found[name].numpy().dtype == whole.dtype
        np.testing.assert_array_equal(found[name], whole[[4, 2, 77]])


def test_rows_stay_where_they_are_on_a_cpu_where_they_do_not_fit_and_where_each_epoch_draws_its_own(monkeypatch):
    assert resident_rows({"pooled": X}, "cpu") is None
    with pretended_gpu():
        views = DrawnViews(TOKENS, seed=0)
        for drawn in (views, RowSubset(views, np.arange(5)), RowStack([X, views]), Entries(views, 0)):
            assert resident_rows({"codes": Y, "pooled": drawn}, "cuda") is None
        monkeypatch.setattr(gpu, "free_bytes", lambda device: 3 * X.nbytes)
        assert resident_rows({"pooled": X}, "cuda") is not None
        assert resident_rows({"pooled": X, "codes": Y}, "cuda") is None


@every_device
@pytest.mark.parametrize(
    "kind",
    [
        partial(LinearSGD, epochs=2, batch_size=20, scaling="standard"),
        partial(LinearSGD, epochs=2, batch_size=20, scaling="l2", solver="lamb"),
        partial(DualHeadKD, arm="ce", trunk_width=8, epochs=(2,), batch_size=20),
        partial(MomentProbing, hidden_width=16, n_groups=2, epochs=(1,), batch_size=20),
    ],
)
def test_training_on_rows_that_lie_there_ends_at_the_same_bits(kind, place, monkeypatch):
    features = {"pooled": X, "tokens": TOKENS} if kind.func is MomentProbing else X
    logits = []
    with pretended_gpu() if place == "pretended" else nullcontext():
        for free in (FREE_BYTES, 0):
            monkeypatch.setattr(gpu, "free_bytes", lambda device, free=free: free)
            logits.append(kind(device="cuda").fit(features, Y).logits(features))
    np.testing.assert_array_equal(*logits)


def test_a_path_over_rows_in_half_precision_that_fit_there_while_rotated_ones_do_not(monkeypatch):
    halves = X.astype(np.float16)
    # A third is room for the rows in float16, a fourth less than the rotated ones take in float32.
    monkeypatch.setattr(gpu, "free_bytes", lambda device: 3 * halves.nbytes)
    expected = LinearProbe(Cs=[1e-2, 1.0], tol=1e-10, device="cpu").fit(halves, Y)
    with pretended_gpu():
        found = LinearProbe(Cs=[1e-2, 1.0], tol=1e-10, device="cuda").fit(halves, Y)
    np.testing.assert_allclose(found.coefs_path_, expected.coefs_path_, rtol=1e-4, atol=1e-5)


def test_a_gpu_that_is_full_says_what_to_do():
    class Large(LinearProbe):
        def fit(self, X, y, **options):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(InputError, match=r"ran out of memory while Large was fitted on 90 rows: run fewer jobs on it"):
        fit(Large(), (X, Y), (X, Y), None, {})


def test_other_failures_of_a_fit_come_as_they_are():
    class Broken(LinearProbe):
        def fit(self, X, y, **options):
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        fit(Broken(), (X, Y), (X, Y), None, {})
