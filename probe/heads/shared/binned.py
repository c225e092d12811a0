"""Heads that say of each of some bins how likely it holds the number: a distribution of any shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.errors import InputError
from probe.heads.shared.base import Validation
from probe.heads.shared.numbers import NumberHead, Numbers, check_levels, scaling_of

if TYPE_CHECKING:
    from torch import Tensor

DECAY = 1e-6
"""Of the squared weights, beside a mean cross-entropy: where classes can be told apart, they would grow for ever."""


class BinnedHead(NumberHead):
    """A linear layer on features at mean 0 and variance 1, whose outputs `_log_odds` turns into those of B bins.

    The bins are of equal width, from the smallest to the largest number of the training rows. Minimises the mean
    cross-entropy of the bin of each row by L-BFGS from small random weights, in float64, rows in memory. A subclass
    says how wide the layer is and lists what one parameter is chosen from: that of the smallest loss on the validation
    rows, else on a tenth of the training rows spread over the range; then it is fitted again on all.

    Attributes:
        weight_: (Q, W, D) of the layer.
        bias_: (Q, W).
        edges_: (Q, B + 1) of the bins.
        n_iter_: Steps of L-BFGS, of the column that took most.
        levels_: (L,) ascending.
    """

    unordered: ClassVar[tuple[str, ...]] = ("levels",)
    n_bins: int
    levels: Sequence[float]
    max_iter: int
    random_state: int | None
    weight_: Numbers
    bias_: Numbers
    edges_: Numbers
    n_iter_: int

    def _candidates(self) -> tuple[str, list[Any]]:
        """The name of what is chosen, and the values to choose from."""
        raise NotImplementedError

    def _width(self, value: Any) -> int:
        """Outputs of the layer, W, at one of the values."""
        raise NotImplementedError

    def _log_odds(self, outputs: Tensor) -> Tensor:
        """(N, B) unnormalised log-probabilities of the bins from the outputs (N, W) of the layer."""
        raise NotImplementedError

    def _decay(self, value: Any) -> float:
        """Of the squared weights, at one of the values."""
        return DECAY

    def _mean_loss(self, outputs: Tensor, bins: Tensor) -> Tensor:
        """Of rows in these bins, (N,), from the outputs (N, W) of the layer; by default their mean cross-entropy."""
        import torch

        return torch.nn.functional.cross_entropy(self._log_odds(outputs), bins)

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,) or (N, Q), and chooses among the candidates."""
        self.check_parameters()
        self.__dict__.pop("selection_", None)
        self.levels_, (name, values) = np.sort(np.asarray(self.levels, dtype=float)), self._candidates()
        parts = [(np.asarray(rows[:], dtype=np.float64), Y) for rows, Y in self._check_parts(X, y, validation)]
        chosen = values[(len(values) - 1) // 2]
        if judging := self._to_choose_on(parts, len(values)):
            (X_train, Y_train), (X_judged, Y_judged), on = judging
            scores, fits = [], []
            for value in values:
                self._keep(X_train[:], Y_train, value)
                scores.append(-self._loss(np.asarray(X_judged[:]), Y_judged))
                fits.append((self.weight_, self.bias_))
            best = int(np.argmax(scores))
            chosen, (self.weight_, self.bias_) = values[best], fits[best]
            searched: list[Mapping[str, Any]] = [{name: v, "score": s} for v, s in zip(values, scores, strict=True)]
            self.selection_ = {"on": on, "searched": searched, "chosen": {name: chosen}}
            self._keep_choice()
        self._keep(np.concatenate([rows for rows, _ in parts]), np.concatenate([Y for _, Y in parts]), chosen)
        return self

    def check_parameters(self) -> None:
        check_levels(self.levels)
        if self.n_bins < 2:
            raise InputError(f"n_bins={self.n_bins}, expected at least 2: 32 are usual")

    def probabilities(self, X: Any) -> Numbers:
        """(N, Q, B) of the bins."""
        flat = self._in_chunks(X, lambda rows: self._probabilities(rows).reshape(len(rows), -1))
        return flat.astype(np.float64).reshape(len(flat), len(self.edges_), -1)

    def quantiles(self, X: Any) -> Numbers:
        """(N, Q, L) numbers that are not passed with the chances `levels_`, uniform within a bin."""
        return self._inverse(self.probabilities(X), self.levels_)

    def interval(self, X: Any, level: float) -> tuple[Numbers, Numbers]:
        """Ends (N, Q) of the middle `level` of the distributions."""
        found = self._inverse(self.probabilities(X), np.array([(1 - level) / 2, (1 + level) / 2]))
        return found[..., 0], found[..., 1]

    def _inverse(self, probabilities: Numbers, levels: Numbers) -> Numbers:
        found = np.empty((*probabilities.shape[:2], len(levels)))
        for q, edges in enumerate(self.edges_):
            for row, of_bins in enumerate(probabilities[:, q]):
                found[row, q] = np.interp(levels, np.concatenate([[0.0], np.cumsum(of_bins)]), edges)
        return found

    def _means(self, X: Any) -> Numbers:
        centres = (self.edges_[:, 1:] + self.edges_[:, :-1]) / 2
        found: Numbers = np.einsum("nqb,qb->nq", self._probabilities(X), centres)
        return found

    def _probabilities(self, X: Any) -> Numbers:
        import torch

        rows = torch.from_numpy(np.asarray(X, dtype=np.float64))
        layers = zip(map(torch.from_numpy, self.weight_), map(torch.from_numpy, self.bias_), strict=True)
        found = [self._log_odds(rows @ weight.T + bias).softmax(dim=1).numpy() for weight, bias in layers]
        return np.stack(found, axis=1)

    def _loss(self, X: Any, Y: Numbers) -> float:
        """Mean cross-entropy of rows; numbers outside of the bins count as those of the nearest."""
        of_bins = self._probabilities(X)
        own = [of_bins[np.arange(len(Y)), q, bins_of(Y[:, q], edges)] for q, edges in enumerate(self.edges_)]
        return float(-np.log(np.maximum(own, np.finfo(float).tiny)).mean())

    def _keep(self, X: Numbers, Y: Numbers, value: Any) -> None:
        mean, deviation = scaling_of(X)
        low, high = Y.min(axis=0), Y.max(axis=0)
        high = np.where(high > low, high, low + np.maximum(np.abs(low), 1.0))
        self.edges_ = np.ascontiguousarray(np.linspace(low, high, self.n_bins + 1, axis=1))
        bins = [bins_of(Y[:, q], edges) for q, edges in enumerate(self.edges_)]
        layers = [self._solved((X - mean) / deviation, own, value) for own in bins]
        self.weight_ = np.ascontiguousarray(np.stack([layer[:, :-1] for layer, _ in layers]) / deviation)
        self.bias_ = np.stack([layer[:, -1] for layer, _ in layers]) - self.weight_ @ mean
        self.n_iter_ = max(n_iter for _, n_iter in layers)

    def _solved(self, X: Numbers, bins: NDArray[np.int64], value: Any) -> tuple[Numbers, int]:
        """Layer (W, D + 1), its bias last, of the smallest loss that is found, and the steps taken."""
        import torch

        random, decay = np.random.default_rng(self.random_state), self._decay(value)
        start = random.uniform(-1, 1, (self._width(value), X.shape[1] + 1)) / (100 * np.sqrt(X.shape[1]))
        layer = torch.from_numpy(start).requires_grad_()
        rows, codes = torch.from_numpy(np.column_stack([X, np.ones(len(X))])), torch.from_numpy(bins)
        steps = torch.optim.LBFGS([layer], max_iter=self.max_iter, history_size=20, line_search_fn="strong_wolfe",
                                  tolerance_grad=1e-7, tolerance_change=1e-12)  # fmt: skip

        def loss() -> Tensor:
            steps.zero_grad()
            found = self._mean_loss(rows @ layer.T, codes) + decay * (layer[:, :-1] ** 2).sum()
            found.backward()
            return found

        steps.step(loss)
        return layer.detach().numpy(), int(steps.state[layer]["n_iter"])


def bins_of(values: Numbers, edges: Numbers) -> NDArray[np.int64]:
    """(N,) number of the bin that holds each value; of those outside the nearest."""
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
