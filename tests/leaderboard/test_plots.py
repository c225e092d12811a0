from __future__ import annotations

from pathlib import Path

import numpy as np
from run_folders import edit, write_run

from probe.leaderboard.command import main
from probe.leaderboard.index import read_folders
from probe.leaderboard.plots import scores, tasks
from probe.leaderboard.table import build_table
from probe.leaderboard.tasks import gather

MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def test_figures_are_written_in_three_formats(board: Path, tmp_path: Path) -> None:
    assert main([str(board), "--plots", str(tmp_path / "plots")]) == 0
    files = sorted((tmp_path / "plots").iterdir())
    assert {path.stem for path in files} == {"scores-top1", "ranks-top1", "cost-top1", "risk"}
    assert len(files) == 12
    for path in files:
        assert path.read_bytes().startswith(MAGIC[path.suffix])


def test_learning_curves_appear_where_rows_differ_and_names_are_text(tmp_path: Path) -> None:
    for shots in (1, 5):
        for head in ("$x_{1}$ <b>", "a$b"):
            write_run(tmp_path / "runs", "tiny", head, n_train=10 * shots, protocol_parameters={"shots": shots})
    code = main([str(tmp_path / "runs"), "--columns", "dataset,protocol.shots", "--plots", str(tmp_path / "plots")])
    assert code == 0
    assert (tmp_path / "plots" / "curves-top1.pdf").exists()
    assert "$x_{1}$ &lt;b&gt;" in (tmp_path / "plots" / "scores-top1.svg").read_text()


def test_the_same_table_gives_the_same_files(board: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        main([str(board), "--where", "head=ncm", "--plots", str(tmp_path / folder)])
    for name in ("ranks-top1.png", "ranks-top1.pdf"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_tasks_are_lines_with_bands_over_the_orders_of_the_seeds(tmp_path: Path) -> None:
    values = {"ncm": [[0.9, 0.7], [0.8, 0.6], [1.0, 0.8]], "lda": [[0.95, 0.9]] * 3}
    for head, of_seeds in values.items():
        for seed, accuracies in enumerate(of_seeds):
            edit(write_run(tmp_path / "runs", "tiny", head, seed=seed), tasks={"accuracies": accuracies})
    records = read_folders([tmp_path / "runs"])
    lines = {line.row: line for line in gather(build_table(records), records.frame)}
    np.testing.assert_allclose(lines["tiny ncm"].value, [0.9, 0.7])
    half = 4.302653 * 0.1 / np.sqrt(3)
    np.testing.assert_allclose(lines["tiny ncm"].low, [0.9 - half, 0.7 - half], rtol=1e-5)
    np.testing.assert_allclose(lines["tiny ncm"].high, [1.0, 0.7 + half], rtol=1e-5)
    np.testing.assert_allclose(lines["tiny lda"].low, lines["tiny lda"].value)
    assert tasks(build_table(records), records.frame) is not None


def test_the_name_of_a_column_stays_above_its_panel(tmp_path: Path) -> None:
    for dataset in ("$" * 61 + " of a long name", "short"):
        for head in ("ncm", "lda"):
            write_run(tmp_path / "runs", "tiny", head, dataset=dataset)
    figure = scores(build_table(read_folders([tmp_path / "runs"])))
    figure.canvas.draw()
    first, second = (panel.title.get_window_extent() for panel in figure.axes)
    assert not first.overlaps(second)
