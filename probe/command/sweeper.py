"""Hydra's own sweeper, but that jobs which cannot be composed fail alone, and the others run."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from probe.command import sweep
from probe.command.controls import controls_of
from probe.command.explaining import explained
from probe.core.terminal import tell

KEPT = 1000
"""Configurations of jobs that wait for their launcher; one weighs some 0.2 MB."""


class Composed:
    """A loader of configurations that keeps what was composed ahead, for the launcher that asks for it again."""

    def __init__(self, loader: Any):
        self.loader = loader
        self.ahead: dict[tuple[str, ...], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes, which compose for themselves, get the loader alone."""
        return copy.copy, (self.loader,)

    def compose(self, config: Any, job: list[str]) -> Any:
        """Raises what Hydra raises for a job that has no configuration."""
        composed = self.loader.load_sweep_config(config, list(job))
        if len(self.ahead) < KEPT:
            self.ahead[tuple(job)] = composed
        return composed

    def load_sweep_config(self, config: Any, job: list[str]) -> Any:
        """Each configuration is handed out once, since launchers write into it."""
        ahead = self.ahead.pop(tuple(job), None)
        return self.loader.load_sweep_config(config, job) if ahead is None else ahead


class Sweeper(BasicSweeper):
    """Composes every job ahead of the first, as Hydra does, and leaves out what has no configuration.

    Controls that are asked for come behind all jobs.
    """

    launch: ClassVar[sweep.Launch]

    def setup(self, *, hydra_context: Any, **others: Any) -> None:
        hydra_context.config_loader = Composed(hydra_context.config_loader)
        super().setup(hydra_context=hydra_context, **others)

    def split_arguments(self, overrides: Any, max_batch_size: int | None) -> list[list[list[str]]]:  # type: ignore[override]
        self.controlled: list[list[str]] = []
        batches = BasicSweeper.split_arguments(overrides, max_batch_size)
        composed = [[job for job in batch if self._composes(job)] for batch in batches]
        more = list(controls_of(self.controlled))
        sweep.expect(self.launch, len(more))
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


def install(launch: sweep.Launch) -> None:
    """Has Hydra make this one where it would make its own: it takes no plugin from outside its own packages."""
    Sweeper.launch = launch
    Plugins.instance().class_name_to_class[f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"] = Sweeper
