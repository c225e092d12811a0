"""What heads that are a torch module share: its weights are fitted attributes, its outputs what they predict from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from probe.core.arrays import RowReader
from probe.core.base import IntArray
from probe.core.device import full_precision, resolve_device
from probe.core.errors import InputError
from probe.heads.shared.base import AnyHead, FloatArray, Validation

if TYPE_CHECKING:
    from probe.heads.shared.objectives import Objective

Batch = dict[str, Tensor]


def as_tensors(batch: dict[str, Any], device: str, dtype: torch.dtype = torch.float32) -> Batch:
    """Arrays or tensors on a device; floats as `dtype`, converted there, integers as they are."""
    tensors = {name: torch.as_tensor(array).to(device) for name, array in batch.items()}
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}


def leave_gradients(parameters: Iterable[Tensor], *gradients: Iterable[Tensor]) -> None:
    """Sets `grad` of each parameter to the sum of its gradients, laid out in memory as the parameter is.

    Fused optimizers go through both in the order of memory: of a convolution, whose gradient comes with its channels
    last, they would take each number for another one's.
    """
    for parameter, first, *others in zip(parameters, *gradients, strict=True):
        parameter.grad = torch.empty_like(parameter)
        if others:
            torch.add(first, others[0], out=parameter.grad)
        else:
            parameter.grad.copy_(first)
        for gradient in others[1:]:
            parameter.grad += gradient


class ModuleSolver(AnyHead):
    """Base class of what trains a torch module, beside that of its target: `ModuleHead` or `TrainedNumbers`.

    A subclass gives `_module()`, sized by fitted attributes and `n_outputs`, which takes a batch: the consumed kinds as
    tensors. The trained weights and buffers become fitted attributes, `main.weight` as `main_weight_`. What a row is to
    be predicted as is its `codes`.
    """

    draws_views: ClassVar[bool] = True
    device: str

    @property
    def n_outputs(self) -> int:
        """Outputs of the module for a row."""
        raise NotImplementedError

    def _module(self) -> nn.Module:
        raise NotImplementedError

    def _check_fit(self, X: Any, y: ArrayLike) -> tuple[Any, Any]:
        """Checked rows and their codes."""
        raise NotImplementedError

    def _validation_codes(self, y: ArrayLike) -> Any:
        raise NotImplementedError

    def _objective(self) -> Objective:
        """What training goes down, and what candidates are judged by."""
        raise NotImplementedError

    def _strata(self, codes: Any) -> IntArray:
        """Of the rows, for a held-out tenth."""
        raise NotImplementedError

    def _learnable(self, codes: Any) -> NDArray[np.bool_]:
        """Which validation rows can be learnt from."""
        raise NotImplementedError

    def _validation_rows(self, validation: Validation | None) -> tuple[dict[str, Any], Any] | None:
        """Checked kinds and codes of the validation rows, None where there are none."""
        if validation is None or len(np.asarray(validation[1])) == 0:
            return None
        X, y = validation
        arrays, codes = self._by_kind(self._check_rows(X, reset=False)), self._validation_codes(y)
        if len(next(iter(arrays.values()))) != len(codes):
            raise InputError(f"validation has {len(codes)} labels for other rows: give one label per row")
        return arrays, codes

    def _by_kind(self, X: Any) -> dict[str, Any]:
        return X.arrays if isinstance(X, RowReader) else {self.consumes[0]: X}

    def _set_weights(self, state: Mapping[str, Tensor]) -> None:
        """Makes the weights of a module fitted attributes."""
        for name, value in state.items():
            setattr(self, name.replace(".", "_") + "_", value.detach().cpu().numpy())
        self.weights_ = [name.replace(".", "_") + "_" for name in state]

    @torch.no_grad()
    def _module_outputs(self, module: nn.Module, chunk: dict[str, Any]) -> FloatArray:
        parameter = next(module.parameters())
        with full_precision():
            return module(as_tensors(chunk, str(parameter.device), parameter.dtype)).cpu().numpy()

    def _loaded(self, chunk: dict[str, Any]) -> nn.Module:
        """The fitted module, in the precision of a chunk and in eval mode."""
        with torch.device("meta"):
            module = self._module()
        state = {
            name: torch.from_numpy(getattr(self, name.replace(".", "_") + "_")).reshape(value.shape)
            for name, value in module.state_dict().items()
        }
        module.load_state_dict(state, assign=True)
        # Doubles in, doubles out: a row's logits then do not depend on the rows beside it at float32 precision.
        double = all(array.dtype == np.float64 for array in chunk.values() if array.dtype.kind == "f")
        return module.eval().to(resolve_device(self.device), torch.float64 if double else torch.float32)

    def _outputs(self, X: Any) -> FloatArray:
        """(N, n_outputs) of a chunk of checked rows."""
        chunk = X if isinstance(X, dict) else {self.consumes[0]: np.require(X, requirements=["C", "W"])}
        return self._module_outputs(self._loaded(chunk), chunk)
