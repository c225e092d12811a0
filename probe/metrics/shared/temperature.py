"""One number that makes the logits of a head believable, fitted on rows that the head was not fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax

from probe.core.errors import InputError
from probe.metrics.shared.intervals import FloatArray

MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-3, 1e3
PRIOR_ERRORS = 0.5
RECIPE = "2"  # half an error more than the rows have; "1" took them as they are


def fit_temperature(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Temperature T in 0.001..1000 that minimises the log loss of `logits / T`, errors counted half a one too high.

    A few rows that are all right would have T = 0, and the first wrong row after them an infinite loss. So each of N
    rows belongs by 1 / (2 N + 2) to the likeliest of the other classes, as Platt softens targets ("Probabilistic
    Outputs for Support Vector Machines", 1999). The loss is convex in b = 1 / T, and its slope, the mean of (expected
    logit under b - expected logit under these targets), rises with b; T is where it crosses zero, or the end of the
    range that it does not cross in. Rows whose label has a logit of -inf are left out, no temperature helps them.
    Accuracy, and every order of the classes within a row, stay as they are.
    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017, arXiv 1706.04599, who
    take the rows as they are.

    Args:
        logits: (N, K), of rows that the head was fitted on neither directly nor after selection: the fit is worth
            nothing on training rows, which most heads get right.
        labels: (N,) class codes.
    """
    logits = logits.astype(np.float64)
    own = logits[np.arange(len(labels)), labels]
    usable = np.isfinite(own)
    logits, labels, own = logits[usable], labels[usable], own[usable]
    if not len(own):
        raise InputError(
            "no row has a finite logit for its label, a temperature needs at least 1: give held-out rows of classes "
            "that the head was fitted on"
        )
    finite = np.where(np.isfinite(logits), logits, 0.0)  # their probability is 0, and 0 * inf is not

    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    likeliest = others.max(axis=1)
    wanted = own + np.where(np.isfinite(likeliest), likeliest - own, 0.0) * PRIOR_ERRORS / (len(own) + 2 * PRIOR_ERRORS)

    def slope(log_b: float) -> float:
        return float(((softmax(np.exp(log_b) * logits, axis=1) * finite).sum(axis=1) - wanted).mean())

    low, high = -np.log(MAX_TEMPERATURE), -np.log(MIN_TEMPERATURE)
    if slope(high) <= 0:
        return MIN_TEMPERATURE
    if slope(low) >= 0:
        return MAX_TEMPERATURE
    return float(np.exp(-brentq(slope, low, high, xtol=1e-10)))


def scale(logits: NDArray[Any], temperature: float) -> FloatArray:
    """`logits / temperature`, in float64."""
    return logits.astype(np.float64) / temperature
