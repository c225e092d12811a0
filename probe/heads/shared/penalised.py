"""What heads of numbers share that choose one penalty and are then fitted again on all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from probe.core.errors import InputError
from probe.core.terminal import lasting
from probe.heads.shared.base import Validation
from probe.heads.shared.numbers import NumberHead, Numbers


class PenalisedNumbers(NumberHead):
    """Base class: a subclass has `alphas`, `levels` where it gives quantiles, and gives `_keep` and `_judge`.

    Attributes:
        alpha_: The penalty chosen.
        levels_: (L,) ascending.
        kept: Names of the attributes that `_keep` sets.
    """

    searches: ClassVar[Mapping[str, str]] = {"alpha": "alphas"}
    unordered: ClassVar[tuple[str, ...]] = ("alphas", "levels")
    kept: ClassVar[tuple[str, ...]] = ("coef_", "intercept_")
    alphas: Sequence[float]
    levels: Sequence[float] = ()

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,) or (N, Q), and chooses the penalty."""
        self.check_parameters()
        self.__dict__.pop("selection_", None)
        alphas = sorted(set(self.alphas))
        if len(self.levels):
            self.levels_ = np.sort(np.asarray(self.levels, dtype=float))
        parts = [(np.asarray(rows[:], dtype=np.float64), Y) for rows, Y in self._check_parts(X, y, validation)]
        self.alpha_ = float(alphas[(len(alphas) - 1) // 2])
        if judging := self._to_choose_on(parts, len(alphas)):
            train, judged, on = judging
            self._choose(alphas, (train[0][:], train[1]), (judged[0][:], judged[1]), on)
        self._keep(np.concatenate([rows for rows, _ in parts]), np.concatenate([Y for _, Y in parts]), self.alpha_)
        return self

    def check_parameters(self) -> None:
        alphas = np.asarray(self.alphas, dtype=float)
        if alphas.ndim != 1 or not len(alphas) or not (alphas >= 0).all():
            raise InputError(f"alphas={self.alphas} are no penalties: give a list of values >= 0")

    def _keep(self, X: Numbers, Y: Numbers, alpha: float) -> None:
        """Fits with one penalty."""
        raise NotImplementedError

    def _judge(self, X: Numbers, Y: Numbers, trained: Numbers) -> float:
        """The loss of rows that a penalty is chosen on; `trained` are the numbers (N, Q) fitted on, for their unit."""
        raise NotImplementedError

    def _choose(self, alphas: Sequence[float], train: Any, judged: Any, on: str) -> None:
        scores, fits = [], []
        with lasting(len(alphas), " penalties") as shown:
            for alpha in alphas:
                self._keep(train[0], train[1], alpha)
                scores.append(-self._judge(judged[0], judged[1], train[1]))
                fits.append({name: vars(self)[name] for name in self.kept})
                shown.add(1)
        best = int(np.argmax(scores))
        self.alpha_ = float(alphas[best])
        self.__dict__.update(fits[best])
        searched = [{"alpha": float(alpha), "score": score} for alpha, score in zip(alphas, scores, strict=True)]
        self.selection_ = {"on": on, "searched": searched, "chosen": {"alpha": self.alpha_}}
        self._keep_choice()
