"""The `probe` command: `probe a=b …` runs, `probe -m a=b,c …` sweeps, `probe <word> …` is a subcommand."""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from probe.command import ray as ray_jobs
from probe.command import slurm, sweep
from probe.command.config import CONF, build, instantiate
from probe.command.sweep import Outcome
from probe.core.errors import DoesNotFit, ProbeError

# word: function(argv) -> exit code
SUBCOMMANDS = {
    "leaderboard": "probe.leaderboard.command:main",
    "cache": "probe.features.command:main",
    "describe": "probe.command.subcommands:describe",
    "extract": "probe.command.subcommands:extract",
    "reproduce": "probe.command.subcommands:reproduce",
}
# launcher of a plugin: extra that installs it
EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit_local": "slurm", "submitit_slurm": "slurm"}


def main() -> None:
    """Entry point of the console script."""
    words = sys.argv[1:]
    # Workers and jobs begin with `python -m` or `-c`, which look into the working folder first unless told otherwise.
    os.environ["PYTHONSAFEPATH"] = "1"
    if words and not words[0].startswith("-") and "=" not in words[0]:
        sys.exit(subcommand(words[0], words[1:]))
    outcomes.clear()
    try:
        hydra_app()
    except KeyboardInterrupt:
        sys.exit(interrupted())
    except SystemExit as stop:  # hydra has told of the launcher's failure
        if was_interrupted(stop):
            sys.exit(interrupted())
        if sentence := missing_launcher(stop.__context__):
            print(f"\nprobe: {sentence}", file=sys.stderr)
        if stop.code and Sweep.started:
            why = ray_jobs.became_of(stop.__context__) or slurm.became_of(stop.__context__)
            print(
                f"\nprobe: the sweep ended early, {why}: the same command goes on with what is missing", file=sys.stderr
            )
        raise
    if Sweep.notes is not None:
        sys.exit(end_sweep(Sweep.notes))
    sys.exit(any(outcome.status == "failed" for outcome in outcomes))


def interrupted() -> int:
    print(f"\nprobe: interrupted{Sweep.queued}; the same command goes on with what is missing", file=sys.stderr)
    return 130


def was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an exception: omegaconf, in the middle of a copy, fails on its way out."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def missing_launcher(error: BaseException | None) -> str:
    """How to get a launcher that a plugin brings, where that is what Hydra has missed; else nothing."""
    group, _, name = str(getattr(error, "missing_cfg_file", "")).rpartition("/")
    if group != "hydra/launcher" or name not in EXTRAS:
        return ""
    return f"the launcher {name} is a plugin that is not installed: pip install -e '.[{EXTRAS[name]}]'"


def subcommand(word: str, argv: Sequence[str]) -> int:
    if word not in SUBCOMMANDS:
        print(
            f"probe: '{word}' is no subcommand: use one of {', '.join(SUBCOMMANDS)}, "
            f"or write overrides as group=name (see probe --help)",
            file=sys.stderr,
        )
        return 2
    try:
        module, _, function = SUBCOMMANDS[word].partition(":")
        return int(getattr(importlib.import_module(module), function)(list(argv)))
    except (ProbeError, HydraException) as error:
        print(f"probe {word}: {error}", file=sys.stderr)
        return 1


def end_sweep(notes: Path) -> int:
    try:
        return sweep.report(notes, instantiate(Sweep.tracker))
    except ProbeError as error:
        print(f"probe: {error}", file=sys.stderr)
        return 1


outcomes: list[Outcome] = []


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def hydra_app(config: DictConfig) -> None:
    """One job, composed by Hydra; failures are recorded, never raised, so that a sweep goes on."""
    if multiprocessing.parent_process() is not None:  # Ctrl-C ends the launching process, which ends its workers
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    started = time.perf_counter()
    job = " ".join(HydraConfig.get().overrides.task)
    if (notes := notes_of_sweep()) is not None:
        sweep.begin(notes, HydraConfig.get().job.num)
    try:
        outcome = run_job(config, job)
    except DoesNotFit as error:
        outcome = Outcome(job, "unfit" if config.skip_unfit else "failed", error=str(error))
    except ProbeError as error:
        outcome = Outcome(job, "failed", error=str(error))
    except Exception as error:  # a defect in one head must not end a sweep of a thousand; the traceback is kept
        cause = error.__cause__ if isinstance(error.__cause__, ProbeError) else None
        outcome = Outcome(job, "failed", error=str(cause) if cause else traceback.format_exc())
    if outcome.status == "failed":
        keep_error(config, outcome)
    outcomes.append(outcome)
    announce(outcome, time.perf_counter() - started)


def run_job(config: DictConfig, job: str) -> Outcome:
    from probe.experiment import run as experiment
    from probe.results import folder as record

    resolved = OmegaConf.to_container(config, resolve=True)
    request, tracker = (
        build(resolved, shlex.join(["probe", *HydraConfig.get().overrides.task])),
        instantiate(config.tracker),
    )
    job_number = HydraConfig.get().job.num if notes_of_sweep() is not None else 0
    request = replace(request, device=own_device(request.device, job_number))
    folder, is_new = experiment.run_once(request)
    if is_new:
        tracker.log(record.read_result(folder), folder)
    return Outcome(job, "done" if is_new else "there", str(folder))


def own_device(device: str, job: int) -> str:
    """The device of a job: those of a sweep over processes take the GPUs in turn."""
    if multiprocessing.parent_process() is None:
        return device
    from probe.features.processes.ranks import Ranks

    return Ranks(local_rank=job).device(device)


def keep_error(config: DictConfig, outcome: Outcome) -> None:
    from probe.results import folder as record

    name = record.slug("failed", *outcome.job.split()) or "failed"
    record.write_error(Path(config.runs) / config.name / name[:150], f"{outcome.job}\n{outcome.error}")


def announce(outcome: Outcome, seconds: float) -> None:
    """One line per job of a sweep; for a single run the metrics as a table."""
    prefix = ""
    if (notes := notes_of_sweep()) is not None:
        sweep.note(notes, HydraConfig.get().job.num, outcome)
        prefix = sweep.progress(notes) + " "
    if outcome.error:
        print(f"{prefix}{outcome.status}: {outcome.job}\n  {outcome.error}", file=sys.stderr, flush=True)
    elif prefix:
        print(f"{prefix}{outcome.status}: {outcome.job} ({seconds:.1f} s)", flush=True)
    else:
        sweep.show_run(Path(str(outcome.folder)), was_there=outcome.status == "there")


def notes_of_sweep() -> Path | None:
    """Where the sweep that this job belongs to keeps its notes; None for a single run."""
    hydra_config = HydraConfig.get()
    return Path(hydra_config.sweep.dir) / sweep.NOTES if hydra_config.mode == RunMode.MULTIRUN else None


class Sweep(Callback):
    """Tells `main` which sweep has ended; Hydra calls it in the launching process, whatever the launcher."""

    started = False
    queued = ""
    notes: Path | None = None
    tracker: DictConfig | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        launcher, notes = config.hydra.launcher, Path(config.hydra.sweep.dir) / sweep.NOTES
        with heeded():
            if launcher["_target_"].endswith(slurm.LAUNCHER):
                warn(slurm.check())
                Sweep.queued = f", but the jobs stay in SLURM's queue (`scancel --name={launcher.name}` ends them)"
            if on_ray := launcher["_target_"].endswith(ray_jobs.LAUNCHER):
                asked: Any = OmegaConf.to_container(launcher.ray, resolve=True)
                ray = ray_jobs.connect(asked["init"])
            sweep.start(notes, n_jobs(config))
            if on_ray:
                warn(ray_jobs.check(ray, asked["remote"], notes / sweep.SWEEP))
        Sweep.started = True

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        Sweep.notes, Sweep.tracker = folder / sweep.NOTES, config.tracker
        # Hydra's file holds paths of this machine, and nothing that the records of the runs do not hold.
        (folder / "multirun.yaml").unlink(missing_ok=True)


@contextmanager
def heeded() -> Iterator[None]:
    """Ends the command where no job could be submitted; not by an exception, which Hydra turns into a warning."""
    try:
        yield
    except ProbeError as error:
        print(f"probe: {error}", file=sys.stderr)
        sys.exit(1)


def warn(sentence: str) -> None:
    if sentence:
        print(f"probe: {sentence}", file=sys.stderr)


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
