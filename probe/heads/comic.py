"""A linear classifier of several labels per row that are rare and partly unknown, by the losses of COMIC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from probe.core.arrays import RowReader
from probe.core.errors import InputError
from probe.heads.shared.head import Validation, check_lazy
from probe.heads.shared.module_head import ModuleHead
from probe.heads.shared.module_solver import Batch
from probe.heads.shared.multi_focal import head_tail_balance, modifiers, multi_focal, recalled
from probe.heads.shared.objectives import BinaryCrossEntropy
from probe.heads.shared.several_labels import SeveralLabels
from probe.heads.shared.standardized import statistics
from probe.heads.shared.together import Trained
from probe.heads.shared.together_solver import TogetherSolver

UNKNOWN = ("ignore", "negative")
HELPERS = ("head", "tail")


class ThreeLinear(nn.Module):
    """Logits (B, K) of the balanced classifier; while it is trained, (B, 3, K) with those of head and tail labels."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor, log_odds: Tensor, helpers: bool):
        super().__init__()
        width, n_labels = len(mean), len(log_odds)
        self.balance = nn.Linear(width, n_labels)
        self.head, self.tail = (nn.Linear(width, n_labels) if helpers else None for _ in range(2))
        for part in (self.balance, self.head, self.tail):
            if part is not None:
                nn.init.zeros_(part.weight)
                part.bias.data.copy_(log_odds)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, batch: Batch) -> Tensor:
        rows = (batch["pooled"] - self.mean) / self.deviation
        found: Tensor = self.balance(rows)
        if not self.training:
            return found
        others = [found if part is None else part(rows) for part in (self.head, self.tail)]
        return torch.stack([found, *others], dim=1)


class MultiFocal(BinaryCrossEntropy):
    """What `Comic` goes down; `counts` (K,) are the training rows that are known to have each label."""

    def __init__(self, head: Comic, counts: NDArray[np.int64]):
        self.parameters, self.counts = head, torch.from_numpy(counts)
        self.frequent = self.counts >= self.counts.double().median()
        self.epoch, self.n_recalled = 0, torch.zeros(1, len(counts))

    def begin(self, epoch: int) -> None:
        """Labels are taken for there anew in each epoch, from the second on."""
        self.epoch, self.n_recalled = epoch, torch.zeros_like(self.n_recalled)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        asked, codes = self.parameters, batch["codes"]
        balance, head, tail = logits.unbind(2)
        targets, known = (codes == 1).expand_as(balance), (codes >= 0).expand_as(balance)
        if asked.correction is not None and self.epoch:
            more = recalled(balance.detach(), ~known, asked.correction)
            self.n_recalled = self.n_recalled.to(more.device) + more.sum(1)
            targets, known = targets | more, known | more
        if asked.unknown == "negative":
            known = torch.ones_like(known)
        focal: dict[str, Any] = {name: getattr(asked, name) for name in ("gamma_positive", "gamma_negative", "clip")}
        if asked.gamma_class:
            counts = self.counts.to(balance.device) + self.n_recalled.to(balance.device)
            focal["omega"] = modifiers(counts, asked.gamma_class)[:, None].to(balance.dtype)
        total = (multi_focal(balance, targets, **focal) * known).sum()
        if asked.balance:
            frequent = self.frequent.to(balance.device)
            total = total + (multi_focal(head, targets, **focal) * (known & frequent)).sum()
            total = total + (multi_focal(tail, targets, **focal) * (known & ~frequent)).sum()
            total = total + head_tail_balance(balance, head, tail, targets, known, **focal).sum()
        return total / balance.shape[1]


class Comic(SeveralLabels, ModuleHead, TogetherSolver):
    """A linear classifier trained down the multi-focal loss, with recalled labels, and a balance of head and tail.

    The loss of a label of a row is -omega [y (1 - p)^g+ ln p + (1 - y) (1 - q)^(g- + omega) ln q] with q = min(1, 1 - p
    + clip), omega = (1 - ln(n / max n))^gamma_class of the n training rows that have it; focusing factors have no
    gradient. From the second epoch on an unknown label with p above `correction`, and above the batch's mean of its
    label, is taken for there, and counts in omega. With `balance`, one more classifier is trained on the labels that
    half of the labels or more are no more frequent than and one on the others, and the classifier that predicts owes
    to each in proportion to the square of its loss; both are dropped after training. All candidates are trained at
    once, on features at mean 0 and variance 1, and judged by mAP.

    With all labels known, gammas and clip 0 and without balance it is binary cross-entropy. `head=asymmetric` is the
    asymmetric loss alone.

    Source: W. Zhang et al., "Learning in Imperfect Environment: Multi-Label Classification with Long-Tailed
    Distribution and Partial Labels", 2023, arXiv 2304.10539. Departures: labels that are known are never changed, where
    the release knows no unknown ones and changes negatives; no margin on recalled positives; a linear classifier and
    AdamW; the multi-focal loss of the classifier itself beside what it owes; no prior by co-occurrence.

    Args:
        gamma_positive: g+.
        gamma_negative: g-.
        clip: Negatives with a probability up to it cost nothing.
        gamma_class: Power of omega; with 0 there is none.
        correction: Probability above which an unknown label is taken for there; null: never.
        balance: Whether the two helpers are trained.
        unknown: What other unknown labels are while it is trained: `ignore`, or `negative` as in the release.
        learning_rates: Peak learning rates to choose from; they fall along half a cosine.
        weight_decays: Decoupled decays to choose from.
        epochs: Passes over the rows.
        patience: Training ends after so many epochs in which no candidate did better.
        batch_size: Rows per step.
        warmup_epochs: In which the learning rate rises.
        refit: Whether the chosen candidate is trained again on training and validation rows.
        random_state: Seeds the batches and, without validation rows, the choice of a tenth as such.
        device: `cpu`, `cuda`, or `auto`.

    Attributes:
        balance_weight_, balance_bias_: (K, D) and (K,), on features at `mean_` and `deviation_`.
        n_epochs_: For which it was trained.
        selection_: What was searched; absent where nothing was.
    """

    reads_unknown: ClassVar[bool] = True
    mean_: NDArray[np.float32]
    deviation_: NDArray[np.float32]

    def __init__(
        self,
        gamma_positive: float = 0.0,
        gamma_negative: float = 3.0,
        clip: float = 0.05,
        gamma_class: float = 1 / 6,
        correction: float | None = 0.7,
        balance: bool = True,
        unknown: str = "ignore",
        learning_rates: Sequence[float] = (0.001, 0.003, 0.01),
        weight_decays: Sequence[float] = (0.001, 0.1),
        epochs: int = 30,
        patience: int = 5,
        batch_size: int = 128,
        warmup_epochs: float = 1.0,
        refit: bool = True,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.gamma_positive = gamma_positive
        self.gamma_negative = gamma_negative
        self.clip = clip
        self.gamma_class = gamma_class
        self.correction = correction
        self.balance = balance
        self.unknown = unknown
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
        wrong = [
            f"{name} is {getattr(self, name)!r}, expected a number from 0"
            for name in ("gamma_positive", "gamma_negative", "gamma_class")
            if not getattr(self, name) >= 0
        ]
        if not 0 <= self.clip < 1:
            wrong.append(f"clip is {self.clip!r}, expected a number in [0, 1)")
        if self.correction is not None and not 0 < self.correction <= 1:
            wrong.append(f"correction is {self.correction!r}, expected null or a probability above 0")
        if self.unknown not in UNKNOWN:
            wrong.append(f"unknown is {self.unknown!r}, expected {' or '.join(UNKNOWN)}")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Comic:
        """Trains all candidates on (X, y) with targets y (N, K), and chooses among them on the validation rows."""
        self.check_parameters()
        X, targets = self._check_fit(X, y)
        check_lazy(X)
        others = self._validation_rows(validation)
        if others is not None:
            check_lazy(others[0]["pooled"], "the validation rows")
        held = None if others is None else RowReader({**others[0], "codes": others[1]})
        self._choose(RowReader({"pooled": X, "codes": targets}), held)
        return self

    def _train(self, rows: RowReader, *rest: Any, **options: Any) -> list[Trained]:
        self.mean_, self.deviation_ = statistics(rows.arrays["pooled"])
        self._codes = rows.arrays["codes"][:]
        try:
            return super()._train(rows, *rest, **options)
        finally:
            del self._codes

    def _objective(self) -> MultiFocal:
        return MultiFocal(self, (self._codes == 1).sum(axis=0))

    def _module(self) -> ThreeLinear:
        mean, deviation = torch.from_numpy(self.mean_), torch.from_numpy(self.deviation_)
        log_odds = torch.zeros(len(self.classes_))
        if hasattr(self, "_codes"):
            n_with, n_without = ((self._codes == code).sum(axis=0) + 0.5 for code in (1, 0))
            log_odds = torch.from_numpy(np.log(n_with / n_without)).float()
        return ThreeLinear(mean, deviation, log_odds, self.balance and hasattr(self, "_codes"))

    def _set_weights(self, state: Any) -> None:
        """Without the helpers."""
        super()._set_weights({name: value for name, value in state.items() if name.split(".")[0] not in HELPERS})
