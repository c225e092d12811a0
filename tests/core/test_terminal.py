from __future__ import annotations

import io

import pytest

from probe.core import terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_loop_that_lasts_is_shown_on_a_terminal_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", screen := Screen())
    assert list(terminal.epochs(3, delay=0)) == [0, 1, 2]
    assert "fit:" in screen.getvalue()
    assert not screen.getvalue().rpartition("\r")[0].rpartition("\r")[2].strip()


def test_a_short_loop_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", screen := Screen())
    assert list(terminal.epochs(3)) == [0, 1, 2]
    assert screen.getvalue().strip() == ""


def test_what_is_no_terminal_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(terminal.epochs(3, delay=0)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_the_width_is_that_of_the_terminal_or_100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "57")
    assert terminal.columns() == 57
