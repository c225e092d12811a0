"""Losses of several labels per row that are rare and partly unknown: focal ones by class, a balance of head and tail.

Source: W. Zhang et al., "Learning in Imperfect Environment: Multi-Label Classification with Long-Tailed Distribution
and Partial Labels", 2023, arXiv 2304.10539, as its code has them; the asymmetric loss: T. Ridnik et al., "Asymmetric
Loss For Multi-Label Classification", 2021, arXiv 2009.14119.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-8
"""Below which a probability is not taken to its logarithm."""


def modifiers(counts: Tensor, power: float) -> Tensor:
    """omega (..., K) = (1 - ln(n_k / max n))^power of labels that n_k rows have, at least one each: 1 for the most
    frequent, growing slowly towards the rarest."""
    counts = counts.clamp(min=1)
    return (1 - (counts / counts.amax(-1, keepdim=True)).log()) ** power


def multi_focal(
    logits: Tensor,
    targets: Tensor,
    gamma_positive: float = 0.0,
    gamma_negative: float = 3.0,
    clip: float = 0.05,
    omega: Tensor | None = None,
) -> Tensor:
    """Loss (..., N, K) of each label: -omega [y (1 - p)^g+ ln p + (1 - y) (1 - q)^(g- + omega) ln q].

    p is the sigmoid of the logit and q = min(1, 1 - p + clip): a negative with p <= clip costs nothing. The focusing
    factors have no gradient. Without omega it is the asymmetric loss, without clip and exponents binary cross-entropy.

    Args:
        logits: (..., N, K).
        targets: Likewise, whether the row has the label.
        gamma_positive: g+.
        gamma_negative: g-.
        clip: By which negatives are shifted.
        omega: Of the labels, see `modifiers`; it weighs them, and sharpens the focus on hard negatives of rare ones.
    """
    p = logits.sigmoid()
    own = torch.where(targets, p, (1 - p + clip).clamp(max=1))
    weight = torch.ones_like(p) if omega is None else omega.expand_as(p)
    exponent = torch.where(targets, gamma_positive, gamma_negative + (0 if omega is None else weight))
    with torch.no_grad():
        focus = (1 - own) ** exponent
    if not clip:  # of logits, where nothing is shifted: no probability is too small for it
        return -weight * focus * torch.nn.functional.logsigmoid(torch.where(targets, logits, -logits))
    return -weight * focus * own.clamp(min=LEAST).log()


def head_tail_balance(
    balance: Tensor, head: Tensor, tail: Tensor, targets: Tensor, known: Tensor, **focal: object
) -> Tensor:
    """Sum over rows and labels of what a balanced classifier owes to one of frequent and one of rare labels, (...).

    sum_e w_e F(softmax(e) softmax(balance)) of the two, F the multi-focal loss, e without gradient; w_e = F(e)^2 over
    the sum of both: the harder of the two counts more.

    Args:
        balance, head, tail: Logits (..., N, K).
        targets: Whether a row has a label.
        known: Whether that is known; other labels take no part.
        focal: Arguments of `multi_focal`.
    """

    def owed(logits: Tensor) -> Tensor:
        return (multi_focal(logits, targets, **focal) * known).sum((-2, -1))  # type: ignore[arg-type]

    effects = torch.stack([owed(head), owed(tail)]) ** 2
    shared = balance.softmax(-1)
    terms = torch.stack([owed(one.detach().softmax(-1) * shared) for one in (head, tail)])
    return (effects / effects.sum(0).clamp(min=torch.finfo(effects.dtype).tiny) * terms).sum(0)


def recalled(logits: Tensor, unknown: Tensor, least: float) -> Tensor:
    """(..., N, K) unknown labels that are taken for there: p above `least`, and above the mean of its label over rows.

    Source: the reflective label corrector of the same paper.
    """
    p = logits.sigmoid()
    return unknown & (p > least) & (p > p.mean(-2, keepdim=True))
