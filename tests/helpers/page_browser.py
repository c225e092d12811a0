"""What the tests of the page in a browser share; their fixtures are those of `tests/leaderboard/conftest.py`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from probe.core.base import Dataset
from probe.core.errors import InputError

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>@@DATA@@ & <b>bold</b>"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESKTOP = {"width": 1200, "height": 900}


class Pictures:
    """Rows of the synthetic runs: a grey square each; the class names of a text would do as well."""

    labels = np.arange(200) % 4
    ids = tuple(map(str, range(200)))
    fingerprint = "rows"

    def __len__(self) -> int:
        return 200

    def __getitem__(self, row: int) -> Any:
        return Image.new("L", (8, 8), row) if row % 2 else f"a text, {HOSTILE}"


def dataset_of(record: Mapping[str, Any]) -> Dataset:
    if record["dataset"]["name"] != "digits":
        raise InputError("it is elsewhere")
    return Dataset("digits", tuple(record["dataset"]["class_names"]), {"test": Pictures()})


def heads(tab: Any) -> list[str]:
    return tab.locator("#board tbody tr[data-place] > :nth-child(2)").all_inner_texts()


def settled(tab: Any, expression: str) -> None:
    """Waits: the page's policy forbids the string that `wait_for_function` would evaluate."""
    for _ in range(50):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"{expression} never came true")
