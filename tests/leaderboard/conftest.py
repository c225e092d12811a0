from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from run_folders import write_run


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """Two backbones, three heads, two datasets, three seeds; the linear head of tiny is the best by far."""
    root = tmp_path / "runs"
    for backbone, skill in [("tiny", 0.5), ("random", -0.5)]:
        for head, more in [("ncm", 0.0), ("linear", 1.0), ("naive_bayes", -0.1)]:
            for dataset in ["digits", "cifar10"]:
                for seed in range(3):
                    write_run(root, backbone, head, dataset, seed, skill=skill + more)
    return root


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., Path]:
    """Writes one run below `tmp_path / runs`."""
    return lambda *args, **changes: write_run(tmp_path / "runs", *args, **changes)
