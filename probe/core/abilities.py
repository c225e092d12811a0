"""Abilities that some of the shared nouns have besides. Whether one does is asked by isinstance, never by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from probe.core.base import Batch, IntArray, Partition, TextTower


@runtime_checkable
class Tapped(Protocol):
    """A backbone whose layers can be read: what each kind looks like for one row, and the layers asked for."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...
    @property
    def taps(self) -> Sequence[str]: ...


@runtime_checkable
class Collates(Protocol):
    """A backbone that makes batches itself, such as of rows that differ in length."""

    def collate(self, rows: Sequence[Any]) -> Batch:
        """Several rows, each as `transform` gives it, as one batch; the default stacks them, entry by entry."""
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """A backbone that reads texts as tokens, the first (or last) `max_length` of them."""

    max_length: int

    def n_tokens(self, row: Any) -> int:
        """Tokens of a text before it is cut."""
        ...

    def as_read(self, row: Any) -> str:
        """A text with what stands around it, such as a template."""
        ...


@runtime_checkable
class NamesTokens(Protocol):
    """A backbone of texts that says which words its token ids stand for."""

    def words_of(self, ids: IntArray, rows: Iterable[Any]) -> list[str]:
        """Of each id its word; empty where none of the given texts holds it and nothing else tells."""
        ...


@runtime_checkable
class Notes(Protocol):
    """A backbone that has something to say of some kinds of its features; runs that read them tell it."""

    @property
    def notes(self) -> Mapping[str, str]:
        """Kind -> a sentence."""
        ...


@runtime_checkable
class ReadsTexts(Protocol):
    """A backbone with a text tower."""

    @property
    def text(self) -> TextTower: ...


@runtime_checkable
class MeasuresFeatures(Protocol):
    """What stands in the place of a head and predicts nothing: it measures the features of the test rows."""

    def measure(self, X: Any, y: NDArray[Any], groups: IntArray | None = None, target: str = ...) -> Mapping[str, Any]:
        """Scores of rows with labels, and groups where they have some, by the name under which metrics read them."""
        ...


@runtime_checkable
class ChecksGroups(Protocol):
    """A head that can refuse the groups of rows, and their labels, before any feature is there."""

    def check_groups(self, groups: IntArray | None, labels: NDArray[Any], whose: str) -> Any:
        """Raises `InputError` for rows that it can do nothing with; `whose` says which rows they are."""
        ...


@runtime_checkable
class DrawsByStratum(Protocol):
    """A protocol that says whether it needs one class per row; those that say nothing do."""

    by_class: bool


@runtime_checkable
class DrawsByShare(Protocol):
    """A protocol that says whether strata serve as classes where each is a share of the rows, such as a tenth."""

    by_share: bool


@runtime_checkable
class DrawsByShown(Protocol):
    """A protocol that says whether it draws rows of each class where a row shows several, such as those of pixels."""

    by_shown: bool


@runtime_checkable
class TestsAlone(Protocol):
    """A protocol that says whether it wants training rows where nothing is learnt; those that say nothing do."""

    wants_train: bool


@runtime_checkable
class Grouped(Protocol):
    """A partition whose rows belong to groups, (N,), which are not to be torn apart."""

    @property
    def groups(self) -> NDArray[Any]: ...


@runtime_checkable
class InSessions(Protocol):
    """A partition whose rows were taken in sessions, (N,)."""

    @property
    def sessions(self) -> NDArray[Any]: ...


@runtime_checkable
class Graded(Protocol):
    """A partition that knows how hard each row is, (N,), larger is harder."""

    @property
    def hardness(self) -> NDArray[np.float64]: ...


@runtime_checkable
class DigestsRows(Protocol):
    """A partition that can tell equal rows."""

    def row_digests(self) -> Any: ...


@runtime_checkable
class CutsItself(Protocol):
    """A partition that makes one of some of its rows."""

    def subset(self, rows: IntArray) -> Partition: ...
