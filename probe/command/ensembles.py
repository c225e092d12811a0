"""`probe ensemble` and `probe.ensemble`: finished runs that answer one question, combined into rows of the table."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probe.core.errors import InputError
from probe.core.terminal import tell

if TYPE_CHECKING:
    from probe.experiment.ensembles.members import Member
    from probe.leaderboard.board import Board

QUESTION = ["dataset", "protocol", "seed"]
"""What the members of an ensemble share."""


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="probe ensemble",
        description="Combines finished runs on the same rows into run folders like theirs, one per dataset, protocol "
        "and seed, and compares them with their best member.",
        epilog="example: probe ensemble runs/quickstart --where head=linear,lda --kind mean,median",
    )
    options.add_argument("folders", nargs="+", type=Path, help="folders that hold runs, at any depth")
    options.add_argument(
        "--where", action="append", default=[], metavar="FIELD=VALUES",
        help="which of them are members, as for probe leaderboard; may be repeated",
    )  # fmt: skip
    options.add_argument(
        "--kind", default="mean", metavar="KINDS",
        help="mean, median, vote or weighted, or several of them; weights are chosen on the validation rows "
        "(default: %(default)s)",
    )  # fmt: skip
    options.add_argument("--into", type=Path, metavar="FOLDER", help="where they go (default: beside their members)")
    options.add_argument("--force", action="store_true", help="write again what is complete")
    return options


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    options = parser().parse_args(argv)
    kinds = [kind.strip() for kind in options.kind.split(",")]
    command = shlex.join(["probe", "ensemble", *argv])
    board = combine_all(options.folders, kinds, options.where, options.into, force=options.force, command=command)
    tell(*str(board).splitlines())
    return 0


def combine_all(
    folders: Sequence[str | Path],
    kinds: Sequence[str],
    where: Sequence[str],
    into: str | Path | None,
    *,
    force: bool,
    command: str,
) -> Board:
    """Writes the ensembles of all runs that share dataset, protocol and seed; the table of these runs and of them.

    Raises:
        InputError: No two runs can be combined, or some of them cannot be in this way.
    """
    from dataclasses import replace

    from probe.experiment.ensembles.ensemble import check_kind, combine, write_ensemble
    from probe.leaderboard.board import read_board

    for kind in kinds:
        check_kind(kind)
    groups, told = grouped(folders, where)
    combined = [combine(group, kind) for group in groups for kind in kinds]  # all that can be refused, ahead of writing
    made = []
    for found in combined:
        root = found.members[0].folder.parent if into is None else Path(into)
        folder, is_new = write_ensemble(found, root, command, force=force)
        told.append(f"{'wrote' if is_new else 'there already'}: {folder}")
        made.append(folder)
    board = read_board([*(member.folder for group in groups for member in group), *made])
    row_of = {name: str(cell["row"]) for cell in board.table.cells.to_dict("records") for name in cell["runs"]}
    behind: dict[str, list[Sequence[Member]]] = {}
    for found, folder in zip(combined, made, strict=True):
        behind.setdefault(row_of[folder.name], []).append(found.members)
    comparisons = []
    for row, members in behind.items():
        rival, chosen_on = best_member(members, row_of, [str(other) for other in board.table.ranking["row"]])
        told.append(f"The best member of {row} is {rival}, {chosen_on}.")
        comparisons.append(board.compare(row, rival))
    return replace(board, comparisons=comparisons, remarks=told)


def grouped(folders: Sequence[str | Path], where: Sequence[str]) -> tuple[list[list[Member]], list[str]]:
    """The runs that can be members, by what they answer; and what is left out.

    Raises:
        InputError: No two of them answer one question.
    """
    from probe.experiment.ensembles.ensemble import CLASS
    from probe.experiment.ensembles.members import read_member
    from probe.leaderboard.index import read_folders
    from probe.leaderboard.select import where as meeting

    frame = meeting(read_folders(folders).frame, where)
    is_control = (frame["control"] != "").tolist()
    frame = frame[(frame["head.class"] != CLASS) & (frame["control"] == "")]
    groups, alone = [], []
    for _, runs in frame.groupby(QUESTION, sort=True):
        if len(runs) > 1:
            groups.append([read_member(folder) for folder in runs["folder"]])
        else:
            alone += runs["name"].tolist()
    if not groups:
        raise InputError(
            f"no two of the {len(frame)} runs that are no controls have dataset, protocol and seed in common, an "
            "ensemble takes at least two: give more runs, or a wider --where"
        )
    told = [f"{sum(is_control)} runs are controls, and no members."] if any(is_control) else []
    told += [f"Without another run on the same rows: {', '.join(alone)}."] if alone else []
    return groups, told


def best_member(groups: Sequence[Sequence[Member]], row_of: dict[str, str], ranked: Sequence[str]) -> tuple[str, str]:
    """The row that is the best single member of an ensemble's row, and on what: held-out rows, if all have some.

    Args:
        groups: The members, for each dataset, protocol and seed.
        row_of: By the name of a run, its row of the table.
        ranked: The rows of the table, best first.
    """
    from probe.experiment.ensembles.members import held_out

    found: dict[str, list[float]] = {}
    try:
        for group in groups:
            views, labels = held_out(group, [1.0] * len(group))
            for member, view in zip(group, views, strict=True):
                found.setdefault(row_of[member.name], []).append(member.views.quality(view, labels))
    except InputError:
        rows = {row_of[member.name] for group in groups for member in group}
        return next(row for row in ranked if row in rows), "on the test rows, which favours it"
    return max(sorted(found), key=lambda row: float(np.mean(found[row]))), "chosen on the validation rows"
