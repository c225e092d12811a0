from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from probe.command.cli import SUBCOMMANDS, subcommand
from probe.command.completion import SHELLS, script
from probe.command.help import choices, groups
from probe.core.files import CONF


@cache
def made(shell: str) -> str:
    return script(shell, SUBCOMMANDS)


def completed(line: str, tmp_path: Path) -> set[str]:
    """What bash offers at the end of a line."""
    (tmp_path / "script").write_text(made("bash"))
    setting = f"source {tmp_path}/script; COMP_LINE='{line}'; COMP_POINT={len(line)}"
    asked = f"{setting}; _probe; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("probe lead", {"leaderboard"}),
        ("probe head=li", {"linear", "linear_sgd"}),
        ("probe -m head=ncm,li", {"ncm,linear", "ncm,linear_sgd"}),
        ("probe dataset=digits se", {"seed="}),
        ("probe head.shr", {"head.shrinkage="}),
        ("probe leaderboard runs --pl", {"--plots"}),
        ("probe cache l", {"ls"}),
        ("probe describe backbone=ti", {"timm", "tiny"}),
        ("probe completion z", {"zsh"}),
    ],
)
def test_bash_completes(line: str, words: set[str], tmp_path: Path) -> None:
    assert completed(line, tmp_path) == words


def test_every_subcommand_and_choice_is_known() -> None:
    for shell in SHELLS:
        text = made(shell)
        assert all(word in text for word in SUBCOMMANDS)
        for group in groups([CONF]):
            assert all(f"{group}={name}" in text for name in choices(group, [CONF]))
        assert "--caption" in text


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_can_be_read_by_its_shell(shell: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(made(shell))
    if found := shutil.which(shell):
        assert subprocess.run([found, "-n", str(tmp_path / "script")], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("words", [[], ["tcsh"], ["bash", "zsh"]])
def test_another_shell_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert subcommand("completion", words) == 1
    assert "expected one of bash, zsh, fish" in capsys.readouterr().err
