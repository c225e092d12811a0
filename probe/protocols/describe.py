"""A protocol as JSON, for the record of a run."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from probe.base import SplitProtocol


def parameters(protocol: SplitProtocol) -> dict[str, Any]:
    """Parameters by name; a wrapped protocol as `{"name": ..., parameters}`."""
    if not is_dataclass(protocol):
        return dict(vars(protocol))
    values = {field.name: getattr(protocol, field.name) for field in fields(protocol)}
    return {key: {"name": v.name, **parameters(v)} if is_dataclass(v) else v for key, v in values.items()}


def label(protocol: SplitProtocol) -> str:
    """Display name: the name, a wrapped protocol, the parameters that differ from the defaults.

    Such as `few_shot(k=3)` or `long_tail(full,imbalance=10.0)`.
    """
    if not is_dataclass(protocol):
        return protocol.name
    values = [(field, getattr(protocol, field.name)) for field in fields(protocol)]
    inner = [label(value) for _, value in values if is_dataclass(value)]
    plain = [f"{f.name}={value}" for f, value in values if not is_dataclass(value) and value != f.default]
    return f"{protocol.name}({','.join(inner + plain)})" if inner or plain else protocol.name
