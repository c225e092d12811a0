"""Networks of which nobody has said how their outputs lie: it is found out where it can be, and asked for where not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from probe.backbones.shared.image_network import ImageNetwork
from probe.backbones.shared.outputs import is_channels_last, map_kinds, patch_grid, token_kinds
from probe.core.errors import InputError

LAYOUTS = ("channels_first", "channels_last", "sequence")
OUTPUT = "output"


class ForeignNetwork(ImageNetwork):
    """Base class of backbones that run networks from anywhere.

    A map's axes follow from its proportions, which are those of the image; the tokens before the patches from what the
    network calls them, and from the patches, which fill a grid. What stays open is refused with the option to set.

    Args:
        layout: `channels_first` or `channels_last`, the order of a map's axes where its shape leaves it open, or
            against it; `sequence` for tokens that stand on no grid; None to find out.
        n_prefix_tokens: How many tokens stand before the patches; None to find out.
        n_class_tokens: How many such tokens the network has, by its own words.
        grid: (height, width) in patches, where the network knows it.

    The other arguments are those of `ImageNetwork`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        layout: str | None = None,
        n_prefix_tokens: int | None = None,
        n_class_tokens: int = 0,
        grid: tuple[int, int] | None = None,
        **options: Any,
    ):
        if layout is not None and layout not in LAYOUTS:
            raise InputError(f"layout is {layout!r}, expected one of {', '.join(LAYOUTS)}, or null to find out: set so")
        self._axes, self._patch_grid, self._told = layout, grid, n_prefix_tokens
        self._prefixes: dict[str, int] = {}
        self._recounted: dict[str, int] = {}
        super().__init__(
            network, n_prefix_tokens=n_class_tokens if n_prefix_tokens is None else n_prefix_tokens, **options
        )

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of each kind, found by running one blank image."""
        try:
            return super().shapes
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            size = " x ".join(map(str, (self.n_channels, *self.image_size)))
            text = " ".join(str(error).split())[:200]
            raise InputError(
                f"backbone {self.name} cannot read an image of {size} ({text}): give it the size that it was made for, "
                "and where it reads one channel a mean and a std of one number each (backbone.size, .mean, .std)"
            ) from error

    @property
    def n_prefix_tokens(self) -> int:
        """How many of the tokens stand before the patches; none in a map."""
        _ = self.shapes
        return self._prefixes.get(OUTPUT, self._n_prefix_tokens)

    def identity(self) -> dict[str, Any]:
        """Facts that determine every feature; how outputs lie is among them where it was once taken for otherwise."""
        _ = self.shapes  # which sees all outputs
        facts = super().identity()
        return {**facts, "n_prefix_tokens": dict(sorted(self._recounted.items()))} if self._recounted else facts

    def _former_prefix(self, n_tokens: int, what: str) -> int:
        """How many of a layer's tokens were taken for prefix before they were counted by the grid."""
        return 0

    def _record(self, what: str, n: int, n_tokens: int) -> int:
        self._prefixes[what] = n
        if n != self._former_prefix(n_tokens, what):
            self._recounted[what] = n
        return n

    def _arranged(self, output: Tensor) -> dict[str, Tensor]:
        """`tokens` and `map` of a map, or of tokens."""
        if output.ndim == 4:
            self._record(OUTPUT, 0, output.shape[1:].numel())
            return map_kinds(self._as_map(output, OUTPUT))
        n = self._n_prefix(output, OUTPUT)
        grid = None if self._axes == "sequence" else patch_grid(output.shape[1] - n, self.image_size, self._patch_grid)
        return token_kinds(self._in_order(output), n, grid)

    def _patches(self, tokens: Tensor) -> Tensor:
        """The tokens of the output without those before the patches."""
        return tokens[:, self._prefixes.get(OUTPUT, 0) :]

    def _patches_per_side(self) -> Any:
        return None if self._axes == "sequence" else self._patch_grid

    def _is_channels_last(self, shape: Sequence[int], what: str) -> bool:
        seen = is_channels_last(shape, self.image_size)
        told = {"channels_first": False, "channels_last": True}.get(self._axes or "")
        for last in (told, seen) if what == OUTPUT else (seen, told):
            if last is not None:
                return last
        raise InputError(
            f"the {what} of backbone {self.name} has the shape {tuple(shape[1:])}, in which the channels may stand "
            "first or last: set backbone.layout=channels_first or backbone.layout=channels_last"
        )

    def _n_prefix(self, tokens: Tensor, tap: str) -> int:
        return self._record(tap, self._count(tokens.shape[1], tap), tokens.shape[1])

    def _count(self, n_tokens: int, what: str) -> int:
        """How many of a layer's tokens stand before the patches: none where they join behind it, or were left out."""
        found, (height, width) = self._n_prefix_tokens, self.image_size
        if self._axes == "sequence" or height != width:
            return (
                found if found < n_tokens and (not self._patch_grid or n_tokens != math.prod(self._patch_grid)) else 0
            )
        for n in (found,) if self._told is not None and what == OUTPUT else (found, 0):
            if patch_grid(n_tokens - n, self.image_size, self._patch_grid):
                return n
        raise InputError(
            f"the {what} of backbone {self.name} has {n_tokens} tokens, of which {n_tokens - found} are left without "
            f"the {found} taken for prefix tokens, expected patches that fill a square grid: set "
            "backbone.n_prefix_tokens to how many stand before the patches, or backbone.layout=sequence where there "
            "is no grid"
        )
