"""`probe extract`: the features that runs would read, extracted ahead of them, by any number of processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probe.errors import InputError
from probe.features.layout import entry_digest, entry_identity
from probe.features.ranks import versions
from probe.request import Run, check_fit, fetch

ENGINES = ("processes", "ray")


def wanted(request: Run, extract: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Partitions and kinds to extract: those that are named, else all partitions and what the head reads."""
    partitions, kinds = extract["partitions"], extract["kinds"]
    known = list(request.dataset.partitions)
    wrong = []
    if unknown := [name for name in partitions or () if name not in known]:
        wrong.append(f"dataset {request.dataset.name} has no partition {unknown[0]!r}: choose from {known}")
    if extract["engine"] not in ENGINES:
        wrong.append(f"extract.engine is {extract['engine']!r}: choose from {list(ENGINES)}")
    if wrong:
        raise InputError("; ".join(wrong))
    if kinds is None:
        check_fit(request.head, request.backbone, request.reads)
        kinds = [request.reads.get(kind, kind) for kind in request.head.consumes]
    return list(partitions or known), list(kinds)


def facts(request: Run, partitions: Sequence[str], kinds: Sequence[str]) -> dict[str, str]:
    """What processes that share these extractions must agree on. Hashes weights and rows."""
    entries = {
        f"the digest of {request.backbone.name} on {request.dataset.name}/{name}": entry_digest(
            entry_identity(request.backbone, request.dataset, name)
        )
        for name in partitions
    }
    return {**versions(), **entries, "what is extracted": ", ".join(kinds)}


def extract(request: Run, partitions: Sequence[str], kinds: Sequence[str]) -> Iterator[str]:
    """Takes part in the extraction of each partition; yields one line for each that is finished."""
    for name in partitions:
        started = time.perf_counter()
        found = fetch(request, request.backbone, name, tuple(kinds), {})
        n_skipped = int((~found.valid).sum())
        yield (
            f"{request.backbone.name} {request.dataset.name}/{name}: {len(found.labels)} rows of {', '.join(kinds)}"
            + (f", {n_skipped} skipped" if n_skipped else "")
            + (f", {time.perf_counter() - started:.1f} s" if found.seconds else ", there already")
        )
