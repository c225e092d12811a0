"""Groups of rows (patients, scenes, the frames of a film), which no draw tears apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from probe.core.abilities import Grouped
from probe.core.base import Dataset, IntArray, Rows, Split
from probe.core.errors import InputError
from probe.protocols.shared.strata import seen_strata

N_FOLDS = 5


def groups_of(dataset: Dataset, partition: str = "train") -> IntArray | None:
    """Number of each row's group, (N,), in the order of their names; None where the partition names no groups."""
    found = dataset.partitions.get(partition)
    if not isinstance(found, Grouped) or found.groups is None:
        return None
    return np.unique(found.groups, return_inverse=True)[1].astype(np.int64)


def groups_among(dataset: Dataset, rows: Rows) -> IntArray | None:
    """Those of some rows of a partition, (n,)."""
    found = groups_of(dataset, rows.partition)
    return None if found is None else found[rows.indices]


def group_names(dataset: Dataset, rows: Rows) -> NDArray[np.str_]:
    """Names of the groups of some rows, none where the partition has none; their numbers hold within it alone."""
    partition = dataset.partitions[rows.partition]
    if not isinstance(partition, Grouped) or partition.groups is None:
        return np.empty(0, np.str_)
    return np.asarray(partition.groups)[rows.indices].astype(np.str_)


def groups_across(dataset: Dataset, parts: Sequence[Rows]) -> IntArray | None:
    """Those of rows of one or several partitions, one part behind the other; rows that name none are one group each."""
    names = [group_names(dataset, rows) for rows in parts]
    if not any(len(found) for found in names):
        return None
    filled = [
        found if len(found) else np.array([f"row {row}" for row in rows.indices], np.str_)
        for found, rows in zip(names, parts, strict=True)
    ]
    return np.unique(np.concatenate(filled), return_inverse=True)[1].astype(np.int64)


def shared_groups(dataset: Dataset, trained: Rows, other: Dataset, tested: Rows) -> tuple[IntArray, IntArray] | None:
    """Group of each row that tests, (n,), and rows that train of each group, (G,), where both sides name the same ones.

    None where some of the groups that test never train, such as new patients, or where there is one group alone.
    """
    known, counts = np.unique(group_names(dataset, trained), return_counts=True)
    names = group_names(other, tested)
    if len(known) < 2 or not len(names) or not np.isin(names, known).all():
        return None
    return np.searchsorted(known, names).astype(np.int64), counts


def rows_by_class(labels: IntArray, groups: IntArray) -> tuple[IntArray, IntArray]:
    """The groups that are there, (G,), and their rows of each class that is there, (G, K)."""
    (present, group), (classes, code) = (np.unique(values, return_inverse=True) for values in (groups, labels))
    shape = len(present), len(classes)
    return present, np.bincount(group * shape[1] + code, minlength=shape[0] * shape[1]).reshape(shape)


def share_out(table: IntArray, weights: Sequence[float], order: IntArray, sparing: Sequence[int] = ()) -> IntArray:
    """Part of each group, (G,): one group after the other, each to the part that it leaves nearest to its share.

    Nearness is the sum of squares over parts and classes of the share of the class that the part holds, by the weight
    of the part.

    Args:
        table: (G, K) rows of each class in each group.
        weights: (P,) share of all rows that each part is to have.
        order: (G,) groups in the order in which they are given out.
        sparing: Parts that never hold all rows of a class. A group that all parts have to leave has part -1.
    """
    total, relative = table.sum(axis=0), np.asarray(weights) / np.max(weights)
    shares = table / np.maximum(total, 1)
    spares = np.isin(np.arange(len(relative)), sparing)
    counts, held = np.zeros((len(relative), table.shape[1]), np.int64), np.zeros((len(relative), table.shape[1]))
    part_of = np.full(len(table), -1, dtype=np.int64)
    for i, group in enumerate(order):
        takes_all = ((counts + table[group] == total) & (table[group] > 0)).any(axis=1)
        free = np.flatnonzero(~(spares & takes_all))
        if not len(free):
            continue
        share = shares[group]
        cost = 2 * (held * share).sum(axis=1) / relative + (share**2).sum() * (1 / relative - 1)
        empty = free[held[free].sum(axis=1) == 0]
        forced = len(empty) and len(order) - i <= len(empty)
        part = empty[0] if forced else free[cost[free].argmin()]
        part_of[group] = part
        counts[part] += table[group]
        held[part] += share
    return part_of


def held_out_groups(
    labels: IntArray, groups: IntArray, fraction: float, chance: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """(N,) marks whole groups at random, about a `fraction` of each class and never all of its rows.

    Args:
        labels: (N,) classes.
        groups: (N,) numbers of the groups.
        fraction: Share of the rows.
        chance: What says in which order groups are given out, by their numbers.
    """
    present, table = rows_by_class(labels, groups)
    order = np.argsort(chance[present], kind="stable")
    part = share_out(table, [1 - fraction, fraction], order, sparing=[1])
    return part[np.searchsorted(present, groups)] == 1


def grouped_folds(labels: IntArray, groups: IntArray, n_folds: int = N_FOLDS) -> IntArray:
    """Fold of each row, (N,), -1 where it is never held out: no group is in two folds, no fold holds a whole class.

    All are -1 where fewer than two folds could be made.
    """
    present, table = rows_by_class(labels, groups)
    largest_first = np.argsort(-table.sum(axis=1), kind="stable")
    fold_of = share_out(table, [1.0] * n_folds, largest_first, sparing=range(n_folds))
    if len(np.unique(fold_of[fold_of >= 0])) < 2:
        fold_of[:] = -1
    return fold_of[np.searchsorted(present, groups)]


def keep_together(dataset: Dataset, split: Split, protocol: str) -> Split:
    """The split of a protocol, with folds by group where it leaves the choice to the head, which knows no groups.

    Raises:
        InputError: It divides groups of one partition among training, validation and test, or among folds. Groups that
            the partitions of the dataset share are counted by `divided_groups` instead.
    """
    groups = groups_of(dataset, split.train.partition)
    if groups is None:
        return split
    parts = [groups[rows.indices] for rows in split.parts.values() if rows.partition == split.train.partition]
    torn = _shared(parts)
    trained = groups[split.train.indices]
    if split.folds is not None:
        torn = np.union1d(torn, _shared([trained[split.folds == fold] for fold in np.unique(split.folds)]))
    if len(torn):
        raise InputError(
            f"protocol {protocol} divides {len(torn)} of {groups.max() + 1} groups of dataset {dataset.name} between "
            "training, validation and test: take one that keeps groups together, such as rows, holdout or "
            "cross_validation, or leave the groups out of the dataset"
        )
    if len(split.validation) or split.folds is not None:
        return split
    seen = seen_strata(dataset, split)
    return replace(split, folds=grouped_folds(seen[split.train.indices], trained))


def divided_groups(dataset: Dataset, split: Split, *, tests: bool = True) -> int | None:
    """How many groups stand in more than one of training, validation and test rows; None where none are named.

    Args:
        dataset: Whose groups are meant.
        split: Rows of it.
        tests: Whether the test rows are of this dataset.
    """
    if groups_of(dataset, split.train.partition) is None:
        return None
    parts = [rows for name, rows in split.parts.items() if tests or name != "test"]
    return len(_shared([group_names(dataset, rows) for rows in parts]))


def _shared(parts: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    """What stands in more than one of the parts."""
    values, counts = np.unique(np.concatenate([np.unique(part) for part in parts]), return_counts=True)
    return values[counts > 1]
