"""Heads that are trained on the pixels of images: a torch module from maps to outputs, several rates at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from probe.core.arrays import RowStack, RowSubset, read_rows, row_chunks
from probe.core.base import IntArray
from probe.core.device import full_precision, resolve_device
from probe.core.errors import InputError
from probe.core.magnitudes import check_features
from probe.core.terminal import epochs
from probe.heads.shared.base import Validation, check_lazy
from probe.heads.shared.dense_loss import resized
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.module_solver import ModuleSolver
from probe.heads.shared.training import schedule

Score = tuple[float, float]
"""Of a learning rate on the images to choose on, the higher the better; the second where the first are equal."""


class DenseTraining(ModuleSolver):
    """Base class of what trains on pixels, beside that of its target: `DenseHead` or `DenseNumbers`.

    A subclass gives `_module()`, which takes {"map": (B, C, h, w)} and gives outputs (B, K, h', w') on a grid of its
    own; they are interpolated to the pixels, where the loss is taken. All learning rates see the same batches. What is
    said of pixels (N, H, W) is checked by `_check_pixels`, looked through by `_look`, and comes in batches by
    `_labels`; `_loss` is gone down, `_score` chooses. Its parameters: `lrs` (searched), `epochs`, `batch_size`,
    `weight_decay`, `refit`, `random_state`, `device`.

    The learning rate with the highest score on the validation images wins; it is then trained again on training and
    validation images. Without validation images a tenth of the images stands in for them. A single rate is not
    searched: it is trained on all images.

    Attributes:
        warmup: Share of the steps in which the learning rate rises, before it falls along a half cosine.
        mean_, scale_: (C,) of the channels over all training places, by which the module sees them.
        pixels_: (H, W) of what it was fitted on.
        lr_: The chosen learning rate.
        loss_per_epoch_: Of the training that gave the weights.
    """

    consumes: ClassVar[tuple[str, ...]] = ("map",)
    draws_views: ClassVar[bool] = False
    searches: ClassVar[Mapping[str, str]] = {"lr": "lrs"}
    unordered: ClassVar[tuple[str, ...]] = ("lrs",)
    warmup: ClassVar[float] = 0.0
    lrs: Sequence[float]
    epochs: int
    batch_size: int
    weight_decay: float
    refit: bool
    random_state: int

    def _check_pixels(self, y: ArrayLike, n_images: int, what: str = "y") -> Any:
        """What is said of the pixels (N, H, W), as it is where it is read lazily."""
        raise NotImplementedError

    def _look(self, pixels: Any) -> None:
        """Sets what the module has to know of all training pixels."""
        raise NotImplementedError

    def _labels(self, given: NDArray[Any]) -> NDArray[Any]:
        """Labels (B, H, W) of the pixels of some images, as the loss takes them."""
        raise NotImplementedError

    def _loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Of outputs (B, K, H, W) at labels (B, H, W)."""
        raise NotImplementedError

    def _score(self, module: nn.Module, X: Any, pixels: Any) -> Score:
        """How good a module is on images."""
        raise NotImplementedError

    def check_parameters(self) -> None:
        if wrong := self._wrong_parameters():
            raise InputError("; ".join(wrong) + ": change the parameters of the head")

    def _wrong_parameters(self) -> list[str]:
        """A clause for each."""
        wrong = []
        if not len(self.lrs) or not all(0 < lr < math.inf for lr in self.lrs):
            wrong.append(f"lrs is {self.lrs!r}, expected positive numbers")
        if not (self.epochs >= 1 and self.batch_size >= 1):
            wrong.append(f"epochs is {self.epochs!r} and batch_size {self.batch_size!r}, expected at least 1 each")
        if not self.weight_decay >= 0:
            wrong.append(f"weight_decay is {self.weight_decay!r}, expected a number from 0")
        return wrong

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Trains on maps X (N, C, h, w) and pixels y (N, H, W), and chooses the learning rate on validation images."""
        self.check_parameters()
        X = self._check_rows(X, reset=True)
        check_features(X)
        check_lazy(X)
        pixels = self._check_pixels(y, len(X))
        self.__dict__.pop("selection_", None)
        self.pixels_ = [int(side) for side in pixels.shape[1:]]
        self._look(pixels)
        if validation is not None:
            X_val = self._check_rows(validation[0], reset=False)
            pixels_val = self._check_pixels(validation[1], len(X_val), "the validation rows")
            if len(self.lrs) == 1:
                return self._settle(*(_stacked(X, pixels, X_val, pixels_val) if self.refit else (X, pixels)))
            return self._search(X, pixels, X_val, pixels_val, "validation")
        held = hold_out(np.zeros(len(X), np.int64), self.random_state) if len(self.lrs) > 1 else np.zeros(len(X), bool)
        if not held.any():
            return self._settle(X, pixels)
        train, spared = (_rows(X, pixels, np.flatnonzero(rows)) for rows in (~held, held))
        return self._search(*train, *spared, HELD_OUT)

    def _settle(self, X: Any, pixels: Any) -> Self:
        """Trains with the middle one of the learning rates, where there is nothing to choose, or to choose on."""
        lr = self.lrs[len(self.lrs) // 2]
        return self._keep(self._train(X, pixels, [lr])[0], lr)

    def _search(self, X: Any, pixels: Any, X_val: Any, pixels_val: Any, on: str) -> Self:
        trained = self._train(X, pixels, self.lrs)
        scores = [self._score(module, X_val, pixels_val) for module, _ in trained]
        best = max(range(len(scores)), key=lambda i: scores[i])
        searched = [{"lr": float(lr), "score": score[0]} for lr, score in zip(self.lrs, scores, strict=True)]
        lr = float(self.lrs[best])
        self.selection_ = {"on": on, "searched": searched, "chosen": {"lr": lr}}
        self._keep(trained[best], lr)._keep_choice()
        if self.refit:
            self._keep(self._train(*_stacked(X, pixels, X_val, pixels_val), [lr])[0], lr)
        return self

    def _keep(self, trained: tuple[nn.Module, list[float]], lr: float) -> Self:
        module, losses = trained
        if not all(torch.isfinite(value).all() for value in module.state_dict().values()):
            raise InputError(
                f"training of {type(self).__name__} diverged with the learning rate {lr}: leave out the largest ones"
            )
        self.lr_, self.loss_per_epoch_ = float(lr), losses
        self._set_weights(module.state_dict())
        return self

    def _train(self, X: Any, pixels: Any, lrs: Sequence[float]) -> list[tuple[nn.Module, list[float]]]:
        """A trained module, and the mean loss of each epoch, for each learning rate."""
        device = resolve_device(self.device)
        self.mean_, self.scale_ = _statistics(X)
        modules = [self._first().to(device).train() for _ in lrs]
        optimizers = [self._optimizer(module, lr) for module, lr in zip(modules, lrs, strict=True)]
        n = len(X)
        steps = -(-n // self.batch_size)
        n_warmup = self.warmup * self.epochs * steps
        random, losses, step = np.random.default_rng(self.random_state), [[0.0] * self.epochs for _ in lrs], 0
        with full_precision(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            for epoch in epochs(self.epochs):
                order = random.permutation(n)
                for start in range(0, n, self.batch_size):
                    rows = np.sort(order[start : start + self.batch_size])
                    maps, labels = self._batch(X, pixels, rows, device)
                    share = schedule(step, self.epochs * steps, n_warmup)
                    for i, (module, optimizer, lr) in enumerate(zip(modules, optimizers, lrs, strict=True)):
                        for group in optimizer.param_groups:
                            group["lr"] = share * lr
                        optimizer.zero_grad(set_to_none=True)
                        loss = self._loss(resized(module({"map": maps}), *labels.shape[1:]), labels)
                        torch.autograd.backward(loss)
                        optimizer.step()
                        losses[i][epoch] += float(loss.detach()) / steps
                    step += 1
        return [(module.eval(), of_module) for module, of_module in zip(modules, losses, strict=True)]

    def _first(self) -> nn.Module:
        """The module as every learning rate begins."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            return self._module()

    def _optimizer(self, module: nn.Module, lr: float) -> torch.optim.Optimizer:
        named = [*module.parameters()]
        groups = [
            {"params": [p for p in named if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in named if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr)

    def _batch(self, X: Any, pixels: Any, rows: IntArray, device: str) -> tuple[Tensor, Tensor]:
        """Maps (B, C, h, w), and labels (B, H, W) of their pixels."""
        maps = torch.from_numpy(read_rows(X, rows)).to(device).float()
        return maps, torch.from_numpy(self._labels(np.asarray(pixels[rows]))).to(device)

    def _outputs_at_pixels(self, module: nn.Module, X: Any, pixels: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Outputs (B, K, H, W) and labels (B, H, W) of images, a few at a time."""
        device = str(next(module.parameters()).device)
        for part in row_chunks(X):
            for start in range(part.start, part.stop, self.batch_size):
                rows = np.arange(start, min(start + self.batch_size, part.stop))
                maps, labels = self._batch(X, pixels, rows, device)
                yield resized(module({"map": maps}), *labels.shape[1:]), labels


class Standardised(nn.Module):
    """Channels (B, C, h, w) at mean 0 and variance 1 over all training places.

    Batch normalisation with the statistics of all rows in place of those of each batch; its own weights are left out
    where a linear layer follows, which has them already.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: NDArray[Any], scale: NDArray[Any]):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        return (maps - self.mean) / self.scale


class PlaceWeights(nn.Module):
    """Weights (K, C) and biases (K,) of K linear outputs of standardised places; a subclass says what they are for."""

    def __init__(self, norm: Standardised, bias: Tensor):
        super().__init__()
        self.norm = norm
        self.weight = nn.Parameter(0.01 * torch.randn(len(bias), len(norm.mean)))
        self.bias = nn.Parameter(bias.clone())


def _statistics(X: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each channel over all places, (C,) each; 1 for one that is constant."""
    total, squares, n = np.zeros(X.shape[1]), np.zeros(X.shape[1]), len(X) * int(np.prod(X.shape[2:]))
    shift: NDArray[Any] | None = None
    for rows in row_chunks(X):
        chunk = np.asarray(X[rows], dtype=np.float32)
        shift = chunk.mean((0, 2, 3), dtype=np.float64)[:, None, None] if shift is None else shift
        chunk = chunk - shift.astype(np.float32)
        total += chunk.sum((0, 2, 3), dtype=np.float64)
        squares += np.square(chunk).sum((0, 2, 3), dtype=np.float64)
    assert shift is not None
    variance = squares / n - (total / n) ** 2
    mean = shift[:, 0, 0] + total / n
    return mean.astype(np.float32), np.sqrt(np.where(variance > 1e-12 * (mean**2 + 1e-30), variance, 1)).astype(
        np.float32
    )


def _stacked(X: Any, pixels: Any, X_val: Any, pixels_val: Any) -> tuple[Any, Any]:
    """Training and validation images."""
    return RowSubset(RowStack([X, X_val]), np.arange(len(X) + len(X_val))), RowStack([pixels, pixels_val])


def _rows(X: Any, pixels: Any, rows: IntArray) -> tuple[Any, Any]:
    return RowSubset(X, rows), RowSubset(pixels, rows)
