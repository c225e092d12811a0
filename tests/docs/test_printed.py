"""What the documents print beside a command is what the command prints."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from commands import command
from places import ROOT

import probe

pytestmark = pytest.mark.slow  # features of all of digits, and fits on them
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def table(text: str) -> str:
    """The first table of runs in a page."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| backbone"))
    last = next((i for i in range(first, len(lines)) if not lines[i].startswith("|")), len(lines))
    return "\n".join(" ".join(line.split()) for line in lines[first:last] if not line.startswith("|-"))


def test_the_table_of_the_readme_is_that_of_its_command(tmp_path: Path) -> None:
    env = os.environ | {"PROBE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    answer = command(["-m", "experiment=quickstart"], tmp_path, env)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    made = table((tmp_path / "runs" / "quickstart" / "leaderboard.md").read_text())
    printed = table((ROOT / "README.md").read_text())
    assert NUMBER.sub("0", made) == NUMBER.sub("0", printed)
    found, expected = (np.array(NUMBER.findall(text), dtype=float) for text in (made, printed))
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.3)  # of a hundred; a machine may round otherwise


def test_what_calibration_gives_stands_beside_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    metrics = probe.run(dataset="digits", head="ncm", calibrate=True, quiet=True).metrics
    value = {name: metric.value for name, metric in metrics.items()}
    said = (
        f"log loss {value['log_loss']:.3f}, after temperature scaling {value['scaled_log_loss']:.3f}; coverage "
        f"{100 * value['coverage']:.1f} % with {value['mean_set_size']:.2f} classes a set"
    )
    (printed,) = re.findall(r"probe head=ncm calibrate=true +# (.*)", (ROOT / "docs" / "protocols.md").read_text())
    assert said == printed
