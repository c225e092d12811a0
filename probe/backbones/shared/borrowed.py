"""A network that somebody goes on training: its weights are read where they lie, and nothing of it is touched."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from probe.core.errors import InputError

SHARDED = {"DTensor", "FlatParameter"}
"""Weights of which each process has a part."""


@dataclass(frozen=True)
class Borrowed:
    """A network as a backbone for a moment, until its weights change.

    Attributes:
        network: Inside of what wraps it for training.
        named: Whether its features are to be kept under the name of its weights and code.
    """

    network: nn.Module
    named: bool = False

    def copy(self) -> nn.Module:
        """A network of the same weights, in the same memory, without gradients.

        All else is its own: modes, buffers, hooks, attributes. Whatever happens to it, the one that trains stays as it
        is, as long as nothing writes into weights.

        Raises:
            InputError: It cannot be copied.
        """
        if isinstance(self.network, torch.jit.ScriptModule):
            raise InputError(
                f"the network is a {type(self.network).__name__} of TorchScript, which cannot be copied without its "
                "weights: give the module that it was scripted from"
            )
        if sharded := {type(p).__name__ for p in self.network.parameters()} & SHARDED:
            raise InputError(
                f"the weights of the network are sharded ({', '.join(sharded)}), and no process could run it alone: "
                "save them whole, and measure them by probe.run with backbone.checkpoint"
            )
        taken: dict[int, Any] = {}  # by id: what stands in for a tensor wherever it occurs
        for module in self.network.modules():
            for tensor in tensors_of(module):
                is_weight = isinstance(tensor, nn.Parameter)
                taken[id(tensor)] = (
                    nn.Parameter(tensor.detach(), requires_grad=False) if is_weight else tensor.detach().clone()
                )
        try:
            return copy.deepcopy(self.network, taken)
        except Exception as error:  # whatever a class of the user's own raises
            raise InputError(
                f"the network is a {type(self.network).__name__} that cannot be copied "
                f"({' '.join(str(error).split())[:200]}): give the part of it that makes the features, or keep what "
                "cannot be copied outside of it"
            ) from error


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside of DistributedDataParallel, DataParallel and torch.compile."""
    while True:
        inner = getattr(network, "_orig_mod", None)
        if inner is None and isinstance(network, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = network.module
        if not isinstance(inner, nn.Module):
            return network
        network = inner


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Weights, buffers, and what else it keeps, such as the activations of its last batch."""
    return [leaf for leaf in tree_leaves(dict(vars(module), _modules=None)) if isinstance(leaf, Tensor)]
