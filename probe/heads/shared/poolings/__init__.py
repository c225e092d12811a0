"""How the tokens of a row become one vector by attention: one file each, chosen by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from probe.core.errors import InputError
from probe.heads.shared.poolings.abmilp import ABMILP
from probe.heads.shared.poolings.aim import AIM
from probe.heads.shared.poolings.cae import CAE
from probe.heads.shared.poolings.clip import CLIP
from probe.heads.shared.poolings.coca import CoCa
from probe.heads.shared.poolings.ep import EfficientProbing
from probe.heads.shared.poolings.esimpool import EfficientSimPool
from probe.heads.shared.poolings.jepa import JEPA
from probe.heads.shared.poolings.map import MAP
from probe.heads.shared.poolings.parts import Pooling
from probe.heads.shared.poolings.simpool import SimPool

POOLINGS: dict[str, type[Pooling]] = {
    "ep": EfficientProbing,
    "aim": AIM,
    "abmilp": ABMILP,
    "simpool": SimPool,
    "esimpool": EfficientSimPool,
    "map": MAP,
    "cae": CAE,
    "coca": CoCa,
    "clip": CLIP,
    "jepa": JEPA,
}
FACTS = ("token_width", "n_tokens")
"""Arguments that follow from the features."""


def check_options(kind: str, options: Mapping[str, Any]) -> None:
    """Raises InputError for kinds that are not known, and options that the kind does not have."""
    if kind not in POOLINGS:
        raise InputError(f"kind is {kind!r}: choose one of {', '.join(POOLINGS)}")
    known = [name for name in inspect.signature(POOLINGS[kind]).parameters if name not in FACTS]
    if unknown := [name for name in options if name not in known]:
        raise InputError(
            f"options has {', '.join(unknown)}, which kind {kind} does not know: choose among {', '.join(known)}"
        )


def pooling(kind: str, options: Mapping[str, Any], *, token_width: int, n_tokens: int) -> Pooling:
    """The pooling of a kind for tokens of this width."""
    facts = {"token_width": token_width, "n_tokens": n_tokens}
    wanted = inspect.signature(POOLINGS[kind]).parameters
    return POOLINGS[kind](**{name: value for name, value in facts.items() if name in wanted}, **options)
