"""Benchmarks are run by hand: what a test can hold is that they still find what they measure."""

import subprocess
import sys

from places import ROOT

FOLDER = ROOT / "benchmarks"


def test_every_benchmark_can_be_imported() -> None:
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    code = f"import sys; sys.path[:0] = [{str(FOLDER)!r}]; import {', '.join(names)}"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER.parent)
    assert len(names) > 9
    assert answer.returncode == 0, answer.stderr
