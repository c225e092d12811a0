"""Batches as a backbone takes them: tensors, or mappings of tensors, of whatever shape it collates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from probe.core.abilities import Collates
from probe.core.base import Backbone, Batch

if TYPE_CHECKING:
    from torch import Tensor


def collate(backbone: Backbone, rows: Sequence[Batch]) -> Any:
    """Rows as `transform` gives them, as one batch."""
    if isinstance(backbone, Collates):
        return backbone.collate(rows)
    from torch.utils.data import default_collate

    # Unlike `torch.stack`, it writes where the main process will read, when it is called in a worker.
    return default_collate(list(rows))


def each(change: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """A batch, or a row, with all its tensors changed."""
    if isinstance(batch, Mapping):
        return {name: change(part) for name, part in batch.items()}
    return change(batch)


def tensors(batch: Any) -> list[Tensor]:
    """All tensors of a batch, or of a row."""
    return list(batch.values()) if isinstance(batch, Mapping) else [batch]


def n_bytes(batch: Any) -> int:
    """Size in memory."""
    return sum(part.nbytes for part in tensors(batch))
