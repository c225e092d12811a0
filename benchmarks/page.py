"""The page of a large board in Chromium: its size, and how long a reader waits for it.

    python benchmarks/page.py [--rows 1000] [--columns 20] [--seeds 1] [--keep FOLDER] [--shots FOLDER]

Makes runs of so many rows, columns and seeds (or takes those of `--keep`), writes the page as
`probe leaderboard --html` does, and prints its size and seconds: to write it, to open it until the table stands and
until the plots do, and from a click to the next picture for sorting by a column, filtering, opening a row, showing all
rows, with the processor time of the page's thread until all is still. `--shots` leaves pictures of it at the size of a
desktop, of a phone, and in the dark. Needs Chromium and playwright.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from run_folders import write_run

from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page
from probe.leaderboard.table import build_table

HEADS, N_TEST = 5, 200
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESKTOP, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}
STEPS = {
    "sort by a column": ("thead button[data-sort^='c:']", "element.click()"),
    "sort the other way": ("thead button[data-sort^='c:']", "element.click()"),
    "filter": ("#filter", "element.value = 'head=head2'; element.dispatchEvent(new Event('input'))"),
    "clear the filter": ("#filter", "element.value = ''; element.dispatchEvent(new Event('input'))"),
    "open a row": ("#board tbody button[data-row]", "element.click()"),
    "show all rows": ("#all-rows", "element.click()"),
    "sort all rows": ("thead button[data-sort^='c:']", "element.click()"),
}


def make_runs(root: Path, n_rows: int, n_columns: int, n_seeds: int) -> None:
    for row in range(n_rows):
        for column in range(n_columns):
            for seed in range(n_seeds):
                write_run(root, f"backbone{row // HEADS}", f"head{row % HEADS}", f"data{column}", seed, n_test=N_TEST,
                          skill=2 * row / n_rows)  # fmt: skip


def measure(file: Path, shots: Path | None) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for name, size in (("desktop", DESKTOP), ("phone", PHONE), ("dark", DESKTOP)):
            tab = browser.new_page(viewport=size, color_scheme="dark" if name == "dark" else "light")
            start = time.perf_counter()
            tab.goto(file.as_uri())
            tab.wait_for_selector("#board tbody tr[data-place]")
            table = time.perf_counter() - start
            tab.wait_for_selector("#cost svg")
            print(f"{name}: opened {table:.2f} s to the table, {time.perf_counter() - start:.2f} s to the plots")
            if shots:
                tab.screenshot(path=shots / f"{name}.png")
            if name == "desktop":
                session = tab.context.new_cdp_session(tab)
                session.send("Performance.enable", {"timeDomain": "threadTicks"})
                for step, (selector, act) in STEPS.items():
                    print(f"  {step:20s} {timed(tab, session, selector, act)}", flush=True)
                    if shots and step == "open a row":
                        tab.screenshot(path=shots / "row.png")
            heap = tab.evaluate("performance.memory ? performance.memory.usedJSHeapSize : 0")
            print(f"  heap {heap / 1e6:.0f} MB")
            tab.close()
        browser.close()


def busy(session: Any) -> float:
    """Milliseconds of processor time that the page's thread has used: other work on the machine is none of it."""
    told = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return 1000 * float(told["ThreadTime"])


def timed(tab: Any, session: Any, selector: str, act: str) -> str:
    """Milliseconds of the work that an event sets off, to the picture after it, and busy ones until all is still."""
    before = busy(session)
    work, painted = tab.evaluate(
        "async (selector) => { const element = document.querySelector(selector);"
        " const next = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));"
        f" await next(); const start = performance.now(); {act}; const work = performance.now() - start;"
        " await next(); return [work, performance.now() - start]; }",
        selector,
    )
    last = -1.0
    while busy(session) - last > 5:  # rows that come some at a time, and the plots, follow
        last = busy(session)
        tab.wait_for_timeout(1000)
    return f"{work:6.0f} ms of work, {painted:6.0f} ms to the next picture, {last - before:6.0f} ms of the processor"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1000)
    options.add_argument("--columns", type=int, default=20)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--keep", type=Path, help="make the runs here, or use those that are here")
    options.add_argument("--shots", type=Path, help="where pictures go")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = given.keep or Path(temporary) / "runs"
        if not root.exists() or not any(root.iterdir()):
            make_runs(root, given.rows, given.columns, given.seeds)
        records = read_folders([root])
        table = build_table(records)
        start, file = time.perf_counter(), Path(temporary) / "page.html"
        file.write_text(page(table, records.frame), "utf-8")
        size = file.stat().st_size / 1e6
        print(f"{len(table.ranking):,} rows x {len(table.column_names)} columns, {len(records.frame):,} runs: "
              f"{size:.1f} MB, written in {time.perf_counter() - start:.1f} s")  # fmt: skip
        if BROWSER is None:
            sys.exit("no Chromium is installed")
        if given.shots:
            given.shots.mkdir(parents=True, exist_ok=True)
        measure(file, given.shots)


if __name__ == "__main__":
    main()
