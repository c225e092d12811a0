from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from run_folders import write_run

from probe.core.escaping import one_line
from probe.leaderboard import export, files
from probe.leaderboard.command import main
from probe.leaderboard.index import read_folders
from probe.leaderboard.latex import latex
from probe.leaderboard.screen import terminal
from probe.leaderboard.table import Table, build_table

HOSTILE = [
    "a|b_c%d&e#f$g",
    "<script>alert(1)</script>",
    r"\input{x}^~{y}",
    "\"quoted\", 'and'",
    "*bold* `code` [link](http://x)",
    "line\nbreak\ttab\x1b[31mred",
    "ünïcode ☃ 試",
]


@pytest.fixture
def hostile(tmp_path: Path) -> Table:
    for i, name in enumerate(HOSTILE):
        write_run(tmp_path / "runs", name, HOSTILE[-1 - i], "da|ta_%<b>", skill=0.2 * i, folder=f"run{i}")
    return build_table(read_folders([tmp_path / "runs"]))


def cells_of(line: str) -> list[str]:
    """Cells of a markdown line: split at bars that no backslash escapes."""
    return line.replace("\\\\", "\0").replace("\\|", "\1").strip().strip("|").split("|")


def test_markdown_keeps_its_columns_and_shows_no_tag(hostile: Table) -> None:
    lines = [line for line in export.markdown(hostile).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(HOSTILE)
    assert {len(cells_of(line)) for line in lines} == {4}
    text = export.markdown(hostile)
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert r"\*bold\* \`code\` \[link\](http://x)" in text
    assert "\x1b" not in text


def test_the_terminal_shows_names_without_control_characters(hostile: Table) -> None:
    text = terminal(hostile)
    assert "\x1b" not in text
    assert "\t" not in text
    assert "[link](http://x)" in text


def test_latex_specials_are_escaped(hostile: Table) -> None:
    body = [line for line in latex(hostile).splitlines() if "&" in line]
    assert len(body) == 1 + len(HOSTILE)
    for line in body:
        assert line.replace(r"\&", "").count("&") == 3
    text = "\n".join(body)
    assert r"a\textbar{}b\_c\%d\&e\#f\$g" in text
    assert r"\textbackslash{}input\{x\}\textasciicircum{}\textasciitilde{}\{y\}" in text
    assert r"\input" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(hostile: Table, tmp_path: Path) -> None:
    table = latex(hostile).replace("☃", "").replace("試", "")
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + table + "\\end{document}\n"
    (tmp_path / "table.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("metric", ["top1", "log_loss"])
def test_csv_json_and_parquet_read_back_the_same_numbers(board: Path, tmp_path: Path, metric: str) -> None:
    table = build_table(read_folders([board]), metric)
    written = export.long(table)
    for kind in ("csv", "json", "parquet"):
        files.export(table, kind, tmp_path / f"new/table.{kind}")
    as_text = pd.read_csv(tmp_path / "new/table.csv", dtype=str, keep_default_na=False)
    numbers = written.select_dtypes("number").columns
    read = {
        "csv": as_text.assign(**{name: as_text[name].map(float) for name in numbers}),
        "json": pd.DataFrame(json.loads((tmp_path / "new/table.json").read_text())["cells"]),
        "parquet": pd.read_parquet(tmp_path / "new/table.parquet"),
    }
    for frame in read.values():
        pd.testing.assert_frame_equal(frame, written, check_dtype=False, check_exact=True)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["table.csv", "table.json", "table.parquet"]


def test_names_read_back_the_same_from_json_and_parquet_and_on_one_line_of_csv(hostile: Table, tmp_path: Path) -> None:
    for kind in ("csv", "json", "parquet"):
        files.export(hostile, kind, tmp_path / f"table.{kind}")
    with open(tmp_path / "table.csv", encoding="utf-8", newline="") as file:
        assert {line["backbone"] for line in csv.DictReader(file)} == set(map(one_line, HOSTILE))
    assert {cell["head"] for cell in json.loads((tmp_path / "table.json").read_text())["cells"]} == set(HOSTILE)
    assert set(pd.read_parquet(tmp_path / "table.parquet")["backbone"]) == set(HOSTILE)


def test_json_has_no_nan(board: Path, tmp_path: Path) -> None:
    write_run(board, "extra", "ncm", "digits")
    text = export.as_json(build_table(read_folders([board])))
    assert "NaN" not in text
    assert any(cell["rank"] is None for cell in json.loads(text)["cells"])


def test_several_files_at_once(board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ["md", "csv", "json", "tex", "parquet"]
    arguments = [word for kind in kinds for word in (f"--{kind}", str(tmp_path / f"out.{kind}"))]
    assert main([str(board), *arguments]) == 0
    assert all((tmp_path / f"out.{kind}").stat().st_size > 100 for kind in kinds)
    assert capsys.readouterr().out.count("wrote ") == 5


def test_every_export_lists_what_is_not_counted(board: Path) -> None:
    (board / "bad").mkdir()
    (board / "bad" / "error.txt").write_text("ValueError: no | pipe\n")
    table = build_table(read_folders([board]))
    assert "failed: ValueError: no | pipe" in " ".join(terminal(table).split())
    assert r"failed: ValueError: no \| pipe" in export.markdown(table)
    assert json.loads(export.as_json(table))["not_counted"][0]["reason"] == "failed: ValueError: no | pipe"


def test_the_terminal_width_is_kept_whatever_the_names(tmp_path: Path) -> None:
    for i in range(3):
        write_run(tmp_path, f"a_backbone_with_a_very_long_name_{i}/" + "x" * 50, "head" * 10, f"dataset{i}" * 5)
    text = terminal(build_table(read_folders([tmp_path])))
    assert max(map(len, text.splitlines())) <= 100
