"""What holds for all tests."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where every extra is installed (PROBE_ALL_EXTRAS), a test that skips for want of a package has failed."""
    report = yield
    return _strict(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """The same of a file that skips as a whole."""
    report = yield
    return _strict(report)


def _strict(report: Any) -> Any:
    why = str(report.longrepr)
    if not (report.skipped and "could not import" in why and os.environ.get("PROBE_ALL_EXTRAS")):
        return report
    report.outcome = "failed"
    return report
