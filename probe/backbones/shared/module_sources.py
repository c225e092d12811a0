"""Where a network of one's own comes from: an import path, a saved file, or the object itself."""

from __future__ import annotations

import importlib
import sys
import uuid
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import nn

from probe.backbones.shared.borrowed import Borrowed
from probe.backbones.shared.live_networks import facts_of, own_copy
from probe.backbones.shared.saved_networks import Program, is_program, load_program
from probe.core import own_modules
from probe.core.errors import InputError
from probe.core.hashing import hash_bytes
from probe.core.source import UNKNOWN, is_installed, source_digest

HUB = "torch.hub:load"


def import_path(path: str) -> Any:
    """What `package.module:name` stands for; a module that is installed nowhere is looked for in the working folder."""
    module_name, _, name = path.partition(":")
    if not name:
        raise InputError(f"import path {path!r} lacks a colon, expected package.module:name: set it so")
    own_modules.find(module_name)
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be imported ({error}{own_modules.shadowed(module_name)}): check the name, and install the "
            "package or run where it lies"
        ) from error


def code_of_transform(transform: Any) -> dict[str, Any]:
    """What tells a transform of one's own from another."""
    if not callable(transform) and not isinstance(transform, str):
        raise InputError(
            f"transform is {transform!r}, expected a function of a PIL image, or its import path: give one"
        )
    if not isinstance(transform, str):
        return {"transform": facts_of(transform, "the transform of the backbone")}
    return {"transform": transform, "code": source_digest(_code_at(transform, import_path(transform)))}


def network_of(
    target: str | nn.Module | Borrowed, kwargs: dict[str, Any], seed: int, size: int, trust: bool
) -> tuple[nn.Module, dict[str, Any]]:
    """The network, and the facts that say what it computes."""
    if isinstance(target, Borrowed) and not target.named:
        return target.copy(), {"live": f"{UNKNOWN}{uuid.uuid4().hex}"}
    if not isinstance(target, str):
        network = own_copy(target) if isinstance(target, nn.Module) else target.copy()
        return network, {"live": facts_of(network, f"network {type(network).__name__}"), "code": _code(network)}
    if target == HUB and not trust:
        raise InputError(
            f"{target} runs the code of {kwargs.get('repo_or_dir')}: set backbone.trust=true if you trust its authors"
        )
    if not is_program(target):
        network = _build(target, {"trust_repo": True, **kwargs} if target == HUB else kwargs, seed)
        return network, {"target": target, "kwargs": kwargs, "code": _code(network, target)}
    if kwargs:
        raise InputError(f"kwargs is {kwargs}, but {target} is a saved network, which takes none: leave them out")
    network = load_program(target, size, trust)
    # The file says it all, wherever it stands; of a pickled network the code that it calls, too.
    facts: dict[str, Any] = {"program": hash_bytes(Path(target).read_bytes())}
    return network, facts if isinstance(network, Program) else facts | {"code": _code(network)}


def _build(target: str, kwargs: dict[str, Any], seed: int) -> nn.Module:
    build = import_path(target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = build(**kwargs)
        except TypeError as error:
            raise InputError(f"{target} does not take kwargs {kwargs} ({error}): mend backbone.kwargs") from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{target} gives a {type(network).__name__}, expected a torch.nn.Module: name another function"
        )
    return network


def _code(network: nn.Module, target: str | None = None) -> str | None:
    """Digest of the source that defines a network, its parts and what builds it; null where there is none to read."""
    parts = {type(part) for part in network.modules()} - {type(network)}
    others = [*parts, *([_code_at(target, import_path(target))] if target else [])]
    return source_digest(type(network), *(thing for thing in others if not is_installed(thing)))


def _code_at(path: str, found: Any) -> Any:
    """What was found at an import path, or the module where it stands if it is an object that somebody made there."""
    return found if isinstance(found, type | FunctionType) else sys.modules[path.partition(":")[0]]
