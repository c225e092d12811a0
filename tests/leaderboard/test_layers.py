from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from probe.leaderboard import plots
from probe.leaderboard.command import main, write_sweep_table
from probe.leaderboard.index import read_folders
from probe.leaderboard.layers import gather, over_runs
from probe.leaderboard.page import page_data
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
    records = read_folders([root])
    return gather(build_table(records), records.frame)


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


LAYERS = ["blocks.0", "blocks.1"]


@pytest.fixture
def found(write: Callable[..., Path], add: Callable[..., Path], tmp_path: Path) -> Path:
    """Each layer by itself, three runs that chose one, and three that mixed both."""
    for layer, n_right in zip(LAYERS, (60, 80), strict=True):
        write(layer, n_right)
    for seed, (chosen, weight) in enumerate([("blocks.1", 0.7), ("blocks.1", 0.8), ("blocks.0", 0.75)]):
        for how, told in (("best", {"chosen": chosen}), ("mix", {"weights": [1 - weight, weight]})):
            correct = np.arange(N_TEST) < 78
            add("vit", "ncm", seed=seed, correct=correct, reads={"pooled": f"blocks.*:{how}"},
                layers={"how": how, "of": LAYERS, **told})  # fmt: skip
    return tmp_path / "runs"


def test_the_choice_of_a_layer_is_marked_and_is_no_layer_itself(found: Path) -> None:
    (depth,) = depths(found)
    assert depth.layers == tuple(LAYERS)
    best, mix = depth.found
    assert (best.name, best.mixes, best.n_runs) == ("blocks.*:best", False, 3)
    assert [best.shares[layer][0] for layer in LAYERS] == pytest.approx([1 / 3, 2 / 3])
    assert (mix.name, mix.mixes, mix.value) == ("blocks.*:mix", True, pytest.approx(0.78))


def test_weights_of_a_mixture_have_an_interval_over_seeds(found: Path) -> None:
    (depth,) = depths(found)
    weights = np.array([0.7, 0.8, 0.75])
    low, high = student.interval(0.95, 2, loc=weights.mean(), scale=weights.std(ddof=1) / np.sqrt(3))
    assert depth.found[1].shares["blocks.1"] == pytest.approx((0.75, low, high))
    assert over_runs(np.array([0.4]))[0] == 0.4
    assert np.isnan(over_runs(np.array([0.4]))[1:]).all()
    assert over_runs(np.array([0.0, 1.0]))[1:] == (0.0, 1.0)


def test_the_command_the_pictures_and_the_page_show_choice_and_weights(
    found: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([str(found), "--layers"]) == 0
    printed = capsys.readouterr().out
    assert "chosen" in printed
    assert "weight" in printed
    (line,) = [line.split() for line in printed.splitlines() if line.split()[:1] == ["blocks.1"]]
    assert line[:4] == ["blocks.1", "80.0", "[71.1,", "86.7]"]
    assert " ".join(line[4:]).startswith("2 of 3 0.750 [0.6")
    assert main([str(found), "--plots", str(tmp_path / "plots")]) == 0
    assert b"weight in the mixture" in (tmp_path / "plots" / "layers-top1.svg").read_bytes()
    records = read_folders([found])
    (shown,) = page_data(build_table(records), records.frame)["layers"]
    assert [(one["name"], one["places"]) for one in shown["chosen"]] == [("blocks.*:best", [0, 1])]


def test_a_long_name_stays_inside_its_picture(found: Path) -> None:
    records = read_folders([found])
    table = build_table(records)
    (depth,) = depths(found)
    figure = plots.layers(table, [replace(depth, name=f"timm/{'very_' * 12}long linear, digits")])
    assert figure is not None
    figure.draw_without_rendering()
    title = figure.axes[0].title.get_window_extent()
    assert figure.bbox.x0 <= title.x0
    assert title.x1 <= figure.bbox.x1


def test_a_mixture_alone_shows_its_weights(add: Callable[..., Path], tmp_path: Path) -> None:
    add("vit", "ncm", correct=np.arange(N_TEST) < 78, reads={"pooled": "blocks.*:mix"},
        layers={"how": "mix", "of": LAYERS, "weights": [0.25, 0.75]})  # fmt: skip
    told = write_sweep_table(tmp_path / "runs")
    assert [line.split() for line in told.splitlines() if line.split()[:1] == ["blocks.1"]] == [
        ["blocks.1", "not", "run", "0.750"]
    ]
