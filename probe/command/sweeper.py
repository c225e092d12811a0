"""Hydra's own sweeper, but that jobs which cannot be composed fail alone, and the others run."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from probe.command import sweep
from probe.command.controls import controls_of
from probe.command.explaining import explained
from probe.command.scoped import Scoped, spread
from probe.core.terminal import tell

KEPT = 1000
"""Configurations of jobs that wait for their launcher; one weighs some 0.2 MB."""


NUMBERED = re.compile(r"([a-z_][\w.]*)=(0|[1-9]\d*)")


class Composed:
    """A loader of configurations that keeps what was composed ahead, for the launcher that asks for it again.

    Jobs that differ in whole numbers alone, as in their seeds, are composed once, and copied with other numbers: a
    tenth of the time.
    """

    def __init__(self, loader: Any):
        self.loader = loader
        self.ahead: dict[tuple[str, ...], Any] = {}
        self.patterns: dict[tuple[str, ...], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes, which compose for themselves, get the loader alone."""
        return copy.copy, (self.loader,)

    def compose(self, config: Any, job: list[str]) -> Any:
        """Raises what Hydra raises for a job that has no configuration."""
        numbers = numbers_of(job)
        like = tuple(f"{line.partition('=')[0]}=" if line in numbers.values() else line for line in job)
        pattern = self.patterns.get(like)
        if pattern is None:
            composed = self.loader.load_sweep_config(config, list(job))
            groups = composed.hydra.runtime.choices.keys()
            if numbers and not numbers.keys() & groups and len(self.patterns) < KEPT / 10:
                self.patterns[like] = copy.deepcopy(composed)
        else:
            composed = with_numbers(pattern, numbers, job)
        if len(self.ahead) < KEPT:
            self.ahead[tuple(job)] = composed
        return composed

    def load_sweep_config(self, config: Any, job: list[str]) -> Any:
        """Each configuration is handed out once, since launchers write into it."""
        ahead = self.ahead.pop(tuple(job), None)
        return self.loader.load_sweep_config(config, job) if ahead is None else ahead


def numbers_of(job: list[str]) -> dict[str, str]:
    """Overrides that are `key=<whole number>` by their key, where no other one says something of what holds the key."""
    found = {match[1]: line for line in job if (match := NUMBERED.fullmatch(line))}
    keys = [line.partition("=")[0].lstrip("+~") for line in job]
    return {
        key: line
        for key, line in found.items()
        if sum(key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in keys) == 1
    }


def with_numbers(pattern: Any, numbers: dict[str, str], job: list[str]) -> Any:
    """The configuration of a job like the pattern's but for these numbers, with what Hydra notes of its overrides."""
    composed = copy.deepcopy(pattern)
    for key, line in numbers.items():
        OmegaConf.update(composed, key, int(line.partition("=")[2]))
    about = composed.hydra.job
    composed.hydra.overrides.task = [*job]
    about.override_dirname = get_overrides_dirname(
        OverridesParser.create().parse_overrides(job), **about.config.override_dirname
    )
    return composed


class Sweeper(BasicSweeper):
    """Composes every job ahead of the first, as Hydra does, and leaves out what has no configuration.

    Controls that are asked for come behind all jobs.
    """

    launch: ClassVar[sweep.Launch]
    scoped: ClassVar[Sequence[Scoped]] = ()

    def setup(self, *, hydra_context: Any, **others: Any) -> None:
        hydra_context.config_loader = Composed(hydra_context.config_loader)
        super().setup(hydra_context=hydra_context, **others)

    def split_arguments(self, overrides: Any, max_batch_size: int | None) -> list[list[list[str]]]:  # type: ignore[override]
        self.controlled: list[list[str]] = []
        batches = BasicSweeper.split_arguments(overrides, max_batch_size)
        if self.scoped:
            batches = [spread([job for batch in batches for job in batch], self.scoped)]
        composed = [[job for job in batch if self._composes(job)] for batch in batches]
        more = list(controls_of(self.controlled))
        sweep.plan(self.launch, [job for batch in [*batches, more] for job in batch])
        return [batch for batch in [*composed, more] if batch]

    def validate_batch_is_legal(self, batch: Any) -> None:
        """Nothing is left to do: `split_arguments` has composed them."""

    def _composes(self, job: list[str]) -> bool:
        assert self.hydra_context is not None
        assert self.config is not None
        try:
            config = self.hydra_context.config_loader.compose(self.config, job)  # type: ignore[attr-defined]
        except (HydraException, OmegaConfBaseException) as error:
            outcome = sweep.Outcome(" ".join(job), "failed", error=explained(error))
            sweep.note_refused(self.launch, outcome)
            tell(f"failed: {outcome.job}", f"  {outcome.error}", error=True)
            return False
        if config.controls and config.control is None:
            self.controlled.append(job)
        return True


def install(launch: sweep.Launch, scoped: Sequence[Scoped]) -> None:
    """Has Hydra make this one where it would make its own: it takes no plugin from outside its own packages."""
    Sweeper.launch, Sweeper.scoped = launch, scoped
    Plugins.instance().class_name_to_class[f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"] = Sweeper
