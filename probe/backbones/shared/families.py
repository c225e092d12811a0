"""Where families of transformers keep their blocks, and what these add to the residual stream: a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from probe.core.errors import InputError

QUANTITIES = ("heads", "contribution", "mlp", "neurons", "attn")
"""What is read of a block besides its output."""
ALIAS = re.compile(r"embed|norm|blocks\.(\*|\d+)")
"""What every family's parts may be called by."""


@dataclass(frozen=True)
class Family:
    """Paths below a block, and beside the list of blocks.

    Attributes:
        name: As errors say it.
        classes: Of its blocks.
        output: The matrix that mixes the attention heads, W_O; its input are the heads side by side.
        mlp: What adds to the stream behind the attention.
        neurons: The last matrix of that.
        norm: Behind the last block; empty where each block ends in a norm of its own.
        scales: What multiplies attention and MLP before they are added, where a block has one of these.
    """

    name: str
    classes: tuple[str, ...]
    output: str
    mlp: str
    neurons: str
    norm: str = ""
    scales: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


TIMM_SCALES = ("ls1", "gamma_1"), ("ls2", "gamma_2")
FAMILIES = (
    Family("Llama, Mistral, Qwen2 and Qwen3",
           ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"),
           "self_attn.o_proj", "mlp", "mlp.down_proj", "norm"),
    Family("GPT-2", ("GPT2Block",), "attn.c_proj", "mlp", "mlp.c_proj", "ln_f"),
    Family("GPT-Neo", ("GPTNeoBlock",), "attn.attention.out_proj", "mlp", "mlp.c_proj", "ln_f"),
    Family("GPT-NeoX", ("GPTNeoXLayer",), "attention.dense", "mlp", "mlp.dense_4h_to_h", "final_layer_norm"),
    Family("OPT", ("OPTDecoderLayer",), "self_attn.out_proj", "fc2", "fc2", "final_layer_norm"),
    Family("BERT and RoBERTa", ("BertLayer", "RobertaLayer", "XLMRobertaLayer"),
           "attention.output.dense", "output.dense", "output.dense"),
    Family("ModernBERT", ("ModernBertEncoderLayer",), "attn.Wo", "mlp", "mlp.Wo", "final_norm"),
    Family("timm's vision transformers", ("Block", "EvaBlock"), "attn.proj", "mlp", "mlp.fc2", "norm", TIMM_SCALES),
    Family("open_clip's vision transformers", ("ResidualAttentionBlock",), "attn.out_proj", "mlp", "mlp.c_proj",
           "ln_post", (("ls_1",), ("ls_2",))),
)  # fmt: skip


@dataclass(frozen=True)
class Blocks:
    """The blocks of a network.

    Attributes:
        paths: Of all of them, in order.
        norm: Path of the norm behind the last one; empty where there is none, or none is known.
        family: None where it is none of the table.
    """

    paths: tuple[str, ...]
    norm: str
    family: Family | None

    def path_of(self, layer: str) -> str:
        """The layer's own path, of an alias too."""
        if layer == "norm":
            return self.norm
        return self.paths[int(layer.rpartition(".")[2])] if layer.startswith("blocks.") else layer


def blocks_of(network: nn.Module) -> Blocks | None:
    """The blocks of a family that is known, else the longest list of modules by weights; None where there is none."""
    named = dict(network.named_modules())
    for path, module in named.items():
        for family in FAMILIES:
            inside = dict(module.named_modules()) if type(module).__name__ in family.classes else {}
            if {family.output, family.mlp, family.neurons} <= set(inside):
                above = path.rpartition(".")[0]
                return Blocks(_items(above, named), _norm_above(above, family.norm, named), family)
    lists = {path: module for path, module in named.items() if isinstance(module, nn.ModuleList) and len(module) > 1}
    if not lists:
        return None
    largest = max(lists, key=lambda path: sum(p.numel() for p in lists[path].parameters()))
    return Blocks(_items(largest, named), "", None)


def _items(path: str, named: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{path}.{name}" for name, _ in named[path].named_children())


def _norm_above(path: str, norm: str, named: dict[str, Any]) -> str:
    """The norm beside the list of blocks, or further up."""
    while norm and path:
        path = path.rpartition(".")[0]
        if (found := f"{path}.{norm}".lstrip(".")) in named:
            return found
    return ""


def expand_alias(pattern: str, network: nn.Module, name: str) -> list[str]:
    """`embed`, `norm`, or the `blocks.<number>` that a pattern stands for.

    Raises:
        InputError: The network has none of these.
    """
    found = blocks_of(network)
    if found is None:
        raise InputError(
            f"tap {pattern} names blocks of a transformer, backbone {name} has no list of blocks: name its own layers"
        )
    if pattern == "norm" and not found.norm:
        raise InputError(
            f"tap norm asks for the norm behind the last block, backbone {name} has none that is known: tap blocks.*, "
            "or the norm by its own name"
        )
    if not pattern.startswith("blocks."):
        return [pattern]
    numbers = range(len(found.paths))
    asked = [n for n in numbers if pattern in ("blocks.*", f"blocks.{n}")]
    if not asked:
        raise InputError(f"tap {pattern} counts beyond the {len(numbers)} blocks of backbone {name}: count from 0")
    return [f"blocks.{n}" for n in asked]


def check_quantity(tap: str, quantity: str, layer: str, network: nn.Module, name: str) -> None:
    """Refuses what a family does not have, with those that it has."""
    found = blocks_of(network)
    if found is None or own_path(layer, network, found) not in found.paths:
        raise InputError(
            f"tap {tap} asks for {quantity} of {layer}, which is no block of backbone {name}: tap "
            f"blocks.<number>:{quantity}"
        )
    if found.family is None:
        known = "; ".join(family.name for family in FAMILIES)
        raise InputError(
            f"tap {tap} asks for {quantity}, backbone {name} is of no family in which that is known ({known}): tap "
            "embed or blocks.<number>, or a layer by its own name"
        )


def own_path(layer: str, network: nn.Module, blocks: Blocks | None) -> str:
    """The path of a layer, or of what an alias stands for; a layer that has the name itself goes first."""
    if blocks is None or not ALIAS.fullmatch(layer) or has_module(network, layer):
        return layer
    return blocks.path_of(layer)


def has_module(network: nn.Module, path: str) -> bool:
    """Whether there is a module by that name, without a walk through all of them: each tap asks in every batch."""
    try:
        network.get_submodule(path)
    except AttributeError:
        return False
    return True


def scale_of(block: nn.Module, names: tuple[str, ...]) -> Tensor | None:
    """What a block multiplies a part of it with before it adds it to the stream."""
    for name in names:
        found = getattr(block, name, None)
        found = getattr(found, "gamma", found)
        if isinstance(found, Tensor):
            return found
    return None
