"""What runs would take: disk, memory and minutes of one run, or of all that a sweep names."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from probe.backbones.shared.views import MultiView
from probe.command import config as building
from probe.command import values
from probe.command.sweep import duration
from probe.core.words import counted
from probe.experiment import forecast
from probe.experiment.forecast import gigabytes, row_bytes
from probe.experiment.reading import sources
from probe.experiment.request import Drawn
from probe.experiment.run import check, draw

SIDE = 1024
"""Of the matrices whose product is timed."""


@dataclass(frozen=True)
class Needs:
    """Of one run.

    Attributes:
        features: Bytes of the features that it reads, by what names them.
        memory: Bytes that its fit takes at its peak; None where nobody knows.
        is_guess: Whether its head says nothing of itself.
        minutes: Of its fit; nan where nobody knows.
        doubt: A sentence where memory is too small.
    """

    head: str
    n_rows: int
    features: Mapping[tuple[str, ...], int]
    memory: int | None
    is_guess: bool
    minutes: float
    doubt: str | None


def jobs_of(words: Sequence[str]) -> list[list[str]]:
    """The overrides of each run that words with choices name, as `probe -m` takes them apart."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(values.quoted(words))
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def needs_of(config: Any, facts: Mapping[str, Any]) -> Needs:
    """Of the run that a configuration names.

    Args:
        config: Of the run.
        facts: What `describe` says of its backbone and dataset.

    Raises:
        ProbeError: Its parts make no run.
    """
    drawn = draw(check(building.build(config, "")))
    shapes = facts["shapes"]
    if isinstance(drawn.checked.asked.backbone, MultiView):  # heads see one view of a row, or the mean of all
        shapes = {kind: shape[1:] for kind, shape in shapes.items()}
    found = forecast.of_fit(drawn, shapes)
    n_rows = len(drawn.split.train) + len(drawn.split.validation)
    minutes = float("nan") if found is None else found.products * seconds_of_a_product() / 60
    doubt = None if found is None else forecast.beyond_memory(drawn, found)
    memory, is_guess = (None, True) if found is None else (found.bytes, found.is_guess)
    return Needs(type(drawn.checked.head).__name__, n_rows, _features(drawn, facts), memory, is_guess, minutes, doubt)


def _features(drawn: Drawn, facts: Mapping[str, Any]) -> dict[tuple[str, ...], int]:
    asked, total = drawn.checked.asked, sum(facts["rows"].values())
    kinds = {kind for kind, _ in sources(drawn.checked.head.consumes, asked.reads)} & set(facts["shapes"])
    named = (facts["backbone"], facts["dataset"])
    return {(*named, kind): total * row_bytes(kind, facts["shapes"][kind]) for kind in sorted(kinds)}


@cache
def seconds_of_a_product() -> float:
    """Seconds of one multiplication of float32 numbers here, in products of matrices."""
    import torch

    a, best = torch.ones(SIDE, SIDE), float("inf")
    for _ in range(4):
        start = time.perf_counter()
        torch.mm(a, a)
        best = min(best, time.perf_counter() - start)
    return best / SIDE**3


def lines(needs: Sequence[Needs], minutes: float, folder: Path) -> dict[str, str]:
    """What all runs need, for a terminal.

    Args:
        needs: Of each.
        minutes: Of all extraction.
        folder: Where features will lie.
    """
    sizes = {name: size for one in needs for name, size in one.features.items()}
    n_bytes, free = sum(sizes.values()), free_bytes(folder)
    disk = f"features that are read take {gigabytes(n_bytes)}, {folder} has {gigabytes(free)} free"
    if n_bytes > free:
        disk = (
            f"features that are read take {gigabytes(n_bytes)} and {folder} has {gigabytes(free)} free: make room "
            "(probe cache prune --older-than 30d) or set PROBE_CACHE to another disk"
        )
    known = [one for one in needs if one.memory is not None]
    found = {"disk": disk}
    if known:
        largest = max(known, key=lambda one: one.memory or 0)
        about = "perhaps (it does not say)" if largest.is_guess else "about"
        told = f"{about} {gigabytes(largest.memory or 0)} to fit {largest.head} on {largest.n_rows:,} rows"
        found["memory"] = next((one.doubt for one in known if one.doubt and not one.is_guess), None) or told
    fits = [one.minutes for one in needs if one.minutes == one.minutes]
    if fits:
        unknown = len(needs) - len(fits)
        more = f", and {counted(unknown, 'fit')} of unknown length" if unknown else ""
        found["fit"] = f"about {duration(60 * sum(fits))}, by a product timed here{more}"
    if len(needs) > 1:
        found["sweep"] = (
            f"{counted(len(needs), 'run')}, about {duration(60 * (minutes + sum(fits)))} one after the other"
        )
    return found


def free_bytes(folder: Path) -> int:
    """Of the disk that a folder lies on, or would."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free
