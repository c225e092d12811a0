"""Every reference file that is shipped is read by a test, and a folder named by PROBE_ORACLES takes their place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.slow
def test_every_file_has_its_test_also_in_a_folder_named_by_the_environment(tmp_path):
    for file in (TESTS / "oracles").glob("*.safetensors"):
        (tmp_path / f"{file.stem}_again.safetensors").write_bytes(file.read_bytes())
    modules = [str(TESTS / "heads" / f"test_{name}.py") for name in ("moment_probing", "dual_head_kd", "naive_bayes")]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--no-header",
        "-o",
        "addopts=",
        "-v",
        "-m",
        "not gpu",
        "-k",
        "released",
        *modules,
    ]
    env = os.environ | {"PROBE_ORACLES": str(tmp_path)}
    answer = subprocess.run(command, capture_output=True, text=True, env=env, cwd=TESTS.parent)
    assert answer.returncode == 0, answer.stdout
    for file in tmp_path.iterdir():
        assert file.stem in answer.stdout
