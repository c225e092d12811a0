"""The kinds of features that there are; what a kind is stands here alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probe.core.errors import InputError

DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class Kind:
    """What the features of one kind look like.

    Attributes:
        name: As heads, backbones and the store call it.
        axes: Of the array of all rows, the rows first.
        dtype: In which it is stored unless told otherwise.
        reductions: What may be made of a tapped layer so that it is of this kind; see `probe.backbones.shared.taps`.
        ragged: Whether rows differ in length whatever the backbone; of others it says which do, see
            `probe.core.ragged.Uneven`.
        dtypes: In which it may be stored; `int8` has a scale for each vector of the last axis, see `probe.core.int8`.
    """

    name: str
    axes: tuple[str, ...]
    dtype: str
    reductions: tuple[str, ...] = ()
    ragged: bool = False
    dtypes: tuple[str, ...] = DTYPES

    @property
    def n_axes(self) -> int:
        """Of the array of all rows."""
        return len(self.axes)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("pooled", ("N", "D"), "float32", reductions=("mean", "cls")),
        Kind("tokens", ("N", "T", "D"), "float16", reductions=("tokens",), dtypes=(*DTYPES, "int8")),
        Kind("map", ("N", "C", "H", "W"), "float16", reductions=("map",)),
        Kind("token_ids", ("N", "T"), "int32", ragged=True, dtypes=("int32",)),
    )
}
DEFAULT_REDUCTION = "mean"
MEAN_OF_TOKENS = "tokens:mean"
"""What a head of `pooled` may read in its place: the mean over the tokens that are stored."""


def dtype_of_layer(n_axes: int) -> str:
    """In which a tapped layer is stored unless told otherwise: as the kinds are that have as many axes, or more."""
    return next((kind.dtype for kind in KINDS.values() if kind.n_axes == n_axes), "float16")


def stored_as_floats(kind: str) -> bool:
    """Whether rows of this kind are floats, as all are but the numbers of tokens."""
    return kind not in KINDS or KINDS[kind].dtype.startswith("float")


def dtypes_of(kind: str) -> tuple[str, ...]:
    """In which a kind may be stored, or a tapped layer that is reduced to one."""
    known = KINDS.get(kind) or next((k for k in KINDS.values() if kind.rpartition(":")[2] in k.reductions), None)
    return known.dtypes if known else DTYPES


def tap_of(layer: str, kind: str) -> str | None:
    """How to tap a layer so that it stands in for a kind; None where no reduction of a layer is of that kind."""
    reductions = KINDS[kind].reductions if kind in KINDS else ()
    if not reductions:
        return None
    return layer if reductions[0] == DEFAULT_REDUCTION else f"{layer}:{reductions[0]}"


def taps_of_maps(layers: str | Sequence[str] | None) -> list[str]:
    """How to tap the layers whose maps are read, of those that are no kind.

    Raises:
        InputError: Something else than names.
    """
    named = [layers] if isinstance(layers, str) else list(layers or ())
    if odd := [name for name in named if not isinstance(name, str)]:
        raise InputError(
            f"reads.map names {odd[0]!r} among its layers, expected names: write reads.map=[stages.0,stages.1], "
            "without brackets in it"
        )
    return [name if ":" in name else f"{name}:map" for name in named if name not in KINDS]
