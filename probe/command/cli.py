"""The `probe` command: `probe a=b …` runs, `probe -m a=b,c …` sweeps, `probe <word> …` is a subcommand."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from probe.command import sweep
from probe.command.config import CONF, build, instantiate
from probe.command.launchers import missing_launcher
from probe.command.process import begin, process
from probe.command.sweep import Outcome
from probe.core.errors import DoesNotFit, ProbeError
from probe.core.escaping import one_line
from probe.core.terminal import last_words, tell
from probe.core.writing import sentence

# word: function(argv) -> exit code
SUBCOMMANDS = {
    "leaderboard": "probe.leaderboard.command:main",
    "cache": "probe.features.command:main",
    "describe": "probe.command.subcommands:describe",
    "extract": "probe.command.subcommands:extract",
    "reproduce": "probe.command.subcommands:reproduce",
}


@last_words()
def main() -> None:
    """Entry point of the console script."""
    words = sys.argv[1:]
    # Workers and jobs begin with `python -m` or `-c`, which look into the working folder first unless told otherwise.
    os.environ["PYTHONSAFEPATH"] = "1"
    if words and not words[0].startswith("-") and "=" not in words[0]:
        sys.exit(subcommand(words[0], words[1:]))
    begin()
    try:
        hydra_app()
    except KeyboardInterrupt:
        sys.exit(interrupted())
    except SystemExit as stop:  # hydra has told of the launcher's failure
        if was_interrupted(stop):
            sys.exit(interrupted())
        if said := missing_launcher(stop.__context__):
            tell("", f"probe: {said}", error=True)
        if stop.code and (said := process.became_of_sweep(stop.__context__)):
            tell("", f"probe: {said}", error=True)
        raise
    sys.exit(process.exit_code if process.notes is None else end_sweep(process.notes))


def interrupted() -> int:
    tell("", f"probe: interrupted{process.left_behind}; the same command goes on with what is missing", error=True)
    return 130


def was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an exception: omegaconf, in the middle of a copy, fails on its way out."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def subcommand(word: str, argv: Sequence[str]) -> int:
    if word not in SUBCOMMANDS:
        tell(
            f"probe: '{word}' is no subcommand: use one of {', '.join(SUBCOMMANDS)}, "
            f"or write overrides as group=name (see probe --help)",
            error=True,
        )
        return 2
    try:
        module, _, function = SUBCOMMANDS[word].partition(":")
        return int(getattr(importlib.import_module(module), function)(list(argv)))
    except (ProbeError, OSError, HydraException) as error:
        said = str(error) if isinstance(error, HydraException) else sentence(error)
        if said is None:
            raise
        tell(f"probe {word}: {said}", error=True)
        return 1


def end_sweep(notes: Path) -> int:
    try:
        return sweep.report(notes, instantiate(process.tracker))
    except ProbeError as error:
        tell(f"probe: {error}", error=True)
        return 1


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def hydra_app(config: DictConfig) -> None:
    """One job, composed by Hydra; failures are recorded, never raised, so that a sweep goes on."""
    if multiprocessing.parent_process() is not None:  # Ctrl-C ends the launching process, which ends its workers
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    started = time.perf_counter()
    job = " ".join(HydraConfig.get().overrides.task)
    try:
        if (notes := notes_of_sweep()) is not None:
            sweep.begin(notes, HydraConfig.get().job.num)
        outcome = run_job(config, job)
    except DoesNotFit as error:
        outcome = Outcome(job, "unfit" if config.skip_unfit else "failed", error=sentence(error))
    except Exception as error:  # a defect in one head must not end a sweep of a thousand; the traceback is kept
        cause = error.__cause__ if isinstance(error.__cause__, ProbeError) else error
        outcome = Outcome(job, "failed", error=sentence(cause) or traceback.format_exc())
    if outcome.status == "failed":
        with suppress(OSError):  # where nothing can be written, the terminal alone tells
            keep_error(config, outcome)
    process.outcomes.append(outcome)
    announce(outcome, time.perf_counter() - started)


def run_job(config: DictConfig, job: str) -> Outcome:
    from probe.experiment import run as experiment
    from probe.results.reader import read_result

    resolved = OmegaConf.to_container(config, resolve=True)
    request, tracker = (
        build(resolved, shlex.join(["probe", *HydraConfig.get().overrides.task])),
        instantiate(config.tracker),
    )
    job_number = HydraConfig.get().job.num if notes_of_sweep() is not None else 0
    request = replace(request, device=own_device(request.device, job_number))
    folder, is_new = experiment.run_once(request)
    if is_new:
        tracker.log(read_result(folder), folder)
    return Outcome(job, "done" if is_new else "there", str(folder))


def own_device(device: str, job: int) -> str:
    """The device of a job: those of a sweep over processes take the GPUs in turn."""
    if multiprocessing.parent_process() is None:
        return device
    from probe.features.processes.ranks import Ranks

    return Ranks(local_rank=job).device(device)


def keep_error(config: DictConfig, outcome: Outcome) -> None:
    from probe.results import writer

    name = writer.slug("failed", *outcome.job.split()) or "failed"
    lines = [outcome.job, *str(outcome.error).splitlines()]
    writer.write_error(Path(config.runs) / config.name / name[:150], "\n".join(map(one_line, lines)))


def announce(outcome: Outcome, seconds: float) -> None:
    """One line per job of a sweep; for a single run the metrics as a table."""
    prefix = ""
    if (notes := notes_of_sweep()) is not None:
        prefix = "[?] "
        with suppress(OSError):  # a disk that is full; the report misses the note of this job
            sweep.note(notes, HydraConfig.get().job.num, outcome)
            prefix = sweep.progress(notes) + " "
    if outcome.error:
        tell(f"{prefix}{outcome.status}: {outcome.job}", *f"  {outcome.error}".splitlines(), error=True)
    elif prefix:
        tell(f"{prefix}{outcome.status}: {outcome.job} ({seconds:.1f} s)")
    else:
        sweep.show_run(Path(str(outcome.folder)), was_there=outcome.status == "there")


def notes_of_sweep() -> Path | None:
    """Where the sweep that this job belongs to keeps its notes; None for a single run."""
    hydra_config = HydraConfig.get()
    return Path(hydra_config.sweep.dir) / sweep.NOTES if hydra_config.mode == RunMode.MULTIRUN else None
