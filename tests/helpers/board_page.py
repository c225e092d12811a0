"""Reads the page of the leaderboard back, for tests."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any


def data_of(path: Path) -> dict[str, Any]:
    """What a page holds as JSON."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.S)
    assert found
    data = json.loads(found[1])
    return json.loads(gzip.decompress(base64.b64decode(data))) if isinstance(data, str) else data
