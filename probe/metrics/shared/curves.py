"""What can be read off learning curves: where one head overtakes another, and how many rows a head needs.

A curve is a score, higher is better, at M sizes of the training set for S seeds, (S, M). Between sizes it is taken to
be linear in the logarithm of the rows. Seeds are the draws of the training rows, the same for every head; the 95 %
intervals draw the mean curve again by their scatter, and with one seed they are 0..inf: nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.metrics.shared.intervals import N_RESAMPLES, QUANTILES, FloatArray, Interval

RECIPE = "4"  # of three seeds also sizes that scatter each on its own; "3" covered .85 in one world of large noise

TOLERANCE = 0.01
FEW_SEEDS = 3


@dataclass(frozen=True)
class Crossing:
    """Where one curve overtakes the other.

    Attributes:
        rows: Training rows at the crossing; its low end is 0 and its high end inf where resampled curves cross below
            or above the sizes measured.
        first_leads: Whether the first curve is the better one before the crossing.
    """

    rows: Interval
    first_leads: bool


def crossing(rows: IntArray, first_SM: FloatArray, second_SM: FloatArray, seed: int = 0) -> Crossing | None:
    """The crossing of two mean curves, None where one of them is better all along.

    Noisy curves may cross many times. The one crossing reported is that which splits the sizes into two parts such
    that one head leads by most before it and the other by most after it, measured as the area between the curves; if
    one head leading everywhere accounts for more of the area than any split, there is none.
    """
    _check(rows, first_SM, second_SM)
    difference_SM = first_SM - second_SM
    found = _crossing(np.log(rows), difference_SM.mean(axis=0))
    if found is None:
        return None
    _, first_leads = found

    def again(mean_M: FloatArray) -> float:
        area = np.trapezoid(mean_M if first_leads else -mean_M, np.log(rows))
        beyond = np.inf if area > 0 else 0.0  # the leader leads all along, or the other does
        crossed = _crossing(np.log(rows), mean_M)
        return crossed[0] if crossed and crossed[1] == first_leads else beyond

    return Crossing(_over_seeds(difference_SM, again, seed), first_leads)


def _crossing(x: FloatArray, d: FloatArray) -> tuple[float, bool] | None:
    """Rows at the crossing of a difference d over x = log rows, and whether d is positive before it."""
    steps = np.diff(x)
    area = np.concatenate([[0], np.cumsum(steps * (d[1:] + d[:-1]) / 2)])
    best, found = abs(area[-1]), None
    for i in np.flatnonzero(d[:-1] * d[1:] <= 0):
        if d[i] == d[i + 1]:
            continue
        part = d[i] / (d[i] - d[i + 1])
        before = area[i] + steps[i] * part * d[i] / 2
        split = 2 * before - area[-1]
        if abs(split) > best * (1 + 1e-12):
            best, found = abs(split), (float(np.exp(x[i] + part * steps[i])), bool(split > 0))
    return found


def rows_to_within(rows: IntArray, scores_SM: FloatArray, tolerance: float = TOLERANCE, seed: int = 0) -> Interval:
    """Rows at which the mean curve first comes within `tolerance` of its own best: the sample complexity.

    The best is that among the sizes measured: a curve that still rises needs more rows than this says. The measure of
    C. Zheng et al., "Revisiting Discriminative vs. Generative Classifiers", 2023, arXiv 2302.02334, with the best in
    place of the Bayes accuracy.
    """
    _check(rows, scores_SM)

    def reached(mean_M: FloatArray) -> float:
        return first_at(rows, mean_M, float(mean_M.max()) - tolerance)

    return _over_seeds(scores_SM, reached, seed)


def first_at(rows: IntArray, curve_M: FloatArray, level: float) -> float:
    """Rows at which a curve first reaches a level; inf if it never does."""
    above = np.flatnonzero(curve_M >= level)
    if not len(above):
        return float("inf")
    i = above[0]
    if i == 0:
        return float(rows[0])
    part = (level - curve_M[i - 1]) / (curve_M[i] - curve_M[i - 1])
    return float(np.exp(np.log(rows[i - 1]) * (1 - part) + np.log(rows[i]) * part))


def _over_seeds(curves_SM: FloatArray, read: Callable[[FloatArray], float], seed: int) -> Interval:
    """What is read off the mean curve, with its interval.

    The mean curve is drawn again: its seeds' deviations, each weighted by a normal over sqrt(S (S - 1)), and over the
    root of a chi-square by its S - 1 degrees of freedom, which makes Student's t of it. What is read has the quantiles
    of these draws as they are, and moved by as much as noise moves it (bias-corrected percentiles: Efron,
    "Nonparametric standard errors and confidence intervals", 1981); the interval spans both, since the second alone
    misses where noise is large. Two or three seeds hardly show how sizes scatter against each other: of so few the
    interval also spans draws in which every size scatters on its own.
    """
    S, mean_M = len(curves_SM), curves_SM.mean(axis=0)
    value = read(mean_M)
    if S == 1:
        return Interval(value, 0.0, float("inf"))
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((N_RESAMPLES, S)) / np.sqrt(S * (S - 1))
    weights /= np.sqrt(rng.chisquare(S - 1, (N_RESAMPLES, 1)) / (S - 1))
    ends = _ends(value, [read(mean_M + row) for row in weights @ (curves_SM - mean_M)])
    if S <= FEW_SEEDS:
        apart = rng.standard_normal((N_RESAMPLES, len(mean_M))) * _smooth_errors(curves_SM)
        ends += _ends(value, [read(mean_M + row) for row in apart])
    return Interval(value, min(*ends, value), max(*ends, value))


def _ends(value: float, drawn: Sequence[float]) -> list[float]:
    """Quantiles of what is drawn, and those of it corrected for bias."""
    found = np.array(drawn)
    below = ((found < value).mean() + (found <= value).mean()) / 2
    moved = ndtri(np.clip(below, 1 / N_RESAMPLES, 1 - 1 / N_RESAMPLES))
    ends = np.quantile(found, [*QUANTILES, *ndtr(2 * moved + ndtri(QUANTILES))], method="inverted_cdf")
    return [float(end) for end in ends]


def _smooth_errors(curves_SM: FloatArray) -> FloatArray:
    """(M,) standard errors of the mean curve, a power of the size's place: few seeds pool what all sizes say."""
    errors = curves_SM.std(axis=0, ddof=1) / np.sqrt(len(curves_SM))
    place = np.arange(len(errors))
    known = errors > 0
    if known.sum() < 2:
        return errors
    smooth = np.exp(np.polyval(np.polyfit(place[known], np.log(errors[known]), 1), place))
    scaled: FloatArray = smooth * np.sqrt((errors**2).sum() / (smooth**2).sum())
    return scaled


def _check(rows: IntArray, *curves: FloatArray) -> None:
    rows = np.asarray(rows)
    if len(rows) < 2 or rows[0] < 1 or (np.diff(rows) <= 0).any():
        raise InputError(f"rows are {rows.tolist()}, expected at least 2 rising sizes from 1 on: sort the runs by rows")
    for curve in curves:
        if curve.ndim != 2 or curve.shape != curves[0].shape or curve.shape[1] != len(rows) or not len(curve):
            raise InputError(
                f"curves have shapes {[c.shape for c in curves]}, expected (seeds, {len(rows)}), the same for each: "
                "compare runs of the same seeds and sizes"
            )
        if not np.isfinite(curve).all():
            raise InputError("a curve holds NaN or inf, expected a score for every seed and size: run what is missing")
