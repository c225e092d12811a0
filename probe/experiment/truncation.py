"""Whether a backbone cuts the texts of a run, which its scores do not tell."""

from __future__ import annotations

import contextlib

import numpy as np

from probe.core.abilities import CountsTokens
from probe.core.base import Backbone, Dataset
from probe.core.words import counted

LOOKED_AT = 100
"""Training texts, or test texts where nothing is learnt, evenly spread."""


def truncation(backbone: Backbone, dataset: Dataset) -> str | None:
    """A sentence where texts are longer than what is read of them; None where none of those looked at is."""
    if not isinstance(backbone, CountsTokens):
        return None
    looked_at, which = dataset.leading, "training" if dataset.target.learnt else "test"
    lengths = []
    for row in np.linspace(0, len(looked_at) - 1, min(len(looked_at), LOOKED_AT)).astype(int).tolist():
        with contextlib.suppress(Exception):  # what is wrong with a row, the extraction has said
            lengths.append(backbone.n_tokens(looked_at[row]))
    n_cut = sum(n > backbone.max_length for n in lengths)
    if not n_cut:
        return None
    return (
        f"{n_cut} of {counted(len(lengths), f'{which} text')} looked at {'is' if n_cut == 1 else 'are'} longer than "
        f"the {backbone.max_length:,} tokens that are read of each, and cut: see backbone.max_length and "
        "backbone.truncation_side"
    )
