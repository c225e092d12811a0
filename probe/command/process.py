"""What the command remembers while it runs: how its jobs ended, and what Hydra tells of a sweep."""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

from probe.command import sweep
from probe.command.launchers import Launcher, launcher_of
from probe.command.scoped import Scoped
from probe.command.sweep import Outcome
from probe.core.errors import InputError, ProbeError
from probe.core.terminal import tell
from probe.results.place import check_place


@dataclass
class Process:
    """One call of the command.

    Attributes:
        outcomes: Of the jobs that ran in this process.
        launcher: That of the sweep, once its first job can start; None before, and where there is no sweep.
        left_behind: What Ctrl-C does not end.
        launch: The sweep, once its jobs can be composed.
        notes: Of the sweep, once it has ended.
        tracker: Configuration of the one that takes its table.
        scoped: Settings for the jobs of single choices.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    launcher: Launcher | None = None
    left_behind: str = ""
    launch: sweep.Launch | None = None
    notes: Path | None = None
    tracker: DictConfig | None = None
    scoped: list[Scoped] = field(default_factory=list)

    def became_of_sweep(self, error: BaseException | None) -> str:
        """Why a sweep that had begun ended early; nothing where none had."""
        if self.launcher is None or isinstance(error, InputError):  # which says itself what is to be done
            return ""
        why = self.launcher.became_of(error)
        return f"the sweep ended early, {why}: the same command goes on with what is missing"

    def end(self) -> None:
        """Leaves the notes of a sweep to whoever cleans up, unless jobs go on that may write to them."""
        if self.launch is not None and (self.notes is not None or not self.left_behind):
            self.launch.end()

    @property
    def exit_code(self) -> int:
        """1 where a job failed."""
        return int(any(outcome.status == "failed" for outcome in self.outcomes))


LAUNCH = "PROBE_LAUNCH"
"""Under this name a job is told which launch it belongs to."""

process = Process()
"""Hydra makes the callback and calls the job by itself: what they leave for `main` goes through here."""


def begin() -> None:
    """Forgets an earlier call in the same interpreter."""
    vars(process).update(vars(Process()))


class Sweep(Callback):
    """Hydra calls it in the launching process, whatever the launcher."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        node, notes = config.hydra.launcher, Path(config.hydra.sweep.dir) / sweep.NOTES
        launcher = launcher_of(node)
        try:
            warn(launcher.before(node))
            if process.scoped and not str(config.hydra.sweeper._target_).endswith("BasicSweeper"):
                raise InputError(
                    f"{process.scoped[0].word} is a setting of one choice, which another sweeper than Hydra's own does "
                    "not read: sweep each choice by itself"
                )
            process.left_behind = launcher.left_behind(node)
            check_place(notes)
            process.launch = sweep.start(notes, n_jobs(config))
            warn(launcher.ready(node, process.launch.notes / sweep.SWEEP))
        except ProbeError as error:  # not by an exception, which Hydra turns into a warning
            tell(f"probe: {error}", error=True)
            sys.exit(1)
        process.launcher = launcher
        with read_write(config.hydra.overrides):  # the way of Hydra to jobs in other processes
            config.hydra.overrides.hydra.append(f"+hydra.job.env_set.{LAUNCH}='{process.launch.notes.name}'")
        # Not before: Hydra runs the modules of its plugins anew when it looks for them, which makes other classes.
        from probe.command import sweeper

        sweeper.install(process.launch, process.scoped)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        process.notes, process.tracker = process.launch.notes if process.launch else None, config.tracker
        # Hydra's file holds paths of this machine, and nothing that the records of the runs do not hold.
        with suppress(OSError):
            (folder / "multirun.yaml").unlink(missing_ok=True)


def warn(sentence: str) -> None:
    if sentence:
        tell(f"probe: {sentence}", error=True)


def n_jobs(config: DictConfig) -> int | None:
    """How many jobs a sweep has: the product of the lengths of everything swept over; None where a sampler decides."""
    overrides = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # which knows what glob(*) stands for
    parsed = parser.parse_overrides([*overrides, *config.hydra.overrides.task])
    # The command line comes last and wins over what an experiment sweeps by default.
    swept = [o for o in {o.get_key_element(): o for o in parsed}.values() if o.is_sweep_override()]
    if not all(o.is_discrete_sweep() for o in swept):
        return None
    return math.prod(len(list(o.sweep_string_iterator())) for o in swept)
