"""A number and how far it can be trusted: what metrics give, results hold and tables show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval, low <= value <= high."""

    value: float
    low: float
    high: float
