"""Folds of a cross-validation are one cell, whose interval knows that folds learn from each other's test rows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from run_folders import digest, draw_predictions, edit, write_run
from scipy.special import ndtr

from probe.leaderboard.board import read_board
from probe.leaderboard.command import main, sweep_columns, write_sweep_table
from probe.leaderboard.comparison import compare_rows, text
from probe.leaderboard.index import read_folders
from probe.leaderboard.pairs import compare
from probe.leaderboard.ranks import rank
from probe.leaderboard.records import FOLD, FOLDS, unfolded
from probe.leaderboard.statistics import Scores, intervals, mcnemar, scores
from probe.leaderboard.table import build_table
from probe.results.reader import read_result

N, K = 250, 5


def of_folds(right: np.ndarray, folds: np.ndarray, n_learnt: float | None = None) -> Scores:
    """One seed of a cross-validation, from whether each row is right."""
    places = [np.flatnonzero(folds == fold) for fold in range(K)]
    learnt = len(right) * (K - 1) / K if n_learnt is None else n_learnt
    return scores([right[rows].astype(float) for rows in places], places, range(K), len(right), K, learnt)


def write_folds(root: Path, head: str, right: np.ndarray, *, n_folds: int = K, only: int | None = None) -> None:
    for fold in range(n_folds if only is None else only):
        rows = np.arange(fold, len(right), n_folds)
        predictions = draw_predictions(right[rows], 10, digest(head, fold)) | {"row": rows}
        parameters = {"n_folds": n_folds, "fold": fold}
        path = write_run(root, "tiny", head, predictions=predictions, protocol="cross_validation", n_train=150,
                         n_validation=50, protocol_parameters=parameters)  # fmt: skip
        told = [f"{FOLDS}={n_folds}"] * (n_folds != K) + [f"{FOLD}={fold}"] * (fold > 0)
        label = f"cross_validation({', '.join(told)})" if told else "cross_validation"
        edit(path, labels={"backbone": "tiny", "dataset": "digits", "head": head, "protocol": label})


@pytest.fixture
def rights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=N)
    return {head: hard + 0.5 * rng.normal(size=N) < level for head, level in [("linear", 1.5), ("ncm", 0.5)]}


@pytest.fixture
def folded(tmp_path: Path, rights: dict[str, np.ndarray]) -> Path:
    for head, right in rights.items():
        write_folds(tmp_path / "runs", head, right)
    return tmp_path / "runs"


def test_five_folds_are_one_cell_with_the_share_of_all_rows(folded: Path, rights: dict[str, np.ndarray]) -> None:
    records = read_folders([folded])
    assert sweep_columns(records) == ("dataset",)
    table = build_table(records)
    assert table.column_names == ["digits"]
    cells = table.cells.set_index("head")
    for head, right in rights.items():
        assert cells["value"][head] == pytest.approx(right.mean())
        assert (cells["n_seeds"][head], cells["n_folds"][head], len(cells["runs"][head])) == (1, K, K)
    assert any("Nadeau and Bengio" in note for note in table.notes)
    assert not any("one seed" in note for note in table.notes)


def test_every_way_out_shows_the_same_cell(folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"--{kind}={tmp_path / kind}" for kind in ("md", "csv", "json", "tex")]
    assert main([str(folded), *files]) == 0
    cell = read_board([folded]).table.cells.iloc[0]
    shown = "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * cell[key] for key in ("value", "low", "high")))
    assert shown in capsys.readouterr().out
    for kind in ("md", "tex"):
        assert shown in re.sub(r"\\textbf|\\scriptsize |[{}\\]", "", (tmp_path / kind).read_text())
    assert len(read_board([folded]).frame) == 2
    assert read_board([folded]).frame["n_folds"].tolist() == [K, K]
    assert shown in write_sweep_table(folded)


def test_asked_for_each_fold_is_a_column(folded: Path) -> None:
    assert len(read_board([folded], columns=["dataset", "protocol.fold"]).table.column_names) == K


def test_other_numbers_of_folds_are_other_protocols(folded: Path, rights: dict[str, np.ndarray]) -> None:
    write_folds(folded, "linear", rights["linear"], n_folds=10)
    assert read_board([folded]).table.columns == ("dataset", "protocol")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cross_validation(fold=1)", "cross_validation"),
        ("cross_validation(fold=1, n_folds=10)", "cross_validation(n_folds=10)"),
        ("cross_validation(n_folds=10, fold=12)", "cross_validation(n_folds=10)"),
        ("label_noise(base=cross_validation(fold=3), rate=0.2)", "label_noise(base=cross_validation, rate=0.2)"),
    ],
)
def test_the_name_of_a_protocol_does_not_say_the_fold(label: str, name: str) -> None:
    assert unfolded(label) == name


def test_missing_folds_are_said(folded: Path, rights: dict[str, np.ndarray]) -> None:
    write_folds(folded, "lda", rights["ncm"], only=2)
    (said,) = [note for note in read_board([folded]).table.notes if "missing" in note and "Folds" in note]
    assert "tiny lda on digits (2 of 5)" in said


def test_the_variance_is_that_of_the_rows_times_what_nadeau_and_bengio_add() -> None:
    right, folds = np.random.default_rng(0).uniform(size=N) < 0.8, np.arange(N) % K
    found = of_folds(right, folds).variance
    within = np.mean([right[folds == fold].var() for fold in range(K)])
    assert found.rows + found.rest == pytest.approx(within / N * (1 + 5 / 4))
    means = [right[folds == fold].mean() for fold in range(K)]
    assert found.seeds == pytest.approx(np.var(means, ddof=1) * (1 / 5 + 1 / 4))


def test_folds_that_scatter_more_than_their_rows_widen_the_interval() -> None:
    folds = np.arange(N) % K
    smooth, rough = (np.random.default_rng(0).uniform(size=N) < level for level in (0.7, 0.5 + 0.1 * folds))
    widths = [np.diff(intervals([of_folds(right, folds)]), axis=0).item() for right in (smooth, rough)]
    assert widths[1] > 1.5 * widths[0]


def test_a_second_repetition_makes_no_more_rows() -> None:
    rng = np.random.default_rng(0)
    right, folds = rng.uniform(size=N) < 0.8, np.arange(N) % K
    places = [np.flatnonzero(folds == fold) for fold in range(K)]
    told = [right[rows].astype(float) for rows in places]
    twice = scores(told * 2, places * 2, range(2 * K), N, K, 200)
    assert twice.variance.rows + twice.variance.rest == pytest.approx(
        of_folds(right, folds).variance.rows + of_folds(right, folds).variance.rest
    )


def test_folds_that_all_test_the_rows_of_another_dataset_count_as_seeds() -> None:
    right = np.random.default_rng(0).uniform(size=(K, N)) < 0.8
    told, everywhere = list(right.astype(float)), [np.arange(N)] * K
    found = scores(told, everywhere, range(K), N, K, 20)
    assert (found.n_folds, found.inflation) == (0, 1.0)
    assert found.variance == scores(told, None, range(K), N).variance


def test_mcnemar_of_folds_is_that_of_all_rows(folded: Path, rights: dict[str, np.ndarray]) -> None:
    found = compare_rows(build_table(read_folders([folded])), "linear", "ncm")
    differences = rights["linear"].astype(float) - rights["ncm"]
    (told,) = found.differences
    assert told.value == pytest.approx(differences.mean())
    assert told.p_mcnemar == pytest.approx(mcnemar(differences[None]))
    assert (told.n_seeds, told.n_folds, told.n_rows) == (1, K, N)
    assert "folds" in text(found)


def lda(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    means = [X[y == label].mean(axis=0) for label in (0, 1)]
    centred = np.concatenate([X[y == label] - means[label] for label in (0, 1)])
    w = np.linalg.solve(centred.T @ centred / len(y) + 1e-6 * np.eye(X.shape[1]), means[1] - means[0])
    return w, -float(w @ (means[0] + means[1])) / 2


def cross_validated(rng: np.random.Generator, n: int, d: int) -> tuple[list[Scores], float]:
    """Two systems that see features of one law and so are equally good; the accuracy of one fold's head on new rows."""
    y, folds, mean = np.arange(n) % 2, np.arange(n) // 2 % K, np.ones(d) / np.sqrt(d)
    systems, true = [], 0.0
    for _ in range(2):
        X = rng.normal(size=(n, d)) + np.outer(2 * y - 1, mean)
        right = np.zeros(n, bool)
        for fold in range(K):
            w, b = lda(X[folds != fold], y[folds != fold])
            right[folds == fold] = (X[folds == fold] @ w + b > 0) == y[folds == fold]
        systems.append(of_folds(right, folds))
        # Of the last: the exact accuracy of a linear rule on two normals.
        scale = np.linalg.norm(w)
        true = float((ndtr((w @ mean + b) / scale) + ndtr((w @ mean - b) / scale)) / 2)
    return systems, true


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), [(60, 5), (100, 10), (200, 40), (500, 20)])
def test_intervals_of_folds_hold_new_draws_of_training_rows_and_equal_heads_are_told_apart_seldom(
    n: int, d: int
) -> None:
    """Without the correction 91 to 95 in 100 intervals hold, and up to 11 in 100 equal heads are told apart."""
    rng = np.random.default_rng(n)
    drawn = [cross_validated(rng, n, d) for _ in range(400)]
    truth = np.mean([true for _, true in drawn])
    found = [intervals(systems, proportion=True) for systems, _ in drawn]
    covered = np.mean([(low <= truth) & (truth <= high) for low, high in found])
    apart = np.mean([compare(*systems, systems, binary=True).p <= 0.05 for systems, _ in drawn])
    outranked = np.mean([(rank([systems])[0].low > 1).any() for systems, _ in drawn])
    assert covered >= 0.97, covered
    assert max(apart, outranked) <= 0.04, (apart, outranked)


def test_copies_among_test_rows_add_up_over_folds_and_not_over_heads(folded: Path) -> None:
    of_head = {"linear": 3, "ncm": 4}
    for path in folded.iterdir():
        edit(path, leakage={"test": of_head[read_result(path)["labels"]["head"]]})
    notes = build_table(read_folders([folded])).notes
    assert f"Leakage: {4 * K} test rows of digits are copies of training rows." in notes
