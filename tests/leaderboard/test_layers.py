from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probe.leaderboard.command import main, write_sweep_table
from probe.leaderboard.index import read_folders
from probe.leaderboard.layers import gather
from probe.leaderboard.table import build_table

N_TEST = 100


@pytest.fixture
def write(tmp_path: Path, add: Callable[..., Path]) -> Callable[..., Path]:
    def write(layer: str | None, n_right: int, head: str = "ncm", backbone: str = "vit") -> Path:
        correct = np.arange(N_TEST) < n_right
        add(backbone, head, correct=correct, reads={"pooled": layer} if layer else {})
        return tmp_path / "runs"

    return write


def depths(root: Path):
    return gather(build_table(read_folders([root])))


def test_layers_are_ordered_by_their_numbers_and_the_pooled_feature_comes_last(write: Callable[..., Path]) -> None:
    for layer, n_right in [(None, 90), ("blocks.10", 80), ("blocks.9", 70)]:
        root = write(layer, n_right)
    write("blocks.9", 10, head="linear")
    (depth,) = depths(root)
    assert depth.name == "vit ncm, digits"
    assert depth.layers == ("blocks.9", "blocks.10", "pooled")
    assert depth.heads == ()
    np.testing.assert_allclose(depth.value, [0.7, 0.8, 0.9])
    assert (depth.low < depth.value).all()


def test_attention_heads_make_a_matrix_with_gaps_where_nothing_was_run(write: Callable[..., Path]) -> None:
    for layer, head, n_right in [(1, 0, 10), (1, 1, 20), (0, 1, 30)]:
        root = write(f"blocks.{layer}.attn:heads.{head}", n_right)
    (depth,) = depths(root)
    assert depth.layers == ("blocks.0.attn", "blocks.1.attn")
    assert depth.heads == (0, 1)
    np.testing.assert_allclose(depth.value, [[np.nan, 0.3], [0.1, 0.2]])


def test_many_attention_heads_keep_their_digits(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    for layer in range(2):
        for head in range(16):
            root = write(f"blocks.{layer}.attn:heads.{head}", 60 + head)
    assert main([str(root), "--layers"]) == 0
    lines = [line.split()[1:] for line in capsys.readouterr().out.splitlines() if "blocks.1" in line]
    assert len(lines) > 1
    assert [number for line in lines for number in line] == [f"{60 + head}.0" for head in range(16)]


def test_a_sweep_over_layers_ends_with_a_table_and_a_picture(write: Callable[..., Path], tmp_path: Path) -> None:
    for layer in ("blocks.0", "blocks.1", "blocks.0.attn:heads.0", "blocks.1.attn:heads.0"):
        root = write(layer, 50)
    shown = write_sweep_table(root)
    assert shown.count("By layer") == 2
    pictures = ["attention_heads-top1-vit_ncm_digits.png", "layers-top1-vit_ncm_digits.png"]
    assert sorted(path.name for path in root.glob("*.png")) == pictures
    assert all((root / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert main([str(root), "--plots", str(tmp_path / "plots")]) == 0
    assert (tmp_path / "plots" / "layers-top1.svg").exists()


def test_the_command_prints_them(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    write("blocks.0", 40)
    assert main([str(write("blocks.1", 60)), "--layers"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "blocks" in line]
    assert [line[:2] for line in lines] == [["blocks.0", "40.0"], ["blocks.1", "60.0"]]


def test_other_runs_have_no_layers(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(board), "--layers"]) == 1
    assert "no backbone was read at several layers" in capsys.readouterr().err
    assert "By layer" not in write_sweep_table(board)
    assert not list(board.glob("*.png"))
