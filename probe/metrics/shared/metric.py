"""What a metric is: one record, which whatever measures, ranks, checks or shows a number reads."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from probe.core.errors import InputError
from probe.metrics.shared.intervals import FloatArray, Interval, jackknife, percentile, wilson

Statistic = tuple[float, FloatArray]
"""A number of all rows together, and its derivative by the weight of each row, (N,), which sums to 0."""
OF_THE_TARGET = "unit of the target"
"""Unit of errors of numbers, which has another one on every dataset; they are shown with four digits."""
DIRECTIONS = ("higher", "lower", "target")
QUALIFIER = "@"
"""Between a metric and what of a run it is of, as in `ood_auroc@near.knn`."""
FACTS = ("better", "target", "unit", "proportion", "signed", "binary", "tolerance", "unranked")
KINDS = {"better": "", "unit": "", "proportion": True, "signed": True, "binary": True, "tolerance": 0.0, "unranked": ""}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a run: how it is measured, and what has to be known to rank, check and show it.

    A metric is a mean over rows (`per_row`), a function of all rows (`of_all`), or neither; the first two give each
    test row its part, by which systems are paired and ranked. That of a function of all rows is value + N times its
    derivative by the row's weight.

    Attributes:
        name: As `result.json` has it.
        targets: Kinds of target that it suits: `one_class`, `labels`, `number`, `mask`, `number_map`, `captions`,
            `relevance`.
        reads: Which scores of a run: `rows`, those of the test rows, or what only some runs have, such as `tasks`.
        suits: Whether these scores can give it.
        per_row: Values (N,) whose mean is the metric; NaN for a row that it does not look at.
        of_all: The metric and its derivative by the weight of each row.
        interval: `bootstrap` (percentiles), `wilson` (values of 0 and 1), `jackknife` (from the derivative), or a
            function of the scores, of the means of `columns` under 1,000 resamples, and of the seed.
        columns: (N, Q) values of the rows that a function's resamples are wanted of.
        better: `higher`, `lower`, or `target`: the nearer to `target`.
        target: The best value; as a text, the field of the run's record that holds it.
        unit: `%` for what is shown times 100, `nats`, `classes`, `OF_THE_TARGET`.
        proportion: A share of rows, or a mean of shares: its interval keeps within 0 and 1 by Wilson's form.
        signed: May be below 0.
        binary: Each row is right or wrong, so that McNemar's test applies.
        needs: Arrays of the predictions that give the values of the rows again; without any, these are kept.
        stacks: Whether its function also takes scores of B runs on the same rows, (B, N) but for the labels.
        tolerance: How far a recorded value may be from the mean of its rows, relative above 1; inf: not checked.
        shown: Of the metrics of its target the one that tables show unless asked.
        unranked: Why no row has a part in it, for one that cannot rank.
        parameters: What it was made with, for one from elsewhere: others of the same code differ in these.
    """

    name: str
    targets: tuple[str, ...] = ("one_class",)
    reads: str = "rows"
    suits: Callable[[Any], bool] = lambda scores: True
    per_row: Callable[[Any], FloatArray] | None = None
    of_all: Callable[[Any], Statistic] | None = None
    interval: str | Callable[[Any, FloatArray, int], Interval] = "bootstrap"
    columns: Callable[[Any], FloatArray] | None = None
    better: str = "higher"
    target: float | str | None = None
    unit: str = ""
    proportion: bool = False
    signed: bool = False
    binary: bool = False
    needs: tuple[str, ...] = ()
    stacks: bool = False
    tolerance: float = 1e-4
    shown: bool = False
    unranked: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = []
        if self.better not in DIRECTIONS:
            wrong.append(f"better is {self.better!r}, expected one of {', '.join(DIRECTIONS)}")
        if (self.better == "target") != (self.target is not None):
            wrong.append(
                f"target is {self.target!r} where better is {self.better}, expected it with better target only"
            )
        if wrong:
            raise InputError(f"metric {self.name}: {'; '.join(wrong)}: correct its record")

    @property
    def percent(self) -> bool:
        """Whether it is shown times 100."""
        return self.unit == "%"

    @property
    def can_rank(self) -> bool:
        """Whether each test row has a part in it."""
        return not self.unranked

    @property
    def facts(self) -> dict[str, Any]:
        """What ranks and shows it, as plain JSON: a run leaves this of a metric that is not the package's own."""
        found = {name: getattr(self, name) for name in FACTS}
        return {name: value for name, value in found.items() if value is not False and value not in ("", None)}

    def resampled(self, scores: Any) -> Callable[[Any], FloatArray] | None:
        """The function that gives the columns whose resampled means its interval wants."""
        return self.per_row if self.interval == "bootstrap" else self.columns

    def measure(self, scores: Any, means: FloatArray, seed: int) -> tuple[Interval, FloatArray | None]:
        """Its value with the interval, and the values of the rows."""
        if self.of_all is not None and self.interval == "jackknife":
            value, slopes = self.of_all(scores)
            return jackknife(value, slopes, -1.0 if self.signed else 0.0), value + len(slopes) * slopes
        if callable(self.interval):
            return self.interval(scores, means, seed), self.rows(scores) if self.can_rank else None
        rows = self.rows(scores)
        if self.interval == "wilson":
            return wilson(int(rows.sum()), len(rows)), rows
        return percentile(float(rows.mean()), means[:, 0]), rows

    def rows(self, scores: Any) -> FloatArray:
        """(N,) values whose mean is the metric, from scores; (B, N) of several runs, where it `stacks`."""
        if self.per_row is not None:
            return self.per_row(scores)
        assert self.of_all is not None
        value, slopes = self.of_all(scores)
        return np.expand_dims(value, -1) + slopes.shape[-1] * slopes

    def badness(self, value: Any, goal: Any = None) -> Any:
        """Less is better: the value, its negative, or its distance from the best value."""
        if self.better == "target":
            return abs(value - (self.target if goal is None else goal))
        return -value if self.better == "higher" else value

    def spelled(self, value: float) -> str:
        """The value as people read it: percent with a decimal, errors of numbers four digits, else three decimals."""
        if self.unit == OF_THE_TARGET:
            return np.format_float_positional(value, precision=4, unique=False, fractional=False).rstrip(".")
        shown = f"{100 * value:.1f}" if self.percent else f"{value:.3f}"
        return shown.removeprefix("-") if not float(shown) else shown


@dataclass
class Measured:
    """Some metrics of one run.

    Attributes:
        metrics: By name.
        rows: For those that systems can be ranked by: values of the test rows, (N,), their mean the metric; NaN for
            a row that the metric does not look at.
    """

    metrics: dict[str, Interval] = field(default_factory=dict)
    rows: dict[str, FloatArray] = field(default_factory=dict)


@functools.cache
def known() -> Mapping[str, Metric]:
    """The metrics of this package by name: what `METRICS` holds in each file of the folder above."""
    room, folder = __name__.partition(".shared.")[0], Path(__file__).parents[1]
    modules = [importlib.import_module(f"{room}.{path.stem}") for path in sorted(folder.glob("[!_]*.py"))]
    return {metric.name: metric for module in modules for metric in getattr(module, "METRICS", ())}


def described(name: str, facts: Mapping[str, Any] | None) -> Metric:
    """The metric that a run names: one of this package, or one from elsewhere by the facts that the run recorded.

    Raises:
        InputError: Neither.
    """
    base, qualifier, _ = name.partition(QUALIFIER)
    if base in known():
        return replace(known()[base], name=name, shown=False) if qualifier else known()[base]
    facts = facts or {}
    if not facts or not all(isinstance(facts.get(key, default), type(default)) for key, default in KINDS.items()):
        raise InputError(f"metric {name!r} is none of this package, and the run does not say what it is: run it again")
    return Metric(name=name, **{key: value for key, value in facts.items() if key in FACTS})


def check_own(metrics: Iterable[Any]) -> None:
    """Refuses metrics from elsewhere that could not be measured, or that would hide one of this package.

    Raises:
        InputError: All that is wrong with them.
    """
    wrong, parts = [], {metric.reads for metric in known().values()}
    for metric in metrics:
        if not isinstance(metric, Metric):
            wrong.append(f"{metric!r} is no Metric: let the yaml's _target_ name a function that returns one")
            continue
        functions = {"bootstrap": metric.per_row, "wilson": metric.per_row, "jackknife": metric.of_all}
        if metric.name in known():
            wrong.append(f"metric {metric.name} is one of this package: give it another name")
        if metric.reads not in parts:
            wrong.append(f"metric {metric.name} reads {metric.reads!r}: choose one of {', '.join(sorted(parts))}")
        if not callable(metric.interval) and functions.get(metric.interval) is None:
            wrong.append(
                f"metric {metric.name} has interval {metric.interval!r}: bootstrap and wilson need per_row, jackknife "
                "of_all, or give a function"
            )
        if metric.can_rank == (metric.per_row is None and metric.of_all is None):
            wrong.append(f"metric {metric.name} gives rows a part or says in `unranked` why not: do one of the two")
    if wrong:
        raise InputError("; ".join(wrong))
