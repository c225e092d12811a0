from __future__ import annotations

import numpy as np
import pytest
from run_folders import edit, write_run

from probe.leaderboard.index import read_folders
from probe.leaderboard.records import Records
from probe.leaderboard.rows_in_colour import cost, pareto, risk, spread_out, styles
from probe.leaderboard.table import Table, build_table


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, Records]:
    root = tmp_path_factory.mktemp("runs")
    for i in range(3):
        for j in range(8):
            path = write_run(root, f"backbone {i}", f"head {j}", skill=0.3 * i + 0.1 * j)
            edit(path, seconds={"extract": 1.0, "fit": 0.1 * 2.0**j, "predict": 0.1, "total": 2.0})
    records = read_folders([root])
    return build_table(records), records


def few(many: tuple[Table, Records]) -> tuple[Table, Records]:
    frame = many[1].frame
    records = Records(frame[frame["head"] < "head 4"].reset_index(drop=True))
    return build_table(records), records


def test_a_backbone_is_a_colour_and_a_head_a_marker(many: tuple[Table, Records]) -> None:
    found, entries = styles(many[0])
    assert len({(style.colour, style.marker, style.hollow) for style in found.values()}) == 24
    assert len({style.colour for style in found.values()}) == 3
    assert [entry.get_label() for entry in entries[3:]] == list(
        dict.fromkeys(str(row).split(maxsplit=2)[2] for row in many[0].ranking["row"])
    )


@pytest.mark.parametrize("n", [12, 24])
def test_no_name_covers_another_name_or_leaves_the_panel(many: tuple[Table, Records], n: int) -> None:
    table, records = few(many) if n == 12 else many
    figure = cost(table, records.frame)
    figure.canvas.draw()
    (panel,) = figure.axes
    boxes = [text.get_bbox_patch() or text for text in panel.texts]
    from matplotlib.text import Text

    found = [Text.get_window_extent(text) for text in boxes]
    assert len(found) >= 3
    assert not any(a.overlaps(b) for i, a in enumerate(found) for b in found[:i])
    around = panel.get_window_extent()
    assert all(around.x0 < box.x0 and box.x1 < around.x1 for box in found)


def test_beyond_twelve_rows_the_best_are_named_and_the_others_grey(many: tuple[Table, Records]) -> None:
    (panel,) = risk(many[0], many[1].frame).axes  # type: ignore[union-attr]
    best = many[0].cells.sort_values("badness")["row"].iloc[:12]
    assert {text.get_text() for text in panel.texts} == set(best)
    assert "12 more rows in grey" in panel.get_title()
    assert len(panel.lines) == 24


def test_places_are_spread_out_in_their_order_and_stay_inside() -> None:
    wanted = sorted(np.random.default_rng(0).uniform(0, 1, 10))
    places = spread_out(wanted, 0.1, 0, 1)
    assert np.diff(places).min() >= 0.1 - 1e-9
    assert places[-1] <= 1
    assert spread_out([0.1, 0.5, 0.9], 0.1, 0, 1) == [0.1, 0.5, 0.9]


def test_the_pareto_front_is_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    x, badness = rng.uniform(size=50), rng.uniform(size=50)
    unbeaten = [
        i for i in range(50) if not any(x[j] <= x[i] and badness[j] <= badness[i] and j != i for j in range(50))
    ]
    assert sorted(pareto(x, badness)) == unbeaten
