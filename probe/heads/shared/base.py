"""What all heads share: a scikit-learn estimator that computes with torch, whatever it predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from probe.core.arrays import CHUNK_BYTES, RowReader, RowSubset, Scaled, Unpacked, row_chunks, rows_of
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.finite import check_finite
from probe.core.given import as_numbers, is_of_kinds, plain_array, plain_features
from probe.core.kinds import KINDS
from probe.core.lazy import Layers
from probe.heads.shared import saving
from probe.heads.shared.forecast import Forecast, Shapes, of_rows

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


class AnyHead(BaseEstimator):
    """Base class of all heads: of classifiers (`Head`) and of those that predict numbers (`NumberHead`).

    A subclass implements `fit(X, y, *, validation=None)`, and a function of a chunk of rows; both receive rows that
    were checked by `_check_rows`. A head that consumes one kind gets an array; one that consumes several takes a
    mapping from kind to array, which `_check_rows` turns into a `RowReader`, and a chunk is a dict of its rows. Fitted
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
        log_probabilities: Whether logits are made to be such; else only their order counts: ensembles calibrate them.
        reads_unknown: Whether `fit` takes several labels per row of which some are unknown, and learns nothing from
            these.
        few_validation_rows: Below so many validation rows, a run has it choose on folds of these and the training rows.
        selection_: What was searched, on which rows and what won; absent where nothing was searched.
        feature_mean_, feature_deviation_: (D,) what features are brought to first, by a head of a run with
            `standardize=true`; absent elsewhere.
        layers_, layer_shares_: Layers that a run with `reads.pooled=<pattern>:best` or `:mix` found, and what each is
            multiplied by before they are summed, (L,): X may be a mapping of these; absent elsewhere.
    """

    consumes: ClassVar[tuple[str, ...]] = ("pooled",)
    fits: ClassVar[tuple[str, ...]] = ()
    recipe: ClassVar[str] = "1"
    searches: ClassVar[Mapping[str, str]] = {}
    unordered: ClassVar[tuple[str, ...]] = ()
    reads_texts: ClassVar[bool] = False
    draws_views: ClassVar[bool] = False
    log_probabilities: bool = True
    reads_unknown: ClassVar[bool] = False
    few_validation_rows: ClassVar[int] = 0
    selection_: dict[str, Any]
    feature_mean_: NDArray[np.float64]
    feature_deviation_: NDArray[np.float64]
    layers_: list[str]
    layer_shares_: NDArray[np.float64]

    @property
    def streams(self) -> bool:
        """Whether it learns rows as they come, by `partial_fit`, without those that came before."""
        return hasattr(self, "partial_fit")

    @property
    def takes_mask(self) -> bool:
        """Whether tokens may come with a `mask` beside them, of rows that differ in length."""
        return False

    @property
    def chooses_in_stream(self) -> bool:
        """Whether `partial_fit` chooses among candidates, on the very rows that it learns from."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """Whether `fit` wants the argument `teacher_logits`."""
        return False

    @property
    def balances_groups(self) -> bool:
        """Whether `fit` takes the argument `groups`, (N,) of the training rows."""
        return False

    def prompts(self, class_names: Sequence[str]) -> list[list[str]]:
        """The texts of each class, of heads that read texts."""
        raise NotImplementedError

    def for_target(self, target: str) -> AnyHead:
        """The head with the same parameters that computes for one of the targets it `fits`; as a rule itself."""
        return self

    @property
    def inner(self) -> AnyHead | None:
        """The head that it fits on parts of its rows, where it does; names and parameters of runs are those of it."""
        return None

    def named_classes(self) -> list[type]:
        """Classes that its parameters name and that compute in its place."""
        return []

    def named_files(self) -> list[str]:
        """Files that its parameters name, whose content is a part of what it is."""
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

    def forecast(self, n_rows: int, shapes: Shapes, n_classes: int) -> Forecast:
        """What `fit` will take; a head that says nothing of itself is taken to hold its rows, and as much again.

        Args:
            n_rows: That train and validate.
            shapes: Of one row of each kind that it consumes, such as `{"pooled": (512,)}`.
            n_classes: Or labels, or columns of numbers.
        """
        return of_rows(n_rows, shapes)

    def check_parameters(self) -> None:
        """Raises `InputError` for parameters that no data can be fitted with; `fit` does so too."""

    def _check_rows(self, X: Any, *, reset: bool) -> Any:
        """Checks shape and dtype as scikit-learn does; memmaps and row subsets stay on disk, in their own dtype.

        Finiteness of those is checked by whoever reads them, with `check_lazy` or chunk by chunk.
        """
        if reset:  # what a loaded head was fitted on says nothing of these rows
            for name in ("feature_mean_", "layers_", "layer_shares_"):
                self.__dict__.pop(name, None)
            self._forget_calibration()
        elif hasattr(self, "layers_") and is_of_kinds(X):
            X = self._of_layers(X)
        if len(self.consumes) > 1:
            return self._check_kinds(X, reset=reset)
        kind = self.consumes[0]
        if kind != "pooled":
            return self._check_kinds({kind: X}, reset=reset).arrays[kind]
        X = plain_features(X)
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

    def _of_layers(self, X: Mapping[str, Any]) -> Any:
        """What the head reads of layers that are given by their names."""
        if missing := [name for name in self.layers_ if name not in X]:
            raise InputError(
                f"{type(self).__name__} reads the layers {', '.join(self.layers_)}, X has no {', '.join(missing)}: "
                "give features of these"
            )
        return Layers(X).of(dict(zip(self.layers_, self.layer_shares_.tolist(), strict=True)))[:]

    def _forget_calibration(self) -> None:
        """Drops what held-out rows said of an earlier fit."""

    def _check_kinds(self, X: Any, *, reset: bool) -> RowReader:
        """Checks a mapping of one array per consumed kind; the widths are kept in `widths_` when `reset`."""
        kinds, given = list(self.consumes), list(X) if is_of_kinds(X) else type(X).__name__
        if not is_of_kinds(X) or not set(kinds) <= set(X):
            raise InputError(f"{type(self).__name__} consumes {kinds}, got {given}: give X as a mapping of these kinds")
        checked = plain_features({kind: X[kind] for kind in kinds})
        arrays = {kind: array if is_lazy(array) else as_numbers(array, kind) for kind, array in checked.items()}
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
        X, labels = plain_features(X), plain_array(y, "y")
        for train, chosen_on in splits:
            part = {name: value[train] for name, value in extras.items()}
            if chosen_on is not None:
                part["validation"] = rows_of(X, chosen_on), labels[chosen_on]
            yield self._for_split().fit(rows_of(X, train), labels[train], **part)

    def _for_split(self) -> Self:
        """The clone that the next split is fitted by."""
        return clone(self)

    def _in_chunks(self, X: Any, function: Callable[[Any], FloatArray]) -> FloatArray:
        """What a fitted head gives for rows, from a function of a chunk of them."""
        X = self._as_fitted(X)
        n_rows, n_values = len(X), max(1, int(np.prod(X.shape[1:])))
        # Where a row says more than it has features, a chunk is as long as what it says.
        n_bytes = CHUNK_BYTES * n_values // max(n_values, 2 * len(getattr(self, "classes_", ())))
        found: FloatArray | None = None
        for rows in row_chunks(X, n_bytes):
            part = function(X[rows])
            if len(part) == n_rows:
                return part
            if found is None:
                found = np.empty((n_rows, *part.shape[1:]), dtype=part.dtype)
            found[rows] = part
        return function(X[:0]) if found is None else found

    def _as_fitted(self, X: Any) -> Any:
        """Checked rows, brought to what the fitted head learnt from."""
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        if hasattr(self, "feature_mean_"):  # a run fitted it on standardised features
            X = Scaled(X, self.feature_mean_, self.feature_deviation_)
        return X

    def save(self, path: str | Path) -> None:
        """Writes the fitted head as safetensors: arrays as tensors, everything else as JSON in the header."""
        saving.save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a head that `save` wrote; refuses files of another class."""
        return saving.load(cls, path)
