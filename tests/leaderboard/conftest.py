from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_browser import BROWSER, DESKTOP, HOSTILE, dataset_of
from run_folders import write_run

from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page
from probe.leaderboard.table import build_table


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """Two backbones, three heads, two datasets, three seeds; the linear head of tiny is the best by far."""
    root = tmp_path / "runs"
    for backbone, skill in [("tiny", 0.5), ("random", -0.5)]:
        for head, more in [("ncm", 0.0), ("linear", 1.0), ("naive_bayes", -0.1)]:
            for dataset in ["digits", "cifar10"]:
                for seed in range(3):
                    write_run(root, backbone, head, dataset, seed, skill=skill + more)
    return root


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., Path]:
    """Writes one run below `tmp_path / runs`."""
    return lambda *args, **changes: write_run(tmp_path / "runs", *args, **changes)


@pytest.fixture(scope="module")
def written_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows, three sizes of the training set on one dataset, and a hostile name wherever a name can stand."""
    root = tmp_path_factory.mktemp("runs")
    searched = [{"C": C, "score": 0.5 + C / 100} for C in (0.01, 0.1, 1.0, 10.0)]
    for head, skill in [("ncm", 0.0), ("linear", 1.0), (HOSTILE, -0.5)]:
        for shots in (1, 5, 20):
            for seed in (0, 1):
                write_run(root, "tiny", head, "digits", seed, skill=skill + shots / 20, protocol="few_shot",
                          n_train=10 * shots, protocol_parameters={"shots": shots}, n_classes=4,
                          selection={"on": "validation", "searched": searched, "chosen": {"C": 10.0}},
                          class_names=["a|b", HOSTILE, "c", "d"])  # fmt: skip
    (root / "bad").mkdir()
    (root / "bad" / "error.txt").write_text(f"ValueError: {HOSTILE}\n")
    records = read_folders([root])
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(
        page(build_table(records, columns=("dataset", "protocol.shots")), records.frame, dataset_of), "utf-8"
    )
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def tab(browser: Any) -> Iterator[Any]:
    """A tab that remembers what the console and the network said: nothing, whatever the tests of a file did."""
    found = browser.new_page(viewport=DESKTOP, accept_downloads=True)
    said: list[str] = []
    found.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    found.on("pageerror", lambda error: said.append(str(error)))
    found.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    found.said = said
    yield found
    assert said == []


@pytest.fixture
def opened(tab: Any, written_page: Path) -> Any:
    """The page as it is when it has just been opened."""
    tab.set_viewport_size(DESKTOP)
    tab.emulate_media(color_scheme="light")
    tab.goto("about:blank")
    tab.goto(written_page.as_uri())
    tab.wait_for_selector("#cost svg")
    return tab
