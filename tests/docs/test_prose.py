"""What the documents name in passing exists: settings, choices and options."""

import argparse
import pkgutil
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import PAGES, name, prose
from places import CONF, ROOT

from probe.command.ensembles import parser as ensemble
from probe.features.command import parser as cache_parser
from probe.leaderboard.command import parser as leaderboard

CODE = re.compile(r"`([^`\n]+)`")
SETTING = re.compile(r"(?<![\w.@/{(])([a-z_]+)\.([a-z_]+)(?:\.(\w+))?=")
CHOICE = re.compile(r"(?<![\w.@/])(head|backbone|dataset|protocol|tracker|experiment)=([\w,]+)(?![\w*(<])")
OPTION = re.compile(r"(?<!\S)--[a-z-]+")
ELSEWHERE = {
    "--basetemp", "--cache", "--config-dir", "--help", "--max-restarts", "--name", "--nnodes", "--rdzv-endpoint",
    "--trust",
}  # fmt: skip
"""Options of pytest, torchrun and scancel, and those of `probe` that no parser of a subcommand knows."""


@cache
def settings(group: str) -> set[str]:
    """What can be set of a group, or of a section of the configuration."""
    choices = [yaml.safe_load(path.read_text()) or {} for path in (CONF / group).glob("*.yaml")]
    section = yaml.safe_load((CONF / "config.yaml").read_text()).get(group)
    return {key for one in [*choices, section if isinstance(section, dict) else {}] for key in one}


@cache
def options() -> set[str]:
    parsers: list[Any] = [leaderboard(), cache_parser(), ensemble()]
    found = set()
    for parser in parsers:
        for action in parser._actions:
            found |= set(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                parsers.extend(action.choices.values())
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "reference"], ids=name)
def test_what_a_page_names_in_passing_exists(page: Path) -> None:
    for code in CODE.findall(prose(page)):
        for group, key, deeper in SETTING.findall(code):
            if group != "hydra" and (known := settings(group)):
                choice = (CONF / group / f"{key}.yaml").exists() and (not deeper or deeper in known)
                assert key in known or choice, f"{name(page)} names {group}.{key} in `{code}`"
        for group, words in CHOICE.findall(code):
            for word in filter(None, words.split(",")):
                assert (CONF / group / f"{word}.yaml").exists(), f"{name(page)} names {group}={word} in `{code}`"
        for option in OPTION.findall(code):
            assert option in options() | ELSEWHERE, f"{name(page)} names {option} in `{code}`"


def test_settings_choices_and_options_are_found_in_prose() -> None:
    assert SETTING.findall("head.lda.shrinkage=0.1") == [("head", "lda", "shrinkage")]
    assert CHOICE.findall("head=ncm,lda x") == [("head", "ncm,lda")]
    assert not CHOICE.findall("head=lin*")
    assert CHOICE.findall("head=ncm,li<Tab>") == [("head", "ncm")]
    assert OPTION.findall("--cells interval") == ["--cells"]


def test_what_the_reference_of_python_lists_can_be_imported() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    listed = re.findall(r"^::: (probe[\w.]+)\n(?: +options: \{members: \[([\w, ]*)\].*)?", page, re.MULTILINE)
    assert len(listed) > 15
    for path, members in listed:
        found = pkgutil.resolve_name(path)
        for member in filter(None, members.split(", ")):
            assert hasattr(found, member), f"docs/api.md lists {member} of {path}"
