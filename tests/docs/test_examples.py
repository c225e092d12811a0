"""The examples run as they stand."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import timm
import torch
from nbclient import NotebookClient
from places import ROOT

EXAMPLES = ROOT / "examples"
COMMANDS = {
    "own_head": ["--config-dir", "conf", "-m", "dataset=iris,wine", "head=random_ridge,ridge"],
    "own_dataset": ["--config-dir", "conf", "dataset=drawings", "head=ncm"],
}


def probe_in(folder: Path, words: list[str], tmp_path: Path) -> str:
    return answer_of([sys.executable, "-m", "probe", *words, f"runs={tmp_path / 'runs'}"], folder, tmp_path)


def answer_of(words: list[str], folder: Path, tmp_path: Path) -> str:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "PROBE_CACHE": str(tmp_path / "cache")}
    answer = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_a_head_of_ones_own_is_ranked_beside_the_packages(tmp_path: Path) -> None:
    answer = probe_in(EXAMPLES / "own_head", COMMANDS["own_head"], tmp_path)
    assert "random_ridge" in answer
    assert "failed" not in answer


def test_runs_from_python_end_in_a_table_a_comparison_and_features(tmp_path: Path) -> None:
    answer = answer_of([sys.executable, "-W", "error", str(EXAMPLES / "from_python.py")], tmp_path, tmp_path)
    assert "A = identity ncm, B = identity lda" in answer
    assert "(300, 64) (300,)" in answer


def test_a_network_is_watched_while_it_trains(tmp_path: Path) -> None:
    answer = answer_of([sys.executable, "-W", "error", str(EXAMPLES / "watch_training.py")], tmp_path, tmp_path)
    assert answer.count("unseen/linear/top1") == 4
    assert len(answer.strip().splitlines()) == 4 + 1 + 2 * 4
    assert not list(tmp_path.iterdir())


def test_a_dataset_of_ones_own_is_run(tmp_path: Path) -> None:
    answer = probe_in(EXAMPLES / "own_dataset", COMMANDS["own_dataset"], tmp_path)
    assert "ncm on tiny x drawings" in answer


def test_a_leaderboard_is_made_from_python(tmp_path: Path) -> None:
    answer = answer_of([sys.executable, str(EXAMPLES / "leaderboard.py"), str(tmp_path)], ROOT, tmp_path)
    assert "| backbone" in answer
    assert (tmp_path / "leaderboard.csv").read_text().count("iris") >= 3


def test_weights_of_a_registry_package_are_renamed_by_their_order(tmp_path: Path) -> None:
    recipe = runpy.run_path(str(EXAMPLES / "real_weights.py"))
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    theirs = {f"x{place}": tensor for place, tensor in enumerate(state.values())}
    torch.save(theirs, tmp_path / "w.pth")
    found = recipe["renamed"](tmp_path / "w.pth", "tf_efficientnet_lite0")
    assert list(found) == list(state)
    assert all(torch.equal(found[name], other) for name, other in zip(found, theirs.values(), strict=True))
    torch.save(dict(reversed(theirs.items())), tmp_path / "w.pth")
    with pytest.raises(SystemExit, match=r"x\d+ of w.pth is \(1000,\), conv_stem.weight of timm"):
        recipe["renamed"](tmp_path / "w.pth", "tf_efficientnet_lite0")
    with pytest.raises(SystemExit, match="nowhere is not installed: pip install"):
        recipe["file_of"]("nowhere", "x")


def test_digits_of_a_table_keep_their_labels_when_shuffled(tmp_path: Path) -> None:
    table = np.random.default_rng(0).integers(0, 256, (20, 785))
    table[:, -1] = table[:, 0] % 10
    np.savetxt(tmp_path / "t.csv.gz", table, fmt="%d", delimiter=",")
    found = runpy.run_path(str(EXAMPLES / "real_weights.py"))["digits"](tmp_path / "t.csv.gz")
    assert found["images"].shape == (20, 28, 28)
    np.testing.assert_array_equal(found["images"][:, 0, 0] % 10, found["labels"])


def test_each_example_says_how_it_is_run() -> None:
    for folder, words in COMMANDS.items():
        (source,) = (EXAMPLES / folder).glob("*.py")
        assert f"probe {' '.join(words)}" in source.read_text()


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.ipynb")))
def test_a_notebook_holds_outputs_and_gives_them_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    kept = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert all(kept), "a cell without outputs: python docs/notebooks.py"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    again = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert [len(outputs) for outputs in again] == [len(outputs) for outputs in kept]
