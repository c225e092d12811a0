"""Takes the screenshots of the leaderboard's page: `python docs/pictures/page.py [--runs FOLDER]`.

Runs a small sweep on the digits that scikit-learn brings (a few minutes; `--runs` keeps it), writes its page, and looks
at it with headless Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import probe
from probe.command.subcommands import leaderboard

PICTURES = Path(__file__).parent
BACKBONES = ["tiny", ("tiny", {"pretrained": False}), "raw"]
HEADS = ["linear", "lda", "ncm", "knn"]
ATTENTIVE = ("attentive", {"options": {"n_queries": 1}})
SHOTS = [2, 5, 20]
DESKTOP, PHONE = (1100, 800), (390, 844)
VIEWS = {
    "page": (DESKTOP, "light", "", 0),
    "page-dark": (DESKTOP, "dark", "metric=log_loss&hide=digits 2&add=average&add=seconds", 0),
    "page-phone": (PHONE, "light", "", 0),
    "page-row": (DESKTOP, "light", "open=tiny knn&sort=-c:digits 20", 0),
    "page-wrong": (
        DESKTOP,
        "light",
        "open=tiny attentive(options={'n_queries':1})&sort=-c:digits 20",
        "h4:has-text('confidently')",
    ),
    "page-compared": (DESKTOP, "light", "open=tiny linear&compare=raw linear&sort=-c:digits 20", 0),
    "page-cost": (DESKTOP, "light", "cost=digits 20", "#cost-title"),
}
"""Name of the picture -> window, colours, the address, and what is scrolled to."""


def sweep(runs: Path) -> None:
    """The runs of the pictures, those that are there left alone."""
    for shots in SHOTS:
        probe.sweep(BACKBONES, "digits", HEADS, ("few_shot", {"k": shots}), (0, 1, 2), runs=runs, quiet=True)
        probe.sweep("tiny", "digits", ATTENTIVE, ("few_shot", {"k": shots}), 0, runs=runs, quiet=True)


def shoot(page: Path) -> list[Path]:
    """A picture of each view, in few colours so that it is small."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    written = []
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, ((width, height), scheme, address, place) in VIEWS.items():
            tab = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab.goto(f"{page.as_uri()}#{address}")
            tab.wait_for_selector("#cost svg")
            if place:
                tab.locator(str(place)).first.evaluate("element => element.scrollIntoView()")
            elif "open=" not in address:
                tab.evaluate("scrollTo(0, 0)")
            tab.wait_for_timeout(200)
            written.append(save(name, tab))
            tab.close()
        chromium.close()
    return written


def save(name: str, tab: Any) -> Path:
    path = PICTURES / f"{name}.png"
    shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    shot.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=Path, help="make the runs here, or use those that are here")
    with tempfile.TemporaryDirectory() as temporary:
        runs, page = options.parse_args().runs or Path(temporary) / "runs", Path(temporary) / "index.html"
        sweep(runs)
        leaderboard([str(runs), "--columns", "dataset,protocol.k", "--html", str(page)])
        for path in shoot(page):
            print(f"wrote {path} ({path.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
