"""Random numbers of a table: named by what they are for, so that nothing else moves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri

from probe.leaderboard import leads
from probe.leaderboard.index import read_folders
from probe.leaderboard.leads import Draws, resample
from probe.leaderboard.naming import renamed
from probe.leaderboard.ranks import rank
from probe.leaderboard.records import Records
from probe.leaderboard.row_scores import RowScores
from probe.leaderboard.statistics import scores
from probe.leaderboard.table import build_table

N_ROWS, N_RESAMPLES = 50, 4000


def drawn(systems: list[str], rows: str = "rows", added: float = 0.01, seed: int = 0) -> dict[str, np.ndarray]:
    """The deviations of systems whose influences follow from their names."""
    influences = np.array([np.random.default_rng(list(name.encode())).normal(size=N_ROWS) for name in systems])
    influences = (influences - influences.mean(axis=1, keepdims=True)) / N_ROWS
    deviations, _ = resample(influences, np.full(len(systems), added), N_RESAMPLES, Draws(rows, systems), seed)
    return dict(zip(systems, deviations.T, strict=True))


def test_a_new_system_moves_the_draws_of_no_other() -> None:
    before, after = drawn(["a", "b", "c"]), drawn(["c", "new", "a", "b"])
    for name, deviations in before.items():
        np.testing.assert_allclose(after[name], deviations, rtol=1e-4, atol=1e-6)


def test_systems_of_a_column_share_the_resampled_rows_and_no_draw_of_seeds() -> None:
    rows = drawn(["a", "b"], added=0.0)
    influences = np.array([np.random.default_rng(list(name)).normal(size=N_ROWS) for name in (b"a", b"b")])
    covariance = np.cov(np.stack(list(rows.values())))
    np.testing.assert_allclose(covariance, np.cov(influences, ddof=0) / N_ROWS, rtol=0.1, atol=1e-3)
    seeds = {name: deviations - rows[name] for name, deviations in drawn(["a", "b"]).items()}
    assert seeds["a"].std() == pytest.approx(0.1, rel=0.05)
    assert abs(np.corrcoef(seeds["a"], seeds["b"])[0, 1]) < 4 / N_RESAMPLES**0.5


@pytest.mark.parametrize("change", [{"rows": "others"}, {"seed": 1}])
def test_other_rows_and_another_seed_draw_anew(change: dict) -> None:
    first, second = drawn(["a"], added=0.0), drawn(["a"], added=0.0, **change)
    assert abs(np.corrcoef(first["a"], second["a"])[0, 1]) < 4 / N_RESAMPLES**0.5


def test_columns_and_their_systems_draw_apart_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []
    plain = leads._named
    monkeypatch.setattr(leads, "_named", lambda name: named.append(name) or plain(name))
    values = np.random.default_rng(0).uniform(size=(3, 2, N_ROWS)) < 0.6
    columns = [[scores(list(one.astype(float)), None, range(2), N_ROWS) for one in values]] * 2
    rank(columns, n_resamples=100)
    assert len(set(named)) == len(named) == 2 * (1 + 3)


def level_of(records: Records, **labels: str) -> dict[tuple[str, str], tuple[float, ...]]:
    """Ranks with bounds by the names that rows have without labels."""
    back = {new: old for old, new in labels.items()}
    ranking = build_table(renamed(records, labels, ["backbone", "head", "dataset"])).ranking
    names = zip(ranking["backbone"], ranking["head"], strict=True)
    bounds = ranking[["rank", "rank_low", "rank_high"]].itertuples(index=False)
    return {(back.get(b, b), back.get(h, h)): tuple(found) for (b, h), found in zip(names, bounds, strict=True)}


def test_names_and_their_order_move_no_draw(board: Path) -> None:
    frame = read_folders([board]).frame
    labels = {"tiny": "zebra", "digits": "zero", "linear": "a line"}
    other = renamed(Records(frame), labels, ["backbone", "head", "dataset"]).frame.sample(frac=1, random_state=0)

    def draws(frame: pd.DataFrame) -> set[tuple[str, ...]]:
        frame = frame.assign(row=frame["backbone"] + frame["head"], column=frame["dataset"]).reset_index(drop=True)
        own = RowScores(frame, build_table(Records(frame)).measure)
        return {
            (found.rows, *sorted(found.systems)) for c, rows in own.systems.items() for found in [own.draws(c, [*rows])]
        }

    assert draws(frame) == draws(other)
    assert len(draws(frame)) == 2
    assert level_of(Records(frame)) == level_of(Records(frame), **labels)


def test_the_level_of_all_pairs_is_that_of_a_normal_where_one_pair_is_ranked() -> None:
    """Two systems of one seed in many rows: the largest of two opposite leads, whoever draws it."""
    random = np.random.default_rng(0)
    influences = random.normal(size=(2, 400)) / 400
    influences -= influences.mean(axis=1, keepdims=True)
    found = []
    for seed in range(20):
        deviations, errors = resample(influences, np.full(2, 0.001), 1000, Draws.by_place(2), seed)
        found.append(np.quantile(np.abs(deviations[:, 0] - deviations[:, 1]) / errors[0, 1], 0.95))
    assert np.mean(found) == pytest.approx(ndtri(0.975), rel=0.03)
