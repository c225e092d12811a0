"""The record of a run, and the folder that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.abilities import Notes
from probe.core.base import IntArray, digest
from probe.core.device import device_name
from probe.core.errors import InputError
from probe.core.writing import writing
from probe.datasets.shared.caption_rows import notes_of_copies
from probe.datasets.shared.partitions import LEFT_OUT, count_duplicates
from probe.experiment.captions import CaptionTexts
from probe.experiment.choice import Chosen
from probe.experiment.choosing import remarks
from probe.experiment.fitting import Fitted
from probe.experiment.grids import write_grid
from probe.experiment.measuring import Scored, tested
from probe.experiment.number_maps import write_pictures
from probe.experiment.pixels import write_overlays
from probe.experiment.reading import ReadRows, sources
from probe.experiment.request import Named, Run
from probe.experiment.truncation import truncation
from probe.metrics.shared.metric import Measured, known
from probe.metrics.shared.scores import Scores, score
from probe.protocols.shared.groups import divided_groups, keep_together
from probe.protocols.shared.rows_file import write_rows
from probe.results.schema import ROWS, SCHEMA, run_facts
from probe.results.writer import commit, versions, write_run

MAX_CLASSES_WITH_LOGITS = 100


def write(named: Named, rows: ReadRows, fitted: Fitted, scored: Scored, *, total_seconds: float) -> None:
    """Writes the run folder, all or nothing."""
    asked = named.drawn.checked.asked

    def write_more(partial: Path) -> None:
        if "grid" in scored.more:
            write_grid(partial, scored.more["grid"])
        if fitted.maps is not None:
            of, test = tested(named.drawn), named.drawn.split.test
            pictures = write_overlays if of.target.name == "mask" else write_pictures
            pictures(partial, scored.more["overlays"], of, test.partition, fitted.maps)
        if asked.save_rows:
            write_own_rows(named, partial / ROWS)

    with writing(named.folder):
        write_run(
            named.folder,
            record(named, rows, fitted, scored, total_seconds),
            {**prediction_arrays(scored.rows, rows.test.rows, asked.save_logits, scored.measured), **scored.arrays},
            fitted.head,
            replace=asked.force,
            calibrated=scored.calibrated,
            validation=validation_arrays(fitted.chosen, asked.dataset.target.name, asked.save_logits),
            more=write_more,
        )


def write_own_rows(named: Named, path: Path) -> None:
    """Writes the rows of the split, with its own test rows where another dataset tests."""
    asked, strata = named.drawn.checked.asked, named.drawn.checked.strata
    own = keep_together(strata, asked.protocol.split(strata, asked.seed), asked.protocol.name)
    write_rows(path, asked.dataset, asked.protocol.name, asked.seed, own)


def control(facts: Mapping[str, str], determinants: Mapping[str, Any]) -> dict[str, str]:
    """What the run is as a control, and by what it is found to be one of another run: equal head, equal backbone."""
    head = determinants["head"]
    parameters = {name: value for name, value in head["parameters"].items() if name != "teacher"}
    backbone = [determinants["labels"]["backbone"], determinants["backbone"]["identity"]]
    known = {"kind": "", "architecture": "", "head": digest({**head, "parameters": parameters})}
    return {**known, **facts, "backbone": digest(backbone)}


def notes_of(asked: Run) -> list[str]:
    """What the backbone has to say of the kinds that the head reads, and of texts that it cuts."""
    told = asked.backbone.notes if isinstance(asked.backbone, Notes) else {}
    of_kinds = [told[kind] for kind, _ in sources(asked.head.consumes, asked.reads) if kind in told]
    cut = truncation(asked.backbone, asked.dataset)
    return [*of_kinds, cut] if cut else of_kinds


def notes_of_texts(named: Named) -> list[str]:
    """What is to be said of captions."""
    texts = named.drawn.checked.prompts
    return (
        [*texts.notes, *notes_of_copies(named.drawn.checked.asked.dataset)] if isinstance(texts, CaptionTexts) else []
    )


def record(named: Named, rows: ReadRows, fitted: Fitted, scored: Scored, total_seconds: float) -> dict[str, Any]:
    """What `result.json` says."""
    asked, elsewhere = named.drawn.checked.asked, named.drawn.elsewhere
    selection, layers = getattr(fitted.head, "selection_", None), rows.layers
    selection = layers.counted(selection) if layers else selection
    return {
        "schema": SCHEMA,
        "run": run_facts(named.determinants, named.folder.name, datetime.now(UTC).isoformat(timespec="seconds")),
        "config": dict(asked.config),
        "command": asked.command,
        **named.determinants,
        "control": control(asked.control, named.determinants),
        "features": {name: part.digest for name, part in rows.features.items()},
        "metrics": {name: vars(value) for name, value in scored.measured.metrics.items()},
        **({"layers": dict(layers.record)} if layers else {}),
        **scored.more,
        "log_probabilities": getattr(fitted.head, "log_probabilities", False),
        "selection": selection and {**selection, "remarks": remarks(selection)},
        **({"loss_per_epoch": losses} if (losses := getattr(fitted.head, "loss_per_epoch_", None)) else {}),
        **({"patches": patches} if (patches := getattr(fitted.head, "patches_", None)) else {}),
        "seconds": {
            "extract": sum(part.seconds for part in rows.features.values()),
            **fitted.seconds,
            "total": total_seconds,
        },
        **({"notes": notes} if (notes := [*notes_of(asked), *notes_of_texts(named)]) else {}),
        "leakage": count_duplicates(
            asked.dataset,
            None if elsewhere is None else elsewhere.dataset,
            valid={name: part.valid for name, part in rows.features.items()},
            split=named.drawn.split,
        ),
        "left_out": [
            f"{dataset.name}: {phrase}"
            for dataset in (asked.dataset, *([] if asked.test_on is None else [asked.test_on]))
            for phrase in dataset.notes.get(LEFT_OUT, ())
        ],
        "divided_groups": divided_groups(asked.dataset, named.drawn.split, tests=elsewhere is None),
        "skipped_rows": {name: int((~part.valid).sum()) for name, part in rows.features.items()},
        "versions": versions(),
        "commit": commit(),
        "device": device_name(asked.device),
    }


def prediction_arrays(
    scores: Scores, rows: IntArray, save_logits: bool | None, measured: Measured | None = None
) -> dict[str, NDArray[Any]]:
    """What is kept per row: what the scores keep, and the outputs as `logits` where they are few.

    `metric.<name>` are the values per row of metrics that do not follow from the other arrays.
    """
    arrays: dict[str, NDArray[Any]] = {"row": rows, **scores.arrays()}
    logits = scores.logits
    if logits is not None and (save_logits or (save_logits is None and logits.shape[1] <= MAX_CLASSES_WITH_LOGITS)):
        arrays["logits"] = np.asarray(logits)
    for name, values in (measured.rows if measured else {}).items():
        if name not in known() or not known()[name].needs:
            arrays[f"metric.{name}"] = values.astype(np.float32)
    return arrays


def validation_arrays(chosen: Chosen | None, target: str, save_logits: bool | None) -> dict[str, NDArray[Any]] | None:
    """The same of the rows that the head chose on; None where it did not."""
    if chosen is None:
        return None
    try:
        scores = score(chosen.outputs, chosen.labels, target)
    except InputError:  # such as rows without any label: no reason to lose a run whose test rows are scored
        return None
    return prediction_arrays(scores, chosen.rows, save_logits)
