"""Training of modules by mini-batches, read straight from arrays that may be larger than memory.

AdamW, linear warm-up, cosine decay to zero, optional moving average of the weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.core.arrays import RowReader
from probe.core.device import ResidentRows, full_precision, resident_rows
from probe.core.terminal import epochs
from probe.heads.shared.module_solver import Batch, as_tensors

Begin = Callable[[nn.Module, Batch], Callable[[], Tensor]]
"""Begins the gradients of a batch; what it returns leaves them on the parameters and gives the loss."""


LARGEST_RETURNED = 2**25 - 2**13
"""Bytes: 32 MiB with room for what the allocator writes beside a block."""


@dataclass(frozen=True)
class Recipe:
    """How one module is trained. Warm-up counts in epochs; decay spares biases and normalisation weights."""

    epochs: int
    learning_rate: float
    batch_size: int
    weight_decay: float
    warmup_epochs: float
    ema_decay: float | None
    seed: int


def schedule(step: int, n_steps: int, n_warmup: float) -> float:
    """Factor of the learning rate: linear over the warm-up, then half a cosine down to zero."""
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(1.0, n_steps - n_warmup)))


def batches(rows: RowReader | ResidentRows, batch_size: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """All rows once in random order, in batches of nearly equal size; sorted inside a batch to read forwards."""
    order = rng.permutation(len(rows))
    for part in np.array_split(order, math.ceil(len(rows) / batch_size)):
        yield rows[np.sort(part)]


def keep_freed_memory(device: str) -> None:
    """Lets a process keep what one step frees for the next, which would fault it in page by page again.

    The C library of Linux gives memory back where more than twice the largest block that was ever returned lies free,
    blocks of up to 32 MiB counted: one that is returned here moves the bound to 64 MiB. Others pay a moment for it.
    """
    if device == "cpu":
        torch.empty(LARGEST_RETURNED, dtype=torch.uint8)


class Student:
    """A module in training: its optimizer, the schedule of its learning rate, its moving average, its random numbers.

    It ends where it would end alone, to the bit, whichever others learn beside it.

    Attributes:
        losses: Mean loss of each epoch so far.
        dropped_after: Epochs after which validation ruled it out; None where it was trained to its end.
    """

    def __init__(self, module: nn.Module, recipe: Recipe, n_rows: int, device: str):
        self.module, self.recipe, self.device = module.to(device).train(), recipe, device
        self.losses: list[float] = []
        self.dropped_after: int | None = None
        self._total, self._step = torch.zeros((), device=device), 0
        self._begun: Callable[[], Tensor] | None = None
        self._named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        decayed, spared = [p for _, p in self._named if p.ndim > 1], [p for _, p in self._named if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.learning_rate, fused=True)
        self._steps_per_epoch = math.ceil(n_rows / recipe.batch_size)
        self._n_steps = recipe.epochs * self._steps_per_epoch
        self._n_warmup = min(recipe.warmup_epochs, recipe.epochs / 2) * self._steps_per_epoch
        smoothed = recipe.ema_decay is not None
        self._average = {name: p.detach().clone() for name, p in self._named} if smoothed else {}
        torch.manual_seed(recipe.seed)
        self._random = self._random_state()

    @property
    def learns(self) -> bool:
        """Whether epochs of it are left."""
        return self.dropped_after is None and len(self.losses) < self.recipe.epochs

    def begin_step(self, begin: Begin, batch: Batch) -> None:
        """Begins the gradients of a batch, with this student's own random numbers; they must not be begun already."""
        torch.set_rng_state(self._random[0])
        if self.device.startswith("cuda"):
            torch.cuda.set_rng_state(self._random[1], self.device)
        self._optimizer.zero_grad(set_to_none=True)
        self._begun = begin(self.module, batch)
        self._random = self._random_state()

    def end_step(self) -> None:
        """One step of AdamW with the gradients that were begun, if any."""
        if self._begun is None:
            return
        self._total += self._begun().detach()
        self._begun = None
        rate = self.recipe.learning_rate * schedule(self._step, self._n_steps, self._n_warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._step += 1
        for name, p in self._named if self._average else ():
            decay = min(float(self.recipe.ema_decay or 0), (1 + self._step) / (10 + self._step))
            self._average[name].lerp_(p.detach(), 1 - decay)

    def end_epoch(self) -> None:
        """Notes the mean loss; after the last epoch the module predicts, by the moving average where there is one."""
        self.losses.append(float(self._total) / self._steps_per_epoch)
        self._total.zero_()
        if len(self.losses) == self.recipe.epochs:
            self._finish(self.module)

    def as_of_now(self) -> nn.Module:
        """A copy of the module that predicts."""
        return self._finish(copy.deepcopy(self.module))

    def drop(self) -> None:
        """Ends the training here."""
        self.dropped_after = len(self.losses)
        self._finish(self.module)

    def _finish(self, module: nn.Module) -> nn.Module:
        if self._average:
            module.load_state_dict(self._average, strict=False)
        return module.eval()

    def _random_state(self) -> list[Tensor]:
        on_device = [torch.cuda.get_rng_state(self.device)] if self.device.startswith("cuda") else []
        return [torch.get_rng_state(), *on_device]


def train(
    build: Callable[[], nn.Module],
    recipes: Sequence[Recipe],
    reader: RowReader,
    begin: Begin,
    device: str,
    judge: Callable[[list[Student]], None] | None = None,
) -> list[Student]:
    """Trains a module for each recipe, all from one read of the rows; leaves them in eval mode.

    Same recipe, same rows: same bits on the same machine. Recipes differ in epochs and learning rates alone, so that
    all want the same batches.

    The moving average warms up as min(decay, (1 + step) / (10 + step)), so that a short training does not end on its
    own beginning.

    Args:
        build: Gives the module, with the weights that all begin with.
        recipes: One for each module.
        reader: Rows to train on.
        begin: Of the head. Each module's next step is begun as soon as its last one has ended, others' meanwhile.
        device: That computes.
        judge: Sees those that learn after each epoch, and may drop some.
    """
    keep_freed_memory(device)
    rows = resident_rows(reader.arrays, device) or reader
    batch_size, rng = recipes[0].batch_size, np.random.default_rng(recipes[0].seed)
    with full_precision(), torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        students = [Student(build(), recipe, len(rows), device) for recipe in recipes]
        for epoch in epochs(max(recipe.epochs for recipe in recipes)):
            learning = [student for student in students if student.learns]
            if not learning:
                break
            for batch in batches(rows.at_epoch(epoch), batch_size, rng):
                tensors = as_tensors(batch, device)
                for student in learning:
                    student.end_step()
                    student.begin_step(begin, tensors)
            for student in learning:
                student.end_step()
                student.end_epoch()
            if judge is not None:
                judge([student for student in learning if student.learns])
    return students


def ruled_out(losses: NDArray[np.floating[Any]], ties: NDArray[np.floating[Any]] | None = None) -> NDArray[np.bool_]:
    """(L,) which candidates are worse than the best one beyond doubt, from the (L, N) losses of each row.

    By more than 3 standard errors of the paired difference; where a loss is 1 of a wrong row, that is McNemar's test.
    Among those that have the best one's loss on every row, `ties` (L, N) decide in the same way.
    """
    ties = np.zeros_like(losses) if ties is None else ties
    best = np.lexsort((ties.sum(axis=1), losses.sum(axis=1)))[0]
    alike = (losses == losses[best]).all(axis=1)
    return np.where(alike, _behind(ties, best), _behind(losses, best))


def _behind(losses: NDArray[np.floating[Any]], best: int) -> NDArray[np.bool_]:
    """(L,) which are worse than one of them by more than 3 standard errors."""
    behind = losses - losses[best]
    return behind.sum(axis=1) > 3 * np.sqrt((behind**2).sum(axis=1))
