"""What backbones made of a torch network share: frozen weights, precision, tapped layers, an identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from probe.backbones.shared.families import Blocks, blocks_of
from probe.backbones.shared.quantities import listen_inside
from probe.backbones.shared.taps import LAST, READING, REDUCTIONS, expand, layers_of, listen_last, listen_layer
from probe.core.base import Batch
from probe.core.device import full_precision
from probe.core.errors import InputError
from probe.core.hashing import hash_tensors
from probe.core.kinds import DEFAULT_REDUCTION, KINDS
from probe.core.ragged import as_given

Features = Callable[[Any], dict[str, Tensor]]
PRECISIONS = ("float32", "bfloat16")


class FrozenNetwork:
    """Base class of backbones that run a network, whatever the rows.

    A subclass sets up the network, says in `reads` which rows it takes, and implements `transform`, `_blank`,
    `_features`, `_architecture` and `_preprocessing`.

    Args:
        network: Goes into eval mode, without gradients; where it computes in float32, weights of half precision
            are widened to that.
        name: How tables call it.
        precision: `float32`, or `bfloat16` for autocast to it; features are float32 either way.
        taps: Further layers to give, each `<layer>` or `<layer>:<reduction>`. A layer is a name inside the network,
            where `*` stands for one part of a name (`blocks.*`). Reductions: `mean` over positions without prefix
            tokens (the default; (N, D) output passes as it is), `cls` the first token, `tokens` all of them, `map` the
            places of a grid (N, C, H, W), and `heads`, one vector per attention head before they are mixed, (N, heads,
            D): that of the first prefix token, or the mean where there is none; see `families` for more of a
            transformer's block, and for names
            that all transformers share. The kind has the name of the expanded tap. `last<n>` is the last
            n blocks of a vision transformer behind its final norm, their first tokens side by side (N, n D);
            `last<n>:mean` their means, `last<n>:cls+mean` with the mean of the last block's patches at the end.
        n_prefix_tokens: How many tokens stand before the patches.

    Attributes:
        recipe: Names the features that backbones of this package compute from their facts: another word wherever the
            numbers change, which makes other features. A backbone from outside need not say it, its source is read.

    The module of a backbone may say by `UNTRAINED` with which parameters weights are drawn at random instead of read:
    without it there is no control of random weights.
    """

    reads: str
    recipe: ClassVar[str] = "1"
    reductions: ClassVar[Sequence[str]] = REDUCTIONS

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        precision: str = "float32",
        taps: Sequence[str] = (),
        n_prefix_tokens: int = 0,
    ):
        if precision not in PRECISIONS:
            raise InputError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}: set one of them")
        # Any: what a backbone calls on its network is beyond nn.Module.
        self.network: Any = (network if precision == "bfloat16" else widened(network)).eval().requires_grad_(False)
        self.name = name
        self.precision = precision
        self._n_prefix_tokens = n_prefix_tokens
        self.n_parameters = sum(p.numel() for p in network.parameters())
        self.device = "cpu"
        self._asked = [tap for tap in taps if tap in KINDS]
        self._taps = expand([tap for tap in taps if tap not in KINDS], network, name, self.reductions)

    @property
    def n_prefix_tokens(self) -> int:
        """How many of the tokens stand before the patches."""
        return self._n_prefix_tokens

    def transform(self, row: Any) -> Batch:
        """One row as a tensor or a mapping of tensors."""
        raise NotImplementedError

    def _blank(self) -> Batch:
        """A batch of one row, from which shapes are found."""
        raise NotImplementedError

    def _features(self, batch: Any) -> dict[str, Tensor]:
        """All kinds of a batch on the device but the taps."""
        raise NotImplementedError

    def _architecture(self) -> dict[str, Any]:
        raise NotImplementedError

    def _preprocessing(self) -> dict[str, Any]:
        raise NotImplementedError

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of each kind, found by running one blank row."""
        found = self._run(self._blank(), list(self._taps))
        shapes = {kind: tuple(value.shape[1:]) for kind, value in found.items()}
        absent = [kind for kind in self._asked if kind not in shapes]
        if absent:
            raise InputError(
                f"taps {absent} are not given by backbone {self.name}, it gives {list(shapes)}: leave them out"
            )
        return shapes

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of features it gives."""
        return tuple(self.shapes)

    @property
    def taps(self) -> tuple[str, ...]:
        """The tapped layers, names expanded."""
        return self._taps

    @property
    def layers(self) -> list[str]:
        """Those that can be tapped, as far as they lie at the top."""
        return layers_of(self.network)

    @cached_property
    def _weights(self) -> str:
        return self.hash_weights()

    def hash_weights(self) -> str:
        """Digest of all parameters and persistent buffers as they are now.

        Other buffers follow from the architecture, and some networks (ConViT) fill theirs on the first image.
        """
        return hash_tensors({k: v for k, v in self.network.state_dict().items() if isinstance(v, Tensor)})

    def identity(self) -> dict[str, Any]:
        """Facts that determine every feature. Taps are not among them: a kind's name says which layer it is."""
        return {
            "architecture": self._architecture(),
            "weights": self._weights,
            "preprocessing": self._preprocessing(),
            "precision": self.precision,
            "reading": READING,
        }

    def to(self, device: str) -> Self:
        """Moves the network; features are computed there."""
        self.network.to(device)
        self.device = device
        return self

    def extract(self, batch: Batch, kinds: Sequence[str]) -> dict[str, Any]:
        """float32 features, on the backbone's device; a `Ragged` of kinds of which rows differ in length.

        Args:
            batch: Rows as `transform` gives them, one upon the other; or a mapping of such.
            kinds: Which features.
        """
        unknown = sorted(set(kinds) - set(self.kinds))
        if unknown:
            raise InputError(
                f"backbone {self.name} gives {list(self.kinds)}, not {unknown}: ask for these, or name a layer of the "
                "network in backbone.taps"
            )
        found = self._asked_for(batch, kinds)
        return {kind: as_given(found[kind]) for kind in kinds}

    def _asked_for(self, batch: Batch, kinds: Sequence[str]) -> dict[str, Tensor]:
        """At least the kinds that are asked for."""
        return self._run(batch, [kind for kind in kinds if kind in self._taps])

    def _prepared(self, batch: Batch, device: torch.device) -> Any:
        """A batch as the network reads it, on the device; in float32 whatever the precision."""
        if isinstance(batch, Mapping):
            return {name: part.to(device, non_blocking=True) for name, part in batch.items()}
        return batch.to(device, non_blocking=True)

    def _run(self, batch: Batch, taps: Sequence[str], program: Features | None = None) -> dict[str, Tensor]:
        tapped: dict[str, Tensor] = {}
        if taps and self._n_prefix_tokens:
            _ = self._n_tokens  # found by a run of its own, not in the midst of this one
        device = torch.device(self.device)
        n_rows = len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch)
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(full_precision())
            rows = self._prepared(batch, device)
            if self.precision == "bfloat16":
                stack.enter_context(torch.autocast(device.type, torch.bfloat16))
            for tap in taps:
                stack.callback(self._listen(tap, tapped))
            features = (program or self._features)(rows)
        silent = sorted(set(taps) - tapped.keys())
        if silent:
            raise InputError(f"layers {silent} of backbone {self.name} are never run on a row: tap others")
        windows = [tap for tap, value in tapped.items() if len(value) != n_rows]
        if windows:
            raise InputError(
                f"layers {windows} of backbone {self.name} give {len(tapped[windows[0]])} rows for {n_rows}, "
                "expected one each (they may look at windows): tap other layers"
            )
        return {**features, **tapped}

    @cached_property
    def _n_tokens(self) -> int | None:
        """How many tokens come out at the end, found by running one blank row."""
        tokens = self._run(self._blank(), []).get("tokens")
        return None if tokens is None else tokens.shape[1]

    def _n_prefix(self, tokens: Tensor, tap: str) -> int:
        """How many tokens stand before the patches in a layer: none where they join behind it (CaiT, XCiT)."""
        n = self._n_prefix_tokens
        if n and tokens.ndim == 3 and self._n_tokens is not None and tokens.shape[1] == self._n_tokens - n:
            return 0
        return n

    @cached_property
    def _blocks(self) -> Blocks | None:
        return blocks_of(self.network)

    def _listen(self, tap: str, tapped: dict[str, Tensor]) -> Callable[[], None]:
        """Puts a layer's reduced output into `tapped` under the tap's name, until what it returns is called."""
        if LAST.fullmatch(tap):
            return listen_last(self, tap, tapped)
        if stop := listen_inside(self, tap, tapped):
            return stop
        return listen_layer(self, tap, tapped)

    def _heads_of(self, attention: nn.Module) -> tuple[Any, Any]:
        """How many heads a layer has, and the projection that mixes them."""
        return getattr(attention, "num_heads", None), getattr(attention, "proj", None)

    def _at_place(self, values: Tensor, tap: str, position: str = "") -> Tensor:
        """(N, ...) of (N, T, ...): unless told, at the first prefix token, or the mean where there is none."""
        if position:
            return self._reduce(values.flatten(2), f"{tap.partition(':')[0]}:{position}").unflatten(1, values.shape[2:])
        return values[:, 0].clone() if self._n_prefix(values.flatten(2), tap) else values.mean(1)

    def _reduce(self, output: Tensor, tap: str) -> Tensor:
        reduction = tap.partition(":")[2] or DEFAULT_REDUCTION
        n_prefix = 0
        if reduction == "map":
            return self._grid(output, tap)
        if output.ndim == 4:
            output = self._as_map(output, tap).flatten(2).transpose(1, 2)
        elif output.ndim == 3:
            output = self._in_order(output)
            n_prefix = self._n_prefix(output, tap)
        if output.ndim not in (2, 3) or (output.ndim == 2 and reduction != "mean"):
            raise InputError(
                f"tap {tap} gives an output of shape {tuple(output.shape)}, expected tokens or a map: tap another layer"
            )
        if output.ndim == 2 or reduction == "tokens":
            return output
        if reduction == "cls":
            if n_prefix == 0:
                raise InputError(
                    f"tap {tap}: backbone {self.name} has no prefix tokens there: use :mean instead of :cls"
                )
            return output[:, 0].clone()  # a view would keep all tokens of each layer until the end
        return output[:, n_prefix:].mean(1)

    def _as_map(self, output: Tensor, tap: str) -> Tensor:
        """A layer's output of four dimensions as (N, C, H, W)."""
        return output

    def _grid(self, output: Tensor, tap: str) -> Tensor:
        """A layer's output as a map (N, C, H, W)."""
        raise InputError(f"tap {tap} asks for a map, rows of backbone {self.name} lie on no grid: leave :map out")

    def _in_order(self, tokens: Tensor) -> Tensor:
        """A layer's tokens, those first that are no patches."""
        return tokens


def widened(network: nn.Module) -> nn.Module:
    """The network in float32, where some of its weights are of half precision: rows are, and sums have to be."""
    half = any(t.dtype in (torch.float16, torch.bfloat16) for t in (*network.parameters(), *network.buffers()))
    return network.float() if half else network
