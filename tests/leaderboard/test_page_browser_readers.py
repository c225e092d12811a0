"""The page in headless Chromium, with a keyboard alone, a phone, a screen reader, many rows and hostile names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from page_browser import heads, settled


def test_browser_does_everything_with_a_keyboard_alone(opened: Any) -> None:
    keys = opened.keyboard
    focused = "document.activeElement.id || document.activeElement.dataset.row || document.activeElement.textContent"
    keys.press("Tab")
    assert opened.evaluate(focused) == "filter"
    keys.type("-script")
    assert len(heads(opened)) == 2
    opened.locator("#board tbody button").first.focus()
    keys.press("ArrowDown")
    assert opened.evaluate("document.activeElement.textContent + document.activeElement.closest('tr').innerText").count(
        "ncm"
    )
    keys.press("Enter")
    assert opened.locator("#detail h3").inner_text() == "tiny ncm"
    assert opened.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    keys.press("Tab")
    assert opened.evaluate(focused) == "compare"
    keys.press("ArrowDown")
    assert opened.locator("#detail .compared").count() == 1
    assert opened.evaluate(focused) == "compare"
    keys.press("Tab")
    keys.press("Enter")
    assert opened.locator("#detail").count() == 0
    assert opened.evaluate("document.activeElement.closest('tr').innerText").count("ncm")
    keys.press("Enter")
    keys.press("Escape")
    assert opened.locator("#detail").count() == 0
    keys.press("/")
    assert opened.evaluate(focused) == "filter"
    settled(opened, "document.querySelectorAll('#cost .mark').length === 2")  # the plots follow the filter
    opened.locator("#cost .mark[tabindex='0']").focus()
    first = opened.inner_text("#hint")
    keys.press("ArrowRight")
    assert opened.inner_text("#hint") != first
    assert "seconds to fit" in opened.inner_text("#hint")
    keys.press("Enter")
    assert opened.locator("#detail").count() == 1


def test_browser_shows_scores_on_a_phone_without_scrolling_and_turns_dark(opened: Any) -> None:
    light = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    opened.emulate_media(color_scheme="dark")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") != light
    opened.set_viewport_size({"width": 390, "height": 844})
    settled(opened, "document.querySelector('#cost svg').getBoundingClientRect().width < 390")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    box = opened.locator("#board tbody tr").first.locator("td.number span").first.bounding_box()
    assert box["x"] + box["width"] < 390
    assert box["y"] + box["height"] < 844
    opened.locator("#board tbody tr").first.locator("td.number").first.click()
    assert opened.locator("#detail").bounding_box()["width"] <= 390
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_finds_no_breach_of_wcag_aa(opened: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    opened.emulate_media(color_scheme=scheme)
    opened.locator("tr[data-place]", has_text="ncm").locator("td.rank").click()
    opened.select_option("#compare", "tiny linear")
    tags = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    # What is dark differs in colours alone.
    rules = {"runOnly": tags if scheme == "light" else {"type": "rule", "values": ["color-contrast"]}}
    found = axe.Axe().run(opened, options=rules).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []


@pytest.fixture(scope="module")
def large(written_page: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 rows and 10 columns."""
    text = written_page.read_text("utf-8")
    begin, end = '<script type="application/json" id="data">', "</script>"
    start = text.index(begin) + len(begin)
    stop = text.index(end, start)
    data = json.loads(text[start:stop])
    (shown, *_) = data["views"]
    names = [f"column {i}" for i in range(10)]
    row, cell = data["rows"][0], shown["lines"][0]["cells"][0]
    place = next(iter(row["cells"].values())) | {"data": "one"}
    cells = dict.fromkeys(names, place)
    data["rows"] = [row | {"fields": [f"backbone{i}", "linear"], "cells": cells} for i in range(300)]
    lines = [
        {"row": i, "rank": [i + 1, i, i + 2], "note": "", "cells": [cell | {"value": i / 300}] * 10} for i in range(300)
    ]
    pairs = [{"rows": [], "half": [], "p": [], "value": {}}] * 10
    data["views"] = [shown | {"columns": names, "lines": lines, "pairs": pairs}]
    path = tmp_path_factory.mktemp("large") / "large.html"
    path.write_text(text[:start] + json.dumps(data).replace("<", "\\u003c") + text[stop:], "utf-8")
    return path


def test_browser_shows_all_rows_and_takes_none_out_that_stand(tab: Any, large: Path) -> None:
    tab.goto(large.as_uri())
    tab.wait_for_selector("#cost svg")
    tab.evaluate("""() => {
        window.out = 0;
        const seen = new MutationObserver((told) => told.forEach((one) => { window.out += one.removedNodes.length; }));
        seen.observe(document.querySelector("#board tbody"), { childList: true });
    }""")
    tab.click("#all-rows")
    settled(tab, "document.querySelectorAll('#board tbody tr[data-place]').length === 300")
    assert tab.evaluate("window.out") == 0
    shown = tab.locator("#board tbody button[data-row]").all_inner_texts()
    assert shown == [f"backbone{i}" for i in range(300)]
    tab.fill("#filter", "backbone7")
    assert [tab.evaluate("window.out"), len(heads(tab))] == [300, 11]


def test_browser_answers_a_key_within_100_ms_at_300_rows_and_10_columns(tab: Any, large: Path) -> None:
    """Until the table is laid out."""
    tab.goto(large.as_uri())
    tab.wait_for_selector("#cost svg")
    assert tab.inner_text("#count") == "300 of 300 rows"
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy() -> float:
        """Seconds of processor time that the page's thread has used: other work on the machine is none of it."""
        return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}["ThreadTime"]

    typed = """(text) => { const field = document.getElementById('filter'); field.value = text;
        field.dispatchEvent(new Event('input')); document.getElementById('board').getBoundingClientRect(); }"""
    spent = {}
    for text in ("b", "ba", "backbone2", "backbone29", "backbone", ""):
        before = busy()
        tab.evaluate(typed, text)
        spent[text] = 1000 * (busy() - before)
    assert max(spent.values()) < 100, spent


def test_browser_runs_no_hostile_name_and_reports_nothing(opened: Any) -> None:
    for row in range(3):
        opened.locator(f"button[data-row='{row}']").click()
        opened.locator("#run").select_option(index=1)
    assert opened.evaluate("window.hacked") is None
    assert opened.locator("img:not(.thumb), #board b, main script").count() == 0
    assert all(
        source.startswith("data:image/") for source in opened.locator("img").evaluate_all("all => all.map(i => i.src)")
    )
    assert opened.said == []
