"""Weights & Biases: one wandb run per run folder; a broken network or a missing login never loses a run."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from probe.core.errors import InputError
from probe.core.targets import recorded
from probe.core.terminal import tell
from probe.results.reader import read_predictions
from probe.results.schema import PREDICTIONS

if TYPE_CHECKING:
    import pandas as pd
    import wandb

MODES = ("online", "offline", "disabled")
SENT = "sent"
"""Empty file in the folder of a wandb run that holds all of a run."""


class WandbTracker:
    """Logs configuration, metrics with their intervals, seconds, the run folder as an artifact, a sweep's leaderboard.

    Further tables: accuracy of each class, what was searched, the loss of each epoch, accuracy after each task; all but
    the first as curves too, along axes of their own.

    Offline runs lie in the `wandb` folder beside the run folders; `wandb sync` uploads them later. Where wandb cannot
    be reached, or nobody is logged in, this process goes on offline.

    Args:
        project: wandb project.
        mode: online, offline or disabled.
        entity: User or team; None is wandb's default.
        group: Runs of one group stand together; None is the name of the folder that holds the run folders.
        tags: Tags of every run.
    """

    unreachable: ClassVar[bool] = False  # learnt once per process: it takes wandb half a minute to give up

    def __init__(
        self,
        project: str = "probe",
        mode: str = "offline",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
    ):
        if mode not in MODES:
            raise InputError(f"tracker.mode is {mode!r}, expected one of {', '.join(MODES)}: set tracker.mode=offline")
        self.project, self.mode, self.entity, self.group, self.tags = project, mode, entity, group, tuple(tags)

    def log(self, result: dict[str, Any], folder: Path) -> None:
        """Sends one finished run, once; what goes wrong is said on stderr and stays without consequence."""
        try:
            if (identity := self._unsent(result, folder)) is not None:
                self._send(result, folder, identity)
        except Exception as error:  # the run is on disk already: nothing that wandb raises may undo that
            tell(f"wandb did not record {folder.name} ({error}): the run folder itself is complete", error=True)

    def log_sweep(self, table: pd.DataFrame, folder: Path) -> None:
        """Sends the leaderboard of a finished sweep as a wandb Table, in a run of its own."""
        try:
            import wandb

            with self._begin(folder, f"{folder.name} leaderboard", job_type="leaderboard") as run:
                run.log({"leaderboard": wandb.Table(dataframe=table)})
        except Exception as error:  # likewise
            tell(f"wandb did not record the leaderboard of {folder} ({error}): the sweep is complete", error=True)

    def _unsent(self, result: dict[str, Any], folder: Path) -> str | None:
        """The id of the wandb run of a run; None where that was recorded in this mode, or online."""
        asked = (self.project, self.entity, self.group or folder.parent.name, folder.name, result.get("created"))
        identity = hashlib.sha256(repr(asked).encode()).hexdigest()[:16]
        modes = ["run"] if self.mode == "online" and not WandbTracker.unreachable else ["run", "offline-run"]
        sent = [path for mode in modes for path in folder.parent.glob(f"wandb/{mode}-*-{identity}/{SENT}")]
        return None if sent else identity

    def _begin(self, sweep: Path, name: str, **more: Any) -> wandb.Run:
        """A wandb run; an offline one where online was asked for and cannot be had."""
        if self.mode != "online":
            return self._init(self.mode, sweep, name, **more)
        if not WandbTracker.unreachable:
            try:
                return self._init("online", sweep, name, **more)
            except Exception as error:
                WandbTracker.unreachable = True
                tell(
                    f"wandb cannot be reached ({str(error).partition(chr(10))[0]}): recording offline, "
                    f"`wandb sync {sweep}/wandb/offline-run-*` uploads it later",
                    error=True,
                )
        return self._init("offline", sweep, name, **more)

    def _init(self, mode: str, sweep: Path, name: str, **more: Any) -> wandb.Run:
        import wandb

        return wandb.init(
            project=self.project,
            entity=self.entity,
            mode=mode,  # type: ignore[arg-type]
            group=self.group or sweep.name,
            name=name,
            tags=self.tags,
            dir=sweep,
            settings=wandb.Settings(silent=True, init_timeout=30, login_timeout=30),
            **more,
        )

    def _send(self, result: dict[str, Any], folder: Path, identity: str) -> None:
        import wandb

        config = result["config"] | {"labels": result["labels"]}
        with self._begin(folder.parent, folder.name, id=identity, config=config) as run:
            for name, metric in result["metrics"].items():
                run.summary[name] = metric["value"]
                run.summary[f"{name}_low"], run.summary[f"{name}_high"] = metric["low"], metric["high"]
            run.summary.update({f"seconds/{phase}": value for phase, value in result["seconds"].items()})
            for title, (columns, rows, axes) in tables(result, folder).items():
                table = wandb.Table(columns=columns, data=rows)
                run.log({title: table})
                if axes:
                    run.log({f"{title} curve": wandb.plot.line(table, *axes, title=title)})
            self._log_steps(run, tables(result, folder))
            artifact = wandb.Artifact(artifact_name(folder), type="run")
            for path in sorted(folder.iterdir()):  # as `add_dir`, which says so on the terminal for every run
                artifact.add_file(str(path))
            run.log_artifact(artifact)
            place = Path(run.dir).parent
        if place.is_dir():  # a disabled one has none
            (place / SENT).touch()

    @staticmethod
    def _log_steps(run: wandb.Run, found: dict[str, Rows]) -> None:
        """Each table that makes a curve as a series too, along its own axis: the task, or the value searched."""
        for title, (columns, rows, axes) in found.items():
            if axes is None:
                continue
            axis = f"{title}/{axes[0]}"
            run.define_metric(axis, hidden=True)
            run.define_metric(f"{title}/*", step_metric=axis)
            for row in rows:
                run.log(
                    {f"{title}/{name}": value for name, value in zip(columns, row, strict=True) if is_number(value)}
                )


def log_epoch(values: Mapping[str, float], epoch: int, axis: str) -> None:
    """Values of an epoch as a step of the wandb run that a program has begun, where it has begun one.

    They are drawn along `axis`, so that steps which the program logs itself stay what they are.
    """
    run = getattr(sys.modules.get("wandb"), "run", None)
    if run is None:
        return
    try:
        run.define_metric(axis, hidden=True)
        for name in values:
            run.define_metric(name, step_metric=axis)
        run.log({**values, axis: epoch})
    except Exception as error:  # likewise: training goes on
        tell(f"wandb did not record epoch {epoch} ({error})", error=True)


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def artifact_name(folder: Path) -> str:
    """The folder's name in the letters that wandb takes, its end where it is long: there the digest stands."""
    return re.sub(r"[^\w.-]", "_", folder.name, flags=re.ASCII)[-128:]


Rows = tuple[list[Any], list[Any], tuple[str, str] | None]


def tables(result: dict[str, Any], folder: Path) -> dict[str, Rows]:
    """Columns and rows of each table of a run, and the two columns that make a curve, if any do."""
    found: dict[str, Rows] = {}
    selection = result.get("selection") or {}
    if searched := selection.get("searched"):
        columns = list(dict.fromkeys(name for candidate in searched for name in candidate))
        rows = [[candidate.get(name) for name in columns] for candidate in searched]
        numeric = [name for name in selection["chosen"] if all(isinstance(c.get(name), Real) for c in searched)]
        found["selection"] = columns, rows, (numeric[0], "score") if len(numeric) == 1 else None
    if losses := result.get("loss_per_epoch"):
        found["training"] = ["epoch", "loss"], [[epoch, loss] for epoch, loss in enumerate(losses)], ("epoch", "loss")
    if tasks := result.get("tasks"):
        rows = [[place, *task] for place, task in enumerate(zip(tasks["names"], tasks["accuracies"], strict=True))]
        found["tasks"] = ["task", "name", "accuracy"], rows, ("task", "accuracy")
    if pixels := result.get("classes"):
        rows = [[one["name"], one["test_pixels"], one.get("iou", {}).get("value")] for one in pixels]
        found["classes"] = ["class", "pixels", "iou"], rows, None
    if PREDICTIONS in result.get("files", ()):
        if not recorded(result["dataset"]).exclusive:  # several labels, or numbers, have no one right class
            return found
        arrays, names = read_predictions(folder, result), result["dataset"]["class_names"]
        n = np.bincount(arrays["label"], minlength=len(names))
        right = np.bincount(arrays["label"][arrays["label_rank"] == 0], minlength=len(names))
        share = [float(r) / int(total) if total else None for r, total in zip(right, n, strict=True)]
        rows = [list(row) for row in zip(names, n.tolist(), share, strict=True)]
        found["classes"] = ["class", "rows", "accuracy"], rows, None
    return found
