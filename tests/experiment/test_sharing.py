"""A group shares one cache and one runs folder: with umask 002, whatever one member wrote, the others can use."""

import os
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from places import ROOT


@pytest.mark.skipif(os.name != "posix", reason="groups and modes of POSIX")
def test_everything_that_is_written_is_open_to_the_group(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/b"):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for i in range(8):
            pixels = np.random.default_rng(i).integers(0, 255, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    long_ago = time.time() - 10  # else neither their digests nor the index of the leaderboard are kept
    for path in (tmp_path / "images").rglob("*.png"):
        os.utime(path, (long_ago, long_ago))
    command = """
import os, time
from pathlib import Path
os.umask(0o002)
import probe.core.files
from probe.command.cli import subcommand, hydra_app
probe.core.files.RACY_NS = -10**12
hydra_app()
subcommand("leaderboard", ["runs"])
"""
    env = os.environ | {"PROBE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = ["dataset=folder", "dataset.path=images", "head=ncm"]
    subprocess.run(
        [sys.executable, "-c", command, *words], cwd=tmp_path, env=env, check=True, stdout=subprocess.DEVNULL
    )
    written = [path for name in ("cache", "runs") for path in (tmp_path / name).rglob("*")]
    names = {path.name for path in written}
    assert {"head.safetensors", "predictions.safetensors", ".leaderboard-index.parquet", "pooled.npy"} <= names
    assert list((tmp_path / "cache" / "digests").iterdir())
    closed = [path for path in written if not path.stat().st_mode & stat.S_IWGRP or not path.stat().st_mode & 0o040]
    assert not closed
