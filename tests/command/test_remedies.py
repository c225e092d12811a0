"""Overrides that texts of the package name: each of them can be given."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from places import CONF, ROOT

PARTS = ("backbone", "dataset", "head", "protocol", "tracker")
# What an override looks like, a condition of the leaderboard, a new name in a table, a setting of one of several heads.
PLACEHOLDERS = {"group=name", "field=value", "key=value", "old=new", "head.lda.shrinkage=0.1"}
SCRIPTS = {"completion.py"}  # programs for shells
WORD = re.compile(
    r"(?<![\w.{(=/-])\+{0,2}[a-z][a-z_@/]*(?:\.[\w…]+)*=(?:\{[^}]*\}|\[[^\]]*\]|'[^']*'|<[^>]*>|[^\s;)`']+)"
)
KEY = re.compile(
    r"(?<![\w.{(/-])(?:backbone|dataset|head|protocol|tracker|features|extract|views)\.(?!safetensors)[a-z]\w*(?![\w(.:/])"
)
HOLE = "\0"


def sentences(tree: ast.AST) -> Iterator[str]:
    """Every string that is not a docstring, with `HOLE` for what a format puts in."""
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inner.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            inner.update(id(part) for value in node.values for part in ast.walk(value))
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else HOLE for v in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def found(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """(File, word) of each word in a sentence; values that a format puts in are facts, or may be anything."""
    pairs = set()
    for path in sorted(path for path in (ROOT / "probe").rglob("*.py") if path.name not in SCRIPTS):
        for text in sentences(ast.parse(path.read_text())):
            if " " in text.strip():
                pairs |= {
                    (str(path.relative_to(ROOT)), match.group().rstrip(f".,:{HOLE}"))
                    for match in pattern.finditer(text)
                }
    return sorted(pairs)


def remedies() -> list[tuple[str, str]]:
    words = [(path, word) for path, word in found(WORD) if word not in PLACEHOLDERS]
    given = {(path, word): word.partition("=")[2].strip(HOLE) for path, word in words}
    # The last is Python, as are pairs of a name and its parameters.
    return [pair for pair, value in given.items() if value not in ("", "…", "True") and value[0] != "("]


def options(path: str, key: str) -> list[str]:
    """The choices of a group that may be meant: that of the file itself, else all that have the parameter."""
    group, _, parameter = key.lstrip("+").partition(".")
    if group not in PARTS or not parameter:
        return [""]
    own = CONF / group / f"{Path(path).stem}.yaml"
    files = [own] if own.exists() else sorted((CONF / group).glob("*.yaml"))
    return [f"{group}={file.stem}" for file in files if parameter.split(".")[0] in OmegaConf.load(file)]


@pytest.fixture(scope="module")
def compose() -> Iterator[object]:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        yield hydra.compose


def filled(word: str) -> list[str]:
    """A word as people type it, with something in the holes; each value of a sweep."""
    key, _, value = word.partition("=")
    value = re.sub(
        r"<[^>]*>", "x", re.sub(rf"(?<=\w){HOLE}", "", value).replace(HOLE, "x").replace("...", "x").replace("…", "x")
    )
    values = [value] if value.startswith(("{", "[", "'")) else value.split(",")
    return [f"{key}={one}" for one in values]


@pytest.mark.parametrize(("path", "word"), remedies(), ids=lambda text: text.replace(HOLE, "_"))
def test_an_override_that_a_text_names_can_be_given(path, word, compose):
    key = word.partition("=")[0]
    choices = options(path, key)
    assert choices, f"{path} names {word}, and no yaml has it"
    try:
        for override in filled(word):
            compose("config", [*filter(None, choices[:1]), override])
    except HydraException as error:
        pytest.fail(f"{path} names {word}: {error}")


@pytest.mark.parametrize(("path", "key"), found(KEY), ids=str)
def test_a_key_that_a_text_names_is_one_of_the_configuration(path, key, compose):
    group, _, name = key.partition(".")
    if group in PARTS:
        assert options(path, key), f"{path} names {key}, and no yaml has it"
    else:
        assert name in compose("config")[group], f"{path} names {key}"


def test_the_texts_are_found():
    words = {word for _, word in remedies()}
    assert {"features.on_error=skip", "backbone.pool=own", "head.arm=ce", "protocol=holdout", "device=auto"} <= words
    assert len(words) > 50
