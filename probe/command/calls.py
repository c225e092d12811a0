"""Jobs that are asked for from Python: one, or every combination of several parts."""

from __future__ import annotations

import itertools
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from probe.command import config as building
from probe.command.controls import KINDS
from probe.command.live import Part
from probe.command.parts import GROUPS, Tell, configured, part_of
from probe.core.errors import DoesNotFit, InputError, ProbeError
from probe.core.terminal import bars, silent

if TYPE_CHECKING:
    from probe.experiment.request import Run
    from probe.results.result import Result

ORDER = ("dataset", "backbone", "protocol", "head")
"""What changes least often first: features of one backbone on one dataset are read by all jobs that follow."""
Job = tuple[dict[str, Part | None], int]


class Settings(TypedDict, total=False):
    """What a run can be told besides, under the names of the command.

    Attributes:
        control: The run that this one is held against: `majority`, `raw_input`, `random_weights`, `shuffled_labels`.
        test_on: Another dataset, whose test rows take the place of the own ones; given as a dataset is. Or several,
            in a list of names or by a name for each: the run is on its own test rows, one on each set beside it.
        ood: Datasets of other classes, by a name for each: how well scores tell their test rows from the own ones.
        metric: Metrics of your own, name -> mapping with `_target_`.
        tracker: A name, such as `wandb`, or a pair of it and parameters.
        trust: Whether code may run that the record of a teacher names.
        conformal_level: Wanted chance that a conformal set holds the true class, with `calibrate=True`.
        save_logits: Whether test logits are kept; None: where there are at most 100 classes.
        save_rows: Whether the rows of the split are kept.
        reads: Kind that the head reads -> layer that stands in for it.
        views: `n`, `kind`, `seed` and `use` of several views of each image.
        standardize: Features to mean 0 and variance 1 over the training rows; `"vectors"`: rows of numbers alone.
        neural_collapse: Whether to record NC1 to NC4 of features and head.
        search: `"halving"`: all settings of the head on few rows, the better third of them on more, and so on.
        features: `batch_size`, `n_workers`, `on_error`, `dtypes`.
    """

    control: str | None
    test_on: Any
    ood: Any
    metric: Mapping[str, Mapping[str, Any]]
    tracker: Any
    trust: bool
    conformal_level: float
    save_logits: bool | None
    save_rows: bool
    reads: Mapping[str, str]
    views: Mapping[str, Any]
    standardize: bool | str
    search: str
    neural_collapse: bool
    features: Mapping[str, Any]


@dataclass
class Done:
    """How the jobs of a sweep ended: folders of runs, and by job why there is none."""

    folders: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)


def run_all(
    given: Mapping[str, Any],
    seeds: int | Sequence[int],
    common: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    quiet: bool,
) -> Done:
    """Runs every combination; what goes wrong in one job is kept and told, and the others go on.

    Args:
        given: By group a list of parts, or one part.
        seeds: One or several.
        common: See `configured`.
        settings: See `Settings`.
        quiet: Print nothing.

    Raises:
        ProbeError: A part is none, or no job gave a run.
    """
    building.forget()
    tell, done = teller(quiet), Done()
    jobs = list(_jobs(given, seeds, tell))
    kinds = (None, *KINDS) if common["controls"] else (None,)
    for kind, (parts, seed) in bars()(list(itertools.product(kinds, jobs)), desc="sweep", unit=" runs", disable=quiet):
        job, setting = _shown(parts, seed, kind), {} if kind is None else {"control": kind}
        try:
            result = carry_out(parts, {**common, "seed": seed}, {**settings, **setting}, quiet)
            made = [one.folder for one in (result, *result.beside)]
            done.folders += [folder for folder in made if folder not in done.folders]
        except ProbeError as error:
            passed = (common["skip_unfit"] or kind) and isinstance(error, DoesNotFit)
            (done.unfit if passed else done.failures)[job] = str(error)
            tell(f"{'passed over' if passed else 'failed'}: {job}\n  {error}")
        except Exception as error:  # a defect in one head must not end a sweep of a thousand; the traceback is kept
            done.failures[job] = traceback.format_exc()
            tell(f"failed: {job}\n  {type(error).__name__}: {error}")
    if not done.folders:
        ended = {**done.failures, **done.unfit}
        listed = "".join(f"\n  {job}: {why.strip().splitlines()[-1]}" for job, why in list(ended.items())[:5])
        raise InputError(f"none of the {len(jobs)} jobs of the sweep gave a run, mend what they say:{listed}")
    return done


def _jobs(given: Mapping[str, Any], seeds: int | Sequence[int], tell: Tell) -> Iterator[Job]:
    parts_of_group = [[part_of(group, value, tell) for value in several(group, given[group])] for group in ORDER]
    numbers = several("seed", list(seeds) if isinstance(seeds, Iterable) else [seeds])
    for *parts, seed in itertools.product(*parts_of_group, numbers):
        yield dict(zip(ORDER, parts, strict=True)), seed


def carry_out(
    parts: Mapping[str, Part | None], common: Mapping[str, Any], settings: Mapping[str, Any], quiet: bool
) -> Result:
    """One run, as the command does one."""
    from probe.experiment.run import carry_out_once, prepare
    from probe.results.reader import read_result
    from probe.results.result import Result

    config, live = configured(parts, common, settings, teller(quiet))
    said = _shown(parts, common["seed"], settings.get("control"))
    request, tracker = quietly(building.build(config, said, live), quiet), building.instantiate(config["tracker"])
    with silent(quiet):
        named = prepare(request)
        folder, is_new = carry_out_once(named)
    beside = [one.folder for one in named.beside]
    for place in (folder, *beside):
        tracker.log(read_result(place), place)  # also one that was there, as the command does
    loader = _loader(request)
    others = tuple(Result(place.absolute(), loader, is_new) for place in beside)
    return Result(folder.absolute(), loader, is_new, others)


def _loader(request: Run) -> Any:
    """What reads the fitted head: a class from elsewhere reads its own."""
    from probe.core.source import is_own
    from probe.heads.shared.base import AnyHead

    kind = type(request.head)
    return AnyHead.load if is_own(kind) else kind.load


def quietly(request: Run, quiet: bool) -> Run:
    """The request, with progress bars or without."""
    return replace(request, features={**request.features, "progress": not quiet})


def teller(quiet: bool) -> Tell:
    """Prints a line beside progress bars; nothing where it is to be quiet."""

    def tell(line: str) -> None:
        if not quiet:
            bars().write(f"probe: {line}", file=sys.stderr)

    return tell


def several(group: str, values: Any) -> list[Any]:
    """What a list holds, or one value as a list."""
    if isinstance(values, list) and not values:
        raise InputError(f"the list of {group}s is empty: give at least one, or leave it out")
    return values if isinstance(values, list) else [values]


def _shown(parts: Mapping[str, Part | None], seed: Any, control: str | None = None) -> str:
    """The call, for the record and for messages."""
    given = [f"{group}={parts[group].shown}" for group in GROUPS if parts[group] is not None]  # type: ignore[union-attr]
    return f"probe.run({', '.join([*given, f'seed={seed}', *([f'control={control!r}'] if control else [])])})"
