"""The page in headless Chromium: rows that are opened and compared, and their plots."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from page_browser import settled
from run_folders import write_masks, write_numbers, write_run

from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page
from probe.leaderboard.table import build_table


def test_browser_opens_a_row_wherever_it_is_clicked_and_shows_it_under_the_row(opened: Any) -> None:
    opened.locator("tr[data-place]", has_text="linear").locator("td.number").nth(1).click()
    assert opened.locator("tr.open + tr.detail #detail h3").inner_text() == "tiny linear"
    for plot in ("search", "reliability", "risk", "confusion"):
        assert opened.locator(f"#{plot} svg .mark").count() > 1
    assert opened.locator("#detail pre").inner_text().startswith("probe backbone=tiny")
    metrics = opened.locator("#detail .metrics tbody tr").all_inner_texts()
    assert any(re.match(r"top1, %\s+\d+\.\d\s+\d+\.\d to \d+\.\d\s+higher", line) for line in metrics)
    assert any(re.match(r"log_loss, nats\s+\d\.\d{3}\s", line) for line in metrics)
    origin = opened.locator("#detail .wide tbody tr").first.inner_text()
    assert "few_shot, shots 1" in origin
    assert "0: " in origin
    assert "validation" in origin
    run = opened.input_value("#run")
    opened.select_option("#run", index=1)
    assert opened.input_value("#run") != run
    opened.locator("tr[data-place]", has_text="linear").locator("td.rank").click()
    assert opened.locator("#detail").count() == 0


def test_browser_cuts_no_text_of_an_axis(opened: Any) -> None:
    opened.locator("tr[data-place]", has_text="ncm").locator("td.rank").click()
    opened.wait_for_selector("#detail .axes text")
    texts = """[...document.querySelectorAll("svg")].filter((svg) => svg.querySelector(".axes")).flatMap((svg) => {
        const edge = svg.getBoundingClientRect();
        return [...svg.querySelectorAll(".axes text")].map((text) => [text.textContent, text.getBoundingClientRect()])
            .filter(([_, box]) => box.left < edge.left || box.right > edge.right).map(([said]) => said);
    })"""
    assert opened.locator("#detail .axes").count() >= 2
    assert opened.evaluate(texts) == []


def test_browser_shows_the_rows_that_a_run_got_most_confidently_wrong(opened: Any) -> None:
    opened.locator("tr[data-place]", has_text="ncm").locator("td.rank").click()
    rows = opened.locator("#detail .wrongs > .wrong")
    assert rows.count() == 12
    assert opened.locator("#detail .wrongs .thumb").count() + opened.locator("#detail .wrongs .text").count() == 12
    assert re.search(r"true .+, predicted .+ \(\d+\.\d %\)", rows.first.inner_text())
    assert opened.evaluate("[...document.querySelectorAll('.thumb')].every((image) => image.naturalWidth === 8)")


def test_browser_compares_two_rows_by_paired_differences_and_the_rows_where_they_disagree(opened: Any) -> None:
    opened.locator("tr[data-place]", has_text="ncm").locator("td.rank").click()
    opened.select_option("#compare", "tiny linear")
    box = opened.locator("#detail .compared")
    line = box.locator("tbody tr").first.inner_text().split("\t")
    a, b, difference = (float(text.split()[0]) for text in line[1:4])
    assert difference == pytest.approx(a - b, abs=0.11)
    counts = [int(count) for count in re.findall(r"is right: (\d+) row", box.inner_text())]
    both, neither = (int(n) for n in re.search(r"right on (\d+), both wrong on (\d+)", box.inner_text()).groups())
    assert sum(counts) + both + neither == 200
    opened.locator("tr[data-place]", has_text="linear").locator("td.rank").click()
    opened.select_option("#compare", "tiny ncm")
    other = opened.locator("#detail .compared tbody tr").first.inner_text().split("\t")
    assert float(other[3].split()[0]) == -difference
    assert [int(n) for n in re.findall(r"is right: (\d+) row", opened.inner_text("#detail .compared"))] == counts[::-1]


def test_browser_shows_learning_curves_and_the_pareto_front(opened: Any) -> None:
    assert opened.locator("#curves .line").count() == 3
    assert opened.locator("#curves .mark").count() == 9
    for kind in ("extract", "parameters", "fit"):
        opened.select_option("#cost-kind", kind)
        settled(opened, f"location.hash.includes('by={kind}') || '{kind}' === 'fit'")
        assert opened.locator("#cost .front").count() == 1
        assert opened.locator("#cost .mark").count() == 3


def test_browser_draws_numbers_with_their_intervals_and_scores_by_layer(tab: Any, tmp_path: Path) -> None:
    write_numbers(tmp_path / "runs")
    for layer in range(3):
        write_run(tmp_path / "runs", "vit", "linear", "digits", reads={"pooled": f"blocks.{layer}"}, skill=layer / 4)
    records = read_folders([tmp_path / "runs"])
    (tmp_path / "page.html").write_text(page(build_table(records), records.frame), "utf-8")
    tab.goto(f"{(tmp_path / 'page.html').as_uri()}#metric=r2&open=tiny+ols")
    tab.wait_for_selector("#against-0 svg")
    assert tab.locator("#against-0 .interval").count() == tab.locator("#against-0 .mark").count() == 20
    assert tab.locator("#residuals-0 .mark").count() == 20
    assert "interval_width, cm" in tab.inner_text("#detail .metrics")
    assert "true 7, predicted 9.9" in tab.locator("#detail .wrong").first.inner_text()
    marks = tab.locator("#against-0 .mark")
    assert "predicted 9.9, interval 8.9 to 12.9" in marks.nth(7).get_attribute("aria-label")
    groups = tab.get_by_role("region", name="Mean absolute error of each group")
    names = [text.split()[0] for text in groups.locator("tbody tr").all_inner_texts()]
    assert names[0] == "north"
    assert set(names) == {"north", "south", "alone"}
    assert groups.inner_text().count(" to ") == 2
    assert tab.locator("#layers .mark").count() == 3


def test_browser_draws_masks_by_class_and_by_pixel(tab: Any, tmp_path: Path) -> None:
    write_masks(tmp_path / "runs")
    records = read_folders([tmp_path / "runs"])
    (tmp_path / "page.html").write_text(page(build_table(records), records.frame), "utf-8")
    tab.goto(f"{(tmp_path / 'page.html').as_uri()}#open=tiny+linear")
    tab.wait_for_selector("#confusion svg")
    assert "pixels" in tab.locator("#confusion .mark").first.get_attribute("aria-label")
    classes = tab.get_by_role("region", name="IoU of each class").inner_text()
    assert classes.count(" to ") == 3
    assert tab.locator(".overlays").evaluate("picture => picture.naturalWidth") == 40


def test_browser_opens_a_compressed_page_and_shows_runs_that_were_not_read(
    tab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.leaderboard.page.MAX_PLAIN", 1000)
    for head in ("ncm", "linear"):
        for seed in (0, 1):
            write_run(tmp_path / "runs", "tiny", head, "digits", seed, skill=float(seed))
    records = read_folders([tmp_path / "runs"])
    (tmp_path / "page.html").write_text(page(build_table(records), records.frame, max_read=2), "utf-8")
    tab.goto((tmp_path / "page.html").as_uri())
    tab.wait_for_selector("#cost svg")
    tab.locator("button[data-row='0']").click()
    assert tab.locator("#detail pre").count() == 1
    tab.select_option("#run", index=1)
    assert "seed 1" in tab.locator("#run option:checked").inner_text()
    assert tab.locator("#detail pre").count() == 0
    assert "top1" in tab.locator(".metrics").inner_text()
