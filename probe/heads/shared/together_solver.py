"""Heads that train all candidates of a search side by side, and choose on rows that they were not trained on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from probe.core.arrays import RowReader
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.core.ragged import longest_row
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.module_solver import ModuleSolver, as_tensors
from probe.heads.shared.together import Candidate, Course, Trained, train_together
from probe.heads.shared.training_memory import check_training_memory


class TogetherSolver(ModuleSolver):
    """Base class of what searches learning rate and weight decay in one tensor program, beside that of its target.

    A subclass gives `_module()`, calls `_choose` with readers of its rows, and has the parameters `learning_rates`,
    `weight_decays` (searched), `epochs`, `patience`, `batch_size`, `warmup_epochs`, `refit`, `random_state`, `device`.
    """

    searches: ClassVar[Mapping[str, str]] = {"learning_rate": "learning_rates", "weight_decay": "weight_decays"}
    unordered: ClassVar[tuple[str, ...]] = ("learning_rates", "weight_decays")
    learning_rates: Sequence[float]
    weight_decays: Sequence[float]
    epochs: int
    patience: int
    batch_size: int
    warmup_epochs: float
    refit: bool
    random_state: int
    n_epochs_: int

    def check_parameters(self) -> None:
        wrong = [
            f"{name} is {getattr(self, name)!r}, expected a whole number from 1"
            for name in ("epochs", "patience", "batch_size")
            if not (getattr(self, name) >= 1 and int(getattr(self, name)) == getattr(self, name))
        ]
        if not len(self.learning_rates) or not all(0 < rate < math.inf for rate in self.learning_rates):
            wrong.append(f"learning_rates is {self.learning_rates!r}, expected positive numbers")
        if not len(self.weight_decays) or not all(0 <= decay < math.inf for decay in self.weight_decays):
            wrong.append(f"weight_decays is {self.weight_decays!r}, expected numbers from 0")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")

    def _candidates(self) -> list[Candidate]:
        return [Candidate(*pair) for pair in itertools.product(self.learning_rates, self.weight_decays)]

    def _choose(self, rows: RowReader, validation: RowReader | None) -> None:
        for stale in ("selection_", *getattr(self, "weights_", [])):
            self.__dict__.pop(stale, None)
        candidates = self._candidates()
        train, chosen_on, on = rows, validation, "validation"
        if validation is None and len(candidates) > 1:
            held, on = hold_out(self._strata(np.asarray(rows.arrays["codes"])), self.random_state), HELD_OUT
            train, chosen_on = rows.subset(np.flatnonzero(~held)), rows.subset(np.flatnonzero(held))
        if chosen_on is None or not len(chosen_on) or len(train) < 2:
            middle = candidates[len(candidates) // 2]
            if len(candidates) > 1:
                self._note("nothing, for want of rows", [], middle)
            return self._keep(self._train(rows, [middle], None)[0], middle)
        trained = self._train(train, candidates, chosen_on)
        best = max(range(len(candidates)), key=lambda i: trained[i].score)
        self._note(on, [*zip(candidates, trained, strict=True)], candidates[best])
        self._keep(trained[best], candidates[best])
        self._keep_choice()
        if validation is not None and not self.refit:
            return None
        if validation is not None:
            known = self._learnable(np.asarray(validation.arrays["codes"]))
            rows = rows.stacked(validation.subset(np.flatnonzero(known)))
        again = self._train(rows, [candidates[best]], None, stop_after=trained[best].epochs)
        return self._keep(again[0], candidates[best])

    def _note(self, on: str, searched: Sequence[tuple[Candidate, Trained]], chosen: Candidate) -> None:
        self.selection_ = {
            "on": on,
            "searched": [{**vars(c), "score": trained.score[0], "epochs": trained.epochs} for c, trained in searched],
            "chosen": dict(vars(chosen)),
        }

    def _rows_per_step(self, n_rows: int) -> int:
        """How many rows a step sees of so many."""
        return min(self.batch_size, n_rows)

    def _train(
        self,
        rows: RowReader,
        candidates: Sequence[Candidate],
        validation: RowReader | None,
        stop_after: int | None = None,
    ) -> list[Trained]:
        device = resolve_device(self.device)
        batch_size = self._rows_per_step(len(rows))
        widest = longest_row(rows.arrays["tokens"]) if "tokens" in rows.arrays else 0
        one_row = as_tensors(rows[np.array([widest])], "cpu")
        check_training_memory(self._first(), one_row, len(candidates), batch_size, device)
        course = Course(self.epochs, batch_size, self.warmup_epochs, self.patience, self.random_state, stop_after)
        return train_together(self._first, candidates, rows, validation, course, device, self._objective())

    def _keep(self, trained: Trained, candidate: Candidate) -> None:
        """Makes the weights of a candidate the fitted attributes; refuses those that are not finite."""
        if not trained.state or not all(torch.isfinite(value).all() for value in trained.state.values()):
            raise InputError(
                f"training of {type(self).__name__} diverged at learning rate {candidate.learning_rate}: give smaller "
                "learning_rates, and features that are not so large that their products overflow"
            )
        self.n_epochs_ = trained.epochs
        self._set_weights(trained.state)

    def _first(self) -> nn.Module:
        """The module as every candidate begins."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            return self._module()
