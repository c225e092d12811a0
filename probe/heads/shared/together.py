"""Many (learning rate, weight decay) of one module, trained side by side as one tensor program.

Every parameter has the candidates as its first axis, and a batch passes through all of them at once. No number of one
candidate meets one of another: each ends where it would end alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from probe.core.arrays import CHUNK_BYTES, RowReader, row_chunks
from probe.core.device import full_precision, resident_rows
from probe.core.terminal import epochs
from probe.heads.shared.module_solver import Batch, as_tensors
from probe.heads.shared.objectives import CrossEntropy, Objective, Score
from probe.heads.shared.training import batches, schedule

State = dict[str, Tensor]


@dataclass(frozen=True)
class Candidate:
    """What is searched: the peak learning rate, and the decoupled decay of what has more than one axis."""

    learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class Course:
    """How all candidates are trained.

    Attributes:
        epochs: After which the learning rate has fallen to zero.
        batch_size: Rows per step.
        warmup_epochs: Epochs of linear warm-up, at most half of all.
        patience: Training ends after so many epochs in which no candidate did better than before.
        seed: Of the order of the rows.
        stop_after: Epochs that are carried out, of training without validation rows; None: all.
    """

    epochs: int
    batch_size: int
    warmup_epochs: float
    patience: int
    seed: int
    stop_after: int | None = None


@dataclass
class Trained:
    """A candidate at its best epoch on the validation rows; without these, at its last.

    Attributes:
        score: Of the objective, such as accuracy and then the negative log-loss; the worst where training diverged.
        epochs: How many it was trained for.
        state: Parameters and buffers.
    """

    score: tuple[float, float]
    epochs: int
    state: State


@runtime_checkable
class SuitsCandidates(Protocol):
    """A module of which each candidate has buffers of its own, such as a mask of the units that it uses."""

    def buffers_for(self, candidate: Candidate) -> State: ...


class Copies:
    """One module as many times as there are candidates, from the same first weights, with an AdamW for each."""

    def __init__(self, module: nn.Module, candidates: Sequence[Candidate], objective: Objective, device: str):
        self.module, self.n, self.objective = module.to(device), len(candidates), objective

        def stacked(value: Tensor) -> Tensor:
            return value.detach()[None].repeat(self.n, *(1 for _ in value.shape))

        self.parameters = {name: stacked(p).requires_grad_() for name, p in module.named_parameters()}
        self.buffers = {name: stacked(buffer) for name, buffer in module.named_buffers()}
        if isinstance(module, SuitsCandidates):
            own = [module.buffers_for(candidate) for candidate in candidates]
            self.buffers |= {name: torch.stack([one[name] for one in own]) for name in own[0]}
        groups = []
        for whole in self.parameters.values():
            whole.grad = torch.zeros_like(whole)
        for i, candidate in enumerate(candidates):
            parts = [self._part(whole, i) for whole in self.parameters.values()]
            for decay, chosen in (
                (candidate.weight_decay, [p for p in parts if p.ndim > 1]),
                (0.0, [p for p in parts if p.ndim < 2]),
            ):
                group = {"params": chosen, "lr": candidate.learning_rate, "weight_decay": decay}
                groups += [group] if chosen else []
        self.optimizer = torch.optim.AdamW(groups, fused=True)

    @staticmethod
    def _part(whole: Tensor, i: int) -> nn.Parameter:
        """The slice of one candidate as the optimizer sees it: its memory and that of its gradient are the whole's."""
        part = nn.Parameter(whole.detach()[i])
        part.grad = whole.grad[i]  # type: ignore[index]
        return part

    def logits(self, batch: Batch) -> Tensor:
        """(L, B, K), of all candidates."""

        def one(parameters: State, buffers: State) -> Tensor:
            return functional_call(self.module, (parameters, buffers), (batch,))

        return vmap(one)(self.parameters, self.buffers)

    def step(self, batch: Batch) -> None:
        """One step of AdamW down the mean loss of each."""
        for whole in self.parameters.values():
            whole.grad.zero_()  # type: ignore[union-attr]
        logits = self.logits(batch)
        loss = self.objective.loss(logits, batch)
        torch.autograd.backward(loss)
        self.optimizer.step()

    def state(self, i: int) -> State:
        """A copy of the weights of one candidate."""
        return {name: value[i].detach().clone() for name, value in (self.parameters | self.buffers).items()}

    @torch.no_grad()
    def scores(self, rows: RowReader, device: str) -> list[Score]:
        """What the objective judges each candidate by."""
        self.module.eval()

        def parts() -> Iterator[tuple[Tensor, Tensor]]:
            for part in row_chunks(rows, CHUNK_BYTES // self.n):
                batch = as_tensors(rows[part], device)
                yield self.logits(batch).double(), batch["codes"]

        found = self.objective.scores(parts())
        self.module.train()
        return found


def train_together(
    build: Callable[[], nn.Module],
    candidates: Sequence[Candidate],
    reader: RowReader,
    validation: RowReader | None,
    course: Course,
    device: str,
    objective: Objective | None = None,
) -> list[Trained]:
    """Trains every candidate; with validation rows each is kept at its best epoch there.

    Args:
        build: Gives the module, with the weights that all begin with.
        candidates: To train.
        reader: Rows to train on, with their `codes`.
        validation: Rows to stop on, with codes under the same classes, -1 for others.
        course: The same for all.
        device: That computes.
        objective: Cross-entropy by default.
    """
    copies = Copies(build(), candidates, objective or CrossEntropy(), device)
    copies.module.train()
    rows = resident_rows(reader.arrays, device) or reader
    steps_per_epoch = math.ceil(len(rows) / course.batch_size)
    n_steps, n_warmup = course.epochs * steps_per_epoch, min(course.warmup_epochs, course.epochs / 2) * steps_per_epoch
    scheduler = torch.optim.lr_scheduler.LambdaLR(copies.optimizer, lambda step: schedule(step, n_steps, n_warmup))
    rng = np.random.default_rng(course.seed)
    best = [Trained((-math.inf, -math.inf), 0, {}) for _ in candidates]
    stop = course.epochs if validation is not None else course.stop_after or course.epochs
    with full_precision():
        for epoch in epochs(stop):
            copies.objective.begin(epoch)
            for batch in batches(rows.at_epoch(epoch), course.batch_size, rng):
                copies.step(as_tensors(batch, device))
                scheduler.step()
            if validation is not None:
                _keep_better(best, copies, copies.scores(validation, device), epoch + 1)
                if epoch + 1 - max(trained.epochs for trained in best) >= course.patience:
                    break
    if validation is None:
        best = [Trained((math.nan, math.nan), stop, copies.state(i)) for i in range(copies.n)]
    return best


def _keep_better(best: list[Trained], copies: Copies, scores: Sequence[Any], epoch: int) -> None:
    for i, score in enumerate(scores):
        if score > best[i].score:
            best[i] = Trained(score, epoch, copies.state(i))
