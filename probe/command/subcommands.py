"""Subcommands that read a configuration as a run does: `reproduce`, `leaderboard`, `describe`, `check`, `extract`."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.command import config as building
from probe.command import recorded
from probe.core.errors import InputError, ProbeError
from probe.core.terminal import tell
from probe.core.writing import write_file

if TYPE_CHECKING:
    from probe.core.base import Dataset
    from probe.experiment.extracting import Extracting

# What no recorded configuration lacks.
RECORDED = {"backbone", "dataset", "protocol", "head", "seed", "device", "save_logits", "reads", "features"}


def reproduce(argv: Sequence[str]) -> int:
    """Runs recorded runs again and says whether they come out the same; returns 1 if one does not."""
    parser = argparse.ArgumentParser("probe reproduce", description="Run a run folder again from its own record.")
    parser.add_argument("folders", nargs="+", type=Path, help="run folders, such as runs/quickstart/tiny-…")
    parser.add_argument("--cache", help="where features are kept; else $PROBE_CACHE, or the platform's cache folder")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run code that a record names and that is not this package's: from folders of those you trust",
    )
    options = parser.parse_args(argv)
    different = 0
    for folder in options.folders:
        lines, causes = differences(folder, cache=options.cache, trust=options.trust)
        tell(f"{folder}: " + ("same bits" if not lines else "differs"))
        for line in lines:
            tell(f"  {line}")
        for cause in causes:
            tell(f"  {'possible cause: ' if lines else 'although '}{cause}")
        if lines and not causes:
            tell("  nothing that the record tells explains it: was the folder edited?")
        different += bool(lines)
    return 1 if different else 0


def differences(folder: Path, *, cache: str | None = None, trust: bool = False) -> tuple[list[str], list[str]]:
    """Runs a recorded run in a folder of its own; lists what came out differently, and what else is different.

    Args:
        cache: Where features are kept.
        trust: Whether code may run that the record names and that is not this package's.
    """
    from probe.experiment import run as experiment
    from probe.results import comparing
    from probe.results.reader import read_result

    try:
        old = read_result(folder)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    if "members" in old:
        raise InputError(
            f"{folder} is an ensemble of {len(old['members'])} runs: reproduce these, and combine them again with "
            "probe ensemble"
        )
    config = old.get("config") or {}
    missing = RECORDED - config.keys()
    if missing:
        raise InputError(
            f"the record in {folder} lacks {', '.join(sorted(missing))} of the configuration, so that it cannot be run "
            "again: give a run that the probe command made"
        )
    recorded.check(config, folder, building.CONF, trust=trust)
    with tempfile.TemporaryDirectory() as scratch:
        ours = recorded.configuration(config, runs=scratch, cache=cache, trust=trust)
        again = experiment.run(building.build(ours, old.get("command", "")))
        new = read_result(again)
        return comparing.compare(folder, old, again, new), comparing.compare_causes(old, new)


def leaderboard(argv: Sequence[str]) -> int:
    """`probe leaderboard`, whose page shows rows of the datasets that records name."""
    from probe.leaderboard.command import main

    return main(list(argv), dataset_of)


def dataset_of(record: Mapping[str, Any]) -> Dataset:
    """The dataset that a run recorded, read but not downloaded.

    Raises:
        ProbeError: It was given as an object, or is not this package's own code.
    """
    told = record.get("config") or {}
    config = {name: told[name] for name in ("dataset", "limit") if told.get(name) is not None}
    if "dataset" not in config or told.get("test_on"):
        raise InputError("their records do not say which dataset they are of")
    try:
        recorded.check(config, Path(record["run"]["name"]), building.CONF, trust=False)
    except InputError:
        raise InputError("it is an object or code of one's own, which no record builds") from None
    return building.dataset_of(recorded.configuration(config, runs="", cache=None, trust=False))


def describe(argv: Sequence[str]) -> int:
    """Says what a run or a sweep would cost and shows a few images as the backbone sees them; extracts nothing."""
    from probe.command import forecasts
    from probe.command.describe import contact_sheet, describe, render
    from probe.core.device import resolve_device
    from probe.core.files import cache_root
    from probe.core.images import EXTENSIONS

    parser = argparse.ArgumentParser("probe describe", description=describe.__doc__)
    parser.add_argument("overrides", nargs="*", help="those of a run: backbone=… dataset=… head=…, or of a sweep")
    parser.add_argument("-m", "--multirun", action="store_true", help="as for a sweep; choices say so themselves")
    parser.add_argument("--sheet", type=Path, default=Path("contact_sheet.png"), help="where the pictures go")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--config-dir", help="a folder with yamls of your own, as for a run")
    options = parser.parse_intermixed_args(argv)
    if options.sheet.suffix.lower() not in EXTENSIONS:
        raise InputError(f"--sheet is {options.sheet}, expected a name that ends in {', '.join(sorted(EXTENSIONS))}")
    facts: dict[str, dict[str, Any]] = {}
    needs: list[forecasts.Needs] = []
    for config in [_readable(job, options.config_dir) for job in forecasts.jobs_of(options.overrides)]:
        dataset, backbone = building.dataset_of(config), building.backbone_of(config)
        pair = json.dumps([config[part] for part in ("backbone", "dataset", "views", "limit")], default=str)
        if pair not in facts:
            facts[pair] = describe(backbone.to(resolve_device(config["device"])), dataset, options.batch_size)
            tell(*render(facts[pair]).splitlines(), *[""] * (len(facts) > 1))
        try:
            needs.append(forecasts.needs_of(config, facts[pair]))
        except ProbeError as error:
            tell(f"no run         {error}")
    minutes, cache = sum(one["minutes"] for one in facts.values()), config["cache"] or cache_root()
    tell(*(f"{name:14} {text}" for name, text in forecasts.lines(needs, minutes, Path(cache)).items()))
    sheet = contact_sheet(backbone.to("cpu"), dataset)
    if sheet is not None:
        write_file(options.sheet, sheet.save)
        tell(f"pictures       {options.sheet}")
    return 0


def _readable(words: Sequence[str], config_dir: str | None) -> Any:
    config = building.readable(building.compose(words, config_dir), words)
    building.check(config)
    return config


def check(argv: Sequence[str]) -> int:
    """Whether a backbone keeps its contract: shapes, chance, company in the batch, padding, device; a table of kinds.

    Rows are the first ones of a dataset that is named, else made up, of the sort that the backbone reads.
    """
    from probe.command import checking
    from probe.core.device import resolve_device
    from probe.core.rows import check_rows

    parser = argparse.ArgumentParser("probe check", description=check.__doc__)
    parser.add_argument("overrides", nargs="+", help="those of a run: backbone=… perhaps dataset=… device=…")
    parser.add_argument("--config-dir", help="a folder with yamls of your own, as for a run")
    options = parser.parse_args(argv)
    named = any(word.lstrip("+~").startswith(("dataset", "experiment")) for word in options.overrides)
    config = building.compose(options.overrides, options.config_dir)
    config = building.readable(config, options.overrides) if named else config
    building.check(config)
    backbone = building.backbone_of(config)
    if named:
        dataset = building.dataset_of(config)
        check_rows(backbone, dataset)
        shown = dataset.leading
        rows = [shown[row] for row in range(min(checking.N_ROWS, len(shown)))]
    else:
        rows = checking.made_rows(getattr(backbone, "reads", "images"))
    found = checking.check(backbone, rows, resolve_device(config["device"]))
    tell(*checking.lines(backbone, found))
    return int(any(of_kind.faults for of_kind in found.values()))


def extract(argv: Sequence[str]) -> int:
    """Extracts the features that a run would read; several processes share the work, under torchrun or without."""
    from probe.experiment.extracting import extract_together

    parser = argparse.ArgumentParser("probe extract", description=extract.__doc__)
    parser.add_argument("overrides", nargs="*", help="those of a run, and extract.kinds, .partitions, .engine, …")
    parser.add_argument("--config-dir", help="a folder with yamls of your own, as for a run")
    options = parser.parse_args(argv)
    config = building.readable(building.compose(options.overrides, options.config_dir), options.overrides)
    for line in extract_together(prepare, config):
        tell(line)
    return 0


def prepare(config: Any) -> Extracting:
    """The part of this process, or of a task of Ray, in an extraction."""
    from probe.experiment.extracting import Extracting

    return Extracting.of(building.build(config, "probe extract"), config["extract"])
