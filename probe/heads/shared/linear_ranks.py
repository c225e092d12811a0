"""The linear probe on rows of which each rank of a torch.distributed job holds a part."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from probe.core.base import IntArray
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.heads.linalg.multinomial import MultinomialLoss
from probe.heads.shared.head import FloatArray, Validation
from probe.heads.shared.logistic import penalties
from probe.heads.shared.multinomial import MultinomialPath


class SharedLinearProbe(MultinomialPath):
    """`LinearProbe`, fitted by all ranks together: each calls `fit` with rows of its own, and gets the same head.

    The optimum is that of the rows of all ranks, to the tolerance of `LinearProbe`. Ranks may hold any number of rows
    from 1 on, and lack classes. Where C is chosen, each gives validation rows of its own.
    """

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> SharedLinearProbe:
        """Fits on the rows of all ranks of the default group; all of them have to call it."""
        import torch.distributed as dist

        if not dist.is_initialized():
            raise InputError(
                "there is no torch.distributed group: start with torchrun and call init_process_group, or use "
                "LinearProbe, which needs none"
            )
        if validation is None and len(penalties(self.Cs)) > 1:
            raise InputError(
                f"Cs={self.Cs} is to be chosen from and this rank has no validation rows: give some to every rank, or "
                "one C"
            )
        super().fit(X, y, validation=validation)
        return self

    def _check_labels(self, y: ArrayLike, n_rows: int) -> IntArray:
        labels = plain_array(y, "y").ravel()
        classes = self._every_class(labels)
        # A rank with rows of one class is as good as any.
        return super()._check_labels(np.concatenate([labels, classes]), n_rows + len(classes))[:n_rows]

    def _add_classes(self, codes: IntArray, y_val: np.ndarray[Any, Any]) -> IntArray:
        return super()._add_classes(codes, self._every_class(y_val))

    def _every_class(self, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Those of all ranks."""
        import torch.distributed as dist

        every: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(every, np.unique(labels))
        return np.unique(np.concatenate(every))

    def _problem(self, X: Any, codes: IntArray) -> tuple[IntArray, MultinomialLoss]:
        from probe.heads.linalg.shared import SharedLoss, SharedRows

        present = self._every_class(codes)
        features = SharedRows(X, scaling=self.scaling, device=resolve_device(self.device))
        return present, SharedLoss(features, np.searchsorted(present, codes), len(present))

    def _summed(self, *counts: FloatArray) -> tuple[FloatArray, ...]:
        import torch
        import torch.distributed as dist

        totals = [torch.as_tensor(count, device=resolve_device(self.device)) for count in counts]
        for total in totals:
            dist.all_reduce(total)
        return tuple(total.cpu().numpy() for total in totals)
