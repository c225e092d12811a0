"""Properties of the pretraining loss and of the views, and that a killed training goes on where it stopped."""

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from places import ROOT
from safetensors.torch import load_file

sys.path.insert(0, str(ROOT / "recipes"))
import barlow_twins
from barlow_twins import barlow_twins_loss

N, D = 512, 16


def projections(seed: int = 0, n: int = N) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def whitened() -> torch.Tensor:
    z = projections().double()
    z = z - z.mean(0)
    return torch.linalg.qr(z)[0] * N**0.5


def test_equal_whitened_views_cost_nothing() -> None:
    z = whitened().float()
    assert barlow_twins_loss(z, z).item() < 1e-4


def test_independent_views_cost_what_chance_predicts() -> None:
    losses = [barlow_twins_loss(projections(2 * s), projections(2 * s + 1), 0.5).item() for s in range(20)]
    # E C_ij^2 = 1/N, so the loss is about D (1 + 1/N) + weight D (D - 1) / N.
    assert np.mean(losses) == pytest.approx(D * (1 + 1 / N) + 0.5 * D * (D - 1) / N, rel=0.05)


def test_views_are_interchangeable() -> None:
    a, b = projections(1), projections(2)
    assert barlow_twins_loss(a, b).item() == pytest.approx(barlow_twins_loss(b, a).item(), rel=1e-6)


def test_affine_maps_of_dimensions_change_nothing_and_a_flip_of_one_view_does() -> None:
    a = projections(1)
    b = a + 0.3 * projections(2)
    scale, shift = torch.rand(D) + 0.5, torch.randn(D)
    plain = barlow_twins_loss(a, b).item()
    assert barlow_twins_loss(a * scale + shift, b).item() == pytest.approx(plain, rel=1e-3)
    assert barlow_twins_loss(-a, -b).item() == pytest.approx(plain, rel=1e-4)
    assert barlow_twins_loss(-a, b).item() > plain + D


def test_dimensions_may_be_permuted_together_but_a_rotation_is_not_neutral() -> None:
    a, b = projections(1), projections(1) + 0.3 * projections(2)
    order = torch.randperm(D, generator=torch.Generator().manual_seed(0))
    plain = barlow_twins_loss(a, b).item()
    assert barlow_twins_loss(a[:, order], b[:, order]).item() == pytest.approx(plain, rel=1e-4)
    assert barlow_twins_loss(a[:, order], b).item() > plain + 1
    stretched = torch.diag(torch.linspace(0.1, 3, D))
    Q = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(1)))[0]
    rotated = barlow_twins_loss(a @ stretched @ Q, b @ stretched @ Q, 1.0).item()
    assert abs(rotated - barlow_twins_loss(a @ stretched, b @ stretched, 1.0).item()) > 0.1


def test_loss_is_the_equation_and_without_weight_the_diagonal_alone() -> None:
    a, b = projections(1).double(), projections(1).double() + 0.5 * projections(2).double()
    C = np.array([[np.corrcoef(a[:, i], b[:, j])[0, 1] for j in range(D)] for i in range(D)])
    on = ((1 - C.diagonal()) ** 2).sum()
    off = (C**2).sum() - (C.diagonal() ** 2).sum()
    for weight in (0.0, 0.0051, 0.7):
        assert barlow_twins_loss(a, b, weight).item() == pytest.approx(on + weight * off, rel=1e-3)


def test_collapse_of_everything_is_no_solution_and_few_rows_cannot_be_free() -> None:
    assert barlow_twins_loss(torch.ones(N, D), torch.ones(N, D)).item() == pytest.approx(D)
    # A correlation of rank N - 1 < D cannot be the identity, however the rows lie.
    few = projections(3, n=D // 2).requires_grad_()
    optimizer = torch.optim.Adam([few], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = barlow_twins_loss(few, few, 1.0)
        loss.backward()
        optimizer.step()
    assert loss.item() > 1


def test_gradient_is_that_of_finite_differences() -> None:
    a, b = projections(1, n=12).double().requires_grad_(), projections(2, n=12).double()
    assert torch.autograd.gradcheck(
        lambda z: barlow_twins_loss(z, b, 0.3), a, eps=1e-2, atol=5e-3
    )  # the loss is in float32


def test_rows_may_be_permuted_together_only() -> None:
    a, order = projections(1), torch.randperm(N, generator=torch.Generator().manual_seed(0))
    assert barlow_twins_loss(a[order], a[order]).item() == pytest.approx(barlow_twins_loss(a, a).item(), abs=1e-3)
    assert barlow_twins_loss(a[order], a).item() > 0.5 * D


def test_a_collapsed_dimension_costs_one_and_keeps_gradients_finite() -> None:
    z = whitened().float()
    z[:, 0] = 3.0
    z.requires_grad_()
    loss = barlow_twins_loss(z, z)
    loss.backward()
    assert loss.item() == pytest.approx(1, abs=1e-3)
    assert torch.isfinite(z.grad).all()


def test_gradient_lies_across_the_null_space_of_standardisation() -> None:
    a, b = projections(1).requires_grad_(), projections(2)
    barlow_twins_loss(a, b).backward()
    centred = a.detach() - a.detach().mean(0)
    assert a.grad.sum(0).abs().max() < 1e-5
    assert (a.grad * centred).sum(0).abs().max() < 1e-3


def test_views_are_seeded_and_differ_between_images() -> None:
    image = torch.randint(0, 255, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = image.expand(8, -1, -1, -1)
    first, again = (barlow_twins.view(images, torch.Generator().manual_seed(3), 0.2, 0.25) for _ in range(2))
    assert torch.equal(first, again)
    assert len({tuple(v.flatten()[:50].tolist()) for v in first}) == 8


def write_parquet(folder: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(n):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(buffer, "JPEG")
        images.append({"bytes": buffer.getvalue(), "path": ""})
    pq.write_table(pa.table({"image": images, "label": [0] * n}), folder / "train-00000-of-00001.parquet")


def options(data: Path, out: Path, **changes: object) -> argparse.Namespace:
    values = dict(
        data=data, out=out, epochs=2, warmup_epochs=1, batch_size=16, lr=1e-3, weight_decay=1e-2, projector_width=32,
        off_diagonal_weight=0.0051, min_area=0.25, seed=0,
    )  # fmt: skip
    return argparse.Namespace(**values | changes)


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path, 32)
    barlow_twins.train(options(tmp_path, tmp_path / "whole"))

    save = barlow_twins.save_atomically

    def save_then_die(path: Path, write: object) -> None:
        save(path, write)
        raise KeyboardInterrupt

    monkeypatch.setattr(barlow_twins, "save_atomically", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        barlow_twins.train(options(tmp_path, tmp_path / "killed"))
    monkeypatch.undo()
    barlow_twins.train(options(tmp_path, tmp_path / "killed"))

    whole, killed = (load_file(tmp_path / name / "tiny.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
