"""Batches through the backbone, as checked arrays; a GPU computes one while the one before is collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core import int8
from probe.core.base import Backbone, Partition
from probe.core.errors import InputError
from probe.core.ragged import Ragged
from probe.features.extraction.batches import each, tensors
from probe.features.extraction.plan import Plan
from probe.features.layout import stored_dtype

if TYPE_CHECKING:
    from torch import Tensor

Arrays = Mapping[str, NDArray[Any] | Ragged]


@dataclass(frozen=True)
class Launched:
    """A batch that was handed to the device.

    Attributes:
        failed: Row -> why it could not be decoded.
        features: Kind -> what the backbone gave, on the device; of rows that differ in length all tokens of those that
            could be decoded.
        stored: Kind -> the same as it is to be stored, on its way to the host.
        finite: Kind -> smallest and largest number, as finite as all are; on its way too.
        arrived: Tells when both are there; None where nothing had to travel.
        lengths: Kind of which rows differ in length -> tokens of each row, 0 of one that could not be decoded.
    """

    block: int
    failed: Mapping[int, str]
    features: Mapping[str, Tensor]
    stored: Mapping[str, Tensor]
    finite: Mapping[str, Tensor]
    arrived: Any
    lengths: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


class Forward:
    """Turns batches into what is stored of them: one shape for all rows, finite, of the stored dtype.

    On a GPU nothing waits between `launch` and `collect`: with `n_ahead` batches between them, the device computes
    while the host checks the batch before, and copies in on a stream of their own.
    """

    def __init__(self, backbone: Backbone, partition: Partition, plan: Plan, device: str):
        import torch

        self.backbone, self.partition, self.plan, self.device = backbone, partition, plan, device
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.on_gpu = device.startswith("cuda")
        self.n_ahead = 1 if self.on_gpu else 0
        self._copies = torch.cuda.Stream(device) if self.on_gpu else None

    def launch(self, block: int, batch: Any, failed: Mapping[int, str]) -> Launched:
        """Hands a batch to the device; None where no row of the block could be decoded."""
        import torch

        if batch is None:
            return Launched(block, failed, {}, {}, {}, None)
        rows, kinds = self.plan.rows(block), list(self.plan.kinds)
        try:
            given = self.backbone.extract(self._moved(batch), kinds)
            ragged = {k: self._of_decoded(v, k, rows, failed) for k, v in given.items() if isinstance(v, Ragged)}
            features = {kind: ragged[kind].values if kind in ragged else given[kind] for kind in kinds}
            stored = {
                kind: self._as_stored(part, kind, 1) if kind in ragged else self._stored(part, kind, rows, failed)
                for kind, part in features.items()
            }
            # NaN if any number is, infinite if any is in the stored dtype.
            numbers = {k: part if k in ragged else _decoded(part, rows, failed) for k, part in features.items()}
            finite = {k: _in_range_of(stored[k], torch.stack(torch.aminmax(part))) for k, part in numbers.items()}
            # Not waited for: into pinned memory, in the order of the device's stream.
            stored = {kind: tensor.to("cpu", non_blocking=True) for kind, tensor in stored.items()}
            finite = {kind: ends.to("cpu", non_blocking=True) for kind, ends in finite.items()}
        except torch.OutOfMemoryError:
            raise InputError(
                f"{self.device} ran out of memory on a batch of {len(rows)} rows through backbone "
                f"{self.backbone.name}: set batch_size to {max(1, len(rows) // 2)} or less"
            ) from None
        arrived = torch.cuda.current_stream(self.device).record_event() if self.on_gpu else None
        lengths = {kind: rows.lengths for kind, rows in ragged.items()}
        return Launched(block, failed, features, stored, finite, arrived, lengths)

    def collect(self, launched: Launched) -> Arrays:
        """The features of a batch, once they are there; NaN in the rows that failed."""
        import torch

        if launched.arrived is not None:
            launched.arrived.synchronize()
        for kind, ends in launched.finite.items():
            if not torch.isfinite(ends).all():
                self._refuse_not_finite(launched.features[kind], ends.dtype, kind, launched)
        arrays = {kind: stored.contiguous().numpy() for kind, stored in launched.stored.items()}
        return arrays | {kind: Ragged(arrays[kind], lengths) for kind, lengths in launched.lengths.items()}

    def _moved(self, batch: Any) -> Any:
        """The batch on the device, copied while the device computes the one before."""
        import torch

        if self._copies is None:
            return each(lambda part: part.to(self.device), batch)
        with torch.cuda.stream(self._copies):
            moved = each(lambda part: part.to(self.device, non_blocking=True), batch)
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self._copies)
        for part in tensors(moved):
            part.record_stream(current)
        return moved

    def _stored(self, features: Tensor, kind: str, rows: range, failed: Mapping[int, str]) -> Tensor:
        import torch

        self._check_shape(features, kind, rows)
        features = features.detach()
        if failed:
            features = features.clone()
            features[[row - rows[0] for row in failed]] = torch.nan
        return self._as_stored(features, kind)

    def _as_stored(self, features: Tensor, kind: str, n_more_axes: int = 0) -> Tensor:
        import torch

        dtype = stored_dtype(self.plan.kinds[kind], features.ndim + n_more_axes)
        return int8.pack(features) if dtype == int8.NAME else features.detach().to(getattr(torch, dtype))

    def _of_decoded(self, given: Ragged, kind: str, rows: range, failed: Mapping[int, str]) -> Ragged:
        """The tokens of the rows that could be decoded; the others have none."""
        import torch

        lengths = torch.as_tensor(given.lengths).cpu().numpy().astype(np.int64)
        if len(lengths) != len(rows) or lengths.sum() != len(given.values):
            raise InputError(
                f"backbone {self.backbone.name} gave {len(given.values)} {kind} for {len(lengths)} rows of "
                f"{int(lengths.sum())} in all, expected those of {len(rows)} rows one after the other"
            )
        self._check_one_shape(tuple(given.values.shape[1:]), kind, rows)
        lost = np.isin(np.arange(rows.start, rows.stop), list(failed))
        if (lengths[~lost] < 1).any():
            empty = rows[int(np.argmax((lengths < 1) & ~lost))]
            raise InputError(f"{self._name(empty)} has no {kind} of backbone {self.backbone.name}, expected at least 1")
        if not failed:
            return Ragged(given.values, lengths)
        kept = torch.from_numpy(np.repeat(~lost, lengths)).to(given.values.device)
        return Ragged(given.values[kept], np.where(lost, 0, lengths))

    def _check_shape(self, features: Tensor, kind: str, rows: range) -> None:
        if features.ndim < 2 or len(features) != len(rows):
            raise InputError(
                f"backbone {self.backbone.name} gave {kind} of shape {tuple(features.shape)} for a batch of "
                f"{len(rows)} rows, expected one row of features for each"
            )
        self._check_one_shape(tuple(features.shape[1:]), kind, rows)

    def _check_one_shape(self, shape: tuple[int, ...], kind: str, rows: range) -> None:
        if self.shapes.setdefault(kind, shape) != shape:
            raise InputError(
                f"backbone {self.backbone.name} gave {kind} of shape {shape} at {self._name(rows[0])} and "
                f"{self.shapes[kind]} before, expected one shape for all rows: resize them to one size in the transform"
            )

    def _refuse_not_finite(self, features: Tensor, dtype: Any, kind: str, launched: Launched) -> None:
        import torch

        lengths = launched.lengths.get(kind)
        parts: Any = features if lengths is None else features.split(lengths.tolist())
        for part, row in zip(parts, self.plan.rows(launched.block), strict=True):
            if row in launched.failed or torch.isfinite(part.to(dtype)).all():
                continue
            name = f"{kind} features of {self._name(row)} from backbone {self.backbone.name}"
            if torch.isfinite(part).all():
                in_override = kind.replace(":", r"\:")  # which ends a key
                raise InputError(
                    f"{name} reach {float(part.abs().max()):g}, too large for {str(dtype)[6:]}: "
                    f"store them with '+features.dtypes={{{in_override}: float32}}'"
                )
            raise InputError(
                f"{name} are not finite (NaN or infinite), expected finite numbers: look at this row and at the "
                "checkpoint, or extract in float32"
            )

    def _name(self, row: int) -> str:
        return f"row {row} ({self.partition.ids[row]})"


def _in_range_of(stored: Tensor, numbers: Tensor) -> Tensor:
    """Numbers in the dtype of what is stored; its scales, where that is bytes."""
    return numbers.to(stored.dtype) if stored.is_floating_point() else numbers.float()


def _decoded(features: Tensor, rows: range, failed: Mapping[int, str]) -> Tensor:
    return features[[i for i, row in enumerate(rows) if row not in failed]] if failed else features
