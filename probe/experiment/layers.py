"""Runs that find their layer: one of several, chosen where heads choose, or a mixture with learnt weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import numpy as np
from sklearn.base import clone

from probe.backbones.shared.views import MultiView
from probe.core.abilities import MeasuresFeatures, Tapped
from probe.core.arrays import rows_of
from probe.core.base import Backbone, IntArray
from probe.core.errors import DoesNotFit, InputError
from probe.core.targets import Target
from probe.experiment.choice import Chosen, chosen_on, out_of_fold
from probe.experiment.choosing import FOLDS
from probe.experiment.fitting import fit_head, groups_to_balance
from probe.experiment.identity import head_name
from probe.experiment.reading import NO_ROWS, LayerShares, Part, ReadRows, has_many_layers, read, standardized
from probe.experiment.request import Drawn, ManyLayers, Run
from probe.heads.shared.base import AnyHead
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.layer_mix import check_widths, learn_mix, rows_to_learn_from, scales_of
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores import score
from probe.protocols.shared.tasks import ComesInTasks

ASKED = re.compile(r"(.*):(best|mix)")
RECIPE = "1"
"""Another word wherever a choice among layers, or a mixture of them, changes."""
NOTHING = "nothing, for want of rows"


def with_layers(request: Run) -> Run:
    """The request with the layers named one by one of which `reads.pooled=<pattern>:best|mix` reads the best, or a mix.

    Raises:
        InputError: The pattern names no layer, or a mixture layers of several widths.
        DoesNotFit: The head, or the protocol, leaves nothing to choose a layer by.
    """
    for kind in request.head.consumes:
        given = request.reads.get(kind)
        found = ASKED.fullmatch(given) if isinstance(given, str) else None
        if found and request.head.consumes != ("pooled",):
            raise DoesNotFit(
                f"reads.{kind}={found[0]} finds a layer for one vector per row, head {head_name(request.head)} reads "
                f"{', '.join(request.head.consumes)}: name one layer, or take head=linear with reads.pooled={found[0]}"
            )
        if found:
            names = _named(found[1], request.backbone, found[0])
            many = ManyLayers(found[0], found[2], names)
            _check(request, many)
            return replace(request, reads={**request.reads, kind: many})
    return request


def _named(pattern: str, backbone: Backbone, asked: str) -> tuple[str, ...]:
    """The kinds with one vector per row that a pattern names, where `*` is any part of a name."""
    shapes = backbone.shapes if isinstance(backbone, Tapped) else {}
    there = [kind for kind in backbone.kinds if len(shapes.get(kind, (0,) if kind == "pooled" else ())) == 1]
    found = tuple(kind for kind in there if fnmatchcase(kind, pattern))
    if not found:
        tap = (
            f"set backbone.taps=[{pattern}]"
            if pattern and isinstance(backbone, Tapped) and shapes
            else "choose among these"
        )
        raise InputError(
            f"reads.pooled={asked} names no layer that backbone {backbone.name} gives, which are {', '.join(there)}: "
            f"{tap}, or reads.pooled=*:best for the best of these"
        )
    return found


def _check(request: Run, many: ManyLayers) -> None:
    head, protocol, target = request.head, request.protocol, request.dataset.target
    asked, name = f"reads.pooled={many.pattern}", head_name(head)
    one = f"name one layer, reads.pooled={many.names[-1]}"
    if isinstance(head, MeasuresFeatures):
        raise DoesNotFit(f"{asked} finds a layer by what a head predicts, head {name} predicts nothing: {one}")
    if head.reads_texts:
        raise DoesNotFit(f"{asked} finds a layer, head {name} compares images with texts: set reads.pooled=pooled")
    if head.needs_teacher:
        raise DoesNotFit(f"{asked} finds a layer by the labels, head {name} learns from a teacher: {one}")
    if isinstance(protocol, ComesInTasks):
        raise DoesNotFit(f"{asked} wants all training rows at once, protocol {protocol.name} gives tasks: {one}")
    if request.calibrate:
        raise DoesNotFit(f"calibrate=true keeps rows from all that is fitted, {asked} is fitted on these: {one}")
    if isinstance(request.backbone, MultiView) and request.backbone.use == "draw":
        raise DoesNotFit(f"{asked} reads the same features all along, views.use=draw does not: set views.use=mean")
    if many.how == "best":
        return
    if target.name == "labels":
        raise DoesNotFit(
            f"{asked} learns weights for one class per row or numbers, dataset {request.dataset.name} has "
            f"{target.phrase}: set reads.pooled={many.pattern.rpartition(':')[0]}:best"
        )
    shapes = request.backbone.shapes if isinstance(request.backbone, Tapped) else {}
    check_widths(many.pattern, request.backbone.name, {n: shapes[n][-1] for n in many.names if n in shapes})


def describe_layers(reads: Mapping[str, Any]) -> dict[str, Any]:
    """What of the layers determines a run, beside the pattern."""
    many = reads.get("pooled")
    return {"layers": {"of": list(many.names), "recipe": RECIPE}} if isinstance(many, ManyLayers) else {}


def spelled(read: Any) -> Any:
    """What stands in for a kind, as it was asked for."""
    return read.pattern if isinstance(read, ManyLayers) else read


def read_rows(drawn: Drawn) -> ReadRows:
    """The features that the head of a run is fitted on: those of its layer, which is found here where it is asked for.

    Neither a choice nor a mixture is handed the test rows.
    """
    rows, asked = read(drawn), drawn.checked.asked
    if not has_many_layers(drawn.checked.head, asked):
        return rows
    many: ManyLayers = asked.reads["pooled"]
    find = _best if many.how == "best" else _mix
    return _brought(drawn, rows, find(drawn, replace(rows, test=NO_ROWS), many))


def _brought(drawn: Drawn, rows: ReadRows, found: LayerShares) -> ReadRows:
    """The rows with the features of what was found, scaled where that is asked for."""
    return standardized(found.read(rows), drawn.checked.asked)


@dataclass(frozen=True)
class Trial:
    """What a layer is worth on the rows that choose.

    Attributes:
        score: As the head scores its own candidates there, or by the metric that tables show.
        candidates: What was searched on the layer.
        judged: What the head says of these rows, of which it has seen none.
    """

    score: float
    candidates: list[dict[str, Any]]
    judged: Callable[[], Chosen]

    def loss(self, target: Target) -> float:
        """Log loss, which parts equal scores; of other targets nothing does."""
        if not target.exclusive:
            return 0.0
        chosen = self.judged()
        return float(known()["log_loss"].rows(score(chosen.outputs, chosen.labels, target.name)).mean())


def _best(drawn: Drawn, rows: ReadRows, many: ManyLayers) -> LayerShares:
    """The layer with the best score; ties go to the lower log loss, then to the earlier layer."""
    asked = drawn.checked.asked
    target, n_classes = asked.dataset.target, len(asked.dataset.class_names)
    head, told = drawn.checked.head.for_target(target.name), {"how": many.how, "pattern": many.pattern}
    if "refit" in head.get_params(deep=False):
        head = clone(head).set_params(refit=False)
    rows, extras, on = _to_choose_on(rows, groups_to_balance(drawn, rows), target, asked.seed)
    if not on:
        name = many.names[-1]
        selection = {"on": NOTHING, "searched": [], "chosen": {"layer": name}}
        return LayerShares((name,), (1.0,), {**told, "of": list(many.names), "chosen": name, "on": NOTHING}, selection)
    tried = {}
    for name in many.names:
        of_layer = _brought(drawn, rows, LayerShares((name,), (1.0,), {}, {}))
        tried[name] = _trial(clone(head), of_layer, extras, target, n_classes)
    most = max(trial.score for trial in tried.values())
    tied = {name: trial for name, trial in tried.items() if trial.score > most - 1e-12}
    name = next(iter(tied)) if len(tied) == 1 else min(tied, key=lambda name: tied[name].loss(target))
    searched = [{"layer": name, **candidate} for name, trial in tried.items() for candidate in trial.candidates]
    scores = [trial.score for trial in tried.values()]
    record: dict[str, Any] = {**told, "of": list(many.names), "chosen": name, "on": on, "scores": scores}
    return LayerShares((name,), (1.0,), record, {"on": on, "searched": searched, "chosen": {"layer": name}})


def _to_choose_on(
    rows: ReadRows, extras: Mapping[str, Any], target: Target, seed: int
) -> tuple[ReadRows, Mapping[str, Any], str]:
    """Rows with some to choose a layer on, arguments of `fit` that belong to them, and what they are called.

    Without validation rows and folds a tenth of the training rows serves, as it does heads; empty where none can.
    """
    if rows.folds is not None:
        n_folds = len(np.unique(rows.folds[rows.folds >= 0]))
        return rows, extras, f"{n_folds} {FOLDS}" if n_folds else ""
    if len(rows.validation.y):
        return rows, extras, "validation"
    held = hold_out(target.strata(rows.train.y), seed)
    train, spared = (_some(rows.train, np.flatnonzero(marks)) for marks in (~held, held))
    extras = {name: value[~held] for name, value in extras.items()}
    return replace(rows, train=train, validation=spared), extras, HELD_OUT if held.any() else ""


def _some(part: Part, places: IntArray) -> Part:
    return Part(rows_of(part.X, places), part.y[places], part.rows[places])


def _trial(head: AnyHead, rows: ReadRows, extras: Mapping[str, Any], target: Target, n_classes: int) -> Trial:
    """A head on one layer, judged on rows that it was not fitted on."""
    fitted = fit_head(head, rows, extras)
    selection = getattr(fitted, "selection_", None) or {"on": "", "searched": []}

    @cache
    def judged() -> Chosen:
        return chosen_on(fitted, rows, extras, target, n_classes) or _unseen(head, rows, extras, target, n_classes)

    searched = [dict(candidate) for candidate in selection["searched"]]
    if searched and (selection["on"] == "validation" or selection["on"].endswith(FOLDS)):
        return Trial(max(candidate["score"] for candidate in searched), searched, judged)
    shown = next(m for m in known().values() if m.shown and m.reads == "rows" and target.name in m.targets)
    of_rows = score(judged().outputs, judged().labels, target.name)
    value = float(np.nanmean(-shown.badness(shown.rows(of_rows))))
    return Trial(value, [{"score": value}], judged)


def _unseen(head: AnyHead, rows: ReadRows, extras: Mapping[str, Any], target: Target, n_classes: int) -> Chosen:
    """What a head that chooses nothing says of the rows that choose, fitted without them."""
    if rows.folds is not None:
        return out_of_fold(head, rows, rows.folds, extras, target, n_classes)
    fitted = clone(head).fit(rows.train.X, rows.train.y, **extras)
    outputs = target.outputs(fitted, rows.validation.X, n_classes)
    return Chosen(outputs, rows.validation.y, rows.validation.rows)


def _mix(drawn: Drawn, rows: ReadRows, many: ManyLayers) -> LayerShares:
    """Weights of all layers, learnt on the training rows with a linear head.

    The head's penalty is the one that it chooses on the even mixture, on the rows that heads choose on.
    """
    asked, found = drawn.checked.asked, rows.train.X.array
    width = len(many.names) * len(asked.dataset.class_names)
    width += sum(found.parts[name].shape[1] for name in many.names)
    places = rows_to_learn_from(len(rows.train.y), width, asked.seed)
    parts = [found.parts[name][rows.train.X.indices[places]] for name in many.names]
    even = LayerShares(many.names, tuple((scales_of(parts) / len(parts)).tolist()), {}, {})
    head, name = _linear(asked)
    fitted = fit_head(head, even.read(rows))
    strength = float(getattr(fitted, f"{name}_"))
    single, _ = _linear(asked, [strength])
    mix = learn_mix(parts, rows.train.y[places], single, 1 / strength if name == "C" else strength)
    selection = getattr(fitted, "selection_", None) or {"on": NOTHING, "searched": [], "chosen": {name: strength}}
    told = {"weights": mix.weights.tolist(), "scales": mix.scales.tolist(), "objectives": mix.objectives}
    record = {"how": many.how, "pattern": many.pattern, "of": list(many.names), **told, "selection": selection}
    return LayerShares(many.names, tuple(mix.shares), record, selection)


def _linear(asked: Run, strengths: Any = None) -> tuple[AnyHead, str]:
    """The linear head that weights are learnt with, and what its penalty is called."""
    from probe.heads.linear import LinearProbe
    from probe.heads.shared.ridge_numbers import RidgeNumbers

    if asked.dataset.target.exclusive:
        return LinearProbe(strengths or 10, refit=False, tol=1e-8, random_state=asked.seed, device=asked.device), "C"
    return RidgeNumbers(strengths or 17, device=asked.device), "alpha"
