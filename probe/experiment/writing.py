"""The record of a run, and the folder that holds it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from probe.core.base import Notes, digest
from probe.core.device import device_name
from probe.datasets.shared.partitions import LEFT_OUT, count_duplicates
from probe.experiment.fitting import Fitted
from probe.experiment.measuring import Scored
from probe.experiment.reading import ReadRows, sources
from probe.experiment.request import Named, Run
from probe.protocols.shared.groups import divided_groups, keep_together
from probe.protocols.shared.rows_file import write_rows
from probe.results import folder as results


def write(named: Named, rows: ReadRows, fitted: Fitted, scored: Scored, *, total_seconds: float) -> None:
    """Writes the run folder, all or nothing."""
    asked = named.drawn.checked.asked
    predictions = results.prediction_arrays(
        asked.dataset.target, fitted.logits, rows.test.y, rows.test.rows, asked.save_logits, scored.measured.rows
    )

    def write_own_rows(partial: Path) -> None:
        strata, protocol = named.drawn.checked.strata, asked.protocol
        # With its own test rows where another dataset tests.
        own = keep_together(strata, protocol.split(strata, asked.seed), protocol.name)
        write_rows(partial / "rows.json", asked.dataset, asked.protocol.name, asked.seed, own)

    results.write_run(
        named.folder,
        record(named, rows, fitted, scored, total_seconds),
        predictions,
        fitted.head,
        replace=asked.force,
        more=write_own_rows if asked.save_rows else None,
    )


def notes_of(asked: Run) -> list[str]:
    """What the backbone has to say of the kinds that the head reads."""
    told = asked.backbone.notes if isinstance(asked.backbone, Notes) else {}
    return [told[kind] for kind, _ in sources(asked.head.consumes, asked.reads) if kind in told]


def record(named: Named, rows: ReadRows, fitted: Fitted, scored: Scored, total_seconds: float) -> dict[str, Any]:
    """What `result.json` says."""
    asked, elsewhere = named.drawn.checked.asked, named.drawn.elsewhere
    return {
        "schema": results.SCHEMA,
        "run": {
            "digest": digest(named.determinants),
            "name": named.folder.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "config": dict(asked.config),
        "command": asked.command,
        **named.determinants,
        "features": {name: part.digest for name, part in rows.features.items()},
        "metrics": {name: vars(value) for name, value in scored.measured.metrics.items()},
        **scored.more,
        "selection": getattr(fitted.head, "selection_", None),
        "seconds": {
            "extract": sum(part.seconds for part in rows.features.values()),
            **fitted.seconds,
            "total": total_seconds,
        },
        **({"notes": notes} if (notes := notes_of(asked)) else {}),
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
        "versions": results.versions(),
        "commit": results.commit(),
        "device": device_name(asked.device),
    }
