"""What the README and the documents print runs, page by page, and states facts of the code."""

import ast
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import command
from pages import PAGES, Block, anchors, blocks, calls, name
from places import ROOT

DOCS = ROOT / "docs"
QUICK = [p for p in PAGES if any(b.mark == "run" or (b.language == "python" and not b.file) for b in blocks(p))]
SLOW = [p for p in PAGES if any(b.mark == "run slowly" for b in blocks(p))]
NODE = re.compile(r"`(tests/[\w/.-]+\.py)(?:::(\w+))?`")
PATH = re.compile(
    r"`((?:probe|conf|tests|benchmarks|examples|recipes|docs)/[\w/.-]+\.(?:py|yaml|md|ipynb|safetensors))`"
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a page is gone through: files of its own are found, and what is imported from there is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    before = set(sys.modules)
    yield tmp_path
    for module in set(sys.modules) - before:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module]


def go_through(page: Path, folder: Path, *, slowly: bool) -> None:
    """Writes the files that a page shows, executes its Python, and runs the commands that it marks."""
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text + "\n")
        elif block.language == "python":
            padded = "\n" * block.line + block.text
            exec(compile(padded, name(page), "exec", dont_inherit=True), names)
        elif block.mark == "run" or (slowly and block.mark == "run slowly"):
            for words in [words for command in block.commands for words in calls(command)]:
                run(words, block, folder)


def run(words: list[str], block: Block, folder: Path) -> None:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    expanded = [p for w in words for p in (sorted(map(str, Path().glob(w))) if "*" in w and "=" not in w else [w])]
    answer = command(expanded, folder, {**os.environ, "PYTHONPATH": paths})
    assert answer.returncode == 0, f"{name(block.page)}:{block.line}: {' '.join(words)}\n{answer.stdout}{answer.stderr}"


@pytest.mark.parametrize("page", QUICK, ids=name)
def test_a_page_runs_from_top_to_bottom(page: Path, folder: Path) -> None:
    go_through(page, folder, slowly=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=name)
def test_a_page_runs_with_all_its_commands(page: Path, folder: Path) -> None:
    go_through(page, folder, slowly=True)


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_and_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    for target in LINK.findall(text):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            other = (page.parent / path).resolve() if path else page
            assert other.exists(), f"{name(page)} links to {target}"
            assert not anchor or anchor in anchors(other), f"{name(page)} links to {target}"
    for path in PATH.findall(text):
        assert (ROOT / path).exists() or written_here(page, path), f"{name(page)} names {path}"


def written_here(page: Path, path: str) -> bool:
    return any(block.file == path for block in blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    for file, test in NODE.findall(page.read_text()):
        functions = {n.name for n in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(n, ast.FunctionDef)}
        assert not test or test in functions, f"{name(page)} names {file}::{test}"


def test_every_promise_names_the_test_that_holds_it() -> None:
    promised = (DOCS / "promises.md").read_text().partition("## What is not promised")[0]
    lines = [
        line for line in promised.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "|-"))
    ]
    assert len(lines) > 25
    for line in lines:
        assert all(test for _, test in NODE.findall(line)), f"a whole file holds nothing in particular: {line}"
        assert NODE.search(line), f"no test holds: {line}"


def test_reference_pages_are_those_of_the_code() -> None:
    tables = script("tables")
    written = {path.name: path.read_text() for path in (DOCS / "reference").glob("*.md")}
    expected = {name: content + "\n" for name, content in tables.pages().items()}
    assert written.keys() == expected.keys()
    stale = [name for name, content in expected.items() if written[name] != content]
    assert not stale, f"{stale}: run `python docs/tables.py`"


def test_every_page_stands_in_the_menu_of_the_site() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    missing = [p for p in DOCS.rglob("*.md") if f": {p.relative_to(DOCS)}" not in menu]
    assert not missing


def test_every_choice_has_a_word_in_the_page_of_its_kind() -> None:
    pages = {group: f"{group}s.md" for group in ("head", "protocol", "dataset", "backbone")}
    pages["experiment"] = "sweeps.md"
    for group, file in pages.items():
        page = (DOCS / file).read_text()
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"`{path.stem}`" in page, f"docs/{file} says nothing of {path.stem}"


def script(stem: str):  # type: ignore[no-untyped-def]
    """One of the scripts that make parts of the documents."""
    spec = importlib.util.spec_from_file_location(f"docs_{stem}", DOCS / f"{stem}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
