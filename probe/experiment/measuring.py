"""The scores of a run on its test rows, read once, and all metrics of them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset, IntArray, Rows
from probe.core.source import UNKNOWN, source_digest
from probe.core.targets import full_width
from probe.experiment.by_group import by_group
from probe.experiment.calibration import calibrate, calibrate_labels, calibrate_numbers, jackknife
from probe.experiment.collapse import collapse
from probe.experiment.fitting import Fitted
from probe.experiment.grids import measured_cells
from probe.experiment.number_maps import of_number_maps
from probe.experiment.ood import detect
from probe.experiment.pixel_calibration import calibrate_pixels
from probe.experiment.pixels import of_masks
from probe.experiment.reading import ReadRows
from probe.experiment.request import Drawn
from probe.heads.shared.abilities import ComparesCells, HasBeside
from probe.heads.shared.base import AnyHead
from probe.heads.shared.numbers import GivesQuantiles, GivesScales
from probe.metrics import evaluate, zero_shot
from probe.metrics.normal import NormalScores
from probe.metrics.quantiles import QuantileScores
from probe.metrics.shared.metric import Measured, Metric, known
from probe.metrics.shared.scores import InGroups, OfGroups, OfSeen, OfTarget, Scores, beside, graded, score, tuned
from probe.metrics.shared.scores.mask import MaskScores
from probe.metrics.shared.scores.number import NumberScores
from probe.metrics.shared.scores.number_map import NumberMapScores
from probe.metrics.tadpole import LEVEL as HALF
from probe.metrics.tadpole import HalfIntervals
from probe.protocols.shared.groups import group_names, groups_among, shared_groups
from probe.protocols.shared.unseen import HidesClasses


@dataclass(frozen=True)
class Scored:
    """Scores and metrics of the test rows.

    Attributes:
        rows: The scores, of which predictions are made too.
        more: What else the record keeps of how metrics came about, by its name there.
        calibrated: The head of the second fit, where calibration was asked for.
        arrays: What is kept per row beside the scores.
    """

    rows: Scores
    measured: Measured
    more: dict[str, Any]
    calibrated: AnyHead | None = None
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Gathered:
    """What metrics read, and what the record keeps beside them, each by its name there."""

    scores: dict[str, Any]
    more: dict[str, Any]


def measure(drawn: Drawn, rows: ReadRows, fitted: Fitted) -> Scored:
    """Scores logits; over all tasks too where rows came in tasks, and calibrated ones where that is asked for.

    The intervals of all runs come from the same resamples (seed 0), which a sweep then draws once.
    """
    asked = drawn.checked.asked
    metrics = [*known().values(), *asked.metrics]
    if fitted.logits is None:
        return Scored(next(iter(fitted.scores.values())), evaluate.measure(fitted.scores, metrics), {}, None)
    test_groups = groups_among(tested(drawn), Rows(drawn.split.test.partition, rows.test.rows))
    of_rows = _score(drawn, rows, fitted, test_groups)
    found = Gathered({"rows": of_rows}, {})
    _gather_of_labels(found, drawn, rows, fitted, test_groups)
    _gather_of_head(found, drawn, rows, fitted, test_groups)
    calibrated = _gather_calibrated(found, drawn, rows, fitted, test_groups)
    measured = evaluate.measure(found.scores, metrics)
    of_sets, recorded = detect(drawn, rows, fitted)
    if asked.neural_collapse:
        found.more["collapse"] = collapse(rows, fitted)
    measured.metrics |= of_sets.metrics
    measured.rows |= of_sets.rows
    kept = {"group": found.scores["groups"].groups} if "groups" in found.scores else {}
    kept |= found.scores["intervals"].arrays() if "intervals" in found.scores else {}
    return Scored(of_rows, measured, found.more | recorded, calibrated, kept)


def _score(drawn: Drawn, rows: ReadRows, fitted: Fitted, test_groups: IntArray | None) -> Any:
    """The scores of the test rows, knowing of their target and groups."""
    asked = drawn.checked.asked
    # Metrics from elsewhere may look at all logits at once.
    outputs = np.asarray(fitted.logits) if asked.metrics else fitted.logits
    of_rows = score(outputs, rows.test.y, asked.dataset.target.name)
    if isinstance(of_rows, OfTarget):
        of_rows = of_rows.of_target(asked.dataset.target)
    return of_rows.in_groups(test_groups) if isinstance(of_rows, InGroups) else of_rows


def _gather_of_labels(
    found: Gathered, drawn: Drawn, rows: ReadRows, fitted: Fitted, test_groups: IntArray | None
) -> None:
    """What the labels that were learnt from, and the draw of rows, say of those of the test rows."""
    asked, of_rows = drawn.checked.asked, found.scores["rows"]
    target = asked.dataset.target
    learnt = np.concatenate([part.y for part in (rows.train, rows.validation) if len(part.y)])
    found.scores.update(beside(of_rows, learnt))
    if fitted.chosen is not None:
        found.scores.update(tuned(of_rows, fitted.chosen.outputs, fitted.chosen.labels))
    if "thresholds" in found.scores:
        found.more["thresholds"] = found.scores["thresholds"].thresholds.tolist()
    if target.ordered:
        found.scores["graded"] = replace(graded(of_rows, learnt), groups=test_groups)
    trained, tests = (
        Rows(p.partition, r.rows) for p, r in ((drawn.split.train, rows.train), (drawn.split.test, rows.test))
    )
    shared = shared_groups(asked.dataset, trained, tested(drawn), tests)
    if shared and target.name == "one_class":
        found.scores["groups"] = OfGroups(of_rows, *shared)
    if isinstance(asked.protocol, HidesClasses):
        seen = np.ones(len(asked.dataset.class_names), dtype=bool)
        seen[asked.protocol.unseen_classes(asked.dataset, asked.seed)] = False
        found.scores["seen"] = OfSeen(of_rows, seen)
        found.more["gzsl"] = zero_shot.record(found.scores["seen"], asked.dataset.class_names)
    if isinstance(of_rows, NumberScores) and test_groups is not None:
        found.more["by_group"] = by_group(of_rows, group_names(tested(drawn), tests))
    if isinstance(of_rows, MaskScores):
        found.more.update(of_masks(of_rows, learnt, tested(drawn), asked.backbone, rows.test.rows))
    if isinstance(of_rows, NumberMapScores):
        found.more.update(of_number_maps(of_rows, tested(drawn), asked.backbone, rows.test.rows))
    if fitted.tasks:
        found.scores["tasks"] = fitted.tasks.scores
        found.more["tasks"] = fitted.tasks.record


def _gather_of_head(
    found: Gathered, drawn: Drawn, rows: ReadRows, fitted: Fitted, test_groups: IntArray | None
) -> None:
    """What a head gives beside its logits or means."""
    head, of_rows, dataset = fitted.head, found.scores["rows"], drawn.checked.asked.dataset
    if isinstance(head, GivesQuantiles):
        quantiles = head.quantiles(rows.test.X)
        found.scores["quantiles"] = QuantileScores(quantiles, head.levels_, of_rows.labels, test_groups)
        low, high = head.interval(rows.test.X, HALF)
        found.scores["half"] = HalfIntervals(low, high, of_rows.labels, of_rows.predicted, test_groups)
    if isinstance(head, GivesScales):
        scales = head.scales(rows.test.X)
        found.scores["normal"] = NormalScores(of_rows.predicted, scales, of_rows.labels, test_groups)
    if isinstance(head, ComparesCells):
        found.more["grid"] = measured_cells(head, rows, dataset.target, len(dataset.class_names))
    if isinstance(head, HasBeside):
        found.more["beside"] = measured_beside(head, rows, len(dataset.class_names))


def _gather_calibrated(
    found: Gathered, drawn: Drawn, rows: ReadRows, fitted: Fitted, test_groups: IntArray | None
) -> AnyHead | None:
    """What held-out rows tell of another fit, where calibration is asked for; returns that fit."""
    if drawn.held_out is None:
        return None
    asked, held = drawn.checked.asked, np.isin(rows.train.rows, drawn.held_out)
    target, level = asked.dataset.target, asked.conformal_level
    unfitted = fitted.unfitted.for_target(target.name)
    groups = groups_among(asked.dataset, Rows(drawn.split.train.partition, rows.train.rows))
    if target.exclusive:
        n_classes = len(asked.dataset.class_names)
        calibrated = calibrate(unfitted, rows, held, n_classes=n_classes, seed=0, level=level, groups=groups)
    elif rows.test.places is not None:
        n_classes = len(asked.dataset.class_names)
        calibrated = calibrate_pixels(unfitted, rows, held, n_classes=n_classes, groups=groups, test_groups=test_groups)
    elif target.name == "labels":
        calibrated = calibrate_labels(unfitted, rows, held, level=level, groups=groups)
    else:
        calibrated = calibrate_numbers(unfitted, rows, held, level=level, groups=groups, test_groups=test_groups)
        if groups is None:
            found.scores.update(jackknife(fitted.head, rows, level, test_groups))
    found.scores.update(calibrated.scores)
    found.more["calibration"] = calibrated.record
    return calibrated.head


def measured_beside(head: Any, rows: ReadRows, n_classes: int) -> dict[str, Any]:
    """What stands beside a head in its record: top-1 of each on the same test rows, with its interval."""
    found = {}
    for name, logits in head.beside(rows.test.X).items():
        scores = {"rows": score(full_width(logits, head.classes_, n_classes), rows.test.y, "one_class")}
        found[name] = {"top1": vars(evaluate.measure(scores, [known()["top1"]]).metrics["top1"])}
    return found


def tested(drawn: Drawn) -> Dataset:
    """The dataset whose rows test."""
    return drawn.checked.asked.dataset if drawn.elsewhere is None else drawn.elsewhere.dataset


def described(metric: Metric) -> dict[str, Any]:
    """What a run says of a metric from elsewhere: how it ranks and is shown, and which code computes it."""
    functions = [getattr(f, "func", f) for f in (metric.per_row, metric.of_all, metric.interval) if callable(f)]
    code = source_digest(*functions) or f"{UNKNOWN}{uuid.uuid4().hex}"
    return {**metric.facts, "parameters": dict(metric.parameters), "code": code}
