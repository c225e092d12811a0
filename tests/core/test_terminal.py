from __future__ import annotations

import functools
import io
import re

import numpy as np
import pytest

from probe.core import terminal
from probe.heads.gaussian_head import GaussianHead
from probe.heads.huber import HuberRegression
from probe.heads.lda import LinearDiscriminant
from probe.heads.linear import LinearProbe


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


def test_nothing_is_shown_where_it_is_to_be_silent_nor_within_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", screen := Screen())
    with terminal.silent():
        assert list(terminal.epochs(3, delay=0)) == [0, 1, 2]
    assert screen.getvalue() == ""
    with terminal.lasting(3, " heads", delay=0) as shown:
        for _ in range(3):
            assert list(terminal.passing([slice(0, 5), slice(5, 9)], 9)) == [slice(0, 5), slice(5, 9)]
            shown.add(1)
    assert "heads" in screen.getvalue()
    assert " rows" not in screen.getvalue()
    assert list(terminal.epochs(2, delay=0)) == [0, 1]
    assert "epochs" in screen.getvalue()


def test_a_gap_that_shrinks_moves_the_bar_from_part_to_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Screen())
    with terminal.lasting(2, delay=0) as shown:
        near = shown.nearing(1)
        reached = []
        for gap in (1.0, 0.1, 0.5, 0.01, 1e-4):
            near(gap, 1e-4)
            reached.append(shown._bar.n)
    np.testing.assert_allclose(reached, [0, 1.25, 1.25, 1.5, 1.5])


def test_the_time_left_follows_from_all_parts_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", screen := Screen())
    monkeypatch.setattr("tqdm.std.time", clock := iter(np.arange(0, 1000, 0.5)).__next__)
    with terminal.lasting(10, delay=0) as shown:
        for _ in range(10):
            for _ in range(20):
                clock()
            shown.add(1)
    left = [int(m) * 60 + int(s) for m, s in re.findall(r"<(\d\d):(\d\d)\]", screen.getvalue())]
    assert left[:5] == sorted(left, reverse=True)[:5]
    assert abs(left[4] - 5 * 11) < 5


@pytest.mark.parametrize("fit", ["linear", "lda", "huber", "gaussian"])
def test_convex_and_closed_form_fits_that_last_are_shown(fit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), np.arange(60) % 3
    heads = {
        "linear": LinearProbe(),
        "lda": LinearDiscriminant(),
        "huber": HuberRegression(),
        "gaussian": GaussianHead(),
    }
    monkeypatch.setattr("sys.stderr", screen := Screen())
    monkeypatch.setattr(terminal, "lasting", functools.partial(terminal.lasting, delay=0))
    for module in ("linalg.newton", "shared.lbfgs", "shared.penalised", "shared.one_pass"):
        monkeypatch.setattr(f"probe.heads.{module}.lasting", terminal.lasting)
    heads[fit].fit(X, y if fit in ("linear", "lda") else X[:, 0])
    assert "fit:   0%" in screen.getvalue()


def test_what_is_no_terminal_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(terminal.epochs(3, delay=0)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_the_width_is_that_of_the_terminal_or_100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "57")
    assert terminal.columns() == 57
