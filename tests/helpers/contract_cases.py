"""What a plug-in's own test file says about it to the tests of its group: a new plug-in edits no list."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from places import TESTS


@cache
def contract_case(group: str, name: str, function: str = "contract_case") -> Callable[..., Any] | None:
    """The function `contract_case`, or another one, of `tests/<group>/test_<name>.py`; None where it has none.

    Each group's contract test says what it is called with and what it returns.
    """
    path = TESTS / group / f"test_{name}.py"
    if not path.exists() or f"def {function}(" not in path.read_text():
        return None
    spec = importlib.util.spec_from_file_location(f"{function}_{group}_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found: Callable[..., Any] = getattr(module, function)
    return found
