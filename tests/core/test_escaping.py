"""Names on their way out, by border."""

import csv
import io
import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from commands import command

from probe.core import escaping
from probe.leaderboard.export import csv_text

ROOT = Path(__file__).parents[2]
HOSTILE = [
    "line\nbreak", "tab\there", "return\rhere", "\x1b[31mred\x1b]0;title\x07", "\x9b31m", "turned\u202eround", "nul\0",
    "surrogate\udc80", "line\u2028break",
]  # fmt: skip
FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    " =1",
    "\n=1",
    "\uff1d1",
    "a;=1",
    "a; @x",
    "-",
    "=cmd|' /C calc'!A0",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "border", [escaping.one_line, escaping.csv_cell, escaping.markdown, escaping.latex, escaping.html]
)
def test_no_border_lets_a_character_through_that_is_not_printable(border, name):
    assert border(name).isprintable()
    border(name).encode("utf-8")


def test_names_of_the_world_are_left_as_they_are():
    for name in ("ünïcode ☃ 試", "d[e]", ":smile:", "a/b c"):
        assert escaping.one_line(name) == escaping.csv_cell(name) == name


@pytest.mark.parametrize("name", FORMULAS)
def test_no_cell_of_a_csv_file_is_computed(name):
    (cell,) = next(csv.reader(io.StringIO(csv_text(pd.DataFrame({"a": [name]})).partition("\n")[2])))
    (header,) = next(csv.reader(io.StringIO(csv_text(pd.DataFrame({name: [1]})))))
    for text in (cell, header):
        assert all(part.strip()[0] not in "=+-@\uff1d" for part in text.split(";"))


@pytest.mark.parametrize("value", [-1.5, -3, "-1.5", "+2", "-1e-05", None, True])
def test_numbers_stay_numbers_in_a_csv_file(value):
    assert escaping.csv_cell(value) == value


def test_only_one_module_writes_to_the_terminal():
    """So that no message forgets to be cleaned."""
    writing = re.compile(r"(?<!\w)print\(|Console\(|sys\.std(out|err)\.write")
    files = [path for path in (ROOT / "probe").rglob("*.py") if writing.search(path.read_text())]
    assert files == [ROOT / "probe/core/terminal.py"]


NAME = "[/b]\x1b[31mred\x1b]0;t\x07 =x :smile:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of a set, and of classes, whose names are orders to a terminal, a spreadsheet and rich."""
    import numpy as np
    from PIL import Image

    cwd = tmp_path_factory.mktemp("work")
    for part in ("train", "test"):
        for k, name in enumerate(("-1+1\nx", NAME)):
            place = cwd / f"={NAME}" / part / name
            place.mkdir(parents=True)
            for i in range(8):
                pixels = np.random.default_rng([k, i, part == "test"]).integers(0, 60, (16, 16, 3)).astype(np.uint8)
                pixels[..., k] += 100
                Image.fromarray(pixels).save(place / f"{i}{NAME.replace('/', '')}.png")
    return cwd


def probe(*words, cwd, expect=0, **more):
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more
    done = command(words, cwd, env)
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def is_clean(text):
    return all(c.isprintable() or c == "\n" for c in text)


def test_hostile_names_go_through_the_real_command_and_come_out_clean(folder):
    run = ["backbone=tiny", "dataset=folder", f"dataset.path='={NAME}'", f"dataset.name='={NAME}'", "head=ncm"]
    said = probe(*run, "name='a[/b]=x'", cwd=folder)
    assert "runs/a[/b]=x/" in said.stdout
    said_twice = probe(*run, "name='a[/b]=x'", cwd=folder)
    assert "complete already" in said_twice.stdout
    (record,) = (folder / "runs").rglob("result.json")
    assert json.loads(record.read_text())["labels"]["dataset"] == f"={NAME}"
    out = folder / "out"
    files = [
        word for kind in ("md", "csv", "tex", "html", "json", "parquet") for word in (f"--{kind}", f"out/t.{kind}")
    ]
    outputs = [
        said, said_twice,
        probe("leaderboard", "runs", *files, "--plots", "out/plots", cwd=folder),
        probe("leaderboard", "runs", "--where", "head=none", cwd=folder, expect=1),
        probe("cache", "ls", cwd=folder), probe("cache", "du", cwd=folder),
        probe("describe", *run[:4], "--sheet", "out/s.png", cwd=folder),
        probe("-m", *run, "name=s", "head=ncm,naive_bayes", cwd=folder),
        probe(*run, "head.metric=nope", "name=s", cwd=folder, expect=1),
    ]  # fmt: skip
    for output in outputs:
        assert is_clean(output.stdout.replace("\r", "")), repr(output.stdout)
    for kind in ("md", "csv", "tex"):
        assert is_clean((out / f"t.{kind}").read_text("utf-8"))
    for table in (out / "t.csv", folder / "runs/s/leaderboard.csv"):
        with open(table, newline="", encoding="utf-8") as file:
            assert all(cell[:1] not in ("=", "+", "@") for line in csv.reader(file) for cell in line)
    for error in (folder / "runs").rglob("error.txt"):
        assert is_clean(error.read_text("utf-8"))
