"""Every reference file that is shipped is read by a test, and a folder named by PROBE_ORACLES takes their place."""

import os
import subprocess
import sys

import pytest
from places import TESTS

HEADS = TESTS / "heads"
sys.path.insert(0, str(HEADS))
from oracles import FORMS, form  # noqa: E402
from rewritten import write_all  # noqa: E402

SHIPPED = sorted((HEADS.parent / "oracles").glob("*.safetensors"))


def released_tests(folder):
    """Runs the tests against released implementations over the files of a folder; what pytest says, line by line."""
    modules = [str(path) for path in TESTS.rglob("test_*.py") if "files_of(" in path.read_text()]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--no-header",
        "-o",
        "addopts=--import-mode=importlib",
        "-v",
        "-m",
        "not gpu",
        "-k",
        "released or shared_alignment",
    ]
    answer = subprocess.run(
        [*command, "-k", "released or shared_alignment", *modules],
        capture_output=True,
        text=True,
        env=os.environ | {"PROBE_ORACLES": str(folder)},
        cwd=HEADS.parents[1],
    )
    assert answer.returncode == 0, answer.stdout
    return answer.stdout.splitlines()


def assert_all_read(folder, lines):
    for file in folder.iterdir():
        assert any("PASSED" in line and f"[{file.stem}" in line for line in lines), file.name


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_is_of_a_form_that_a_test_reads(path):
    assert form(path) in FORMS


def test_files_of_other_names_and_shapes_are_agreed_with_too(tmp_path):
    write_all(tmp_path)
    assert_all_read(tmp_path, released_tests(tmp_path))


@pytest.mark.slow
def test_every_file_has_its_test_also_in_a_folder_named_by_the_environment(tmp_path):
    for file in SHIPPED:
        (tmp_path / f"{file.stem}_again.safetensors").write_bytes(file.read_bytes())
    assert_all_read(tmp_path, released_tests(tmp_path))
