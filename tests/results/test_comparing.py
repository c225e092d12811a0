from __future__ import annotations

from probe.results.comparing import changes


def test_changes_names_the_leaves() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": float("nan")}
    assert changes(old, {"a": {"b": 1, "c": [1, 2]}, "d": float("nan")}) == []
    assert changes(old, {"a": {"b": 2, "c": [1, 3]}, "d": float("nan"), "e": "x"}) == [
        "a.b: was 1, is 2",
        "a.c: was [1, 2], is [1, 3]",
        "e: was None, is x",
    ]
