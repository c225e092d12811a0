from __future__ import annotations

from pathlib import Path

from run_folders import write_run

from probe.leaderboard.command import main

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
