"""One job as Hydra composed it: from its configuration to an outcome that is told and, in a sweep, noted."""

from __future__ import annotations

import multiprocessing
import shlex
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from probe.command import sweep
from probe.command.config import build, instantiate, readable
from probe.command.process import LAUNCH, process
from probe.command.sweep import Outcome
from probe.command.values import as_typed
from probe.core.errors import DoesNotFit, InputError, ProbeError
from probe.core.escaping import one_line
from probe.core.terminal import tell
from probe.core.writing import sentence


def carry_out(config: DictConfig) -> None:
    """Runs a job; failures are recorded, never raised, so that a sweep goes on."""
    started = time.perf_counter()
    job = " ".join(HydraConfig.get().overrides.task)
    try:
        if (notes := notes_of_sweep()) is not None:
            sweep.begin(notes, HydraConfig.get().job.num)
        outcome = run_job(config, job)
    except DoesNotFit as error:
        outcome = Outcome(job, "unfit" if passes_over(config) else "failed", error=sentence(error))
    except Refused as refused:  # which leaves nothing behind but the sentence
        unfit = isinstance(refused.__cause__, DoesNotFit) and passes_over(config)
        outcome = Outcome(job, "unfit" if unfit else "failed", error=str(refused.__cause__))
    except Exception as error:  # a defect in one head must not end a sweep of a thousand; the traceback is kept
        cause = error.__cause__ if isinstance(error.__cause__, ProbeError) else error
        outcome = Outcome(job, "failed", error=sentence(cause) or traceback.format_exc())
        with suppress(OSError):  # where nothing can be written, the terminal alone tells
            keep_error(config, outcome)
    outcome = replace(outcome, seconds=time.perf_counter() - started)
    announce(outcome)
    process.outcomes.append(outcome)


def passes_over(config: DictConfig) -> bool:
    """Whether parts that do not fit are no failure: where that was asked for, and of controls that a run has not."""
    return bool(config.skip_unfit or (config.controls and config.control))


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
        if resolved["controls"] and notes_of_sweep() is None:
            raise InputError("controls=true adds runs to a sweep, and this is a single one: write probe -m …, or set "
                             "control=<kind> for one of them")  # fmt: skip
        request, tracker = build(resolved, shlex.join(["probe", *words])), instantiate(resolved["tracker"])
        job_number = HydraConfig.get().job.num if notes_of_sweep() is not None else 0
        named = experiment.prepare(replace(request, device=own_device(request.device, job_number)))
    except ProbeError as error:
        raise Refused from error
    folder, is_new = experiment.carry_out_once(named)
    beside = [one.folder for one in named.beside]
    for place in (folder, *beside):
        tracker.log(read_result(place), place)
    forget_error(error_folder(config, job))
    return Outcome(job, "done" if is_new else "there", str(folder), beside=[str(place) for place in beside])


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


def announce(outcome: Outcome) -> None:
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
        tell(f"{prefix}{outcome.status}: {outcome.job} ({outcome.seconds:.1f} s)")
    else:
        for folder in (outcome.folder, *outcome.beside):
            sweep.show_run(Path(str(folder)), was_there=outcome.status == "there")


def notes_of_sweep() -> Path | None:
    """Where the sweep that this job belongs to keeps its notes; None for a single run."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN:
        return None
    return Path(hydra_config.sweep.dir) / sweep.NOTES / hydra_config.job.env_set[LAUNCH]
