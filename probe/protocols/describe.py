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
