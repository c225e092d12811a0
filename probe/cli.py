"""The `probe` command: `probe a=b …` runs, `probe -m a=b,c …` sweeps, `probe <word> …` is a subcommand."""

from __future__ import annotations

import functools
import importlib
import json
import os
import shlex
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from probe.errors import DoesNotFit, ProbeError

if TYPE_CHECKING:
    from probe.experiment import Run

# word: module whose `main(argv) -> exit code` serves it
SUBCOMMANDS = {
    "leaderboard": "probe.leaderboard.command",
    "cache": "probe.features.cache",
}
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
    hydra_app()
    if Sweep.folder is not None:
        sys.exit(report_sweep(Sweep.folder, Sweep.name))
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
        return int(importlib.import_module(SUBCOMMANDS[word]).main(list(argv)))
    except ProbeError as error:
        print(f"probe {word}: {error}", file=sys.stderr)
        return 1


@dataclass(frozen=True)
class Outcome:
    """How one job of a sweep, or the only run, ended: `done`, `there` (was complete), `unfit` or `failed`."""

    job: str
    status: str
    folder: str | None = None
    error: str | None = None


outcomes: list[Outcome] = []


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def hydra_app(config: DictConfig) -> None:
    """One job, composed by Hydra; failures are recorded, never raised, so that a sweep goes on."""
    started = time.perf_counter()
    job = " ".join(HydraConfig.get().overrides.task)
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
    note_for_sweep(outcome)
    announce(outcome, time.perf_counter() - started)


def run_job(config: DictConfig, job: str) -> Outcome:
    from probe import experiment, record

    request = build(config)
    before = time.time()
    folder = experiment.run(request)
    result = record.read_result(folder)
    assert result is not None  # just written, or found complete
    if (folder / "result.json").stat().st_mtime < before:
        return Outcome(job, "there", str(folder))
    instantiate(config.tracker).log(result, folder)
    return Outcome(job, "done", str(folder))


def build(config: DictConfig) -> Run:
    """Turns a configuration into objects; backbones and datasets are built once per process."""
    from probe.experiment import Run
    from probe.features.store import FeatureStore

    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return Run(
        backbone=shared(json.dumps(resolved["backbone"])),
        dataset=shared(json.dumps(resolved["dataset"])),
        protocol=instantiate(config.protocol),
        head=instantiate(config.head),
        store=FeatureStore(config.cache),
        folder=Path(config.runs) / config.name,
        seed=config.seed,
        device=config.device,
        force=config.force,
        save_logits=config.save_logits,
        features=resolved["features"],
        config={str(key): value for key, value in resolved.items()},
        command=shlex.join(["probe", *HydraConfig.get().overrides.task]),
    )


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
    """One line per job; for a single run the metrics as a table."""
    hydra_config = HydraConfig.get()
    sweeping = hydra_config.mode == RunMode.MULTIRUN
    if outcome.status in ("failed", "unfit"):
        print(f"{outcome.status}: {outcome.job}\n  {outcome.error}", file=sys.stderr, flush=True)
    elif sweeping:
        print(f"{outcome.status}: {outcome.job} ({seconds:.1f} s)", flush=True)
    else:
        show_run(Path(str(outcome.folder)), was_there=outcome.status == "there")


def show_run(folder: Path, *, was_there: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from probe import record

    result = record.read_result(folder) or {}
    labels, console = result["labels"], Console(highlight=False)
    table = Table(title=f"{labels['head']} on {labels['backbone']} x {labels['dataset']}, seed {result['seed']}")
    for column in ("metric", "value", "95 % interval"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, m in result["metrics"].items():
        table.add_row(name, f"{m['value']:.4f}", f"{m['low']:.4f} to {m['high']:.4f}")
    console.print(table)
    if result["selection"]:
        console.print(f"chosen on {result['selection']['on']}: {result['selection']['chosen']}", soft_wrap=True)
    if was_there:
        console.print("complete already, not run again (force=true runs it anew)")
    console.print(f"[bold]{folder}[/bold]", soft_wrap=True)


class Sweep(Callback):
    """Tells `main` which sweep has ended; Hydra calls it in the launching process, whatever the launcher."""

    folder: Path | None = None
    name: str = ""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        shutil.rmtree(sweep_notes(config), ignore_errors=True)
        sweep_notes(config).mkdir(parents=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.folder, Sweep.name = sweep_notes(config), config.name


def sweep_notes(config: DictConfig) -> Path:
    return Path(config.runs) / config.name / ".sweep"


def note_for_sweep(outcome: Outcome) -> None:
    """Leaves the outcome where `report_sweep` finds it: jobs may run in other processes than the launcher."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        notes = Path(hydra_config.sweep.dir) / ".sweep"
        notes.mkdir(parents=True, exist_ok=True)
        (notes / f"{hydra_config.job.num:06d}.json").write_text(json.dumps(vars(outcome)))


def report_sweep(notes: Path, name: str) -> int:
    """Prints the ranked table of a finished sweep and what failed; returns the exit code."""
    from probe.leaderboard.command import write_sweep_table

    ended = [Outcome(**json.loads(path.read_text())) for path in sorted(notes.glob("*.json"))]
    folders = sorted({outcome.folder for outcome in ended if outcome.folder})
    if folders:
        print(write_sweep_table(notes.parent, [Path(folder) for folder in folders]))
    failed = [outcome for outcome in ended if outcome.status == "failed"]
    counts = {status: sum(o.status == status for o in ended) for status in ("done", "there", "unfit", "failed")}
    print(f"{name}: " + ", ".join(f"{n} {status}" for status, n in counts.items() if n))
    for outcome in failed:
        print(f"failed: {outcome.job}\n  {last_line(outcome.error)}", file=sys.stderr)
    return 1 if failed else 0


def last_line(text: str | None) -> str:
    return (text or "").strip().rpartition("\n")[2]
