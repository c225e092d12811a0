from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from run_folders import write_run

from probe.core.base import digest
from probe.leaderboard.command import main
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page_data
from probe.leaderboard.table import build_table
from probe.results.schema import dumps

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>@@DATA@@ & <b>bold</b>"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for head, skill in [("ncm", 0.0), ("linear", 1.0), (HOSTILE, -0.5)]:
        for shots in (1, 5, 20):
            for seed in (0, 1):
                write_run(root, "tiny", head, "digits", seed, skill=skill + shots / 20, protocol="few_shot",
                          n_train=10 * shots, protocol_parameters={"shots": shots}, n_classes=4,
                          class_names=["a|b", HOSTILE, "c", "d"])  # fmt: skip
    (root / "bad").mkdir()
    (root / "bad" / "error.txt").write_text(f"ValueError: {HOSTILE}\n")
    return root


@pytest.fixture(scope="module")
def file(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    assert main([str(runs), "--columns", "dataset,protocol.shots", "--html", str(path)]) == 0
    return path


def data_of(path: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.S)
    assert found
    return json.loads(found[1])


def test_the_page_holds_the_numbers_of_the_table(runs: Path, file: Path) -> None:
    records = read_folders([runs])
    table = build_table(records, columns=("dataset", "protocol.shots"))
    data = data_of(file)
    shown = {(" ".join(row["fields"]), column): cell for row in data["rows"] for column, cell in row["cells"].items()}
    assert len(shown) == len(table.cells) == 9
    for cell in table.cells.to_dict("records"):
        on_page = shown[cell["row"], cell["column"]]
        assert [on_page[key] for key in ("value", "low", "high")] == [cell[key] for key in ("value", "low", "high")]
    assert len(data["runs"]) == 18


def test_the_page_names_no_address_that_it_would_fetch(file: Path) -> None:
    own = re.sub(r"<script>/\*\*?\n?\* plotly.*?</script>", "", file.read_text("utf-8"), flags=re.S)
    assert len(own) < 10**6
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", own)
    assert "default-src 'none'" in own


def test_diagrams_are_those_of_the_predictions(runs: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file
    from sklearn.metrics import confusion_matrix

    records = read_folders([runs])
    data = page_data(build_table(records, columns=("dataset", "protocol.shots")), records.frame)
    folders = dict(zip(records.frame["name"], records.frame["folder"], strict=True))
    run = next(run for run in data["runs"] if run["name"] in folders)
    saved = load_file(Path(folders[run["name"]]) / "predictions.safetensors")
    matrix = np.zeros((4, 4), int)
    for label, predicted, count in run["detail"]["confusion"]:
        matrix[label, predicted] = count
    assert (matrix == confusion_matrix(saved["label"], saved["predicted"], labels=range(4))).all()
    assert run["detail"]["n"] == matrix.sum(axis=1).tolist()
    assert run["detail"]["right"] == np.diag(matrix).tolist()
    assert run["detail"]["coverage"][-1] == 1
    assert run["detail"]["risk"][-1] == pytest.approx(1 - run["metrics"]["top1"], abs=1e-4)
    ece = np.sum(np.array(run["detail"]["bins"]) / len(saved["label"])
                 * np.abs(np.array(run["detail"]["confidence"]) - np.array(run["detail"]["accuracy"])))  # fmt: skip
    assert ece == pytest.approx(run["metrics"]["ece"], abs=1e-3)


def test_runs_beyond_the_limit_keep_their_command(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.leaderboard.page.MAX_RUNS", 2)
    records = read_folders([runs])
    data = page_data(build_table(records, columns=("dataset", "protocol.shots")), records.frame)
    assert [run["detail"] is not None for run in data["runs"]] == [True] * 2 + [False] * 16
    assert all(run["command"].startswith("probe ") for run in data["runs"])


def test_names_are_never_taken_for_places_of_the_template(file: Path) -> None:
    assert any(HOSTILE in row["fields"] for row in data_of(file)["rows"])
    assert file.read_text("utf-8").count("* plotly.js v") == 1


def without(name: str, folder: Path) -> None:
    (folder / name).unlink()


def sealed(result: dict[str, Any]) -> bytes:
    """A record as someone would write it who has it fit all its digests; plain JSON where there is no way."""
    try:
        run = result["run"]
        name = digest({key: result[key] for key in run["determinants"]})
        return dumps(result | {"run": run | {"digest": name, "name": f"{run['name'][:-8]}{name[:8]}"}})
    except (KeyError, TypeError, ValueError):
        return json.dumps(result).encode()


def edited(field: str, value: Any, folder: Path) -> None:
    (folder / "result.json").write_bytes(sealed(json.loads((folder / "result.json").read_text()) | {field: value}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (partial(without, "result.json"), "result.json cannot be read"),
        (partial(without, "predictions.safetensors"), "predictions.safetensors is missing"),
        (partial(edited, "selection", "text"), "its record is odd"),
        (partial(edited, "selection", {"chosen": {"C": float("nan")}}), "its record is odd"),
        (partial(edited, "seconds", {"fit": float("inf")}), "its record is odd"),
        (partial(edited, "metrics", {"top1": 1}), "its record is odd"),
        (partial(edited, "dataset", {"class_names": ["a"]}), "its classes are others"),
    ],
)
def test_a_run_damaged_since_the_table_was_made_loses_its_own_diagrams_alone(
    board: Path, damage: Callable[[Path], None], reason: str
) -> None:
    records = read_folders([board])
    table = build_table(records)
    whole = page_data(table, records.frame)
    folder = Path(records.frame["folder"].iloc[3])
    damage(folder)
    data = page_data(table, records.frame)
    json.dumps(data, allow_nan=False)
    (fault,) = [run for run in data["runs"] if run["fault"]]
    assert fault["name"] == records.frame["name"].iloc[3]
    assert (reason in fault["fault"], fault["detail"]) == (True, None)
    assert any(str(folder) in note and reason in note for note in data["notes"])
    others = [[run for run in found["runs"] if run["name"] != fault["name"]] for found in (whole, data)]
    assert others[0] == others[1]
    assert data["rows"] == whole["rows"]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_one_damaged_record_among_many_never_takes_the_page_down(board: Path, tmp_path: Path, seed: int) -> None:
    """A field of a record replaced, or a bit of its predictions: the others are shown, or kept apart by a sentence."""
    rng = random.Random(seed)
    victim = write_run(tmp_path / "aside", "tiny", "ridge", "digits")
    record = (victim / "result.json").read_text()
    odd = [None, "text", [], {}, -1, 0, float("inf"), float("nan"), True, "\x1b[31m", 10**30, [1], {"a": 1}, 0.5]
    for _ in range(300 if seed else 25):
        damaged = board / "victim"
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(victim, damaged)
        if rng.random() < 0.7:
            result = json.loads(record)
            place = rng.choice([result, *(value for value in result.values() if value and isinstance(value, dict))])
            place[rng.choice(list(place))] = rng.choice(odd)
            (damaged / "result.json").write_bytes(sealed(result))
        else:
            data = bytearray((damaged / "predictions.safetensors").read_bytes())
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            (damaged / "predictions.safetensors").write_bytes(data)
        code = main([str(board), "--html", str(tmp_path / "t.html"), "--csv", str(tmp_path / "t.csv")])
        if code == 0:
            shown = {row["fields"][1] for row in data_of(tmp_path / "t.html")["rows"]}
            assert {"linear", "ncm", "naive_bayes"} <= shown


@pytest.fixture(scope="module")
def opened(file: Path) -> Iterator[Any]:
    """The page in headless Chromium, with what the console and the network said."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        tab.said = said
        tab.goto(file.as_uri())
        tab.wait_for_selector("#cost .main-svg")
        yield tab
        browser.close()


def heads(tab: Any) -> list[str]:
    return tab.locator("#board tbody tr > :nth-child(2)").all_inner_texts()


def test_browser_sorts_by_a_column_both_ways(opened: Any) -> None:
    button = opened.locator('thead button[data-sort="c:digits 20"]')
    button.click()
    assert [name[:6] for name in heads(opened)] == ["linear", "ncm", HOSTILE[:6]]
    assert opened.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    opened.keyboard.press("Enter")
    assert heads(opened)[-1] == "linear"
    assert opened.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    opened.locator('thead button[data-sort="rank"]').click()


def test_browser_filters_by_words_and_fields(opened: Any) -> None:
    opened.fill("#filter", "tiny NCM")
    assert heads(opened) == ["ncm"]
    assert opened.inner_text("#count") == "1 of 3 rows"
    opened.fill("#filter", "")
    opened.select_option("select[data-field='1']", "linear")
    assert heads(opened) == ["linear"]
    opened.select_option("select[data-field='1']", "")
    assert len(heads(opened)) == 3


def test_browser_opens_a_row_by_keyboard_and_closes_it(opened: Any) -> None:
    opened.locator("#board tbody button").first.focus()
    opened.keyboard.press("Enter")
    opened.wait_for_selector("#confusion .main-svg")
    assert opened.inner_text("#detail pre").startswith("probe backbone=tiny")
    assert opened.evaluate("document.activeElement.id") == "detail"
    opened.select_option("#run", index=1)
    for plot in ("reliability", "risk", "classes", "confusion"):
        assert opened.locator(f"#{plot} .main-svg").count() > 0
    opened.keyboard.press("Escape")
    assert opened.locator("#detail").is_hidden()
    assert opened.evaluate("document.activeElement.dataset.row") == "0"


def test_browser_shows_learning_curves_and_the_pareto_front(opened: Any) -> None:
    assert opened.locator("#curves .scatterlayer .trace").count() == 3
    for kind in ("extract", "parameters", "fit"):
        opened.select_option("#cost-kind", kind)
        assert opened.locator("#cost .scatterlayer .trace").count() == 2


def test_browser_fits_a_phone_and_turns_dark(opened: Any) -> None:
    light = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    opened.emulate_media(color_scheme="dark")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") != light
    opened.set_viewport_size({"width": 360, "height": 700})
    for _ in range(50):  # the page's policy forbids the string that wait_for_function would evaluate
        if opened.evaluate("document.querySelector('#cost .main-svg').clientWidth") < 360:
            break
        opened.wait_for_timeout(100)
    assert opened.evaluate("document.querySelector('#cost .main-svg').clientWidth") < 360
    assert opened.evaluate("document.documentElement.scrollWidth") <= 360
    opened.set_viewport_size({"width": 1200, "height": 900})
    opened.emulate_media(color_scheme="light")


def test_browser_runs_no_hostile_name_and_reports_nothing(opened: Any) -> None:
    """Last: whatever the tests before did must have left the console and the network silent."""
    for row in range(3):
        opened.locator(f"button[data-row='{row}']").click()
    opened.locator("button[data-row='2']").click()
    assert opened.evaluate("window.hacked") is None
    assert opened.locator("img").count() == 0
    assert opened.locator("#board b b, main script").count() == 0
    assert opened.said == []
