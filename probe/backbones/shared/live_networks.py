"""Networks and transforms that a program holds already: a copy that is ours, and facts that say what it computes.

Weights do not tell what a network does with them: strides, switches and functions lie in its attributes. All of them
are facts, and so are the hooks that somebody put in.
"""

from __future__ import annotations

import copy
import enum
import functools
import json
import uuid
import warnings
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probe.core.errors import InputError
from probe.core.hashing import hash_arrays, hash_tensors
from probe.core.source import UNKNOWN, is_own, is_unknown, path_of, recipe_of, source_digest

HOOKS = ("_forward_pre_hooks", "_forward_hooks")
OF_TORCH = frozenset(vars(nn.Module()))
"""What every module has; of these only buffers, parts and hooks make a difference to an image."""


def own_copy(network: nn.Module) -> nn.Module:
    """A copy, so that the one which a program goes on with keeps its mode, its gradients and its device.

    Raises:
        InputError: For TorchScript, whose code has no attributes to read, and for what cannot be copied.
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise InputError(
            f"backbone is a {type(network).__name__} of TorchScript, whose code cannot be read from the object: save "
            'it with torch.jit.save and give ("module", {"target": "<file>.pt"})'
        )
    try:
        return copy.deepcopy(network)
    except Exception as error:  # whatever a class of the user's own raises
        raise InputError(
            f"backbone is a {type(network).__name__} that cannot be copied ({' '.join(str(error).split())[:200]}), and "
            'a run must not change it: save its weights and give ("module", {"target": "package.module:name", '
            '"checkpoint": "<file>"})'
        ) from error


def facts_of(thing: Any, what: str) -> Any:
    """`described`, with a warning where something in it cannot be told from one time to the next."""
    facts = described(thing)
    if is_unknown(facts):
        warnings.warn(
            f"{what} holds something whose content cannot be read, so that its features are extracted anew for every "
            "object: write its class into a file",
            stacklevel=2,
        )
    return facts


def described(thing: Any, above: tuple[int, ...] = ()) -> Any:
    """JSON-able facts that tell an object from one which computes something else.

    Args:
        thing: A network, a transform, or what these hold.
        above: Ids of what it lies in, where a circle ends.
    """
    if thing is None or (isinstance(thing, bool | int | str) and not isinstance(thing, enum.Enum)):
        return thing
    if isinstance(thing, float | complex | bytes | range | slice | enum.Enum):
        return repr(thing)
    if isinstance(thing, np.ndarray | np.generic | Tensor):
        return _of_array(thing)
    if id(thing) in above:
        return "above"
    inner = functools.partial(described, above=(*above, id(thing)))
    if isinstance(thing, Mapping):
        return [type(thing).__name__, [[inner(key), inner(value)] for key, value in thing.items()]]
    if isinstance(thing, list | tuple):
        return [inner(value) for value in thing]
    if isinstance(thing, set | frozenset):
        return sorted((inner(value) for value in thing), key=json.dumps)
    if isinstance(thing, MethodType):
        return {"method": inner(thing.__func__), "of": inner(thing.__self__)}
    if isinstance(thing, functools.partial):
        return {"partial": [inner(thing.func), inner(thing.args), inner(thing.keywords)]}
    if isinstance(thing, BuiltinFunctionType):
        return f"{thing.__module__}:{thing.__qualname__}"
    if isinstance(thing, type | FunctionType | ModuleType):
        return _of_code(thing)
    if isinstance(thing, nn.Module):
        return {"class": _of_code(type(thing)), **_of_module(thing, inner)}
    return _of_object(thing, inner)


def _of_array(value: Any) -> str:
    if isinstance(value, Tensor):
        return hash_tensors({"": value})
    array = np.asarray(value)
    return repr(array.tolist()) if array.dtype.hasobject else hash_arrays({"": array})


def _of_code(thing: Any) -> dict[str, str]:
    """A class, a function or a module: its path, and its source or recipe."""
    if isinstance(thing, ModuleType):
        return {"module": thing.__name__, "code": source_digest(thing) or _unknown()}
    if is_own(thing):
        return {"path": path_of(thing), "recipe": recipe_of(thing)}
    if thing.__module__ == "builtins":
        return {"path": path_of(thing)}
    return {"path": path_of(thing), "code": source_digest(thing) or _unknown()}


def _of_module(module: nn.Module, inner: Any) -> dict[str, Any]:
    """Attributes, parts and hooks of a module; parameters and persistent buffers are hashed as its weights."""
    given = {name: value for name, value in vars(module).items() if name not in OF_TORCH}
    hooks = {name: list(getattr(module, name).values()) for name in HOOKS if getattr(module, name)}
    passing = {name: module._buffers[name] for name in sorted(module._non_persistent_buffers_set)}
    return {
        "attributes": {name: inner(value) for name, value in sorted(given.items())},
        **{name: inner(value) for name, value in hooks.items()},
        **({"buffers": inner(passing)} if passing else {}),
        **({"parts": {name: inner(part) for name, part in module._modules.items()}} if module._modules else {}),
    }


def _of_object(thing: Any, inner: Any) -> Any:
    """Anything else: its class and its attributes, or how it shows itself where that names no place in memory."""
    attributes = getattr(thing, "__dict__", None)
    if attributes is not None:
        held = {name: inner(value) for name, value in sorted(attributes.items())}
        return {"class": _of_code(type(thing)), "attributes": held}
    shown = repr(thing)
    return _unknown() if " at 0x" in shown else shown


def _unknown() -> str:
    return UNKNOWN + uuid.uuid4().hex
