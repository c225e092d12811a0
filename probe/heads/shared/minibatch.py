"""Heads trained by mini-batches, read straight from arrays that may be larger than memory.

AdamW, linear warm-up, cosine decay to zero, optional moving average of the weights; epochs and learning rate by grid
on validation rows, then a refit on train + validation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from probe.core.arrays import RowReader, row_chunks
from probe.core.device import ResidentRows, full_precision, resident_rows, resolve_device
from probe.core.errors import InputError
from probe.core.terminal import epochs
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.module_head import Batch, ModuleHead, as_tensors

Backward = Callable[[nn.Module, Batch], Tensor]
"""Computes the loss of a batch, leaves its gradients on the parameters and returns it."""


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


def train(module: nn.Module, reader: RowReader, backward: Backward, recipe: Recipe, device: str) -> list[float]:
    """Trains a module in place, leaves it in eval mode and returns the mean loss of each epoch.

    Same recipe, same rows: same bits on the same machine.

    The moving average warms up as min(decay, (1 + step) / (10 + step)), so that a short training does not end on its
    own beginning.
    """
    module.to(device).train()
    rows = resident_rows(reader.arrays, device) or reader
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decayed, spared = [p for _, p in named if p.ndim > 1], [p for _, p in named if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.learning_rate, fused=True)
    steps_per_epoch = math.ceil(len(rows) / recipe.batch_size)
    n_steps, n_warmup = recipe.epochs * steps_per_epoch, min(recipe.warmup_epochs, recipe.epochs / 2) * steps_per_epoch
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, n_steps, n_warmup))
    average = {name: p.detach().clone() for name, p in named} if recipe.ema_decay is not None else {}
    rng = np.random.default_rng(recipe.seed)
    step, losses = 0, []
    with full_precision(), torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        torch.manual_seed(recipe.seed)
        for epoch in epochs(recipe.epochs):
            total = torch.zeros((), device=device)
            for batch in batches(rows.at_epoch(epoch), recipe.batch_size, rng):
                optimizer.zero_grad(set_to_none=True)
                total += backward(module, as_tensors(batch, device)).detach()
                optimizer.step()
                scheduler.step()
                step += 1
                for name, p in named if average else ():
                    decay = min(float(recipe.ema_decay or 0), (1 + step) / (10 + step))
                    average[name].lerp_(p.detach(), 1 - decay)
            losses.append(float(total) / steps_per_epoch)
    if average:
        module.load_state_dict(average, strict=False)
    module.eval()
    return losses


class MinibatchHead(ModuleHead):
    """Base class of the heads that train a torch module by mini-batches.

    A subclass gives `_module()` and `_backward(module, batch)`, where batch holds
    the consumed kinds, `codes`, and whatever else `fit` put beside them, and has the parameters `epochs`,
    `learning_rates` (sequences, searched), `batch_size`, `weight_decay`, `warmup_epochs`, `refit`, `random_state` and
    `device`.

    The candidate with the highest accuracy on the validation rows wins, the lower log-loss where two are equal.
    Without validation rows a tenth of the training rows is held out to choose on, and the winner trained again on
    all of them; where no class has a row to spare, the first of each sequence is taken.

    Attributes:
        loss_per_epoch_: Mean loss of each epoch of the training that gave the weights.
    """

    searches: ClassVar[Mapping[str, str]] = {"epochs": "epochs", "learning_rate": "learning_rates"}
    epochs: Sequence[int]
    learning_rates: Sequence[float]
    batch_size: int
    weight_decay: float
    warmup_epochs: float
    ema_decay: float | None = None
    refit: bool
    random_state: int

    def _backward(self, module: nn.Module, batch: Batch) -> Tensor:
        raise NotImplementedError

    def _recipes(self) -> list[Recipe]:
        """The grid; raises InputError for values that cannot be trained with."""
        wrong = []
        if not len(self.epochs) or any(int(e) != e or e < 1 for e in self.epochs):
            wrong.append(f"epochs is {self.epochs}, expected whole numbers from 1")
        if not len(self.learning_rates) or not all(0 < rate < math.inf for rate in self.learning_rates):
            wrong.append(f"learning_rates is {self.learning_rates}, expected positive numbers")
        if self.batch_size < 1:
            wrong.append(f"batch_size is {self.batch_size}, expected a whole number from 1")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            wrong.append(f"ema_decay is {self.ema_decay}, expected null or a number in [0, 1)")
        if wrong:
            raise InputError("; ".join(wrong) + f": correct the parameters of {type(self).__name__}")
        shared = (self.batch_size, self.weight_decay, self.warmup_epochs, self.ema_decay, self.random_state)
        grid = itertools.product(self.epochs, self.learning_rates)
        return [Recipe(int(epochs), float(rate), *shared) for epochs, rate in grid]

    def _select_and_train(self, rows: RowReader, validation: RowReader | None) -> None:
        """Chooses a recipe, trains with it, and keeps the weights as fitted attributes."""
        recipes = self._recipes()
        recipe, module = recipes[0], None
        losses: dict[Recipe, list[float]] = {}
        for stale in ("selection_", *getattr(self, "weights_", [])):
            self.__dict__.pop(stale, None)
        if len(recipes) > 1:
            recipe, module = self._select(recipes, rows, validation, losses)
        if validation is None or self.refit or module is None:
            if validation is not None and self.refit:
                # A class that no training row has cannot be learnt from the validation rows either.
                known = np.flatnonzero(np.asarray(validation.arrays["codes"]) >= 0)
                rows = rows.stacked(validation.subset(known))
            module = self._train(rows, recipe, losses)
        if not all(torch.isfinite(value).all() for value in module.state_dict().values()):
            raise InputError(
                f"training of {type(self).__name__} diverged at learning rate {recipe.learning_rate}: "
                "give smaller learning_rates, and features without NaN or infinity"
            )
        self._set_weights(module.state_dict())
        self.loss_per_epoch_ = losses[recipe]

    def _select(
        self,
        recipes: list[Recipe],
        rows: RowReader,
        validation: RowReader | None,
        losses: dict[Recipe, list[float]],
    ) -> tuple[Recipe, nn.Module | None]:
        on = "validation"
        if validation is None:
            on, held = HELD_OUT, hold_out(np.asarray(rows.arrays["codes"]), self.random_state)
            rows, validation = rows.subset(np.flatnonzero(~held)), rows.subset(np.flatnonzero(held))
        trained: list[tuple[tuple[float, float], Recipe, nn.Module | None]] = []
        for recipe in recipes if len(validation) else []:
            module = self._train(rows, recipe, losses)
            trained.append((self._score(module, validation), recipe, module))
        if not trained:
            on, trained = "nothing, for want of rows", [((math.nan, 0.0), recipes[0], None)]
        best = max(trained, key=lambda candidate: candidate[0])
        self.selection_ = {
            "on": on,
            "searched": [
                {"epochs": r.epochs, "learning_rate": r.learning_rate, "score": score[0]}
                for score, r, module in trained
                if module is not None
            ],
            "chosen": {"epochs": best[1].epochs, "learning_rate": best[1].learning_rate},
        }
        if best[2] is not None:
            self._set_weights(best[2].state_dict())
            self._keep_choice()
        return best[1], best[2]

    def _train(self, rows: RowReader, recipe: Recipe, losses: dict[Recipe, list[float]]) -> nn.Module:
        """A module trained from its first weights on; `losses` takes the mean loss of each epoch."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            module = self._module()
        losses[recipe] = train(module, rows, self._backward, recipe, resolve_device(self.device))
        return module

    def _score(self, module: nn.Module, rows: RowReader) -> tuple[float, float]:
        """Accuracy, then the negative log-loss; the worst there is where the training diverged."""
        logits = np.concatenate([self._module_logits(module, rows[part]) for part in row_chunks(rows)])
        codes = np.asarray(rows.arrays["codes"])
        if not np.isfinite(logits).all():
            return 0.0, -math.inf
        known = np.flatnonzero(codes >= 0)
        log_probabilities = torch.log_softmax(torch.from_numpy(logits[known]).double(), dim=1).numpy()
        log_loss = -log_probabilities[np.arange(len(known)), codes[known]].sum()
        return float((logits.argmax(axis=1) == codes).mean()), -float(log_loss)
