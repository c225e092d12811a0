"""The `probe` command: `probe a=b …` runs, `probe -m a=b,c …` sweeps, `probe <word> …` is a subcommand."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import math
import multiprocessing
import os
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from probe import sweep
from probe.errors import DoesNotFit, InputError, ProbeError
from probe.sweep import Outcome

if TYPE_CHECKING:
    from probe.base import Dataset
    from probe.extracting import Extracting
    from probe.request import Run, Teacher

# word: function(argv) -> exit code
SUBCOMMANDS = {
    "leaderboard": "probe.leaderboard.command:main",
    "cache": "probe.features.cache:main",
    "describe": "probe.cli:describe",
    "extract": "probe.cli:extract",
    "reproduce": "probe.cli:reproduce",
}
# What `build` reads of a recorded configuration.
RECORDED = {
    "backbone", "dataset", "protocol", "head", "cache", "name", "seed", "device", "save_logits", "reads", "features",
}  # fmt: skip
PACKAGE = Path(__file__).parent
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"


def main() -> None:
    """Entry point of the console script."""
    words = sys.argv[1:]
    # As `python -m` does: a backbone, dataset or head of the user's own is found beside where they stand.
    sys.path.insert(0, os.getcwd())
    if words and not words[0].startswith("-") and "=" not in words[0]:
        sys.exit(subcommand(words[0], words[1:]))
    outcomes.clear()
    try:
        hydra_app()
    except KeyboardInterrupt:
        print("\nprobe: interrupted; the same command goes on with what is missing", file=sys.stderr)
        sys.exit(130)
    except SystemExit as stop:  # hydra has told of the launcher's failure
        if stop.code and Sweep.started:
            print(
                "\nprobe: the sweep ended early, a job died without a word (the last lines above say where): the same "
                "command goes on with what is missing",
                file=sys.stderr,
            )
        raise
    if Sweep.notes is not None:
        sys.exit(end_sweep(Sweep.notes))
    sys.exit(any(outcome.status == "failed" for outcome in outcomes))


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
    from probe import experiment, record

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
    from probe.features.ranks import Ranks

    return Ranks(local_rank=job).device(device)


def build(config: Any, command: str) -> Run:
    """Turns a resolved configuration into objects; backbones and datasets are built once per process."""
    from probe.features.store import FeatureStore
    from probe.request import Run

    # The teacher of a head is not built by the head: the run gives it the logits.
    head = {key: value for key, value in config["head"].items() if key != "teacher"}
    return Run(
        backbone=with_views(shared(json.dumps(config["backbone"])), config.get("views")),
        dataset=dataset_of(config),
        protocol=instantiate(config["protocol"]),
        head=instantiate(head),
        teacher=build_teacher(config),
        test_on=dataset_of(config, "test_on") if config.get("test_on") else None,
        calibrate=config.get("calibrate", False),
        store=FeatureStore(config["cache"]),
        folder=Path(config["runs"]) / config["name"],
        seed=config["seed"],
        device=config["device"],
        force=config["force"],
        save_logits=config["save_logits"],
        reads=config["reads"],
        features=config["features"],
        config=config,
        command=command,
    )


def with_views(backbone: Any, views: Mapping[str, Any] | None) -> Any:
    """The backbone, around it the views that the configuration asks for; records of older versions know none."""
    if not views or views["n"] == 1:
        return backbone
    from probe.views import MultiView

    return MultiView(backbone, **views)


def build_teacher(config: Any) -> Teacher | None:
    """The teacher that a head names: the folder of a run, or a mapping with `backbone` and `head`."""
    from probe.request import Teacher
    from probe.teacher import read_teacher

    teacher = config["head"].get("teacher")
    if teacher is None:
        return None
    if isinstance(teacher, str):
        dataset = dataset_of(config)
        run = read_teacher(teacher, fingerprint=dataset.fingerprint, class_names=dataset.class_names)
        return Teacher(shared(json.dumps(run.config["backbone"])), instantiate(run.config["head"]), run)
    return Teacher(shared(json.dumps(teacher["backbone"])), instantiate(teacher["head"]))


def dataset_of(config: Any, key: str = "dataset") -> Dataset:
    """The dataset that a configuration names, cut to `limit` rows of each partition where that is set."""
    return shared_dataset(json.dumps(config[key]), json.dumps(config.get("limit")))


@functools.lru_cache(maxsize=8)
def shared_dataset(node: str, limit: str) -> Dataset:
    from probe.subsets import limited

    return limited(shared(node), json.loads(limit))


@functools.lru_cache(maxsize=8)
def shared(node: str) -> Any:
    return instantiate(json.loads(node))


def instantiate(node: Any) -> Any:
    """`hydra.utils.instantiate`, with the sentence of a `ProbeError` in front instead of behind Hydra's own."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    try:
        return hydra_instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ProbeError):
            raise error.__cause__ from None
        raise ProbeError(str(error)) from error


def keep_error(config: DictConfig, outcome: Outcome) -> None:
    from probe import record

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
    notes: Path | None = None
    tracker: DictConfig | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.started = True
        sweep.start(Path(config.hydra.sweep.dir) / sweep.NOTES, n_jobs(config))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        Sweep.notes, Sweep.tracker = folder / sweep.NOTES, config.tracker
        # Hydra's file holds paths of this machine, and nothing that the records of the runs do not hold.
        (folder / "multirun.yaml").unlink(missing_ok=True)


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


def reproduce(argv: Sequence[str]) -> int:
    """Runs recorded runs again and says whether they come out the same; returns 1 if one does not."""
    parser = argparse.ArgumentParser("probe reproduce", description="Run a run folder again from its own record.")
    parser.add_argument("folders", nargs="+", type=Path, help="run folders, such as runs/quickstart/tiny-…")
    different = 0
    for folder in parser.parse_args(argv).folders:
        lines, causes = differences(folder)
        print(f"{folder}: " + ("same bits" if not lines else "differs"))
        for line in lines:
            print(f"  {line}")
        for cause in causes:
            print(f"  {'possible cause: ' if lines else 'although '}{cause}")
        if lines and not causes:
            print("  nothing that the record tells explains it: was the folder edited?")
        different += bool(lines)
    return 1 if different else 0


def differences(folder: Path) -> tuple[list[str], list[str]]:
    """Runs a recorded run in a folder of its own; lists what came out differently, and what else is different."""
    from probe import experiment, record

    old = record.read_result(folder)
    if old is None:
        raise InputError(f"{folder} holds no result.json of this version: give the folder of a complete run")
    missing = RECORDED - (old.get("config") or {}).keys()
    if missing:
        raise InputError(
            f"the record in {folder} lacks {', '.join(sorted(missing))} of the configuration, so that it cannot be run "
            "again: give a run that the probe command made"
        )
    with tempfile.TemporaryDirectory() as scratch:
        again = experiment.run(build(old["config"] | {"runs": scratch, "force": True}, old.get("command", "")))
        new = record.read_result(again)
        assert new is not None  # `run` returns complete folders only
        return record.compare(folder, old, again, new), record.compare_causes(old, new)


def describe(argv: Sequence[str]) -> int:
    """Says what a run would cost and shows a few images as the backbone sees them; extracts nothing."""
    from probe.describe import contact_sheet, describe, render
    from probe.estimator import resolve_device

    parser = argparse.ArgumentParser("probe describe", description=describe.__doc__)
    parser.add_argument("overrides", nargs="*", help="those of a run: backbone=… dataset=… device=…")
    parser.add_argument("--sheet", type=Path, default=Path("contact_sheet.png"), help="where the pictures go")
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args(argv)
    config = compose(options.overrides)
    resolved = OmegaConf.to_container(config, resolve=True)
    dataset, backbone = dataset_of(resolved), with_views(instantiate(config.backbone), config.views)
    print(render(describe(backbone.to(resolve_device(config.device)), dataset, options.batch_size)))
    sheet = contact_sheet(backbone.to("cpu"), dataset)
    if sheet is not None:
        sheet.save(options.sheet)
        print(f"pictures       {options.sheet}")
    return 0


def compose(overrides: Sequence[str], config_dir: str | None = None) -> DictConfig:
    """The configuration of a run, for a subcommand."""
    more = [f"hydra.searchpath=[{Path(config_dir).absolute().as_uri()}]"] if config_dir else []
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", [*overrides, *more])


def extract(argv: Sequence[str]) -> int:
    """Extracts the features that a run would read; several processes share the work, under torchrun or without."""
    from probe.extracting import extract_together

    parser = argparse.ArgumentParser("probe extract", description=extract.__doc__)
    parser.add_argument("overrides", nargs="*", help="those of a run, and extract.kinds, .partitions, .engine, …")
    parser.add_argument("--config-dir", help="a folder with yamls of your own, as for a run")
    options = parser.parse_args(argv)
    config: Any = OmegaConf.to_container(compose(options.overrides, options.config_dir), resolve=True)
    for line in extract_together(prepare, config):
        print(line, flush=True)
    return 0


def prepare(config: Any) -> Extracting:
    """The part of this process, or of a task of Ray, in an extraction."""
    from probe.extracting import Extracting

    return Extracting.of(build(config, "probe extract"), config["extract"])
