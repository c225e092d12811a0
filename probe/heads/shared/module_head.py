"""Heads of classes that are a torch module: its outputs are the logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.heads.shared.head import FloatArray, Head
from probe.heads.shared.module_solver import ModuleSolver
from probe.heads.shared.objectives import CrossEntropy, Objective


class ModuleHead(Head, ModuleSolver):
    """On classes: one logit for each, judged by accuracy."""

    @property
    def n_outputs(self) -> int:
        return len(self.classes_)

    def _objective(self) -> Objective:
        return CrossEntropy()

    def _strata(self, codes: IntArray) -> IntArray:
        return codes

    def _learnable(self, codes: IntArray) -> NDArray[np.bool_]:
        """A class that no training row has cannot be learnt from the validation rows either."""
        known: NDArray[np.bool_] = codes >= 0
        return known

    def _logits(self, X: Any) -> FloatArray:
        return self._outputs(X)
