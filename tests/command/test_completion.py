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

ZSH = """
zmodload zsh/zpty
zpty shell 'TERM=dumb PS1= zsh -f -i'
zpty -w shell 'autoload -U compinit && compinit -u -D; source {folder}/script'
zpty -w shell 'done-with() {{ print -r "<[$BUFFER]>" > {folder}/line; exit }}; zle -N done-with; bindkey "^X" done-with'
zpty -w -n shell $'probe {line}\\t\\x18'
repeat 200; do [[ -s {folder}/line ]] && break; sleep 0.05; done
print -r -- ${{${{$(<{folder}/line)#<}}%>}}
rm {folder}/line
"""


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


LINES = [
    ("probe lead", {"leaderboard"}),
    ("probe head=li", {"head=linear", "head=linear_sgd"}),
    ("probe -m head=ncm,li", {"head=ncm,linear", "head=ncm,linear_sgd"}),
    ("probe dataset=digits se", {"search=", "seed="}),
    ("probe head.shr", {"head.shrinkage="}),
    ("probe leaderboard runs --pl", {"--plots"}),
    ("probe cache l", {"ls"}),
    ("probe describe backbone=ti", {"backbone=timm", "backbone=tiny"}),
    ("probe completion z", {"zsh"}),
]


@pytest.mark.parametrize(("line", "words"), LINES)
def test_bash_completes(line: str, words: set[str], tmp_path: Path) -> None:
    assert completed(line, tmp_path) == {word.partition("=")[2] or word for word in words}


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(made("fish"))
    asked = "; echo ==; ".join(f"complete -C '{line}'" for line, _ in LINES)
    command = ["fish", "--no-config", "-c", f"source {tmp_path}/script; {asked}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert [set(told.split()) for told in done.stdout.split("==")] == [words for _, words in LINES]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_completes_on_its_own_line_editor(tmp_path: Path) -> None:
    """What the Tab key makes of a line; `zpty` is a terminal for it."""
    (tmp_path / "script").write_text(made("zsh"))
    lines = {"lead": "leaderboard ", "-m head=ncm,li": "-m head=ncm,linear", "head.shr": "head.shrinkage="}
    for line, word in lines.items():
        (tmp_path / "asked").write_text(ZSH.format(folder=tmp_path, line=line))
        done = subprocess.run(["zsh", "-f", str(tmp_path / "asked")], capture_output=True, text=True, check=True)
        assert done.stdout == f"[probe {word}]\n"


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
