from __future__ import annotations

from pathlib import Path

import pytest

from probe.command.help import choices, first_line, groups, text
from probe.core.files import CONF


@pytest.mark.parametrize("width", [40, 80, 120])
def test_every_choice_has_its_line(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = text(["--help"]).splitlines()
    start = lines.index("backbone=")
    assert max(map(len, lines[start : lines.index("Settings (override with key=value)")])) <= width
    for group in groups([CONF]):
        own = lines[lines.index(f"{group}=") + 1 :]
        for name in choices(group, [CONF]):
            (line,) = [line for line in own[: own.index("")] if line.split()[0] == name]
            assert len(line.split()) > 1


def test_a_line_says_what_a_choice_is() -> None:
    for group in groups([CONF]):
        for path in choices(group, [CONF]).values():
            said = first_line(path)
            assert said
            assert not said.startswith(("probe", "@"))


def test_settings_stand_with_their_comments_and_without_what_is_hydras() -> None:
    said = text(["--help"])
    assert "device: auto          # auto | cpu | cuda" in said
    assert "hydra" not in said.split("Settings")[1]


def test_the_parameters_of_what_is_named_are_shown() -> None:
    said = text(["head=lda", "--help"])
    assert "head=lda (override with head.<key>=value)\n  shrinkage:" in said
    assert "Settings" not in said


def test_yamls_of_ones_own_are_listed(tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "mine.yaml").write_text("# What mine does.\n_target_: mine.Head\n")
    for words in (["--config-dir", str(tmp_path)], [f"--config-dir={tmp_path}"]):
        assert "  mine                  What mine does." in text([*words, "-h"])
