"""Copies of a network that run at the same time as it would, kept from batch to batch."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule
from torch.nn.modules import module as of_all_modules
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from probe.backbones.shared.borrowed import tensors_of

HOOKS = ("_forward_hooks", "_forward_pre_hooks")
PLAIN = (bool, int, float, str, torch.dtype, type(None))


class Crew:
    """Copies of a network's modules around the same tensors; what one keeps while it runs belongs to it alone.

    They serve while the network is as it was when they were made: the same modules, classes, weights, buffers and
    attributes. Whoever sets one of these, or an element of a list or dict among them, gets other copies at the next
    batch; weights and buffers that are written into are shared. What changes deeper within an attribute goes unseen.
    A network that cannot be copied is not tried again.

    Attributes:
        lock: Of whoever runs the copies, one batch at a time.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._facts: list[Any] | None = None
        self._copies: list[nn.Module] = []
        self._refused: nn.Module | None = None

    def __reduce__(self) -> Any:
        """A copy, or what another process gets, begins anew."""
        return Crew, ()

    def of(self, network: nn.Module, n: int, agrees: Callable[[nn.Module], bool]) -> list[nn.Module]:
        """Copies of a network, as many as asked for, or none where a copy is not the same network.

        Args:
            network: In eval mode.
            n: How many.
            agrees: Whether a copy computes what the network does; asked once.
        """
        if network is self._refused:
            return []
        facts = _facts(network)
        if facts != self._facts:
            self._copies = []
        while len(self._copies) < n:
            made = copied(network)
            if made is None or not (self._copies or agrees(made)):
                self._copies, self._refused = [], network
                return []
            self._copies.append(made)
            facts = _facts(network)  # it may have kept something of the row on which they agree
        self._facts = facts
        return self._copies[:n]


def copied(network: nn.Module) -> nn.Module | None:
    """Modules of their own around the same tensors; None where they cannot be had or are not the same.

    Graphs of torch.fx come back from a copy in training mode, saved programs without their tensors.
    """
    if any(isinstance(module, GraphModule | torch.jit.ScriptModule) for module in network.modules()):
        return None
    tensors = {id(tensor): tensor for module in network.modules() for tensor in tensors_of(module)}
    try:
        made = copy.deepcopy(network, tensors)
    except Exception:  # whatever a class raises
        return None
    pairs = zip_longest(network.named_modules(), made.named_modules(), fillvalue=("", None))
    return made if all(name == other and _is_alike(own, theirs) for (name, own), (other, theirs) in pairs) else None


def _is_alike(own: nn.Module | None, theirs: nn.Module | None) -> bool:
    """Whether two modules are of one class and mode around the same tensors, and yet two."""
    if own is None or theirs is None or own is theirs or type(own) is not type(theirs):
        return False
    tensors, others = ({**module._parameters, **module._buffers} for module in (own, theirs))
    return own.training == theirs.training and _ids(tensors) == _ids(others)


def _ids(values: dict[Any, Any]) -> dict[Any, int]:
    return {key: id(value) for key, value in values.items()}


def _facts(network: nn.Module) -> list[Any]:
    """What a network is made of, to tell whether it is still the same; copies keep its tensors, and so their ids."""
    return [
        (name, id(module), type(module), {key: _fact(value) for key, value in vars(module).items()})
        for name, module in network.named_modules()
    ]


def _fact(value: Any) -> Any:
    if isinstance(value, dict):
        return _ids(value)
    if isinstance(value, list | tuple):
        return [one if isinstance(one, PLAIN) else id(one) for one in value]
    return value if isinstance(value, PLAIN) else id(value)


def is_watched(network: nn.Module) -> bool:
    """Whether somebody notes, or changes, what a network does: by hooks, modes of this thread, a profiler.

    Of copies on other threads he would see nothing, or several at once.
    """
    hooks_of_all = (of_all_modules._global_forward_hooks, of_all_modules._global_forward_pre_hooks)
    if _get_current_function_mode_stack() or _get_current_dispatch_mode_stack() or any(hooks_of_all):
        return True
    if torch.autograd._profiler_enabled():
        return True
    return any("forward" in vars(m) or any(getattr(m, hooks) for hooks in HOOKS) for m in network.modules())
