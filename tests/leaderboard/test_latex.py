from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from board_page import data_of
from run_folders import write_run

from probe.core.errors import InputError
from probe.leaderboard.command import main
from probe.leaderboard.index import read_folders
from probe.leaderboard.latex import latex
from probe.leaderboard.table import build_table


def test_it_has_a_caption_a_label_and_names_its_only_package(board: Path, tmp_path: Path) -> None:
    path = tmp_path / "results main.tex"
    assert main([str(board), "--tex", str(path), "--caption", "50% & more"]) == 0
    text = path.read_text()
    assert text.startswith("% needs \\usepackage{booktabs}\n")
    assert "\\caption{50\\% \\& more}\n\\label{tab:results_main}\n" in text
    assert "caption{top1, \\% (higher is better)}" in latex(build_table(read_folders([board])))
    for name in ("table", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") == 1
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1


def test_rows_are_grouped_by_backbone_in_the_order_of_the_table(board: Path) -> None:
    text = latex(build_table(read_folders([board])))
    groups = re.findall(r"\\multicolumn\{4\}\{l\}\{\\textit\{(\w+)\}\}", text)
    assert groups == ["tiny", "random"]
    assert len(re.findall(r"^\\quad .*\\\\$", text, re.MULTILINE)) == 6
    assert text.index(r"\quad linear") < text.index(r"\quad ncm")


def test_rows_of_a_backbone_each_need_no_groups(add: Callable[..., Path], tmp_path: Path) -> None:
    for backbone in ("tiny", "random"):
        add(backbone, "linear")
    text = latex(build_table(read_folders([tmp_path])))
    assert "multicolumn" not in text
    assert "tiny & linear &" in text


def test_the_best_is_bold_the_second_underlined_and_the_marks_are_explained(
    add: Callable[..., Path], tmp_path: Path
) -> None:
    for head, skill in (("linear", 2.0), ("lda", 1.9), ("ncm", -1.0)):
        add("tiny", head, skill=skill, selection={"on": "test"} if head == "ncm" else None)
    text = latex(build_table(read_folders([tmp_path])))
    lines = {head: line for line in text.splitlines() for head in ("linear", "lda", "ncm") if f"quad {head} " in line}
    assert r"\textbf{" in lines["linear"]
    assert r"\underline{" in lines["lda"]
    assert r"$^{\dagger}$" in lines["ncm"]
    for said in (r"\textbf{bold}: best", r"\underline{underlined}: second best", "Selected on test, not on validation"):
        assert said in text.split(r"\end{tabular}")[1]
    assert r"$^{\ddagger}$" not in text


@pytest.mark.parametrize(
    ("cells", "pattern"),
    [
        ("interval", r"\d\d\.\d\}? \{\\scriptsize \[\d\d\.\d, \d\d\.\d\]\}"),
        ("pm", r"\d\d\.\d\}? \{\\scriptsize \$\\pm\$ \d\.\d\}"),
        ("value", r"& \d\d\.\d \\\\"),
    ],
)
def test_cells_are_values_with_an_interval_or_plus_minus_or_alone(board: Path, cells: str, pattern: str) -> None:
    text = latex(build_table(read_folders([board])), cells)
    tabular = re.sub(r"\{\[\}|\{\]\}", lambda found: found[0][1], text).replace(r"$^{\sim}$", "")
    assert re.search(pattern, tabular), tabular
    assert ("[" in tabular.split(r"\midrule")[1].split(r"\bottomrule")[0]) == (cells == "interval")


def test_another_kind_of_cell_is_refused(board: Path) -> None:
    with pytest.raises(InputError, match="cells are 'all', expected one of interval, pm, value"):
        latex(build_table(read_folders([board])), "all")


def test_a_label_renames_everywhere(board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    renamed = ["tiny=Tiny net", "digits=Digits", "top1=accuracy", "head=Head", "log_loss=surprise"]
    files = {kind: tmp_path / f"table.{kind}" for kind in ("md", "csv", "json", "tex", "html")}
    words = [word for name in renamed for word in ("--label", name)]
    words += [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    assert main([str(board), *words, "--plots", str(tmp_path / "plots")]) == 0
    texts = {kind: path.read_text() for kind, path in files.items()} | {"out": capsys.readouterr().out}
    for kind, text in texts.items():
        assert "Tiny net" in text, kind
        assert "Digits" in text, kind
        assert ("accuracy" if kind in ("md", "tex", "out", "html") else "Head") in text, kind
    assert {cell["backbone"] for cell in json.loads(texts["json"])["cells"]} == {"Tiny net", "random"}
    assert "Tiny net" in (tmp_path / "plots" / "scores-top1.svg").read_text()
    page = data_of(files["html"])
    titles = {view["metric"]: view["title"] for view in page["views"]}
    assert titles["log_loss"] == "surprise, nats (lower is better)"
    assert (page["labels"]["top1"], page["labels"]["log_loss"]) == ("accuracy", "surprise")
    assert main([str(board), *words[:8], "--compare", "Tiny net linear", "random linear"]) == 0


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tiny", "label 'tiny' has no name before or behind an '='"),
        ("huge=Huge", "nothing in the table is called 'huge'"),
    ],
)
def test_a_label_that_renames_nothing_is_refused(
    board: Path, word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(board), "--label", word]) == 1
    assert message in capsys.readouterr().err


def test_two_rows_of_one_new_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for head in ("a", "b"):
        write_run(tmp_path, "tiny", head)
    assert main([str(tmp_path), "--label", "a=b"]) == 1
    assert "--label a=b gives head a name that another one has" in capsys.readouterr().err
