"""One ensemble, from finished runs to a run folder like theirs: check, calibrate, weigh, name, combine, write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.targets import recorded
from probe.core.version import __version__
from probe.core.writing import writing
from probe.experiment.ensembles.combining import KINDS, RECIPE
from probe.experiment.ensembles.members import Member, check_same, held_out, temperatures, views_on_test
from probe.experiment.identity import run_name
from probe.experiment.writing import prediction_arrays
from probe.metrics.evaluate import measure, recipes
from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.scores import score
from probe.results.reader import find_complete
from probe.results.schema import SCHEMA, run_facts
from probe.results.writer import claim, commit, versions, write_run

CLASS = "probe.experiment.ensembles.combining:KINDS"
"""What the record of an ensemble has in the place of its head's class."""


@dataclass(frozen=True)
class Combined:
    """Members in the order of their digests, and what an ensemble of one kind makes of them.

    Attributes:
        temperatures: Of each member, 1 where its logits are log-probabilities.
        weights: Of each member; None where all count alike.
        on_test: Views (M, ...) of the members on the test rows.
    """

    members: Sequence[Member]
    kind: str
    temperatures: Sequence[float]
    weights: FloatArray | None
    on_test: FloatArray


def check_kind(kind: str) -> None:
    """Refuses an ensemble of an unknown kind."""
    if kind not in KINDS:
        raise InputError(f"kind {kind!r} is unknown, expected one of {', '.join(KINDS)}: use one of them")


def combine(members: Iterable[Member], kind: str) -> Combined:
    """Checks, calibrates and weighs; the weights come from validation rows alone.

    Raises:
        InputError: The members cannot be combined, or not in this way.
    """
    check_kind(kind)
    ordered = sorted(members, key=lambda member: str(member.record["run"]["digest"]))
    check_same(ordered)
    views = ordered[0].views
    if kind not in views.KINDS:
        raise InputError(
            f"{ordered[0].name} has {recorded(ordered[0].record['dataset']).phrase}, of which there is no {kind}: use "
            f"kind {' or '.join(views.KINDS)}"
        )
    scales = [1.0] * len(ordered) if kind == "vote" else temperatures(ordered)
    weights = None
    if kind == "weighted":
        weights = views.weigh(*held_out(ordered, scales))
    return Combined(ordered, kind, scales, weights, views_on_test(ordered, scales))


def write_ensemble(found: Combined, root: Path, command: str, *, force: bool = False) -> tuple[Path, bool]:
    """Writes the run folder below `root`, unless it is complete there; returns it, and whether it was written now."""
    facts = determinants(found)
    folder = root / run_name(facts)
    with writing(folder), claim(folder):
        if not force and find_complete(folder) is not None:
            return folder, False
        more = () if found.weights is None else (found.weights,)
        first = found.members[0]
        outputs = first.views.outputs(first.views.KINDS[found.kind](found.on_test, *more), first.test["label"])
        scores = score(outputs, first.test["label"], recorded(first.record["dataset"]).name)
        measured = measure({"rows": scores})
        metrics = {name: vars(value) for name, value in measured.metrics.items()}
        result = record(found, facts, folder.name, command) | {"metrics": metrics}
        write_run(folder, result, prediction_arrays(scores, first.test["row"], True, measured), None, replace=force)
    return folder, True


def determinants(found: Combined) -> dict[str, Any]:
    """What determines an ensemble: its kind, and the digests of its members."""
    records = [member.record for member in found.members]
    backbones = {facts["backbone"]["identity"]: facts["backbone"] for facts in records}
    labels = list(dict.fromkeys(sorted(facts["labels"]["backbone"] for facts in records)))
    one = next(iter(backbones.values()))
    several = {"name": "several", "identity": digest(sorted(backbones))}
    several["n_parameters"] = sum(facts["n_parameters"] for facts in backbones.values())
    return {
        "labels": {
            **records[0]["labels"],
            "backbone": labels[0] if len(labels) == 1 else f"{len(labels)} backbones",
            "head": f"{found.kind} of {len(records)}",
        },
        "seed": records[0]["seed"],
        "dataset": records[0]["dataset"],
        "protocol": records[0]["protocol"],
        "backbone": one if len(backbones) == 1 else several,
        "head": {
            "name": found.kind,
            "class": CLASS,
            "recipe": RECIPE,
            "parameters": {"kind": found.kind, "members": sorted(member.label for member in found.members)},
        },
        "members": [str(facts["run"]["digest"]) for facts in records],
        **({"metrics_by": turned} if (turned := recipes()) else {}),
        "version": __version__,
    }


def record(found: Combined, facts: Mapping[str, Any], name: str, command: str) -> dict[str, Any]:
    """What `result.json` says, but for the metrics."""
    records = [member.record for member in found.members]
    weights = [None] * len(records) if found.weights is None else found.weights.tolist()
    described = [
        {"name": member.name, "digest": member.record["run"]["digest"], "temperature": temperature, "weight": weight}
        for member, temperature, weight in zip(found.members, found.temperatures, weights, strict=True)
    ]
    return {
        "schema": SCHEMA,
        "run": run_facts(facts, name, datetime.now(UTC).isoformat(timespec="seconds")),
        "config": {"kind": found.kind, "members": facts["head"]["parameters"]["members"], "seed": facts["seed"]},
        "command": command,
        **facts,
        "ensemble": {"members": described, "disagreement": found.members[0].views.disagreement(found.on_test)},
        "log_probabilities": True,
        "features": {},
        "selection": selection(found),
        "seconds": seconds(records),
        "leakage": records[0].get("leakage", {}),
        "left_out": records[0].get("left_out", []),
        "divided_groups": records[0].get("divided_groups", 0),
        "skipped_rows": records[0].get("skipped_rows", {}),
        "versions": versions(),
        "commit": commit(),
        "device": "cpu",
    }


def selection(found: Combined) -> dict[str, Any] | None:
    """What was chosen on which rows, by the members or among them: what was chosen on test rows stays marked."""
    on = sorted({(member.record.get("selection") or {}).get("on", "") for member in found.members} - {""})
    if not on and found.weights is None:
        return None
    odd = [rows for rows in on if rows != "validation"]
    weights = [] if found.weights is None else np.round(found.weights, 4).tolist()
    chosen = {member.name: weight for member, weight in zip(found.members, weights, strict=False)}
    return {"on": ", ".join(odd) or "validation", "searched": [], "chosen": chosen, "remarks": []}


def seconds(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What the members cost together; the features of a backbone are counted once."""
    extract: dict[str, float] = {}
    for facts in records:
        key = facts["backbone"]["identity"]
        extract[key] = max(extract.get(key, 0.0), facts["seconds"]["extract"])
    found = {phase: sum(facts["seconds"][phase] for facts in records) for phase in ("fit", "predict")}
    return {"extract": sum(extract.values()), **found, "total": sum(extract.values()) + sum(found.values())}
