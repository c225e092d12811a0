"""What backbones of images share: the size of images, their way from bytes to the network, the axes of maps."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from probe.backbones.shared.compiled import Compiled, check_compiler, n_rows, takes_fewer_rows
from probe.backbones.shared.crew import Crew, is_watched
from probe.backbones.shared.network import FrozenNetwork
from probe.backbones.shared.outputs import is_channels_last, patch_grid, token_kinds
from probe.backbones.shared.parts import joined, n_at_once, side_by_side, split
from probe.core.base import Batch
from probe.core.device import full_precision
from probe.core.errors import InputError
from probe.core.images import CONVERSION

COMPILED = {True: "frozen, in parts", False: "frozen"}
"""Names what programs compute, by whether a call on a processor takes fewer rows than of small images: another word
wherever last bits change. The same on a GPU, as no device is part of an identity."""


class ImageNetwork(FrozenNetwork):
    """Base class of backbones that run a network on images.

    A subclass sets up the network and implements `transform`, `_features`, `_architecture` and `_preprocessing`.

    Args:
        image_size: Height and width of what `transform` gives, in pixels.
        n_channels: Of what `transform` gives, 3, or 1 for brightness alone.
        channels_last: Whether four-dimensional outputs are (N, H, W, C) rather than (N, C, H, W). Of a tapped layer its
            shape says so where it can: a map has the proportions of the image.
        memory_format: How weights and images lie in memory, whatever the order of their axes; see `fast_layout`.
        normalisation: What makes of the bytes that `transform` gives, on the device, what the network reads, such as
            `probe.backbones.shared.pixels.Normalisation`; None where `transform` gives that itself.
        compile: Whether a compiled program gives the kinds of the network's output, see
            `probe.backbones.shared.compiled`; taps come from a pass of their own, as without. Part of the identity, as
            last bits differ.

    The other arguments are those of `FrozenNetwork`.

    Attributes:
        runs_side_by_side: Whether copies of the network's modules around the same tensors may run at once in threads.
            Not where a network keeps something outside of its modules while it runs, or writes into its tensors, as
            that of a user may. One part runs after the other all the same where a copy is not the same network, where
            a layer has hooks or a `forward` of its own, and within a mode of torch's dispatch or a profiler.
    """

    reads = "images"
    runs_side_by_side: ClassVar[bool] = False

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        image_size: tuple[int, int],
        precision: str = "float32",
        taps: Sequence[str] = (),
        n_prefix_tokens: int = 0,
        n_channels: int = 3,
        channels_last: bool = False,
        memory_format: torch.memory_format = torch.preserve_format,
        normalisation: nn.Module | None = None,
        compile: bool = False,
    ):
        super().__init__(network, name=name, precision=precision, taps=taps, n_prefix_tokens=n_prefix_tokens)
        self.network.to(memory_format=memory_format)
        self.image_size = image_size
        self.n_channels = n_channels
        self._channels_last = channels_last
        self._layout = memory_format
        self._normalisation = normalisation or nn.Identity()
        self._turned: dict[str, bool] = {}
        self._crew = Crew()
        if compile:
            check_compiler(name)
        self._program = Compiled(self._features, self.network, name, memory_format) if compile else None

    def transform(self, row: Any) -> Tensor:
        """One image as a (C, H, W) tensor: uint8 where there is a normalisation, else as the network reads it."""
        raise NotImplementedError

    def _blank(self) -> Tensor:
        return torch.zeros(1, self.n_channels, *self.image_size)

    def _prepared(self, batch: Batch, device: torch.device) -> Any:
        # Normalised before the layout: channels side by side are slow to broadcast to.
        return self._normalisation(super()._prepared(batch, device)).to(memory_format=self._layout)

    @property
    def program_rows(self) -> int:
        """Rows of each call of the compiled program; 0 without one."""
        return 0 if self._program is None else n_rows(self.device, math.prod(self.image_size))

    @contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Within, the network runs as it is."""
        program, self._program = self._program, None
        try:
            yield
        finally:
            self._program = program

    def _asked_for(self, batch: Any, kinds: Sequence[str]) -> dict[str, Tensor]:
        taps, found = [kind for kind in kinds if kind in self._taps], dict[str, Tensor]()
        if self._program is None:
            return self._in_parts(batch, kinds, taps)
        _ = self.shapes  # a network that is seen for the first time notes how its outputs lie
        if len(taps) < len(kinds):
            found |= self._run(batch, [], self._program)
        if taps:
            found |= self._in_parts(batch, taps, taps)
        return found

    def _in_parts(self, batch: Tensor, kinds: Sequence[str], taps: Sequence[str]) -> dict[str, Tensor]:
        """The kinds of a batch, some of them taps; on a processor of a part at a time, or of several side by side."""

        def run_by(backbone: ImageNetwork, part: Tensor) -> dict[str, Tensor]:
            found = backbone._run(part, taps)
            return {kind: found[kind] for kind in kinds}

        if self.device != "cpu":
            return run_by(self, batch)
        n_threads = torch.get_num_threads()
        n = n_at_once(batch, n_threads) if self.runs_side_by_side else 1
        if n > 1 and not is_watched(self.network):
            with self._crew.lock:
                if crew := self._replicas(n):
                    with full_precision():  # of the process, and put back by each run
                        runs = [partial(run_by, backbone) for backbone in crew]
                        return joined(side_by_side(runs, split(batch, n), n_threads))
        return joined([run_by(self, part) for part in split(batch)])

    def _replicas(self, n: int) -> list[ImageNetwork]:
        """Backbones like this one around copies of its network; none where a copy is not the same network."""

        def around(network: nn.Module) -> ImageNetwork:
            replica = copy.copy(self)
            replica.network = network
            vars(replica).pop("_blocks", None)  # which lie in the network
            return replica

        def agrees(network: nn.Module) -> bool:
            row = torch.rand(self._blank().shape, generator=torch.Generator().manual_seed(0))
            own, theirs = self._run(row, []), around(network)._run(row, [])
            return all(torch.equal(own[kind], theirs[kind]) for kind in own)

        return [around(network) for network in self._crew.of(self.network, n, agrees)]

    def identity(self) -> dict[str, Any]:
        """Facts that determine every feature.

        Taps are among them only where their maps lie otherwise than those of the network: the axes were once confused.
        """
        facts = super().identity()
        facts["preprocessing"] = {"conversion": CONVERSION, **facts["preprocessing"]}
        if self._program is not None:
            facts["compiled"] = COMPILED[takes_fewer_rows(math.prod(self.image_size))]
        if self._taps:
            _ = self.shapes  # which sees all of them
        return {**facts, "channels_last": dict(sorted(self._turned.items()))} if self._turned else facts

    def to(self, device: str) -> Self:
        """Moves the network; features are computed there."""
        self._normalisation.to(device)
        self._crew = Crew()
        if self._program is not None:  # its weights are constants of a device
            self._program = Compiled(self._features, self.network, self.name, self._layout)
        return super().to(device)

    def _as_map(self, output: Tensor, tap: str) -> Tensor:
        last = self._is_channels_last(output.shape, tap)
        if last != self._channels_last:
            self._turned[tap] = last
        return output.permute(0, 3, 1, 2) if last else output

    def _grid(self, output: Tensor, tap: str) -> Tensor:
        if output.ndim == 4:
            return self._as_map(output, tap)
        if output.ndim == 3:
            output = self._in_order(output)
            n = self._n_prefix(output, tap)
            found = token_kinds(output, n, patch_grid(output.shape[1] - n, self.image_size, self._patches_per_side()))
            if "map" in found:
                return found["map"]
        raise InputError(
            f"tap {tap} gives an output of shape {tuple(output.shape)}, expected a map, or patches that fill a grid: "
            "tap another layer"
        )

    def _patches_per_side(self) -> Any:
        """(height, width) in patches, where the network knows it."""
        embedding = getattr(self.network, "patch_embed", None)
        return getattr(embedding, "grid_size", getattr(self.network, "grid_size", None))

    def _is_channels_last(self, shape: Sequence[int], what: str) -> bool:
        seen = is_channels_last(shape, self.image_size)
        return self._channels_last if seen is None else seen


def fast_layout(network: nn.Module) -> torch.memory_format:
    """Channels last in memory where convolutions hold a quarter of the weights or more.

    Their kernels work on pixels with all channels side by side, and would reorder each map before and after. Features
    are the same but for rounding. Networks that take maps apart by `view` cannot be run so.
    """
    within = sum(p.numel() for m in network.modules() if isinstance(m, nn.Conv2d) for p in m.parameters(recurse=False))
    n_parameters = sum(p.numel() for p in network.parameters())
    return torch.channels_last if within and within >= n_parameters / 4 else torch.preserve_format
