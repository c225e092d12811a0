"""What backbones of texts share: batches of like length, and features that padding never reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from probe.backbones.shared.network import Features, FrozenNetwork
from probe.core.base import Batch
from probe.core.errors import InputError
from probe.core.ragged import Ragged, as_given

POSITIONS = ("mean", "last", "first", "span", "span_last", "mask")
TOKENS_TOGETHER = {"cpu": 4096, "cuda": 65536}
"""Tokens that go through the network at once, padding included."""
WITHOUT_NETWORK = ("token_ids", "length")
"""Kinds for which no network is run."""
PROJECTIONS = (
    "o_proj", "c_proj", "out_proj", "dense", "Wo", "proj", "output.dense", "attention.out_proj", "attention.dense",
)  # fmt: skip
"""What families call the matrix that mixes the heads of an attention layer, below the layer's own name."""


class TextNetwork(FrozenNetwork):
    """Base class of backbones that run a network on tokens of texts.

    A batch holds `input_ids` and `attention_mask`, (N, T) each, padded behind the text, perhaps `span`, (N, T) of the
    tokens in the marked span, and what else the network takes. Rows are run sorted by length, in groups of
    `TOKENS_TOGETHER` tokens, so that little is padded. `last_hidden_state` becomes `pooled`, one vector a text, and
    `tokens`, all of a text's own; `length` is (N, 1), the tokens of a text before it was cut: by itself a control of
    how much length tells. `token_ids` are what the network reads; for these two it is not run.

    A subclass sets up the network and implements `transform`, `_blank`, `_architecture` and `_preprocessing`.

    Args:
        pooling: Of the last layer's states: `mean` over all real tokens, the `last` or the `first` of them, the mean
            of those in the marked span (`span`), the last of these (`span_last`), or the one mask token (`mask`). Taps
            take these as reductions too, and `tokens`, all of them; `heads` of a tapped attention layer,
            (N, heads, D), are read at `pooling`.
        normalize: Whether `pooled` is brought to unit length.

    The other arguments are those of `FrozenNetwork`.
    """

    reads = "texts"
    reductions: ClassVar[Sequence[str]] = (*POSITIONS, "tokens", "heads")

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        pooling: str,
        normalize: bool = False,
        precision: str = "float32",
        taps: Sequence[str] = (),
    ):
        if pooling not in POSITIONS:
            raise InputError(f"pooling is {pooling!r}, expected one of {', '.join(POSITIONS)}: set backbone.pooling so")
        self.pooling, self.normalize = pooling, normalize
        self._group: Mapping[str, Tensor] = {}
        self._reads_tokens = True
        super().__init__(network, name=name, precision=precision, taps=taps)

    def collate(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        """Rows as `transform` gives them, padded behind to the longest."""
        return {
            part: nn.utils.rnn.pad_sequence([row[part] for row in rows], batch_first=True)
            if rows[0][part].ndim
            else torch.stack([row[part] for row in rows])
            for part in rows[0]
        }

    @property
    def ragged(self) -> tuple[str, ...]:
        """The kinds of which rows differ in length."""
        return ("tokens", "token_ids", *(tap for tap in self.taps if tap.endswith(":tokens")))

    def extract(self, batch: Batch, kinds: Sequence[str]) -> dict[str, Any]:
        """As `FrozenNetwork.extract`."""
        assert isinstance(batch, Mapping)
        if kinds and set(kinds) <= set(WITHOUT_NETWORK):
            found = without_network(batch)
            return {kind: as_given(found[kind]) for kind in kinds}
        self._reads_tokens = "tokens" in kinds
        try:
            return super().extract(batch, kinds)
        finally:
            self._reads_tokens = True

    def _run(self, batch: Batch, taps: Sequence[str], program: Features | None = None) -> dict[str, Any]:
        assert isinstance(batch, Mapping)
        found: dict[str, Any] = {}
        parts: dict[str, list[Ragged]] = {}
        order: list[Tensor] = []
        for rows, n_tokens in self._groups(batch["attention_mask"]):
            group = {k: part[rows, :n_tokens] if part.ndim > 1 else part[rows] for k, part in batch.items()}
            order.append(rows)
            for kind, value in super()._run(group, taps, program).items():
                if isinstance(value, Ragged):
                    parts.setdefault(kind, []).append(value)
                    continue
                if kind not in found:
                    found[kind] = value.new_empty(len(batch["attention_mask"]), *value.shape[1:])
                found[kind][rows.to(value.device)] = value
        ragged = {kind: joined(of_groups, torch.cat(order)) for kind, of_groups in parts.items()}
        return {**found, **ragged, **without_network(batch)}

    def _groups(self, mask: Tensor) -> Iterator[tuple[Tensor, int]]:
        """Rows of like length, and the length of the longest of them."""
        lengths = mask.sum(dim=1).cpu()
        order = torch.argsort(lengths, stable=True)
        together = TOKENS_TOGETHER["cuda" if self.device.startswith("cuda") else "cpu"]
        at = 0
        while at < len(order):
            # As many rows as fit when all are padded to the last one's length.
            ahead = lengths[order[at:]].clamp(min=1)
            fits = ahead * torch.arange(1, len(ahead) + 1) <= together
            n = max(1, int(fits.sum()))
            yield order[at : at + n], int(ahead[n - 1])
            at += n

    def _features(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        self._group = batch
        given = {name: part for name, part in batch.items() if name not in ("span", "slot", "length")}
        output = self.network(**given)
        # Of a model whose output matrix was taken off, what that would read.
        states = output.last_hidden_state if "last_hidden_state" in output else output.logits
        pooled = self._at(states, self.pooling, "pooled")
        if self.normalize:
            pooled = functional.normalize(pooled.float(), dim=-1)
        return {"pooled": pooled, **({"tokens": self._own(states)} if self._reads_tokens else {})}

    def _own(self, states: Tensor) -> Ragged:
        """The states of all real tokens of (N, T, ...)."""
        mask = self._group["attention_mask"].bool()
        return Ragged(states[mask], mask.sum(dim=1).cpu())

    def _at(self, states: Tensor, position: str, what: str) -> Tensor:
        """(N, ...) of (N, T, ...) at a position of each text."""
        mask = self._group["attention_mask"]
        if position == "first":
            return states[:, 0].clone()  # a view would keep the states of all layers, and their memory cold
        if position == "mask":
            if "slot" not in self._group:
                raise InputError(f"{what} of backbone {self.name} is read at the mask: set backbone.pooling=mask")
            return states[torch.arange(len(states), device=states.device), self._group["slot"].argmax(dim=1)]
        if position.startswith("span"):
            if "span" not in self._group:
                raise InputError(
                    f"{what} of backbone {self.name} is read at the marked span, and the rows have none: set "
                    "dataset.span_columns, or read at mean, last or first"
                )
            mask = self._group["span"]
        if position.endswith("last"):
            last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
            return states[torch.arange(len(states), device=states.device), last]
        weights = (mask / mask.sum(dim=1, keepdim=True)).float()
        return torch.einsum("nt,nt...->n...", weights, states.float())

    def _reduce(self, output: Tensor, tap: str) -> Any:
        if output.ndim != 3:
            raise InputError(
                f"tap {tap} gives an output of shape {tuple(output.shape)}, expected (N, T, D): tap another layer"
            )
        position = tap.partition(":")[2] or "mean"
        return self._own(output) if position == "tokens" else self._at(output, position, f"tap {tap}")

    def _heads_of(self, attention: nn.Module) -> tuple[Any, Any]:
        names = dict(attention.named_modules())
        projection = next((names[name] for name in PROJECTIONS if name in names), None)
        config = getattr(self.network, "config", None)
        return getattr(config, "num_attention_heads", None), projection

    def _at_place(self, values: Tensor, tap: str, position: str = "") -> Tensor:
        return self._at(values, position or self.pooling, f"tap {tap}")


def without_network(batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a batch tells before any network is run."""
    mask = batch["attention_mask"].bool()
    ids = Ragged(batch["input_ids"][mask], mask.sum(dim=1).cpu())
    return {"length": batch["length"][:, None].float(), "token_ids": ids}


def joined(groups: Sequence[Ragged], order: Tensor) -> Ragged:
    """Groups of rows as one, in the order of the batch.

    Args:
        groups: One after the other.
        order: (N,) which row of the batch each of their rows is.
    """
    lengths = torch.cat([group.lengths for group in groups])
    whole = torch.zeros_like(lengths)
    whole[order] = lengths
    starts = (whole.cumsum(0) - whole)[order]
    places = torch.repeat_interleave(starts - (lengths.cumsum(0) - lengths), lengths) + torch.arange(int(lengths.sum()))
    values = torch.cat([group.values for group in groups])
    found = torch.empty_like(values)
    found[places.to(values.device)] = values
    return Ragged(found, whole)
