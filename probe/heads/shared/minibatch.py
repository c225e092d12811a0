"""Heads trained by mini-batches: epochs and learning rate by grid on validation rows, a refit on train + validation."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from probe.core.arrays import RowReader, row_chunks
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.module_solver import Batch, ModuleSolver
from probe.heads.shared.objectives import Score
from probe.heads.shared.training import Recipe, Student, ruled_out, train


class MinibatchSolver(ModuleSolver):
    """Base class of what trains a torch module by mini-batches, beside that of its target.

    A subclass gives `_module()` and `_backward(module, batch)`, where batch holds the consumed kinds, `codes`, and
    whatever else `fit` put beside them, and has the parameters `epochs`, `learning_rates` (sequences, searched),
    `batch_size`, `weight_decay`, `warmup_epochs`, `refit`, `random_state` and `device`.

    The candidate with the highest accuracy on the validation rows wins, the lower log-loss where two are equal; of
    numbers that of the smallest squared error. Without validation rows a tenth of the training rows is held out to
    choose on, and the winner trained again on all of them; where there is no row to spare, the first of each sequence
    is taken.

    All candidates learn from one read of the rows. With `early_drop` those that the rows to choose on have ruled out
    (see `ruled_out`) after a quarter, a half or three quarters of their epochs, warm-up over, are trained no further:
    among those of the same number of epochs; the log-loss rules out among those that are right on the same rows, which
    in the end are often all. `selection_` tells after how many (`dropped_after`), and their accuracy there.

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
    early_drop: bool = False
    refit: bool
    random_state: int

    def _backward(self, module: nn.Module, batch: Batch) -> Tensor:
        """Leaves the gradients of a batch's loss on the parameters and returns it."""
        raise NotImplementedError

    def _begin(self, module: nn.Module, batch: Batch) -> Callable[[], Tensor]:
        """Begins what the returned function ends; here all is done at once."""
        loss = self._backward(module, batch)
        return lambda: loss

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
        recipe, student = recipes[0], None
        for stale in ("selection_", *getattr(self, "weights_", [])):
            self.__dict__.pop(stale, None)
        if len(recipes) > 1:
            recipe, student = self._select(recipes, rows, validation)
        if validation is None or self.refit or student is None:
            if validation is not None and self.refit:
                known = self._learnable(np.asarray(validation.arrays["codes"]))
                rows = rows.stacked(validation.subset(np.flatnonzero(known)))
            (student,) = self._train([recipe], rows)
        if not all(torch.isfinite(value).all() for value in student.module.state_dict().values()):
            raise InputError(
                f"training of {type(self).__name__} diverged at learning rate {recipe.learning_rate}: "
                "give smaller learning_rates, and features without NaN or infinity"
            )
        self._set_weights(student.module.state_dict())
        self.loss_per_epoch_ = student.losses

    def _select(
        self, recipes: list[Recipe], rows: RowReader, validation: RowReader | None
    ) -> tuple[Recipe, Student | None]:
        on = "validation"
        if validation is None:
            on, held = HELD_OUT, hold_out(self._strata(np.asarray(rows.arrays["codes"])), self.random_state)
            rows, validation = rows.subset(np.flatnonzero(~held)), rows.subset(np.flatnonzero(held))
        trained, judge = [], functools.partial(self._drop_early, validation) if self.early_drop else None
        if len(validation) and len(rows) > 1:
            trained = self._train(recipes, rows, judge)
        scores = [self._score(student.module, validation) for student in trained]
        finished = [i for i, student in enumerate(trained) if student.dropped_after is None]
        best = max(finished, key=lambda i: scores[i]) if trained else 0
        self.selection_ = {
            "on": on if trained else "nothing, for want of rows",
            "searched": [
                {"epochs": student.recipe.epochs, "learning_rate": student.recipe.learning_rate, "score": score[0]}
                | ({} if student.dropped_after is None else {"dropped_after": student.dropped_after})
                for score, student in zip(scores, trained, strict=True)
            ],
            "chosen": {"epochs": recipes[best].epochs, "learning_rate": recipes[best].learning_rate},
        }
        if not trained:
            return recipes[0], None
        self._set_weights(trained[best].module.state_dict())
        self._keep_choice()
        return recipes[best], trained[best]

    def _train(
        self, recipes: list[Recipe], rows: RowReader, judge: Callable[[list[Student]], None] | None = None
    ) -> list[Student]:
        """A module for each recipe, trained from its first weights on."""

        def first() -> nn.Module:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.random_state)
                return self._module()

        return train(first, recipes, rows, self._begin, resolve_device(self.device), judge)

    def _drop_early(self, validation: RowReader, students: list[Student]) -> None:
        """Drops those that are far behind another of as many epochs."""
        for _, alike in itertools.groupby(students, key=lambda student: student.recipe.epochs):
            rivals = list(alike)
            n_epochs, done = rivals[0].recipe.epochs, len(rivals[0].losses)
            quarters = {math.ceil(n_epochs * part / 4) for part in (1, 2, 3)}
            if done not in quarters or done < rivals[0].recipe.warmup_epochs or len(rivals) < 2:
                continue
            outputs = torch.stack([self._outputs_of(student.as_of_now(), validation) for student in rivals])
            objective, codes = self._objective(), self._codes_of(validation)
            out_of_race = ruled_out(objective.losses(outputs, codes), objective.ties(outputs, codes))
            for student, out in zip(rivals, out_of_race, strict=True):
                if out:
                    student.drop()

    def _outputs_of(self, module: nn.Module, rows: RowReader) -> Tensor:
        found = [self._module_outputs(module, rows[part]) for part in row_chunks(rows)]
        return torch.from_numpy(np.concatenate(found)).double()

    def _score(self, module: nn.Module, rows: RowReader) -> Score:
        (score,) = self._objective().scores([(self._outputs_of(module, rows)[None], self._codes_of(rows))])
        return score

    @staticmethod
    def _codes_of(rows: RowReader) -> Tensor:
        return torch.from_numpy(np.asarray(rows.arrays["codes"]))
