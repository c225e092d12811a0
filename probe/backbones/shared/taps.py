"""Which layers of a network are read: names with wildcards, and the last blocks of a transformer together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from probe.backbones.shared.families import ALIAS, QUANTITIES, check_quantity, expand_alias, own_path
from probe.core.errors import InputError
from probe.core.kinds import KINDS

READING = "version 2"
"""How layers become features, here and in `network.py`: part of every identity, to be changed together with them."""
REDUCTIONS = (*(reduction for kind in KINDS.values() for reduction in kind.reductions), "heads")
LAST = re.compile(r"last(\d+)(?::(.*))?")
LAST_REDUCTIONS = ("cls", "mean", "cls+mean")
BLOCKS = (
    ("blocks", "norm"),
    ("transformer.resblocks", "ln_post"),
    ("encoder.layer", "layernorm"),
    ("encoder.layers", "post_layernorm"),
)
"""Where vision transformers (timm, open_clip, transformers) keep their blocks and the norm behind the last one."""


def expand(
    taps: Sequence[str], network: nn.Module, name: str, reductions: Sequence[str] = REDUCTIONS
) -> tuple[str, ...]:
    """Taps with `*` replaced by the layers that it stands for, in the network's order, each once.

    Raises:
        InputError: A tap names no layer of the network, a reduction that there is not, or more blocks than it has.
    """
    layers = [layer for layer, _ in network.named_modules() if layer]
    expanded: list[str] = []
    for tap in taps:
        pattern, colon, reduction = tap.partition(":")
        allowed: Sequence[str] = LAST_REDUCTIONS if LAST.fullmatch(tap) else (*reductions, *QUANTITIES[1:])
        quantity, _, position = reduction.partition(":")
        if quantity in QUANTITIES and position:
            allowed = [f"{quantity}:{known}" for known in reductions if known not in (*QUANTITIES, "tokens", "map")]
        if colon and reduction not in allowed:
            raise InputError(f"tap {tap} asks for {reduction!r}, expected one of {', '.join(allowed)}: use one of them")
        if LAST.fullmatch(tap):
            last_blocks(tap, network, name)
            expanded.append(tap)
            continue
        regex = re.compile(re.escape(pattern).replace(r"\*", r"[^.]+"))
        found = [layer for layer in layers if regex.fullmatch(layer)]
        if not found and ALIAS.fullmatch(pattern):
            found = expand_alias(pattern, network, name)
        if quantity in QUANTITIES and found and (quantity != "heads" or position or ALIAS.fullmatch(pattern)):
            check_quantity(tap, quantity, found[0], network, name)
        if not found:
            some = [layer for layer in layers if layer.count(".") <= 1]
            raise InputError(
                f"tap {tap} names no layer of backbone {name}, its layers are {', '.join(some[:20])}"
                f"{', ...' if len(some) > 20 else ''}: name one of these or a part of one"
            )
        expanded += [f"{layer}{colon}{reduction}" for layer in found]
    return tuple(dict.fromkeys(expanded))


def layers_of(network: nn.Module) -> list[str]:
    """The upper layers of a network as taps name them, those that differ in a number alone as one.

    `blocks.* (12)` stands for blocks.0 to blocks.11; behind them the blocks that `last<n>` reads, where there are some.
    """
    upper = [layer for layer, _ in network.named_modules() if layer and layer.count(".") <= 1]
    counts = Counter(re.sub(r"(^|\.)\d+$", r"\1*", layer) for layer in upper)
    found = [f"{name} ({n})" if "*" in name else name for name, n in counts.items()]
    for blocks_name, norm_name in BLOCKS:
        blocks, norm = (_submodule(network, path) for path in (blocks_name, norm_name))
        if isinstance(blocks, nn.ModuleList | nn.Sequential) and norm is not None:
            found.append(f"last1 to last{len(blocks)}")
    return found


def last_blocks(tap: str, network: nn.Module, name: str) -> tuple[list[nn.Module], Any, str]:
    """The blocks that a tap `last<n>` or `last<n>:<reduction>` means, the final norm, the reduction."""
    found = LAST.fullmatch(tap)
    n, reduction = (int(found[1]), found[2] or "cls") if found else (0, "")
    for blocks_name, norm_name in BLOCKS:
        blocks, norm = (_submodule(network, path) for path in (blocks_name, norm_name))
        if isinstance(blocks, nn.ModuleList | nn.Sequential) and norm is not None:
            if not 1 <= n <= len(blocks):
                raise InputError(f"tap {tap} asks for {n} blocks, backbone {name} has {len(blocks)}: ask for fewer")
            return list(blocks)[-n:], norm, reduction
    raise InputError(
        f"tap {tap} needs transformer blocks and a norm behind them, backbone {name} has no such: name layers instead"
    )


def listen_layer(backbone: Any, tap: str, tapped: dict[str, Tensor]) -> Callable[[], None]:
    """Puts the output of one layer of a `FrozenNetwork`, reduced, into `tapped`, until what it returns is called."""
    layer, _, reduction = tap.partition(":")
    module = backbone.network.get_submodule(own_path(layer, backbone.network, backbone._blocks))
    if reduction == "heads":
        n_heads, projection = backbone._heads_of(module)
        if not isinstance(n_heads, int) or not isinstance(projection, nn.Module):
            raise InputError(
                f"tap {tap}: {layer} is a {type(module).__name__} without num_heads and proj, expected multi-head "
                "attention: tap another layer or leave :heads out"
            )

        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            tapped[tap] = backbone._at_place(inputs[0].unflatten(-1, (n_heads, -1)), tap)

        return projection.register_forward_pre_hook(before).remove

    def after(_: nn.Module, __: Any, output: Any) -> None:
        tapped[tap] = backbone._reduce(output[0] if isinstance(output, tuple | list) else output, tap)

    remove: Callable[[], None] = module.register_forward_hook(after).remove
    return remove


def listen_last(backbone: Any, tap: str, tapped: dict[str, Tensor]) -> Callable[[], None]:
    """Puts what a tap `last<n>` means of a `FrozenNetwork` into `tapped`, until what it returns is called."""
    blocks, norm, reduction = last_blocks(tap, backbone.network, backbone.name)
    outputs: list[Tensor] = []

    def after(_: nn.Module, __: Any, output: Any) -> None:
        outputs.append(backbone._in_order(output[0] if isinstance(output, tuple | list) else output))
        if len(outputs) == len(blocks):
            tapped[tap] = join_blocks(outputs, norm, reduction, backbone._n_prefix(outputs[-1], tap), tap)

    stack = ExitStack()
    for block in blocks:
        stack.callback(block.register_forward_hook(after).remove)
    return stack.close


def join_blocks(outputs: Sequence[Tensor], norm: Any, reduction: str, n_prefix_tokens: int, tap: str) -> Tensor:
    """(N, n D) normed outputs of blocks side by side; `cls+mean` ends with the mean of the last one's patches.

    The feature sets of DINOv2's linear evaluation (Oquab et al., 2023, arXiv 2304.07193).
    """
    if any(output.ndim != 3 for output in outputs):
        raise InputError(f"tap {tap}: the blocks give {tuple(outputs[0].shape)}, expected tokens: name layers instead")
    if "cls" in reduction and n_prefix_tokens == 0:
        raise InputError(f"tap {tap}: the backbone has no prefix tokens, expected a class token: ask for :mean")
    normed = [norm(output) for output in outputs]
    if reduction == "mean":
        return torch.cat([tokens[:, n_prefix_tokens:].mean(1) for tokens in normed], dim=1)
    parts = [tokens[:, 0] for tokens in normed]
    return torch.cat([*parts, normed[-1][:, n_prefix_tokens:].mean(1)] if reduction == "cls+mean" else parts, dim=1)


def _submodule(network: nn.Module, path: str) -> nn.Module | None:
    try:
        return network.get_submodule(path)
    except AttributeError:
        return None
