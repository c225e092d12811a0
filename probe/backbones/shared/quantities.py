"""What is read inside of a transformer's block: attention heads, what heads and MLP add to the stream, neurons.

Blocks that norm first make of the residual stream r_{l+1} = r_l + sum over heads of o_h + b_O + m, where z_h are the
attended values of a head (`heads`), o_h = W_O[:, h] z_h what it adds (`contribution`), m what the MLP adds (`mlp`), and
`neurons` the input of the MLP's last matrix. Where a block scales its parts (LayerScale), what is added is scaled too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from probe.backbones.shared.attention_maps import attended, patterns_of
from probe.backbones.shared.families import QUANTITIES, Blocks, Family, has_module, own_path, scale_of

Read = Callable[[Tensor], Tensor]
"""(N, ...) of (N, T, ...): at the position that a tap asks for."""


def listen_inside(backbone: Any, tap: str, tapped: dict[str, Tensor]) -> Callable[[], None] | None:
    """Puts what a tap asks for inside of a block, or ahead of the first, into `tapped`; None where it asks for a layer.

    Args:
        backbone: A `FrozenNetwork`.
        tap: Expanded.
        tapped: Gets (N, H, d_h) of `heads`, (N, H, D) of `contribution`, (N, D) of `mlp`, (N, F) of `neurons`, and
            (N, H, T, T) of `attn`, or its rows at a position (N, H, T).

    Returns:
        What ends it.
    """
    blocks: Blocks | None = backbone._blocks
    layer, _, reading = tap.partition(":")
    quantity, _, position = reading.partition(":")
    path = own_path(layer, backbone.network, blocks)
    if blocks is None or not path:
        return None
    if path == "embed" and not has_module(backbone.network, path):
        first = backbone.network.get_submodule(blocks.paths[0])

        def ahead(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tapped[tap] = backbone._reduce(given(args, kwargs), tap)

        return first.register_forward_pre_hook(ahead, with_kwargs=True).remove
    if quantity not in QUANTITIES or path not in blocks.paths or blocks.family is None:
        return None
    inside = Inside(backbone.network.get_submodule(path), blocks.family, getattr(backbone.network, "config", None))

    def keep(values: Tensor) -> Tensor:
        return backbone._at_place(values, tap, position)

    hooks = _hooks(inside, quantity, keep, tap, tapped, backbone)

    def stop() -> None:
        for hook in hooks:
            hook.remove()

    return stop


def given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The stream (N, T, D) that a block is given."""
    found: Tensor = args[0] if args else kwargs["hidden_states"]
    return found


class Inside:
    """A block, its parts by the words of its family."""

    def __init__(self, block: nn.Module, family: Family, config: Any):
        self.block, self.family = block, family
        self.output: Any = block.get_submodule(family.output)
        self.attention: Any = block.get_submodule(family.output.partition(".")[0])
        mixer = block.get_submodule(family.output.rpartition(".")[0])
        self.n_heads = int(getattr(mixer, "num_heads", None) or config.num_attention_heads)
        self.n_rows = 0

    def by_row(self, values: Any) -> Tensor:
        """(N, T, ...) of an output, also of what OPT runs as (N T, ...)."""
        found: Tensor = values[0] if isinstance(values, tuple) else values
        return found.unflatten(0, (self.n_rows, -1)) if found.ndim == 2 else found

    def scaled(self, values: Tensor, part: int) -> Tensor:
        """What the block adds, of what its attention (0) or MLP (1) gives."""
        scale = scale_of(self.block, self.family.scales[part])
        return values if scale is None else values * scale.float()


def _hooks(inside: Inside, quantity: str, read: Read, tap: str, tapped: dict[str, Tensor], backbone: Any) -> list[Any]:
    def count(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inside.n_rows = len(given(args, kwargs))

    def of_heads(z: Tensor) -> None:
        z = read(z)
        tapped[tap] = z if quantity == "heads" else inside.scaled(contributions(z, inside.output), 0)

    def of_mlp(_: nn.Module, __: Any, output: Any) -> None:
        tapped[tap] = inside.scaled(read(inside.by_row(output)), 1)

    def of_neurons(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        tapped[tap] = read(inside.by_row(inputs[0]))

    def of_patterns(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        at = read if tap.count(":") > 1 else None
        tapped[tap] = patterns_of(inside.attention, (args, kwargs, output), backbone, tap, at)

    counted = inside.block.register_forward_pre_hook(count, with_kwargs=True)
    if quantity == "attn":
        return [counted, inside.attention.register_forward_hook(of_patterns, with_kwargs=True)]
    if quantity == "mlp":
        return [counted, inside.block.get_submodule(inside.family.mlp).register_forward_hook(of_mlp)]
    if quantity == "neurons":
        return [counted, inside.block.get_submodule(inside.family.neurons).register_forward_pre_hook(of_neurons)]
    return [counted, _hook_heads(inside, of_heads)]


def _hook_heads(inside: Inside, of_heads: Callable[[Tensor], None]) -> Any:
    if isinstance(inside.attention, nn.MultiheadAttention):  # which calls no module of its own
        return inside.attention.register_forward_pre_hook(lambda m, inputs: of_heads(attended(m, inputs[0])))
    return inside.output.register_forward_pre_hook(
        lambda m, inputs: of_heads(inputs[0].unflatten(-1, (inside.n_heads, -1)))
    )


def contributions(z: Tensor, matrix: Any) -> Tensor:
    """(N, H, D) of z (N, H, d_h): o_h = W_O[:, h] z_h, without the bias."""
    weight = matrix.weight.T if type(matrix).__name__ == "Conv1D" else matrix.weight  # GPT-2 has it (in, out)
    with torch.autocast(z.device.type, enabled=False):
        return torch.einsum("nhd,ohd->nho", z.float(), weight.float().unflatten(1, z.shape[1:]))
