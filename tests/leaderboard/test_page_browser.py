"""The page in headless Chromium: the table, sorted, filtered, switched to another metric, and downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from page_browser import HOSTILE, heads, settled
from run_folders import write_run

from probe.leaderboard.command import main


def test_browser_sorts_by_a_column_both_ways(opened: Any) -> None:
    button = opened.locator('thead button[data-sort="c:digits 20"]')
    button.click()
    assert [name[:6] for name in heads(opened)] == ["linear", "ncm", HOSTILE[:6]]
    assert opened.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    opened.keyboard.press("Enter")
    assert heads(opened)[-1] == "linear"
    assert opened.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("tiny NCM", ["ncm"]),
        ("head=linear", ["linear"]),
        ("head=lin*|ncm", ["linear", "ncm"]),
        ("linear|ncm", ["linear", "ncm"]),
        ("-ncm -script", ["linear"]),
        ('-head=linear "tiny ncm"', ["ncm"]),
        ("backbone=tin", []),
        ("-tiny", []),
    ],
)
def test_browser_filters_by_words_fields_and_what_is_not_there(opened: Any, text: str, left: list[str]) -> None:
    opened.fill("#filter", text)
    assert heads(opened) == left
    assert opened.inner_text("#count") == f"{len(left)} of 3 rows"


def test_browser_says_where_nothing_is_left_and_what_fields_there_are(opened: Any) -> None:
    opened.fill("#filter", "model=linear")
    message = opened.inner_text("#board .nothing")
    assert message.startswith("No row of 3 meets “model=linear”. A row has the fields backbone, head, not model.")
    opened.locator("#board .nothing button").click()
    assert len(heads(opened)) == 3
    assert opened.evaluate("document.activeElement.id") == "filter"


def test_browser_switches_the_metric_and_what_is_better_with_it(opened: Any) -> None:
    opened.select_option("#metric", "log_loss")
    assert opened.inner_text("#title") == "log_loss, nats (lower is better)"
    opened.locator('thead button[data-sort="c:digits 20"]').click()
    assert opened.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    values = opened.locator("#board tbody tr[data-place] > td:nth-child(6) > span:first-child").all_inner_texts()
    numbers = [float(text.split()[0]) for text in values]
    assert numbers == sorted(numbers)


def test_browser_shows_metrics_that_cannot_rank_by_the_names_that_they_are_given(tab: Any, tmp_path: Path) -> None:
    for head, value in (("ncm", 0.2), ("linear", 0.4)):
        told = {"worst_class": {"value": value, "low": value - 0.1, "high": value + 0.1}}
        write_run(tmp_path / "runs", "tiny", head, "digits", metrics=told)
    words = ["--label", "worst_class=lowest", "--html", str(tmp_path / "page.html")]
    assert main([str(tmp_path / "runs"), *words]) == 0
    tab.goto((tmp_path / "page.html").as_uri())
    tab.wait_for_selector("#cost svg")
    tab.select_option("#metric", label="lowest")
    assert tab.inner_text("#title") == "lowest, % (not ranked)"
    tab.locator('thead button[data-sort="c:digits"]').click()
    cells = tab.locator("#board tbody tr[data-place] > .number").all_inner_texts()
    assert (heads(tab), cells) == (["linear", "ncm"], ["40.0", "20.0"])
    settled(tab, "document.querySelector('#cost svg').getAttribute('aria-label').startsWith('lowest on digits')")
    tab.locator("tr[data-place]", has_text="ncm").locator("td.rank").click()
    tab.select_option("#compare", "tiny linear")
    assert "not kept" in tab.inner_text("#detail .compared")
    assert "lowest, %" in tab.inner_text("#detail .metrics")
    assert tab.said == []


def test_browser_shows_columns_that_are_chosen(opened: Any) -> None:
    opened.locator("#columns summary").click()
    for label in ("average of the scores", "parameters", "training rows", "commit"):
        opened.get_by_label(label, exact=True).check()
    opened.get_by_label("digits 1", exact=True).uncheck()
    head = opened.locator("#board thead th").all_inner_texts()
    assert [text.split("\n")[0] for text in head] == [
        "backbone", "head", "rank", "digits 5", "digits 20", "average", "parameters", "training rows", "commit",
    ]  # fmt: skip
    opened.keyboard.press("Escape")
    assert opened.locator("#columns[open]").count() == 0
    opened.locator('thead button[data-sort="average"]').click()
    assert heads(opened)[0] == "linear"


def test_browser_comes_back_to_what_an_address_says(opened: Any, written_page: Path) -> None:
    opened.select_option("#metric", "log_loss")
    opened.fill("#filter", "head=linear|ncm")
    opened.locator('thead button[data-sort="c:digits 5"]').click()
    opened.locator("tr[data-place]", has_text="ncm").locator("td.rank").click()
    opened.select_option("#compare", "tiny linear")
    address = opened.url
    opened.goto("about:blank")
    opened.goto(address)
    assert opened.input_value("#metric") == "log_loss"
    assert opened.input_value("#filter") == "head=linear|ncm"
    assert opened.locator("th[aria-sort]").inner_text().startswith("digits 5")
    assert opened.locator("#detail h3").inner_text() == "tiny ncm"
    assert opened.locator("#detail .compared").count() == 1
    opened.goto(f"{written_page.as_uri()}#metric=none&open=nobody&sort=c%3Agone&compare=nobody")
    opened.reload()
    assert len(heads(opened)) == 3
    assert opened.locator("#detail").count() == 0


@pytest.mark.parametrize("kind", ["csv", "json", "tex"])
def test_browser_downloads_what_is_shown(opened: Any, kind: str) -> None:
    opened.fill("#filter", "-linear")
    opened.locator("#columns summary").click()
    opened.get_by_label("digits 1", exact=True).uncheck()
    opened.locator("#download summary").click()
    with opened.expect_download() as waiting:
        opened.locator(f"#as-{kind}").click()
    assert waiting.value.suggested_filename == f"leaderboard.{kind}"
    text = Path(waiting.value.path()).read_text("utf-8")
    if kind == "json":
        cells = json.loads(text)["cells"]
        assert [(cell["head"], cell["column"]) for cell in cells] == [
            (head, column) for head in ("ncm", HOSTILE) for column in ("digits 5", "digits 20")
        ]
        assert all(cell["low"] <= cell["value"] <= cell["high"] for cell in cells)
    elif kind == "csv":
        assert len(text.splitlines()) == 5
        assert text.startswith("backbone,head,column,metric,value,low,high")
    else:
        assert len([line for line in text.splitlines() if line.endswith(r"\\")]) == 3
        assert r"\textless{}script\textgreater{}" in text
        assert r"\begin{tabular}{lllrr}" in text
