"""Which column, key or field holds what: one rule for every dataset that has to guess."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from probe.core.errors import InputError


class Role(NamedTuple):
    """What a column may hold, and by which names it is known.

    Attributes:
        what: What the error calls it.
        parameter: The override that names the column.
        clear: Names that say it beyond doubt; they go before the others.
        usual: Names that often say it.
        kind: What the error calls the places: columns, arrays, fields, files.
    """

    what: str
    parameter: str
    clear: tuple[str, ...]
    usual: tuple[str, ...] = ()
    kind: str = "columns"


IMAGE = Role("encoded images", "image_column", ("image",), ("img", "images", "pixel_values", "picture", "photo"))
LABEL = Role(
    "the classes", "label_column", ("label", "labels"), ("fine_label", "class", "class_name", "target", "category")
)

MASK = Role("masks", "mask_column", ("mask",), ("masks", "annotation", "label", "segmentation", "mask_path"))
DEPTH = Role("depth maps", "map_column", ("depth", "map"), ("depth_map", "depth_path", "depths", "disparity"))


def choose(
    role: Role,
    source: object,
    there: Mapping[str, str],
    asked: str | None = None,
    fitting: Collection[str] | None = None,
    by_kind: Collection[str] = (),
) -> str | None:
    """The column of a role: what is asked for, else a clear name, else the only usual one, else the only one by kind.

    Args:
        role: What is looked for.
        source: Where the columns stand.
        there: Every column, and how the error describes it (its type, perhaps nothing).
        asked: The user's word; it must be there and fit.
        fitting: Columns whose content can be of the role; all by default.
        by_kind: Columns that are taken by their kind alone where none has one of the names.

    Returns:
        None where nothing is asked for and no column fits.

    Raises:
        InputError: The column that is asked for is not there or does not fit; or several are as likely.
    """
    fits = [column for column in there if fitting is None or column in fitting]
    if asked is not None:
        if asked not in fits:
            raise InputError(
                f"{_listing(source, role, there)}, expected {asked} with {role.what}: {_way_out(role, fits)}"
            )
        return asked
    for names in (role.clear, role.usual, tuple(by_kind)):
        found = [column for column in fits if column in names]
        if len(found) > 1:
            raise InputError(
                f"{source} has {len(found)} {role.kind} that may hold {role.what} ({', '.join(found)}), expected one: "
                f"set dataset.{role.parameter} to the one that is meant"
            )
        if found:
            return found[0]
    return None


def required(
    role: Role,
    source: object,
    there: Mapping[str, str],
    asked: str | None = None,
    fitting: Collection[str] | None = None,
    by_kind: Collection[str] = (),
) -> str:
    """As `choose`, where there has to be one."""
    found = choose(role, source, there, asked, fitting, by_kind)
    if found is None:
        names = " or ".join((*role.clear, *role.usual))
        fits = [column for column in there if fitting is None or column in fitting]
        raise InputError(f"{_listing(source, role, there)}, expected {names} with {role.what}: {_way_out(role, fits)}")
    return found


def _listing(source: object, role: Role, there: Mapping[str, str]) -> str:
    described = [f"{name} ({kind})" if kind else name for name, kind in there.items()]
    return f"{source} has the {role.kind} {', '.join(described) or 'none'}"


def _way_out(role: Role, fits: Collection[str]) -> str:
    return f"set dataset.{role.parameter} to {'one of ' + ', '.join(fits) if fits else 'the one that holds them'}"
