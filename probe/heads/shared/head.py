"""What all heads share: a scikit-learn classifier that computes with torch and gives one logit per class."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from probe.core.arrays import RowReader, RowSubset, Scaled, Unpacked, row_chunks, rows_of
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.finite import check_finite
from probe.core.kinds import KINDS
from probe.heads.shared import saving
from probe.heads.shared.calibrated import Calibrated

Validation = tuple[Any, ArrayLike]
FloatArray = NDArray[np.floating[Any]]
N_AXES = {name: kind.n_axes for name, kind in KINDS.items()}


def is_lazy(X: Any) -> bool:
    """True for float arrays that are only ever read in chunks: memmaps and selections of their rows."""
    return isinstance(X, np.memmap | RowSubset | Unpacked) and X.dtype.kind == "f"


def check_lazy(X: Any, name: str = "X") -> None:
    """Refuses what is not finite in rows that `Head._check_rows` left on disk; others it has checked itself."""
    if is_lazy(X):
        check_finite(X, name)


class Head(Calibrated, ClassifierMixin, BaseEstimator):
    """Base class of the heads.

    A subclass implements `fit(X, y, *, validation=None)` and `_logits(X)`; both receive rows that were checked by
    `_check_rows`. A head that consumes one kind gets an array; one that consumes several takes a mapping from kind to
    array, which `_check_rows` turns into a `RowReader`, and its `_logits` gets a dict with the rows of a chunk. Fitted
    attributes end in an underscore, as in scikit-learn; those that are arrays, numbers, strings or lists of these
    travel through `save` and `load`.

    Attributes:
        consumes: The kinds of features it reads. With one kind, X is that array; with more, a mapping of arrays.
        fits: Names of the targets that it fits, see `probe.core.targets`.
        recipe: Names the numbers that heads of this package give: another word wherever they change, which makes other
            runs. A head from outside need not say it, its source is read.
        searches: The parameter that lists what a value is chosen from, under the name that the value has in the
            candidates of `selection_`, as `{"C": "Cs"}`; empty for heads that search nothing.
        unordered: Parameters that are lists of numbers in no particular order: a run sorts them, so that every order
            is the same run.
        reads_texts: Whether a run fills in the parameter `class_features`, from the texts that `prompts` gives.
        draws_views: Whether `fit` takes of each row the view of the epoch (`probe.core.arrays.at_epoch`).
        few_validation_rows: Below so many validation rows, a run has it choose on folds of these and the training rows.
        selection_: What was searched, on which rows and what won; absent where nothing was searched.
        feature_mean_, feature_deviation_: (D,) what features are brought to first, by a head of a run with
            `standardize=true`; absent elsewhere.
    """

    consumes: ClassVar[tuple[str, ...]] = ("pooled",)
    fits: ClassVar[tuple[str, ...]] = ("one_class",)
    recipe: ClassVar[str] = "1"
    searches: ClassVar[Mapping[str, str]] = {}
    unordered: ClassVar[tuple[str, ...]] = ()
    reads_texts: ClassVar[bool] = False
    draws_views: ClassVar[bool] = False
    few_validation_rows: ClassVar[int] = 0
    selection_: dict[str, Any]
    feature_mean_: NDArray[np.float64]
    feature_deviation_: NDArray[np.float64]

    @property
    def streams(self) -> bool:
        """Whether it learns rows as they come, by `partial_fit`, without those that came before."""
        return hasattr(self, "partial_fit")

    @property
    def chooses_in_stream(self) -> bool:
        """Whether `partial_fit` chooses among candidates, on the very rows that it learns from."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """Whether `fit` wants the argument `teacher_logits`."""
        return False

    def prompts(self, class_names: Sequence[str]) -> list[list[str]]:
        """The texts of each class, of heads that read texts."""
        raise NotImplementedError

    def for_target(self, target: str) -> Head:
        """The head with the same parameters that computes for one of the targets it `fits`; as a rule itself."""
        return self

    def named_classes(self) -> list[type]:
        """Classes that its parameters name and that compute in its place."""
        return []

    def only(self, candidate: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The parameters with which one candidate of a search is the only one."""
        if unsaid := [name for name in candidate if name not in self.searches]:
            raise InputError(
                f"{type(self).__name__} chose {', '.join(unsaid)} and does not say which parameter lists what it is "
                f"chosen from: give the class searches = {{{unsaid[0]!r}: '<name of the parameter>'}}"
            )
        return {self.searches[name]: [value] for name, value in candidate.items()}

    def at(self, candidate: Mapping[str, Any]) -> Self | None:
        """The head as it was fitted for another candidate of its search; None where only a new fit would tell."""
        return None

    def check_parameters(self) -> None:
        """Raises `InputError` for parameters that no data can be fitted with; `fit` does so too."""

    def _check_rows(self, X: Any, *, reset: bool) -> Any:
        """Checks shape and dtype as scikit-learn does; memmaps and row subsets stay on disk, in their own dtype.

        Finiteness of those is checked by whoever reads them, with `check_lazy` or chunk by chunk.
        """
        if reset:  # what a loaded head was fitted on says nothing of these rows
            self.__dict__.pop("feature_mean_", None)
            self._forget_calibration()
        if len(self.consumes) > 1:
            return self._check_kinds(X, reset=reset)
        kind = self.consumes[0]
        if kind != "pooled":
            return self._check_kinds({kind: X}, reset=reset).arrays[kind]
        if not is_lazy(X):
            kinds = [np.float64, np.float32, np.float16]
            X = validate_data(self, X, reset=reset, dtype=kinds, ensure_all_finite=False)
            check_finite(X)
            return X
        if X.ndim != 2:
            raise InputError(f"Expected 2D array, got {X.ndim}D array instead: give features of shape (rows, width)")
        if reset:
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != self.n_features_in_:
            raise InputError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input: give features of the backbone that the head was fitted on"
            )
        return X

    def _check_kinds(self, X: Any, *, reset: bool) -> RowReader:
        """Checks a mapping of one array per consumed kind; the widths are kept in `widths_` when `reset`."""
        kinds, given = list(self.consumes), list(X) if isinstance(X, Mapping) else type(X).__name__
        if not isinstance(X, Mapping) or not set(kinds) <= set(X):
            raise InputError(f"{type(self).__name__} consumes {kinds}, got {given}: give X as a mapping of these kinds")
        arrays = {kind: X[kind] if is_lazy(X[kind]) else np.asarray(X[kind]) for kind in kinds}
        for kind, array in arrays.items():
            if array.ndim != N_AXES.get(kind, array.ndim) or 0 in array.shape:
                raise InputError(f"{kind} has shape {array.shape}: give {N_AXES.get(kind)} axes, none of them empty")
            if not is_lazy(array):
                check_finite(array, kind)
        widths = {kind: array.shape[1 if kind == "map" else -1] for kind, array in arrays.items()}
        if reset:
            self.widths_ = widths
        elif widths != self.widths_:
            raise InputError(
                f"X has the widths {widths}, but {type(self).__name__} was fitted on {self.widths_}: "
                "give features of the backbone that the head was fitted on"
            )
        return RowReader(arrays)

    def _check_labels(self, y: ArrayLike, n_rows: int) -> IntArray:
        """Sets `classes_` and returns class codes, (N,) int64."""
        labels = np.asarray(y)
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            row = int(np.argmin(np.isfinite(labels.ravel())))
            raise InputError(f"y holds {labels.ravel()[row]} in row {row}: labels must be finite, drop that row")
        with warnings.catch_warnings():
            # One row per class is a fair draw here, no sign of a regression.
            warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
            check_classification_targets(y)
        if labels.shape[1:] == (1,):
            from sklearn.exceptions import DataConversionWarning

            warnings.warn(
                "A column-vector y was passed when a 1d array was expected", DataConversionWarning, stacklevel=3
            )
            labels = labels.ravel()
        if len(labels) != n_rows:
            raise InputError(f"X has {n_rows} rows and y {len(labels)}: give one label per row")
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"y holds one class only ({self.classes_[0]!r}), a classifier needs at least 2 classes: give more rows"
            )
        return codes.astype(np.int64)

    def _check_fit(self, X: Any, y: ArrayLike) -> tuple[Any, IntArray]:
        if y is None:
            raise InputError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X = self._check_rows(X, reset=True)
        return X, self._check_labels(y, len(X))

    def _check_parts(self, X: Any, y: ArrayLike, validation: Validation | None) -> list[tuple[Any, IntArray]]:
        """Checked rows and class codes of the training rows, then of the validation rows if there are any.

        `classes_` comes from both, so that fitting on the parts equals fitting on their concatenation.
        """
        X, codes = self._check_fit(X, y)
        if validation is None:
            return [(X, codes)]
        X_validation = self._check_rows(validation[0], reset=False)
        y_train, y_validation = np.asarray(y).ravel(), np.asarray(validation[1]).ravel()
        if len(X_validation) != len(y_validation):
            raise InputError(
                f"X has {len(X_validation)} validation rows and y {len(y_validation)}: give one label per row"
            )
        codes = self._check_labels(np.concatenate([y_train, y_validation]), len(y_train) + len(y_validation))
        return [(X, codes[: len(y_train)]), (X_validation, codes[len(y_train) :])]

    def _validation_codes(self, y: ArrayLike) -> IntArray:
        """Codes of validation labels under `classes_`; -1 for a class that no training row has."""
        labels = np.asarray(y)
        codes = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        return np.where(self.classes_[codes] == labels, codes, -1).astype(np.int64)

    def _keep_choice(self) -> None:
        """Keeps what is fitted now, on the training rows alone, as the answer of `before_refit`."""
        self._chosen = {name: value for name, value in vars(self).items() if name != "_chosen"}

    def __getstate__(self) -> dict[str, Any]:
        """Without what it keeps beside itself for the run that fitted it."""
        return {k: v for k, v in super().__getstate__().items() if k not in ("_chosen", "_of_folds")}

    def before_refit(self) -> Self | None:
        """The head as it was when it was chosen on the validation rows given to `fit`: it has not been fitted on them.

        None where it did not choose on any. Not saved.
        """
        kept = getattr(self, "_chosen", None)
        if kept is None or getattr(self, "selection_", {}).get("on") != "validation":
            return None
        head = clone(self)
        head.__dict__.update(kept)
        return head

    def fit_splits(
        self, X: Any, y: ArrayLike, splits: Iterable[tuple[IntArray, IntArray | None]], **extras: Any
    ) -> Iterator[Self]:
        """Yields a clone fitted on each of several row subsets of the same features.

        Args:
            X: Features (N, D), or a mapping where several kinds are consumed.
            y: Labels (N,).
            splits: Rows to train on, and rows to choose on or None, for each.
            extras: Further arguments of `fit` with N entries, of which each clone gets those of its training rows.
        """
        labels = np.asarray(y)
        for train, chosen_on in splits:
            part = {name: value[train] for name, value in extras.items()}
            if chosen_on is not None:
                part["validation"] = rows_of(X, chosen_on), labels[chosen_on]
            yield self._for_split().fit(rows_of(X, train), labels[train], **part)

    def _for_split(self) -> Self:
        """The clone that the next split is fitted by."""
        return clone(self)

    def _logits(self, X: Any) -> FloatArray:
        """(N, K) scores of a chunk of checked rows, in the order of `classes_`."""
        raise NotImplementedError

    def logits(self, X: Any) -> FloatArray:
        """Unnormalised log-probabilities, (N, K), columns in the order of `classes_`; K = 2 has two columns too."""
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        if hasattr(self, "feature_mean_"):  # a run fitted it on standardised features
            X = Scaled(X, self.feature_mean_, self.feature_deviation_)
        return np.concatenate([self._logits(X[rows]) for rows in row_chunks(X)])

    def decision_function(self, X: Any) -> FloatArray:
        """As in scikit-learn: (N, K) scores, or the (N,) difference of the two where K = 2."""
        scores = self.logits(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        codes = self.logits(X).argmax(axis=1)
        return self.classes_[codes]

    def save(self, path: str | Path) -> None:
        """Writes the fitted head as safetensors: arrays as tensors, everything else as JSON in the header."""
        saving.save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a head that `save` wrote; refuses files of another class."""
        return saving.load(cls, path)
