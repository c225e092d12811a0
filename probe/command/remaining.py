"""How long the rest of a sweep takes, from what jobs like those that are left have taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

NO_MATTER = ("seed", "protocol.fold")
"""Settings that change how long a job takes the least."""
LOOKED_AT = 300
"""Jobs that have ended and are looked at, the last ones."""
Kind = Callable[[Iterable[str]], frozenset[str]]


def left(planned: Sequence[Sequence[str]], took: Mapping[frozenset[str], float], n_running: int = 1) -> float | None:
    """Seconds, as far as they can be known; None where no job has ended.

    A job takes the median of those that differ from it in the seed alone, else of those with its head, else of all:
    so that the many quick jobs that come first say nothing of the slow ones once one of these has ended.

    Args:
        planned: Words of all jobs.
        took: Words of the jobs that have ended -> seconds; those that were complete before took none.
        n_running: Jobs at one time.
    """
    if not took:
        return None
    by_kind = [_medians(took, similar) for similar in (_but_seed, _head, _nothing)]
    total = 0.0
    for job in map(frozenset, planned):
        if job not in took:
            kinds = [(of, kind(job)) for of, kind in zip(by_kind, (_but_seed, _head, _nothing), strict=True)]
            total += next(of[key] for of, key in kinds if key in of)
    return total / max(1, n_running)


def _medians(took: Mapping[frozenset[str], float], kind: Kind) -> dict[frozenset[str], float]:
    groups: dict[frozenset[str], list[float]] = {}
    for job, seconds in took.items():
        groups.setdefault(kind(job), []).append(seconds)
    return {key: median(values) for key, values in groups.items()}


def _but_seed(job: Iterable[str]) -> frozenset[str]:
    return frozenset(word for word in job if word.partition("=")[0] not in NO_MATTER)


def _head(job: Iterable[str]) -> frozenset[str]:
    return frozenset(word for word in job if word.startswith("head="))


def _nothing(job: Iterable[str]) -> frozenset[str]:
    return frozenset()
