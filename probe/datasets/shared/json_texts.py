"""JSON as other programs write it, without what `json` takes in silence."""

from __future__ import annotations

import json
from typing import Any


def parsed(text: str) -> Any:
    """What a text in JSON says.

    Raises:
        ValueError: It is no JSON, an object of it has a field twice, or it goes too deep.
    """
    try:
        return json.loads(text, object_pairs_hook=_fields)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field stands there twice")
    return found
