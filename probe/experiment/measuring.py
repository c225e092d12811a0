"""The scores of a run on its test rows, read once, and all metrics of them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset, Rows
from probe.core.source import UNKNOWN, source_digest
from probe.core.targets import full_width
from probe.experiment.calibration import calibrate, calibrate_labels, calibrate_numbers, jackknife
from probe.experiment.collapse import collapse
from probe.experiment.fitting import Fitted
from probe.experiment.grids import measured_cells
from probe.experiment.ood import detect
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
from probe.metrics.tadpole import LEVEL as HALF
from probe.metrics.tadpole import HalfIntervals
from probe.protocols.shared.groups import groups_among, shared_groups
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


def measure(drawn: Drawn, rows: ReadRows, fitted: Fitted) -> Scored:
    """Scores logits; over all tasks too where rows came in tasks, and calibrated ones where that is asked for.

    The intervals of all runs come from the same resamples (seed 0), which a sweep then draws once.
    """
    asked, more, calibrated_head = drawn.checked.asked, dict[str, Any](), None
    target = asked.dataset.target
    metrics = [*known().values(), *asked.metrics]
    if fitted.logits is None:
        return Scored(next(iter(fitted.scores.values())), evaluate.measure(fitted.scores, metrics), {}, None)
    # Metrics from elsewhere may look at all logits at once.
    outputs = np.asarray(fitted.logits) if asked.metrics else fitted.logits
    of_rows = score(outputs, rows.test.y, target.name)
    if isinstance(of_rows, OfTarget):
        of_rows = of_rows.of_target(target)
    test_groups = groups_among(tested(drawn), Rows(drawn.split.test.partition, rows.test.rows))
    if isinstance(of_rows, InGroups):
        of_rows = of_rows.in_groups(test_groups)
    learnt = np.concatenate([part.y for part in (rows.train, rows.validation) if len(part.y)])
    scores: dict[str, Any] = {"rows": of_rows, **beside(of_rows, learnt)}
    if fitted.chosen is not None:
        scores |= tuned(of_rows, fitted.chosen.outputs, fitted.chosen.labels)
    if target.ordered:
        scores["graded"] = replace(graded(of_rows, learnt), groups=test_groups)
    trained = Rows(drawn.split.train.partition, rows.train.rows)
    shared = shared_groups(asked.dataset, trained, tested(drawn), Rows(drawn.split.test.partition, rows.test.rows))
    if shared and target.name == "one_class":
        scores["groups"] = OfGroups(of_rows, *shared)
    if isinstance(asked.protocol, HidesClasses):
        seen = np.ones(len(asked.dataset.class_names), dtype=bool)
        seen[asked.protocol.unseen_classes(asked.dataset, asked.seed)] = False
        scores["seen"] = OfSeen(of_rows, seen)
        more["gzsl"] = zero_shot.record(scores["seen"], asked.dataset.class_names)
    if isinstance(of_rows, MaskScores):
        more |= of_masks(of_rows, learnt, asked.dataset, asked.backbone, rows.test.rows)
    if isinstance(fitted.head, GivesQuantiles):
        found = QuantileScores(fitted.head.quantiles(rows.test.X), fitted.head.levels_, of_rows.labels, test_groups)
        scores["quantiles"] = found
        low, high = fitted.head.interval(rows.test.X, HALF)
        scores["half"] = HalfIntervals(low, high, of_rows.labels, of_rows.predicted, test_groups)
    if isinstance(fitted.head, GivesScales):
        scales = fitted.head.scales(rows.test.X)
        scores["normal"] = NormalScores(of_rows.predicted, scales, of_rows.labels, test_groups)
    if isinstance(fitted.head, ComparesCells):
        more["grid"] = measured_cells(fitted.head, rows, target, len(asked.dataset.class_names))
    if "thresholds" in scores:
        more["thresholds"] = scores["thresholds"].thresholds.tolist()
    if isinstance(fitted.head, HasBeside):
        more["beside"] = measured_beside(fitted.head, rows, len(asked.dataset.class_names))
    if fitted.tasks:
        scores["tasks"] = fitted.tasks.scores
        more["tasks"] = fitted.tasks.record
    if drawn.held_out is not None:
        held = np.isin(rows.train.rows, drawn.held_out)
        unfitted, level = fitted.unfitted.for_target(target.name), asked.conformal_level
        groups = groups_among(asked.dataset, Rows(drawn.split.train.partition, rows.train.rows))
        if target.exclusive:
            n_classes = len(asked.dataset.class_names)
            calibrated = calibrate(unfitted, rows, held, n_classes=n_classes, seed=0, level=level, groups=groups)
        elif target.name == "labels":
            calibrated = calibrate_labels(unfitted, rows, held, level=level, groups=groups)
        else:
            calibrated = calibrate_numbers(unfitted, rows, held, level=level, groups=groups, test_groups=test_groups)
            if groups is None:
                scores |= jackknife(fitted.head, rows, level, test_groups)
        scores |= calibrated.scores
        more["calibration"], calibrated_head = calibrated.record, calibrated.head
    measured = evaluate.measure(scores, metrics)
    of_sets, recorded = detect(drawn, rows, fitted)
    if asked.neural_collapse:
        more["collapse"] = collapse(rows, fitted)
    measured.metrics |= of_sets.metrics
    measured.rows |= of_sets.rows
    kept = {"group": scores["groups"].groups} if "groups" in scores else {}
    kept |= scores["intervals"].arrays() if "intervals" in scores else {}
    return Scored(of_rows, measured, more | recorded, calibrated_head, kept)


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
