"""Generalised zero-shot: an expert of seen classes, one of descriptions, and a gate between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from probe.core.arrays import RowStack, RowSubset, row_chunks
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.heads.shared.described_head import DescribedHead
from probe.heads.shared.descriptions import described, read_attributes
from probe.heads.shared.head import FloatArray, Validation, check_lazy
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.mixtures import SMOOTHINGS, combined, doubt, gate_features, harmonic_mean
from probe.heads.shared.named_head import as_bytes, class_named, from_bytes, head_named
from probe.heads.shared.number_moments import LeastSquares
from probe.heads.shared.text_head import unit

EXPERTS = ("ridge", "zero_shot")
TEMPERATURES = {"ridge": 0.1, "zero_shot": 0.01}
GATE_TEMPERATURE = 3.0
N_TOP = 5
ALPHAS = np.logspace(-2, 6, 17)


class GeneralisedZeroShot(DescribedHead):
    """p(y) = p(U) p(y|U) + (1 - p(U)) p(y|S): classes without a training row compete with those that have some.

    Classes are described by attributes, or by texts where the backbone has a text tower. The expert of unseen classes
    gives softmax(cos(A f, w_k) / temperature) over all classes, w_k their descriptions and A = argmin sum_i |A f_i + b
    - w_{y_i}|^2 + alpha |A|^2; `zero_shot` leaves A and b out. The expert of seen classes is any head. The gate is a
    logistic regression on the five largest probabilities of each, fitted on two of three validation rows, whose unseen
    classes are others than those of the test rows; p(U) = sigmoid((threshold - P(seen)) / width), threshold and width
    those of the largest harmonic mean there. Then both experts are fitted again on training and validation rows, with
    what was chosen before.

    Validation rows are to hold classes that no training row has, as `protocol=gzsl` gives them; else some classes do
    not train the first experts. Where no class is unseen it is the expert of seen classes.

    Source: Y. Atzmon, G. Chechik, "Adaptive Confidence Smoothing for Generalized Zero-Shot Learning", 2019, arXiv
    1812.09903. Departures: a ridge to descriptions for LAGO or generated features; the seen expert's probabilities are
    tempered over seen classes alone.

    Args:
        expert: Of unseen classes: `ridge`, or `zero_shot`, whose descriptions lie in the space of the features.
        attributes: (K, A) a row per class of the dataset, or a file of such: `.npy`, or `.csv` with the name of the
            class in its first column. Null: texts.
        seen: Name of the head that is the expert of seen classes, such as `linear` or `lda`.
        seen_params: Its parameters.
        smoothing: `adaptive`, `constant`, `total` (none, the soft gate), or `none`, the hard gate; see
            `probe.heads.shared.mixtures`.
        gamma: Of `constant` smoothing.
        widths: Of the gate, to choose from.
        thresholds: Quantiles of P(seen) over the validation rows to choose from, or how many, evenly from 0 to 1.
        templates: Of texts: `generic`, `cifar`, `imagenet`, or sentences with `{}` for the name of the class.
        temperature: Of the expert of unseen classes; null: 0.1 of `ridge`, of `zero_shot` that of the model.
        class_features: (K, D) features of the texts of each class. A run fills it in.
        random_state: Seeds what is held out where no validation rows are given.
        device: Where the pass over the rows is computed; `auto` is CUDA when there is one.

    Attributes:
        classes_: (K,) codes of all classes that are described.
        unseen_: Codes of those without a row.
        map_, offset_: (A, D) and (A,), of `ridge`.
        targets_: (K, A) descriptions at unit length.
        gate_coef_, gate_intercept_: Of the gate.
        threshold_, width_: Of P(seen), and of the gate, as chosen.
        seen_head_: The expert of seen classes, as the bytes of its file.
        selection_: What was searched.
    """

    searches: ClassVar[Mapping[str, str]] = {"threshold": "thresholds", "width": "widths"}
    log_probabilities = False
    targets_: NDArray[np.float64]
    _seen_choice: dict[str, Any] | None = None

    def __init__(
        self,
        expert: str = "ridge",
        attributes: str | ArrayLike | None = None,
        seen: str = "linear",
        seen_params: Mapping[str, Any] | None = None,
        smoothing: str = "adaptive",
        gamma: float = 0.7,
        widths: Sequence[float] = (0.01, 0.03, 0.1, 0.3, 1.0),
        thresholds: int | Sequence[float] = 41,
        templates: str | Sequence[str] = "generic",
        temperature: float | None = None,
        class_features: ArrayLike | None = None,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.expert = expert
        self.attributes = attributes
        self.seen = seen
        self.seen_params = seen_params
        self.smoothing = smoothing
        self.gamma = gamma
        self.widths = widths
        self.thresholds = thresholds
        self.templates = templates
        self.temperature = temperature
        self.class_features = class_features
        self.random_state = random_state
        self.device = device

    def named_classes(self) -> list[type]:
        return [class_named(self.seen)]

    def check_parameters(self) -> None:
        wrong = []
        if self.expert not in EXPERTS:
            wrong.append(f"expert is {self.expert!r}, expected {' or '.join(EXPERTS)}")
        if self.smoothing not in SMOOTHINGS:
            wrong.append(f"smoothing is {self.smoothing!r}, expected one of {', '.join(SMOOTHINGS)}")
        if not 0 < self.gamma <= 1:
            wrong.append(f"gamma is {self.gamma!r}, expected a number in (0, 1]")
        if not len(self._levels()) or not all(0 <= level <= 1 for level in self._levels()):
            wrong.append(f"thresholds is {self.thresholds!r}, expected a number of them, or quantiles from 0 to 1")
        if not len(self.widths) or not all(width > 0 for width in self.widths):
            wrong.append(f"widths is {self.widths!r}, expected positive numbers")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")
        super().check_parameters()
        head_named(self.seen, self.seen_params).check_parameters()

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), codes into the descriptions, and the gate on validation rows."""
        self.check_parameters()
        self.__dict__.pop("selection_", None)
        X, _ = self._check_fit(X, y)
        check_lazy(X)
        given = [plain_array(y, "y")]
        if validation is not None:
            X_val = self._check_rows(validation[0], reset=False)
            check_lazy(X_val, "the validation rows")
            given.append(plain_array(validation[1], "y"))
        y = np.concatenate(given)
        every = X if validation is None else RowSubset(RowStack([X, X_val]), np.arange(len(y)))
        self.targets_ = np.asarray(unit(described(self._descriptions(), np.unique(y))), dtype=np.float64)
        self.classes_ = np.arange(len(self.targets_))
        if self.expert == "zero_shot" and self.targets_.shape[1] != X.shape[1]:
            raise InputError(
                f"descriptions have width {self.targets_.shape[1]} and features {X.shape[1]}, which "
                "head.expert=zero_shot compares: set head.expert=ridge"
            )
        trains, held, on = self._held(y, len(given[0]))
        known = np.unique(y)
        self.unseen_ = np.setdiff1d(self.classes_, known)
        self.threshold_, self.width_, self.alpha_ = -np.inf, 1.0, float(ALPHAS[len(ALPHAS) // 2])
        if held.any():
            inside, outside = np.flatnonzero(held), np.flatnonzero(trains)
            self._choose(RowSubset(every, outside), y[outside], RowSubset(every, inside), y[inside], on)
        elif len(self.unseen_):
            raise InputError(
                f"{len(known)} classes have rows, expected 3 or more, some to stand for unseen ones: train on more"
            )
        self.unseen_ = np.setdiff1d(self.classes_, known)
        self._keep_experts(every, y, self.alpha_)
        self._seen_choice = None
        return self

    def _levels(self) -> NDArray[np.float64]:
        given = self.thresholds
        return np.linspace(0, 1, given) if isinstance(given, int) else np.asarray(given, dtype=np.float64)

    def _descriptions(self) -> NDArray[np.float64]:
        if self.attributes is None:
            self._check_texts()
            return np.asarray(self.class_features, dtype=np.float64)
        return read_attributes(self.attributes)

    def _held(self, y: IntArray, n_train: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], str]:
        """Marks the rows that train the first experts, and those that choose, with a word on the latter.

        Of validation rows that hold no other classes, and of training rows, some classes stand for unseen ones.
        """
        given = np.arange(len(y)) >= n_train
        if len(np.setdiff1d(y[given], y[~given])):
            return ~given, given, "validation"
        classes = np.unique(y[given] if given.any() else y)
        if len(np.unique(y)) < 3 or len(classes) < 2:
            return given & False, given & False, ""
        order = np.random.default_rng(self.random_state).permutation(classes)
        pseudo = np.isin(y, order[: max(1, min(len(classes) // 4, len(np.unique(y)) - 2))])
        held = given if given.any() else pseudo | hold_out(y, self.random_state)
        return ~held & ~pseudo, held, "validation" if given.any() else f"{HELD_OUT}, and some classes"

    def _keep_experts(self, X: Any, y: IntArray, alpha: float) -> None:
        head = head_named(self.seen, self.seen_params)
        if self._seen_choice:  # with another penalty it would be as sure of other things as the gate knows
            head.set_params(**head.only(self._seen_choice))
        head.fit(X, y)
        self._loaded_seen, self.seen_head_ = head, as_bytes(head)
        self.seen_ = np.asarray(head.classes_)
        if self.expert == "ridge":
            solver = LeastSquares([(X, self.targets_[y])], self.device)
            self.map_, self.offset_ = solver.linear_form(np.full(self.targets_.shape[1], alpha))

    def _choose(self, X: Any, y: IntArray, X_val: Any, y_val: IntArray, on: str) -> None:
        """Penalty, gate, threshold and width, on rows of classes that train and of others."""
        pseudo = np.setdiff1d(y_val, y)
        self.unseen_, is_pseudo = pseudo, np.isin(y_val, pseudo)
        if self.expert == "ridge":
            self.alpha_ = self._penalty(X, y, RowSubset(X_val, np.flatnonzero(is_pseudo)), y_val[is_pseudo], pseudo)
        self._keep_experts(X, y, self.alpha_)
        self._seen_choice = getattr(self._loaded_seen, "selection_", {}).get("chosen")
        # As many of each as both these and the real unseen classes have.
        others = len(np.setdiff1d(self.classes_, np.concatenate([y, y_val])))
        self.n_top_ = int(min(N_TOP, len(pseudo), others or N_TOP, len(self.seen_)))
        parts = [self._experts(np.asarray(X_val[rows], dtype=np.float64)) for rows in row_chunks(X_val)]
        of_unseen, of_seen = (np.concatenate(part) for part in zip(*parts, strict=True))
        p_seen = self._fit_gate(of_unseen, of_seen, ~is_pseudo)
        searched, levels = [], self._levels()
        for width in [1.0] if self.smoothing == "none" else self.widths:
            for level, threshold in zip(levels, np.quantile(p_seen, levels), strict=True):
                p_unseen = doubt(p_seen, threshold, width)
                scores = combined(of_unseen, of_seen, p_unseen, self.seen_, pseudo, self.smoothing, self.gamma)
                score = harmonic_mean(scores.argmax(axis=1) == y_val, y_val, is_pseudo)
                searched.append({"threshold": float(level), "width": float(width), "score": score})
        best = max(searched, key=lambda candidate: candidate["score"])
        self.threshold_, self.width_ = float(np.quantile(p_seen, best["threshold"])), best["width"]
        chosen = {name: best[name] for name in ("threshold", "width")}
        self.selection_ = {"on": on, "searched": searched, "chosen": chosen}
        self._keep_choice()

    def _penalty(self, X: Any, y: IntArray, X_pseudo: Any, y_pseudo: IntArray, pseudo: IntArray) -> float:
        """That of the best mean accuracy over the held-out classes, among themselves; ties go to the larger one."""
        solver = LeastSquares([(X, self.targets_[y])], self.device)
        found = []
        for alpha in ALPHAS:
            coef, offset = solver.linear_form(np.full(self.targets_.shape[1], alpha))
            hits = [
                (unit(np.asarray(X_pseudo[rows], dtype=np.float64) @ coef.T + offset) @ self.targets_[pseudo].T)
                for rows in row_chunks(X_pseudo)
            ]
            right = pseudo[np.concatenate(hits).argmax(axis=1)] == y_pseudo
            found.append(np.mean([right[y_pseudo == k].mean() for k in pseudo]))
        return float(ALPHAS[len(ALPHAS) - 1 - int(np.argmax(found[::-1]))])

    def _fit_gate(self, of_unseen: FloatArray, of_seen: FloatArray, is_seen: NDArray[np.bool_]) -> FloatArray:
        """Fits P(seen) on two rows of three and gives it for all."""
        from sklearn.linear_model import LogisticRegression

        rows = self._gate_rows(of_unseen, of_seen)
        fitted = np.arange(len(rows)) % 3 != 0
        fitted |= len(np.unique(is_seen[fitted])) < len(np.unique(is_seen))
        if is_seen.all() or not is_seen.any():
            raise InputError(
                "validation rows are all of seen or all of unseen classes, a gate wants both: take protocol gzsl"
            )
        gate = LogisticRegression(C=1.0, max_iter=1000, tol=1e-8).fit(rows[fitted], is_seen[fitted])
        self.gate_coef_, self.gate_intercept_ = gate.coef_[0], float(gate.intercept_[0])
        return self._gate(rows)

    def _gate_rows(self, of_unseen: FloatArray, of_seen: FloatArray) -> FloatArray:
        return gate_features(of_unseen[:, self.unseen_], of_seen[:, self.seen_], GATE_TEMPERATURE, self.n_top_)

    def _gate(self, rows: FloatArray) -> FloatArray:
        found: FloatArray = 1 / (1 + np.exp(-(rows @ self.gate_coef_ + self.gate_intercept_)))
        return found

    def _experts(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(n, K) probabilities of both, over all classes; those of the seen expert are 0 of unseen ones."""
        rows = X @ self.map_.T + self.offset_ if self.expert == "ridge" else X
        temperature = self.temperature or TEMPERATURES[self.expert]
        of_unseen = softmax(unit(rows) @ self.targets_.T / temperature, axis=1)
        of_seen = np.zeros((len(X), len(self.classes_)))
        of_seen[:, self.seen_] = softmax(self._seen_head().logits(X).astype(np.float64), axis=1)
        return of_unseen, of_seen

    def _seen_head(self) -> Any:
        if not hasattr(self, "_loaded_seen"):
            self._loaded_seen = from_bytes(self.seen_head_)
        return self._loaded_seen

    def _logits(self, X: Any) -> FloatArray:
        of_unseen, of_seen = self._experts(np.asarray(X, dtype=np.float64))
        if not len(self.unseen_):
            with np.errstate(divide="ignore"):
                return np.log(of_seen)
        p_unseen = doubt(self._gate(self._gate_rows(of_unseen, of_seen)), self.threshold_, self.width_)
        scores = combined(of_unseen, of_seen, p_unseen, self.seen_, self.unseen_, self.smoothing, self.gamma)
        return np.log(np.maximum(scores, np.finfo(np.float64).tiny))
