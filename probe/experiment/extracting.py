"""`probe extract`: the features that runs would read, extracted ahead of them, by any number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Self

from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.rows import check_rows
from probe.core.words import counted
from probe.experiment.checks import check_fit
from probe.experiment.dense import with_places
from probe.experiment.reading import fetch, sources
from probe.experiment.request import Run
from probe.features.layout import entry_digest, entry_identity
from probe.features.processes.ranks import Card, Ranks, shown, versions
from probe.features.processes.ray_tasks import cluster, on_all
from probe.features.store import FeatureStore, wrong_settings

ENGINES = ("processes", "ray")


@dataclass(frozen=True)
class Extracting:
    """One process's part in the extraction of some partitions.

    Attributes:
        request: Its backbone, dataset, store, device and settings of features count; its head only where no kinds
            are named.
    """

    request: Run
    partitions: tuple[str, ...]
    kinds: tuple[str, ...]

    @classmethod
    def of(cls, request: Run, settings: Mapping[str, Any]) -> Self:
        """What `extract.partitions` and `extract.kinds` name, else all partitions and what the head reads."""
        request = with_places(replace(request, test_on=None, shifted={}))
        check_rows(request.backbone, request.dataset)
        known, given = list(request.dataset.partitions), list(request.backbone.kinds)
        request.store.check_place()
        wrong = wrong_settings(**request.features)
        for name in settings["partitions"] or ():
            if name not in known:
                wrong.append(f"dataset {request.dataset.name} has no partition {name!r}: choose from {known}")
        for kind in settings["kinds"] or ():
            if kind not in given:
                wrong.append(f"backbone {request.backbone.name} gives no {kind!r}: choose from {given}")
        if settings["engine"] not in ENGINES:
            wrong.append(f"extract.engine is {settings['engine']!r}: choose from {list(ENGINES)}")
        if settings["workers"] is not None and settings["workers"] < 1:
            wrong.append(f"extract.workers is {settings['workers']}: give 1 or more, or null")
        if wrong:
            raise InputError("; ".join(wrong))
        if settings["kinds"] is None:
            check_fit(request.head, request.backbone, request.reads)
        read = dict.fromkeys(kind for kind, _ in sources(request.head.consumes, request.reads))
        kinds = settings["kinds"] or list(read)
        return cls(request, tuple(settings["partitions"] or known), tuple(kinds))

    @cached_property
    def facts(self) -> dict[str, str]:
        """What processes that share these extractions must agree on. Hashes weights and rows."""
        backbone, dataset = self.request.backbone, self.request.dataset
        entries = {
            f"the digest of {backbone.name} on {dataset.name}/{name}": entry_digest(
                entry_identity(backbone, dataset, name)
            )
            for name in self.partitions
        }
        return {**versions(), **entries, "what is extracted": ", ".join(self.kinds)}

    def on(self, device: str, *, progress: bool) -> Self:
        """The same on a device, with a progress bar or without."""
        features = {**self.request.features, "progress": progress}
        return replace(self, request=replace(self.request, device=device, features=features))

    def extract(self) -> Iterator[str]:
        """Takes part until each partition is finished; yields one line for each."""
        for name in self.partitions:
            started = time.perf_counter()
            found = fetch(self.request, self.request.backbone, name, self.kinds, {})
            n_skipped = int((~found.valid).sum())
            yield (
                f"{self.request.backbone.name} {self.request.dataset.name}/{name}: "
                + f"{counted(len(found.labels), 'row')} of "
                + ", ".join(self.kinds)
                + (f", {n_skipped} skipped" if n_skipped else "")
                + (f", {time.perf_counter() - started:.1f} s" if found.seconds else ", there already")
            )


Prepare = Callable[[Any], Extracting]


def extract_together(prepare: Prepare, config: Mapping[str, Any]) -> Iterator[str]:
    """Carries out a configuration with its engine; yields a line for each finished partition, in one process only.

    Args:
        prepare: Turns a configuration into objects, in whatever process.
    """
    return (_on_ray if config["extract"]["engine"] == "ray" else _with_ranks)(prepare, config)


def _with_ranks(prepare: Prepare, config: Mapping[str, Any]) -> Iterator[str]:
    ranks = Ranks.of_environment()

    def hashed() -> tuple[Extracting, Mapping[str, str]]:
        work = prepare(config)
        return work, work.facts

    store = FeatureStore(config["cache"])
    store.check_place()
    ranks.meet(store.root)
    work, facts = ranks.one_first(hashed)
    ranks.agree(work.request.store.root, digest(repr({**config, "cache": None})), facts)
    for line in work.on(ranks.device(config["device"]), progress=not ranks.rank).extract():
        if not ranks.rank:
            yield line


def _on_ray(prepare: Prepare, config: Mapping[str, Any]) -> Iterator[str]:
    settings, work = config["extract"], prepare(config)
    root = work.request.store.root.absolute()
    # Facts come after the cluster, since to hash weights and rows may take long.
    with cluster(settings["address"]) as ray, shown(root, "the driver", work.facts) as card:
        task = partial(_ray_task, prepare, {**config, "cache": str(root)}, card)
        yield from on_all(ray, task, n_tasks=settings["workers"], n_cpus=1 + (config["features"]["n_workers"] or 0))[0]


def _ray_task(prepare: Prepare, config: Mapping[str, Any], driver: Card, number: int) -> list[str]:
    """One task's part; refuses to work on another cache, or with other weights, than the driver."""
    work = prepare(config)
    root = work.request.store.root
    with shown(root, f"task {number}", work.facts) as own:
        if sentence := own.check(root, driver):
            raise InputError(sentence)
    return list(work.on(config["device"], progress=not number).extract())
