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
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from probe.command import sweep
from probe.command.config import CONF, build, instantiate, readable
from probe.command.explaining import explained
from probe.command.launchers import missing_launcher
from probe.command.process import LAUNCH, begin, process
from probe.command.sweep import Outcome
from probe.command.values import as_typed, quoted
from probe.core.errors import DoesNotFit, ProbeError
from probe.core.escaping import one_line
from probe.core.terminal import last_words, tell
from probe.core.version import __version__
from probe.core.writing import sentence

TRACEBACK = "HYDRA_FULL_ERROR"
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
    if words in (["--version"], ["version"]):
        tell(f"probe {__version__}")
        return
    # Workers and jobs begin with `python -m` or `-c`, which look into the working folder first unless told otherwise.
    os.environ["PYTHONSAFEPATH"] = "1"
    if words and not words[0].startswith("-") and "=" not in words[0]:
        sys.exit(subcommand(words[0], words[1:]))
    sys.argv[1:] = quoted(words)
    begin()
    wants_traceback = os.environ.get(TRACEBACK) == "1"
    os.environ[TRACEBACK] = "1"  # so that Hydra raises what it would explain otherwise, with remedies that are none
    try:
        hydra_app()
        code = process.exit_code if process.notes is None else end_sweep(process.notes)
    except KeyboardInterrupt:
        code = interrupted()
    except SystemExit as stop:
        if not was_interrupted(stop):
            raise
        code = interrupted()
    except Exception as error:
        if wants_traceback:
            raise
        code = interrupted() if was_interrupted(error) else ended_early(error)
    finally:
        process.end()
    sys.exit(code)


def ended_early(error: Exception) -> int:
    """Tells why there is no run, or why a sweep did not reach its end."""
    if launcher := missing_launcher(error):
        tell("", f"probe: {launcher}", error=True)
    elif isinstance(error, HydraException | OmegaConfBaseException):
        tell(f"probe: {explained(error)}", error=True)
    elif said := sentence(error):
        tell(f"probe: {said}", error=True)
    else:
        tell(*"".join(traceback.format_exception(error)).splitlines(), error=True)
    if became := process.became_of_sweep(error):
        tell("", f"probe: {became}", error=True)
    return 1


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
    except Refused as refused:  # which leaves nothing behind but the sentence
        unfit = isinstance(refused.__cause__, DoesNotFit) and config.skip_unfit
        outcome = Outcome(job, "unfit" if unfit else "failed", error=str(refused.__cause__))
    except Exception as error:  # a defect in one head must not end a sweep of a thousand; the traceback is kept
        cause = error.__cause__ if isinstance(error.__cause__, ProbeError) else error
        outcome = Outcome(job, "failed", error=sentence(cause) or traceback.format_exc())
        with suppress(OSError):  # where nothing can be written, the terminal alone tells
            keep_error(config, outcome)
    process.outcomes.append(outcome)
    announce(outcome, time.perf_counter() - started)


class Refused(Exception):
    """What was asked cannot be run; the reason is its cause."""


def run_job(config: DictConfig, job: str) -> Outcome:
    from probe.experiment import run as experiment
    from probe.results.reader import read_result
    from probe.results.writer import forget_error

    words = HydraConfig.get().overrides.task
    try:
        resolved: Any = OmegaConf.to_container(config, resolve=True)
        resolved = readable(as_typed(resolved, words), words)
        request, tracker = build(resolved, shlex.join(["probe", *words])), instantiate(resolved["tracker"])
        job_number = HydraConfig.get().job.num if notes_of_sweep() is not None else 0
        named = experiment.prepare(replace(request, device=own_device(request.device, job_number)))
    except ProbeError as error:
        raise Refused from error
    folder, is_new = experiment.carry_out_once(named)
    tracker.log(read_result(folder), folder)
    forget_error(error_folder(config, job))
    return Outcome(job, "done" if is_new else "there", str(folder))


def own_device(device: str, job: int) -> str:
    """The device of a job: those of a sweep over processes take the GPUs in turn."""
    if multiprocessing.parent_process() is None:
        return device
    from probe.features.processes.ranks import Ranks

    return Ranks(local_rank=job).device(device)


def keep_error(config: DictConfig, outcome: Outcome) -> None:
    from probe.results import writer

    lines = [outcome.job, *str(outcome.error).splitlines()]
    writer.write_error(error_folder(config, outcome.job), "\n".join(map(one_line, lines)))


def error_folder(config: DictConfig, job: str) -> Path:
    """Where the error of a job is kept, until the same job succeeds."""
    from probe.results.writer import slug

    return Path(str(config.runs)) / str(config.name) / slug("failed", *job.split())[:150]


def announce(outcome: Outcome, seconds: float) -> None:
    """One line per job of a sweep; for a single run the metrics as a table."""
    prefix = ""
    if (notes := notes_of_sweep()) is not None:
        prefix = "[?] "
        with suppress(OSError):  # a disk that is full; the report misses the note of this job
            sweep.note(notes, HydraConfig.get().job.num, outcome)
            prefix = sweep.progress(notes) + " "
    if outcome.error:
        lines = str(outcome.error).splitlines()
        of_sweep = [f"{prefix}{outcome.status}: {outcome.job}", *(f"  {line}" for line in lines)]
        tell(*(of_sweep if prefix else [f"{outcome.status}: {lines[0]}", *lines[1:]]), error=True)
    elif prefix:
        tell(f"{prefix}{outcome.status}: {outcome.job} ({seconds:.1f} s)")
    else:
        sweep.show_run(Path(str(outcome.folder)), was_there=outcome.status == "there")


def notes_of_sweep() -> Path | None:
    """Where the sweep that this job belongs to keeps its notes; None for a single run."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN:
        return None
    return Path(hydra_config.sweep.dir) / sweep.NOTES / hydra_config.job.env_set[LAUNCH]
