"""`probe leaderboard`: reads run folders, prints the ranked table, and writes it where asked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from probe.core.errors import InputError, ProbeError
from probe.core.terminal import tell
from probe.core.words import counted
from probe.core.writing import write_file
from probe.leaderboard import (
    advice,
    against,
    comparison,
    correlation,
    curves,
    gap,
    layers,
    naming,
    robustness,
    worst_group,
)
from probe.leaderboard.files import export
from probe.leaderboard.index import read_folders
from probe.leaderboard.latex import CELLS
from probe.leaderboard.records import Records, metrics_in
from probe.leaderboard.screen import terminal
from probe.leaderboard.select import differing, where
from probe.leaderboard.table import COLUMNS, ROWS, Table, build_table, default_metrics

if TYPE_CHECKING:
    from probe.leaderboard.page import DatasetOf

MAX_COLUMNS = 4
PARTS = {"curves": curves, "gap": gap, "robustness": robustness, "worst_group": worst_group, "layers": layers}
"""What is shown in the place of the table where it is asked for."""
SWEEP_READ = 500
"""Runs that the page of a sweep reads, so that it costs about a second."""
FILES = {"md": "md", "csv": "csv", "json": "json", "tex": "tex", "parquet": "parquet", "html": "html"}


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="probe leaderboard",
        description="Ranks runs, with intervals, and refuses to mix what cannot be compared.",
        epilog="example: probe leaderboard runs/quickstart --where head=linear,ncm --md table.md",
    )
    options.add_argument("folders", nargs="+", type=Path, help="folders that hold runs, at any depth")
    options.add_argument(
        "--rows", default=",".join(ROWS), metavar="FIELDS", help="what a row is (default: %(default)s)"
    )
    options.add_argument(
        "--columns", metavar="FIELDS",
        help=f"what a column is (default: {','.join(COLUMNS)}; with --curves and --gap also what tells protocols "
        "apart); any label or dotted name of the configuration",
    )  # fmt: skip
    options.add_argument(
        "--metric",
        help="one that the runs have, such as top1 (the default), mean_per_class, log_loss, few_shot, a_avg, "
        "mean_set_size, scaled_log_loss, mAP (the default for rows with several labels), or r2 (for numbers to "
        "predict); a wrong one lists them",
    )  # fmt: skip
    options.add_argument(
        "--where", action="append", default=[], metavar="FIELD=VALUES",
        help="keep runs with one of these values, * matches anything; != leaves them out; may be repeated",
    )  # fmt: skip
    options.add_argument("--sort", metavar="NAME", help="sort by a column or a field of the rows instead of by rank")
    options.add_argument("--top", type=int, metavar="N", help="show the first N rows")
    options.add_argument(
        "--compare", nargs=2, metavar=("A", "B"),
        help="two rows, each by its fields, such as 'tiny linear': paired differences and tests in every column; "
        "--md, --csv, --json, --tex and --parquet then write these",
    )  # fmt: skip
    options.add_argument(
        "--against", metavar="FIELD=VALUE",
        help="every row against the one that differs from it in this field alone, such as head=linear: paired "
        "differences in every column, and whether it beats that row",
    )  # fmt: skip
    options.add_argument(
        "--curves", action="store_true",
        help="learning curves: the training rows that each row needs, and where each pair of rows crosses",
    )  # fmt: skip
    options.add_argument(
        "--gap", action="store_true",
        help="easy to hard: the share of what hard training rows teach that was learnt from easy ones",
    )  # fmt: skip
    options.add_argument(
        "--robustness", action="store_true",
        help="shifted test sets: how far each row is above the line of all rows over both sets",
    )  # fmt: skip
    options.add_argument(
        "--worst-group", action="store_true",
        help="groups that training and test rows share: the worst of each row, and a paired test against the best row",
    )  # fmt: skip
    options.add_argument(
        "--layers", action="store_true",
        help="one backbone read at several layers: scores by layer, those of attention heads as layer x head",
    )  # fmt: skip
    options.add_argument(
        "--correlate", nargs="?", const="", metavar="MEASURES",
        help="rank correlation over backbones of measures of features (head=unlabelled), such as rankme, with the "
        "metric of the table, with an interval; by default of all measures that the runs have",
    )  # fmt: skip
    options.add_argument(
        "--label", action="append", default=[], metavar="OLD=NEW",
        help="what a backbone, head, dataset, field or metric is called in all that is shown; may be repeated",
    )  # fmt: skip
    options.add_argument("--caption", help="of the LaTeX table")
    options.add_argument(
        "--cells", choices=CELLS, default="interval",
        help="of the LaTeX table: with intervals (default), as value ± half of the interval, or values alone",
    )  # fmt: skip
    for kind in FILES:
        options.add_argument(f"--{kind}", type=Path, metavar="FILE", help=f"write {kind} to FILE")
    options.add_argument(
        "--plots", type=Path, nargs="?", const=Path("plots"), metavar="FOLDER",
        help="write figures as png, svg and pdf to FOLDER (default: plots)",
    )  # fmt: skip
    options.add_argument(
        "--no-samples", action="store_true",
        help="leave the rows that runs got most confidently wrong out of the page: no thumbnails, no texts",
    )  # fmt: skip
    return options


def _fields(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


def main(argv: list[str], dataset_of: DatasetOf | None = None) -> int:
    """Runs the command; 0 where a table was made, 1 where the user has to mend something, 2 for wrong options.

    Args:
        argv: The words after `probe leaderboard`.
        dataset_of: From the record of a run to its dataset, for the rows that the page shows.
    """
    try:
        options = parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        return _run(options, None if options.no_samples else dataset_of)
    except ProbeError as error:
        tell(f"probe leaderboard: {error}", error=True)
        return 1


def _run(options: argparse.Namespace, dataset_of: DatasetOf | None) -> int:
    records = read_folders(options.folders)
    if options.where:
        records = Records(where(records.frame, options.where), records.problems, records.notes)
    columns = _fields(options.columns or ",".join(COLUMNS))
    if not options.columns and (options.curves or options.gap):
        columns = sweep_columns(records)
    labels = naming.read(options.label)
    records = naming.renamed(records, labels, [*_fields(options.rows), *columns])
    table = build_table(records, options.metric, _fields(options.rows), columns)
    table = naming.named(table, labels, list(metrics_in(dict.fromkeys(records.frame.columns))))
    compared = comparison.compare_rows(table, *options.compare) if options.compare else None
    if compared:
        tell(*comparison.text(compared).splitlines())
    table = arrange(table, options.sort, options.top)
    asked = [part for name, part in PARTS.items() if getattr(options, name)]
    for part in asked:
        tell(*part.text(table, records.frame).splitlines())
    if options.correlate is not None:
        tell(*correlation.text(table, records.frame, _fields(options.correlate)).splitlines())
    if options.against is not None:
        tell(*against.text(table, options.against).splitlines())
    if not (options.compare or asked or options.against is not None or options.correlate is not None):
        tell(*terminal(table).splitlines())
    for kind in FILES:
        path = getattr(options, kind)
        if path:
            if kind == "html":
                from probe.leaderboard.page import page

                write_file(path, page(table, records.frame, dataset_of))
            elif compared:
                comparison.export(compared, kind, path)
            else:
                tex = {"cells": options.cells, "caption": options.caption} if kind == "tex" else {}
                export(table, kind, path, **tex)
            tell(f"wrote {path}")
    if options.plots:
        from probe.leaderboard.plots import write_plots

        tell(*(f"wrote {path}" for path in write_plots(table, records.frame, options.plots)))
    return 0


def arrange(table: Table, sort: str | None = None, top: int | None = None) -> Table:
    """The table with its rows sorted by a column (best first) or a field of the rows, and cut to the first few."""
    from dataclasses import replace

    ranking = table.ranking
    if sort in table.column_names:
        cells = table.cells[table.cells["column"] == sort].set_index("row")["badness"]
        order = ranking["row"].map(cells).sort_values(kind="stable")
        ranking = ranking.loc[order.index]
    elif sort in table.rows:
        ranking = ranking.sort_values(sort, kind="stable")
    elif sort not in (None, "rank"):
        raise InputError(f"cannot sort by {sort!r}: choose rank, {', '.join([*table.rows, *table.column_names])}")
    if top is not None:
        if top < 1:
            raise InputError(f"--top is {top}, expected at least 1: give the number of rows to show")
        ranking = ranking.head(top)
    ranking = ranking.reset_index(drop=True)
    return replace(table, ranking=ranking, cells=table.cells[table.cells["row"].isin(ranking["row"])])


def write_sweep_table(folder: Path, runs: Sequence[Path] | None = None) -> str:
    """Writes leaderboard.md, .csv and .html of all runs in `folder`; returns the table of a sweep for the terminal.

    Top-1 accuracy, rows backbone x head, columns datasets; where runs of one dataset have several protocols, each
    protocol has a column of its own, and the learning curves follow where these differ in training rows, the
    supervision gap where they train on easy and on hard rows, scores by layer (also as a picture each) where a
    backbone was read at several, and what measures of features foretell where four backbones or more have some; behind
    these a table of many columns is left to its files. Rows with several labels
    are shown by mAP, numbers by r2, in tables of their own. `runs` are the run folders of the sweep; None takes all
    that lie in `folder`.
    """
    folder = Path(folder)
    records = read_folders([folder] if runs is None else list(runs))
    table = build_table(records, columns=sweep_columns(records))
    held = "" if runs is None else write_files(folder, records, table)
    if runs is None:
        write_table(folder, table, records)
    told: list[str] = []
    for part in (curves, gap, layers, correlation):
        with suppress(InputError):  # most sweeps hold none of these
            told.append(part.text(table, records.frame))
    if not told or len(table.column_names) <= MAX_COLUMNS:
        told.insert(0, terminal(table))
    for metric in default_metrics(records.frame)[1:]:
        told.append(terminal(build_table(records, metric, columns=sweep_columns(records))))
    if layers.gather(table, records.frame):
        from probe.leaderboard.plots import write_layers

        told += [f"wrote {path}\n" for path in write_layers(table, records.frame, folder)]
    if advised := advice.text(table):
        told.append(f"{advised}\n")
    return "\n".join([*told, *[f"{held}\n"] * bool(held)])


def write_files(folder: Path, records: Records, table: Table) -> str:
    """Writes the files of a folder that holds the runs of a sweep, and perhaps others; returns a word on the latter."""
    n = len(records.frame)
    try:
        every = read_folders([folder])
        whole = build_table(every, columns=sweep_columns(every)) if len(every.frame) != n else table
    except InputError as error:
        write_table(folder, table, records)
        return (
            f"leaderboard.md, .csv and .html hold the {counted(n, 'run')} of this sweep alone, since those in "
            f"{folder} share no table: {error}"
        )
    write_table(folder, whole, every)
    more = len(every.frame) - n
    return f"leaderboard.md, .csv and .html hold {counted(more, 'run')} more, all that lie in {folder}" * (more > 0)


def write_table(folder: Path, table: Table, records: Records) -> None:
    """The files that stand beside run folders; the page with what can be read in about a second."""
    from probe.leaderboard.page import page

    export(table, "md", folder / "leaderboard.md")
    export(table, "csv", folder / "leaderboard.csv")
    write_file(folder / "leaderboard.html", page(table, records.frame, max_read=SWEEP_READ))


def sweep_columns(records: Records) -> tuple[str, ...]:
    """`dataset`, and what tells the protocols on one dataset apart."""
    columns: list[str] = list(COLUMNS)
    for _, group in records.frame.groupby("dataset"):
        if group["protocol"].nunique() > 1:
            columns.append("protocol")
        for _, same in group.groupby("protocol"):
            if same["protocol.parameters"].nunique() > 1:
                columns += differing(same.drop_duplicates("protocol.parameters"), ["protocol"])
    return tuple(dict.fromkeys(columns))
