"""A finished run as an object: what `probe.run` gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from probe.core.intervals import Interval
from probe.core.words import leaked
from probe.results.grid import Grid
from probe.results.reader import checked_head, read_predictions, read_result
from probe.results.schema import CALIBRATED

N_SHOWN = 3


@dataclass(frozen=True, repr=False)
class Result:
    """One complete run folder; it is read when it is asked for, and checked as it is read.

    Attributes:
        folder: Where it stands.
        load_head: Reads a fitted head from its file.
        is_new: Whether the run was made now, and not found complete.
        beside: The same fit on the shifted test rows that `test_on` named.
    """

    folder: Path
    load_head: Callable[[Path], Any] = field(compare=False)
    is_new: bool = field(default=True, compare=False)
    beside: tuple[Result, ...] = field(default=(), compare=False)

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """All that `result.json` says; `probe.results.schema` names its fields."""
        return read_result(self.folder)

    @cached_property
    def metrics(self) -> dict[str, Interval]:
        """Name -> value with its 95 % interval (`value`, `low`, `high`), on the test rows."""
        return {name: Interval(**told) for name, told in self.record["metrics"].items()}

    @property
    def selection(self) -> Mapping[str, Any] | None:
        """What was searched, on which rows and what won; None where nothing was searched."""
        found: Mapping[str, Any] | None = self.record["selection"]
        return found

    @cached_property
    def predictions(self) -> dict[str, NDArray[Any]]:
        """One entry per test row: `row`, `label`, `predicted`, …; `probe.results.schema.ARRAYS` names them."""
        return read_predictions(self.folder, self.record)

    @cached_property
    def head(self) -> Any:
        """The fitted head, with `predict` and `predict_proba` for features of the same backbone.

        With `calibrate=True` the calibrated one, which was fitted without the held-out rows: its probabilities can be
        believed, and it has `predict_set`.
        """
        is_calibrated = CALIBRATED in self.record["files"]
        return self.load_head(checked_head(self.folder, CALIBRATED)) if is_calibrated else self.uncalibrated_head

    @cached_property
    def uncalibrated_head(self) -> Any:
        """The head that made `predictions`, fitted on all training rows."""
        return self.load_head(checked_head(self.folder))

    @cached_property
    def grid(self) -> Grid | None:
        """The cells of `head=grid`, a metric with its interval each; None of other heads."""
        return Grid.of(self.record["grid"]) if "grid" in self.record else None

    @property
    def title(self) -> str:
        """What was run on what."""
        labels, seed = self.record["labels"], self.record["seed"]
        return f"{labels['head']} on {labels['backbone']} x {labels['dataset']}, {labels['protocol']}, seed {seed}"

    def remarks(self) -> list[str]:
        """What has to be said under the numbers."""
        record, told = self.record, []
        if self.selection:
            told.append(f"chosen on {self.selection['on']}: {self.selection['chosen']}")
        if n_leaked := record.get("leakage", {}).get("test", 0):
            told.append(f"leakage: {leaked(n_leaked, record['labels']['dataset'])}")
        told += [f"not among the rows of {phrase}" for phrase in record.get("left_out", ())]
        told += [f"note: {note}" for note in record.get("notes", ())]
        return told

    def __repr__(self) -> str:
        shown = [f"{name} {m.value:.4f} [{m.low:.4f}, {m.high:.4f}]" for name, m in self.metrics.items()][:N_SHOWN]
        more = f", and {len(self.metrics) - N_SHOWN} more in .metrics" if len(self.metrics) > N_SHOWN else ""
        return "\n".join([f"Result: {self.title}", f"  {', '.join(shown)}{more}", f"  {self.folder}"])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{m.value:.4f}</td><td>{m.low:.4f} to {m.high:.4f}</td></tr>"
            for name, m in self.metrics.items()
        )
        told = "".join(f"<div>{escape(line)}</div>" for line in [*self.remarks(), str(self.folder)])
        head = "<tr><th>metric</th><th>value</th><th>95 % interval</th></tr>"
        return f"<div><b>{escape(self.title)}</b></div><table>{head}{rows}</table>{told}"
