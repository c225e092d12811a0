"""A network of one hidden layer on pooled features: all widths, learning rates and weight decays trained at once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from probe.core.arrays import RowReader
from probe.core.errors import InputError
from probe.heads.shared.base import AnyHead
from probe.heads.shared.head import Validation, check_lazy
from probe.heads.shared.module_head import ModuleHead
from probe.heads.shared.module_solver import Batch
from probe.heads.shared.standardized import statistics
from probe.heads.shared.together import Candidate, State, Trained
from probe.heads.shared.together_solver import TogetherSolver
from probe.heads.shared.trained_numbers import TrainedNumbers

LEAST_STEPS = 10
"""Of an epoch."""


@dataclass(frozen=True)
class Width(Candidate):
    """A candidate that uses so many of the hidden units."""

    width: int


class OneHiddenLayer(nn.Module):
    """W2 (mask * GELU(W1 (x - mean) / deviation + b1)) + b2; W2 and the intercepts begin at zero.

    W1 of a narrower network is the first rows of a wider one's, so that a mask over hidden units makes it.
    """

    mask: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor, width: int, n_outputs: int):
        super().__init__()
        self.hidden, self.output = nn.Linear(len(mean), width), nn.Linear(width, n_outputs)
        for zero in (self.hidden.bias, self.output.weight, self.output.bias):
            nn.init.zeros_(zero)
        self.register_buffer("mask", torch.ones(width))
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def buffers_for(self, candidate: Candidate) -> State:
        assert isinstance(candidate, Width)
        used = torch.arange(len(self.mask), device=self.mask.device) < candidate.width
        return {"mask": used.to(self.mask.dtype)}

    def forward(self, batch: Batch) -> Tensor:
        rows = (batch["pooled"] - self.mean) / self.deviation
        found: Tensor = self.output(self.mask * functional.gelu(self.hidden(rows)))
        return found


class MLPSolver(TogetherSolver):
    """What `MLP` and `MLPNumbers` share."""

    searches: ClassVar[Mapping[str, str]] = {"width": "widths", **TogetherSolver.searches}
    unordered: ClassVar[tuple[str, ...]] = ("widths", *TogetherSolver.unordered)
    width_: int
    mean_: NDArray[np.float32]
    deviation_: NDArray[np.float32]

    def __init__(
        self,
        widths: Sequence[int] = (64, 256, 1024),
        learning_rates: Sequence[float] = (0.0003, 0.001, 0.003, 0.01),
        weight_decays: Sequence[float] = (0.01,),
        epochs: int = 30,
        patience: int = 5,
        batch_size: int = 128,
        warmup_epochs: float = 1.0,
        refit: bool = True,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.widths = widths
        self.learning_rates = learning_rates
        self.weight_decays = weight_decays
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.warmup_epochs = warmup_epochs
        self.refit = refit
        self.random_state = random_state
        self.device = device

    def check_parameters(self) -> None:
        super().check_parameters()
        if not len(self.widths) or not all(width >= 1 and int(width) == width for width in self.widths):
            raise InputError(
                f"widths is {self.widths!r}, expected whole numbers from 1: change the parameters of the head"
            )

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Trains all candidates on (X, y) and chooses among them on the validation rows."""
        self.check_parameters()
        X, codes = self._check_fit(X, y)
        check_lazy(X)
        others = self._validation_rows(validation)
        if others is not None:
            check_lazy(others[0]["pooled"], "the validation rows")
        held = None if others is None else RowReader({**others[0], "codes": others[1]})
        self.width_ = int(max(self.widths))
        self._choose(RowReader({"pooled": X, "codes": codes}), held)
        return self

    def _rows_per_step(self, n_rows: int) -> int:
        return min(self.batch_size, max(1, n_rows // LEAST_STEPS))

    def _candidates(self) -> list[Candidate]:
        listed = itertools.product(self.widths, self.learning_rates, self.weight_decays)
        return [Width(rate, decay, int(width)) for width, rate, decay in listed]

    def _train(self, rows: RowReader, candidates: Sequence[Candidate], *rest: Any, **options: Any) -> list[Trained]:
        self.width_ = max(candidate.width for candidate in candidates if isinstance(candidate, Width))
        self.mean_, self.deviation_ = statistics(rows.arrays["pooled"])
        return super()._train(rows, candidates, *rest, **options)

    def _module(self) -> OneHiddenLayer:
        mean, deviation = torch.from_numpy(self.mean_), torch.from_numpy(self.deviation_)
        return OneHiddenLayer(mean, deviation, self.width_, self.n_outputs)

    def _keep(self, trained: Trained, candidate: Candidate) -> None:
        """Without the hidden units that a narrow network leaves unused."""
        assert isinstance(candidate, Width)
        self.width_ = n = candidate.width
        state = dict(trained.state)
        if state:
            state |= {name: state[name][:n] for name in ("hidden.weight", "hidden.bias", "mask")}
            state["output.weight"] = state["output.weight"][:, :n]
        super()._keep(Trained(trained.score, trained.epochs, state), candidate)


class MLP(ModuleHead, MLPSolver):
    """One hidden layer of GELU units, trained by AdamW on cross-entropy in mini-batches.

    Logits are W2 GELU(W1 z + b1) + b2, z the features at mean 0 and variance 1 over the rows trained on. Every width,
    learning rate and weight decay is trained at the same time, on the same batches; each is kept at its best epoch on
    the validation rows, and the best of them (accuracy, then log loss) is trained again with these for as long. Without
    validation rows a stratified tenth stands in for them.

    Of numbers to predict it goes down, and is judged by, the squared error: see `MLPNumbers`.

    What it has above `linear` is what the features say only together; where it has nothing, read `linear`.

    Args:
        widths: Numbers of hidden units to choose from.
        learning_rates: To choose from; they fall along a half cosine.
        weight_decays: Decoupled, of W1 and W2, to choose from.
        epochs: Passes over the rows after which the learning rate is zero.
        patience: Training ends after so many epochs in which no candidate did better.
        batch_size: Rows per step, and at most a tenth of all: of few rows an epoch would be one step.
        warmup_epochs: In which the learning rate rises.
        refit: Whether the chosen candidate is trained again on training and validation rows.
        random_state: Seeds W1, the batches and, without validation rows, the choice of a tenth as such.
        device: `cpu`, `cuda`, or `auto`.

    Attributes:
        hidden_weight_, hidden_bias_, output_weight_, output_bias_: Of the chosen network.
        mean_, deviation_: (D,) of the rows that it was trained on.
        width_: Of its hidden layer.
        n_epochs_: For which it was trained.
        selection_: What was searched; absent where nothing was.
    """

    recipe: ClassVar[str] = "2"
    fits: ClassVar[tuple[str, ...]] = ("one_class", "number")

    def for_target(self, target: str) -> AnyHead:
        return MLPNumbers(**self.get_params(deep=False)) if target == "number" else self


class MLPNumbers(TrainedNumbers, MLPSolver):
    """The same network with a mean for each column in the place of logits, down the squared error.

    `head=mlp` stands for it on numbers, with the same parameters and attributes; it has no yaml of its own.
    """
